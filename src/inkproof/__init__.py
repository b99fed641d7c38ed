"""inkproof: train classifiers for handwritten digits and other small images: audited, measured, provable.

    import inkproof as ip
    digits = ip.open_images("digits")
    train, valid = digits.split(valid=0.2, seed=0)
    learner = ip.Learner(lambda: ip.models.conv(digits.shape, 10), train, valid, seed=0)
    learner.fit_one_cycle(3, lr=0.1)

Names are loaded when they are first used, so that importing the package costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from inkproof.startup import import_torch

if TYPE_CHECKING:
    from inkproof import audit, augment, heads, metrics, models, schedules
    from inkproof.audit import Finding
    from inkproof.augment import Deformation
    from inkproof.errors import InkproofError, InputError, Refused
    from inkproof.hard_examples import HardExamples
    from inkproof.history import History
    from inkproof.images import ImageSet, Split
    from inkproof.learner import Learner
    from inkproof.metrics import accuracy
    from inkproof.recipes import Recipe, load_recipe
    from inkproof.runs import Run, open_run
    from inkproof.sources import open_images

    __version__: str

_MODULES = ("audit", "augment", "heads", "metrics", "models", "schedules")
_HOMES = {
    "Deformation": "augment",
    "Finding": "audit",
    "HardExamples": "hard_examples",
    "History": "history",
    "ImageSet": "images",
    "InkproofError": "errors",
    "InputError": "errors",
    "Learner": "learner",
    "Recipe": "recipes",
    "Refused": "errors",
    "Run": "runs",
    "Split": "images",
    "accuracy": "metrics",
    "load_recipe": "recipes",
    "open_images": "sources",
    "open_run": "runs",
}
# `ImageSet` would do without too, but is for training, and what it imports is sooner beside torch's library.
_WITHOUT_TORCH = (
    "History",
    "InkproofError",
    "InputError",
    "Recipe",
    "Refused",
    "Split",
    "load_recipe",
    "open_images",
    "schedules",
)

__all__ = [
    "Deformation",
    "Finding",
    "HardExamples",
    "History",
    "ImageSet",
    "InkproofError",
    "InputError",
    "Learner",
    "Recipe",
    "Refused",
    "Run",
    "Split",
    "accuracy",
    "audit",
    "augment",
    "heads",
    "load_recipe",
    "metrics",
    "models",
    "open_images",
    "open_run",
    "schedules",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES or name in _HOMES:
        if name not in _WITHOUT_TORCH:
            import_torch()
        module = import_module(f"inkproof.{_HOMES.get(name, name)}")
        return module if name in _MODULES else getattr(module, name)
    if name == "__version__":
        from importlib.metadata import version  # takes longer than all else here

        return version("inkproof")
    raise AttributeError(f"module 'inkproof' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
