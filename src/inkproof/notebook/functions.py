"""Small functions of the notebook surface: tensors, losses and metrics as fastai calls them."""

import random
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from inkproof.audit import Finding, act_on
from inkproof.errors import ShapeMismatch


def tensor(x: Any, *rest: Any, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
    """A tensor of numbers, lists, arrays, pandas data or a PIL image; 64-bit floats become 32-bit, as in fastai.

    Args:
        x: what to take; numbers may follow one by one: `tensor(1, 2, 3)`.
        dtype: of the result; None keeps it, save for 64-bit floats.
        device: of the result.
    """
    if rest:
        x = (x, *rest)
    if isinstance(x, Tensor):
        made = x
    elif isinstance(x, list | tuple) and x and isinstance(x[0], Tensor):
        made = torch.stack([item if isinstance(item, Tensor) else torch.tensor(item) for item in x])
    elif isinstance(x, np.ndarray | Image.Image) or hasattr(x, "__array__"):
        made = torch.from_numpy(np.array(x))  # a copy: pandas' own memory may not be written to
    else:
        made = torch.tensor(x)
    if dtype is None and made.dtype == torch.float64 and not isinstance(x, Tensor):
        dtype = torch.float32
    return made.to(device=device, dtype=dtype)


def first(items: Iterable[Any], default: Any = None) -> Any:
    """The first of some items, such as the first batch of a loader; `default` where there is none."""
    return next(iter(items), default)


def set_seed(seed: int, reproducible: bool = False) -> None:
    """Seed Python's, numpy's and torch's global generators.

    Args:
        seed: any whole number from 0 on.
        reproducible: also make torch choose deterministic algorithms.
    """
    random.seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002  # notebooks draw from this one
    torch.manual_seed(seed)
    if reproducible:
        torch.use_deterministic_algorithms(True)


class Flatten(nn.Module):
    """Flattens each row of a batch; with `full`, the batch too."""

    def __init__(self, full: bool = False):
        super().__init__()
        self.full = full

    def forward(self, x: Tensor) -> Tensor:
        """(n, ...) to (n, numbers), or to (numbers,)."""
        return x.reshape(-1) if self.full else x.reshape(len(x), -1)


# -- metrics -----------------------------------------------------------------------------------------------------------


def accuracy(inp: Tensor, targ: Tensor, axis: int = -1) -> Tensor:
    """Share of rows whose largest output is their target.

    Args:
        inp: outputs (n, k).
        targ: class indices, (n,) or (n, 1).
        axis: along which the outputs of a row lie.
    """
    if inp.shape[axis] == 1:
        _warn_of_one_output(inp)
    predicted, targets = _flat_pair(inp.argmax(dim=axis), targ, "accuracy")
    return (predicted == targets).float().mean()


def error_rate(inp: Tensor, targ: Tensor, axis: int = -1) -> Tensor:
    """1 - accuracy."""
    return 1 - accuracy(inp, targ, axis=axis)


def mse(inp: Tensor, targ: Tensor) -> Tensor:
    """Mean squared difference, row by row."""
    return F.mse_loss(*_flat_pair(inp, targ, "mse"))


def rmse(inp: Tensor, targ: Tensor) -> Tensor:
    """Root of the mean squared difference, row by row."""
    return mse(inp, targ).sqrt()


def _flat_pair(inp: Tensor, targ: Tensor, name: str) -> tuple[Tensor, Tensor]:
    """Both sides as one row of numbers, so that (n, 1) beside (n,) pairs row by row."""
    if inp.numel() != targ.numel():
        raise ShapeMismatch(
            f"{name} got predictions of shape {tuple(inp.shape)} and targets of shape {tuple(targ.shape)}: "
            f"{inp.numel()} and {targ.numel()} numbers do not pair; take predictions and targets of the same rows"
        )
    return inp.reshape(-1), targ.reshape(-1)


def _warn_of_one_output(inp: Tensor) -> None:
    finding = Finding(
        id="accuracy-of-one-output",
        code=None,
        severity="warn",
        message=(
            f"accuracy takes the largest of {inp.shape[-1]} output, which is always output 0: the score is the share "
            "of rows of class 0, whatever the model says."
        ),
        evidence={"outputs": list(inp.shape)},
        remedy="Compare with a threshold, such as ((outputs > 0) == targets).float().mean() for logits.",
    )
    act_on([finding], on_finding="warn")


# -- losses with the name of what they predict -------------------------------------------------------------------------


class FlatLoss:
    """A loss that flattens what it is given and knows how its outputs become probabilities and decisions.

    Args:
        axis: along which the outputs of a row lie.
        keywords: passed to the function of torch.
    """

    function: Callable[..., Tensor]

    def __init__(self, axis: int = -1, **keywords: Any):
        self.axis = axis
        self.keywords = keywords

    def __call__(self, inp: Tensor, targ: Tensor) -> Tensor:
        """The loss of a batch."""
        return type(self).function(*self._flat(inp, targ), **self.keywords)

    def _flat(self, inp: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        outputs, targets = _flat_pair(inp, targ, type(self).__name__)
        return outputs, targets.to(outputs.dtype)

    def activation(self, outputs: Tensor) -> Tensor:
        """What `get_preds` gives of these outputs."""
        return outputs

    def decodes(self, activated: Tensor) -> Tensor:
        """The decision of each row."""
        return activated


class CrossEntropyLossFlat(FlatLoss):
    """Cross entropy of logits against class indices; predictions are their softmax."""

    function = staticmethod(F.cross_entropy)

    def _flat(self, inp: Tensor, targ: Tensor) -> tuple[Tensor, Tensor]:
        outputs = inp.transpose(self.axis, -1)
        return outputs.reshape(-1, outputs.shape[-1]), targ.reshape(-1)

    def activation(self, outputs: Tensor) -> Tensor:
        """Softmax over the outputs of a row."""
        return outputs.softmax(dim=self.axis)

    def decodes(self, activated: Tensor) -> Tensor:
        """The class with the largest output."""
        return activated.argmax(dim=self.axis)


class BCEWithLogitsLossFlat(FlatLoss):
    """Binary cross entropy of logits against 0 and 1; predictions are their sigmoid, above `thresh` means 1."""

    function = staticmethod(F.binary_cross_entropy_with_logits)

    def __init__(self, axis: int = -1, thresh: float = 0.5, **keywords: Any):
        super().__init__(axis, **keywords)
        self.thresh = thresh

    def activation(self, outputs: Tensor) -> Tensor:
        """Sigmoid of each output."""
        return outputs.sigmoid()

    def decodes(self, activated: Tensor) -> Tensor:
        """Whether each probability is above the threshold."""
        return activated > self.thresh


class MSELossFlat(FlatLoss):
    """Mean squared difference, row by row."""

    function = staticmethod(F.mse_loss)
