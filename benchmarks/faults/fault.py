"""Every fault of the catalogue, planted where people plant it: in files, rows, models, loops, scores, submissions.

A fault is a function of a source's images and a seed that gives the findings of the call that meets it, in their
order. Where a fault can be met by a Learner and in a loop of one's own, both are planted.
"""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from clean import as_tensors, plain, prepared, trained, watched
from sources import rate
from torch.utils.data import TensorDataset

from inkproof import ImageSet, Learner, models
from inkproof.images import Split

SGD = torch.optim.SGD
Plant = Callable[[ImageSet, int], list[Any] | None]
"""None where a source cannot have the fault, such as one output for its two classes."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        code: in the catalogue of faults.
        name: what is planted, and how much of it.
        wanted: the ids that name it.
        plant: gives the findings, in their order; None where the source cannot have the fault.
        smallest: pixels a side that images need for it.
        slow: planted once a source.
    """

    code: str
    name: str
    wanted: tuple[str, ...]
    plant: Plant
    smallest: int = 0
    slow: bool = False


FAULTS: list[Fault] = []


def fault(code: str, name: str, wanted: str, plant: Plant, *, smallest: int = 0, slow: bool = False) -> None:
    FAULTS.append(Fault(code, name, tuple(wanted.split(" | ")), plant, smallest, slow))


def learner(plant: Callable[[Split], Split] = lambda sides: sides, **options: Any) -> Plant:
    """Trained by a Learner on ImageSets."""
    make = options.pop("model", partial(models.hidden, units=30))

    def run(images: ImageSet, seed: int) -> list[Any]:
        return trained(
            plant(prepared(images, None, seed)), make, seed=seed, **({"epochs": 4, "lr": rate(images)} | options)
        )

    return run


def tensors(change: Callable[[TensorDataset, TensorDataset], Any], **options: Any) -> Plant:
    """Trained by a Learner on pairs of tensors."""

    def run(images: ImageSet, seed: int) -> list[Any]:
        sides = prepared(images, None, seed)
        make = options.get("model", partial(models.hidden, units=30))
        settings = {key: value for key, value in options.items() if key not in ("model", "epochs", "lr")}
        model = partial(make, sides.train.shape, len(sides.train.classes))
        found = Learner(model, *change(*as_tensors(sides)), on_finding="record", seed=seed, **settings)
        with contextlib.suppress(Exception):  # what a fault breaks later is not what is asked for
            found.fit(options.get("epochs", 2), lr=options.get("lr", rate(images)), verbose=False)
        return found.findings

    return run


def own_loop(loop: Any = plain, **options: Any) -> Plant:
    """Trained in a loop of one's own, inside `audit.watch`."""
    return lambda images, seed: watched(
        prepared(images, None, seed), loop, seed=seed, **({"lr": rate(images)} | options)
    )
