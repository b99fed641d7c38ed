"""Checks of a split: no image may stand on two sides of it."""

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from jaxtyping import Shaped, UInt64

from inkproof.audit.findings import Finding, Severity
from inkproof.images import ImageSet
from inkproof.pairs import as_tensors, row_fingerprints

_REFUSED_SHARE = 0.01
_SHOWN = 5
_FEWEST_NUMBERS = 16

_CODES = {("train", "valid"): "B1", ("train", "test"): "B2", ("valid", "test"): "B2"}
_MEANING = {
    "valid": "so the validation score says nothing about new images",
    "test": "so the test score says nothing about new images",
}


@dataclass(frozen=True)
class Side:
    """What tells the rows of one side apart.

    Args:
        fingerprints: uint64 (n,), equal for equal content.
        ids: (n,), how a row is named to the user.
        shape: of one row.
        kind: "images", or "tensors" with the numbers as a model takes them.
    """

    fingerprints: UInt64[np.ndarray, " n"]
    ids: Shaped[np.ndarray, " n"]
    shape: tuple[int, ...]
    kind: Literal["images", "tensors"]


def side_of(data: object) -> Side | None:
    """The rows of an ImageSet, or of pairs that lie in memory; None where rows cannot be told apart.

    Rows of fewer than 16 numbers are not images: equal ones are nothing special. Tensors are named by their row,
    counted from 0 as in Python.
    """
    if isinstance(data, ImageSet):
        return Side(data.fingerprints, data.ids, data.shape, "images")
    tensors = as_tensors(data)
    if tensors is None or math.prod(tensors[0].shape[1:]) < _FEWEST_NUMBERS:
        return None
    inputs, _ = tensors
    return Side(row_fingerprints(inputs), np.arange(len(inputs)), tuple(inputs.shape[1:]), "tensors")


def check_sides(train: Side | None, valid: Side | None = None, test: Side | None = None) -> list[Finding]:
    """Find identical images on two sides, by content, whatever their labels, names or order.

    From 1 % of the held-out side on it is refused, fewer are warned of: some data sets hold natural duplicates.

    Args:
        train: the images trained on.
        valid: the images that choices are made on.
        test: the images that the final score is taken on, or that are predicted.
    """
    sides = {name: side for name, side in (("train", train), ("valid", valid), ("test", test)) if side is not None}
    findings = []
    for first, second in combinations(sides, 2):
        if (sides[first].shape, sides[first].kind) == (sides[second].shape, sides[second].kind):
            findings += _check_overlap(first, sides[first], second, sides[second])
    return findings


def _check_overlap(first: str, seen: Side, second: str, held_out: Side) -> list[Finding]:
    repeated = np.flatnonzero(np.isin(held_out.fingerprints, seen.fingerprints))
    if len(repeated) == 0:
        return []
    share = len(repeated) / len(held_out.ids)
    severity: Severity = "refuse" if share >= _REFUSED_SHARE else "warn"
    examples = [_pair(seen, held_out, row) for row in repeated[:_SHOWN].tolist()]
    return [
        Finding(
            id=f"{second}-overlaps-{first}",
            code=_CODES[first, second],
            severity=severity,
            message=(
                f"{len(repeated):,} of {len(held_out.ids):,} {second} images ({share:.1%}) are identical to "
                f"{_SIDE_NAMES[first]} images, {_MEANING[second]} (for instance {second} image "
                f"{examples[0]['held_out']} is {first} image {examples[0]['seen']})."
            ),
            evidence={"images": len(repeated), "of": len(held_out.ids), "share": share, "examples": examples},
            remedy=f"Build the {second} side from other rows: {_HINTS[seen.kind].format(side=second)}.",
        )
    ]


_HINTS = {
    "images": "`images.split({side}=0.2)` keeps identical images on one side",
    "tensors": "look whether the code that makes it uses the training rows by mistake",
}
_SIDE_NAMES = {"train": "training", "valid": "validation"}


def _pair(seen: Side, held_out: Side, row: int) -> dict[str, str]:
    """The ids of a held-out image and of the first identical one, by the names of their sides."""
    twin = int(np.flatnonzero(seen.fingerprints == held_out.fingerprints[row])[0])
    return {"held_out": str(held_out.ids[row]), "seen": str(seen.ids[twin])}
