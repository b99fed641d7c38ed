"""What is known of one side of a split, in whatever form it came: its rows, what identifies them, their labels."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt64
from torch import Tensor

from inkproof.audit.witness import Witness, fit_witness
from inkproof.images import ImageSet
from inkproof.pairs import OwnTensors, as_tensors, row_hashes

FEWEST_NUMBERS = 16  # a row of fewer is no image: equal ones are nothing special
_SAMPLE = 4000
_PART = 1000  # rows read at a time: few enough to stay in cache
_MOST_CLASSES = 1000

RowNumbers = Int64[np.ndarray, " k"] | slice


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a split.

    Args:
        hashes: uint64 (n,), equal for equal content, in this process.
        ids: (n,), how a row is named to the user.
        shape: of one row.
        kind: "images", or "tensors" with the numbers as a model takes them.
        labels: int64 (n,), None where there are none or they are no class indices.
        classes: names by label, None where they were not declared.
        source: where the rows come from.
        take: gives the rows of these numbers, or of a slice, as float32 (k, ...); images are scaled to 0..1.
    """

    hashes: UInt64[np.ndarray, " n"]
    ids: Shaped[np.ndarray, " n"]
    shape: tuple[int, ...]
    kind: Literal["images", "tensors"]
    labels: Int64[np.ndarray, " n"] | None
    classes: tuple[str, ...] | None
    source: str
    take: Callable[[RowNumbers], Float[np.ndarray, "k ..."]]

    def __len__(self) -> int:
        return len(self.hashes)

    def in_parts(self) -> Iterator[Float[np.ndarray, "k numbers"]]:
        """All rows, a few at a time, each as one line of numbers: a side may be larger than memory."""
        for start in range(0, len(self), _PART):
            rows = self.take(slice(start, min(start + _PART, len(self))))
            yield rows.reshape(len(rows), -1)

    @cached_property
    def extremes(self) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
        """The smallest number of each row and its largest; NaN both where one is."""
        parts = [torch.from_numpy(rows).aminmax(dim=1) for rows in self.in_parts()]
        smallest, largest = (torch.cat(each).numpy() for each in zip(*parts, strict=True))
        return smallest, largest

    @cached_property
    def sampled(self) -> Int64[np.ndarray, " k"]:
        """Numbers of up to 4,000 rows, spread evenly over the side."""
        return np.unique(np.linspace(0, len(self) - 1, min(len(self), _SAMPLE)).astype(np.int64))

    @cached_property
    def sample(self) -> Float[np.ndarray, "k numbers"]:
        """These rows, each as one line of numbers."""
        return self.take(self.sampled).reshape(len(self.sampled), -1)

    @cached_property
    def spread(self) -> float:
        """The standard deviation of the sample's numbers; by torch, which keeps no copy of them on the way."""
        return float(torch.from_numpy(self.sample).std(correction=0))

    @cached_property
    def largest(self) -> float:
        """The largest of the sample's numbers, whatever its sign; NaN where one is."""
        smallest, largest = torch.from_numpy(self.sample).aminmax()
        return float(torch.maximum(-smallest, largest))

    @property
    def is_finite(self) -> bool:
        """Whether all numbers of the sample are."""
        return math.isfinite(self.largest)

    @cached_property
    def rows_hash(self) -> int:
        """Hash of all rows, in this process: equal for equal rows in the same order, whatever their labels."""
        return hash((self.shape, self.hashes.tobytes()))

    @property
    def sample_labels(self) -> Int64[np.ndarray, " k"] | None:
        """Their labels."""
        return None if self.labels is None else self.labels[self.sampled]

    @cached_property
    def witness(self) -> Witness | None:
        """A plain classifier fitted on a part of these rows; None where they are too few, unlabelled or not finite."""
        if self.sample_labels is None or not self.is_finite:
            return None
        return fit_witness(self.sample, self.sample_labels)

    def unlabelled(self) -> "Side":
        """The same rows without labels."""
        return replace(self, labels=None)

    def name(self, label: int) -> str:
        """What the user calls a label."""
        return self.classes[label] if self.classes is not None and 0 <= label < len(self.classes) else str(label)


@dataclass(frozen=True, eq=False)
class Sides:
    """The sides that checks of data look at; those that are not there, or whose rows cannot be told apart, are None."""

    train: Side | None
    valid: Side | None = None
    test: Side | None = None

    def __post_init__(self) -> None:
        test = self.test
        if test is not None and test.labels is not None and (test.labels == test.labels[:1]).all():
            object.__setattr__(self, "test", test.unlabelled())  # all zeros, say: a stand-in for labels not known

    @property
    def held_out(self) -> dict[str, Side]:
        """Validation and test side, by name, where they are."""
        return {name: side for name, side in (("valid", self.valid), ("test", self.test)) if side is not None}


def side_of(data: object) -> Side | None:
    """The rows of an ImageSet, or of pairs that lie in memory; None where rows cannot be told apart.

    Rows of tensors are named by their number, counted from 0 as in Python.
    """
    if not isinstance(data, ImageSet | OwnTensors):
        return _describe(data)
    writes = data.writes if isinstance(data, OwnTensors) else ()  # nobody writes to an ImageSet
    if writes is None:
        return _describe(data)
    known = _known.get(data)
    if known is None or known[0] != writes:
        known = _known[data] = writes, _describe(data)
    return known[1]


# What was learnt of data serves its next look, until it is written to.
_known: WeakKeyDictionary[ImageSet | OwnTensors, tuple[tuple[int, ...], Side | None]] = WeakKeyDictionary()


def _describe(data: object) -> Side | None:
    if isinstance(data, ImageSet):
        return _describe_images(data)
    tensors = as_tensors(data)
    if tensors is None or math.prod(tensors[0].shape[1:]) < FEWEST_NUMBERS:
        return None
    inputs, targets = tensors
    values = inputs.detach().cpu()
    return Side(
        row_hashes(inputs),
        np.arange(len(inputs)),
        tuple(inputs.shape[1:]),
        "tensors",
        _class_indices(targets),
        None,
        "tensors",
        lambda rows: values[rows].float().numpy(),
    )


def _describe_images(images: ImageSet) -> Side:
    storage, own_rows = images.storage, images.rows  # not the set itself, which would never be freed

    def take(rows: RowNumbers) -> Float[np.ndarray, "k ..."]:
        pixels = storage[rows if own_rows is None else own_rows[rows]]
        writable = pixels if pixels.flags.writeable else pixels.copy()  # torch warns of others
        return np.asarray(torch.from_numpy(writable).float().div_(255))  # by torch as `linear_algebra` tells

    return Side(images.hashes, images.ids, images.shape, "images", images.labels, images.classes, images.source, take)


def _class_indices(targets: Tensor) -> Int64[np.ndarray, " n"] | None:
    """Targets as class indices: one whole number a row, of not more kinds than classes can be; else None."""
    flat = targets.detach().cpu().reshape(len(targets), -1)
    if flat.shape[1] != 1:
        return None
    numbers = flat[:, 0].double().numpy()
    if not (np.isfinite(numbers).all() and (numbers == np.round(numbers)).all()):
        return None
    labels = numbers.astype(np.int64)
    return labels if len(np.unique(labels)) <= _MOST_CLASSES and len(labels) else None
