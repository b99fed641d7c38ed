"""Checks of a split: no image may stand on two sides of it."""

from itertools import combinations

import numpy as np

from inkproof.audit.findings import Finding, Severity
from inkproof.images import ImageSet

_REFUSED_SHARE = 0.01
_SHOWN = 5

_CODES = {("train", "valid"): "B1", ("train", "test"): "B2", ("valid", "test"): "B2"}
_MEANING = {
    "valid": "so the validation score says nothing about new images",
    "test": "so the test score says nothing about new images",
}


def check_sides(train: ImageSet, valid: ImageSet | None = None, test: ImageSet | None = None) -> list[Finding]:
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
        if sides[first].shape == sides[second].shape:
            findings += _check_overlap(first, sides[first], second, sides[second])
    return findings


def _check_overlap(first: str, seen: ImageSet, second: str, held_out: ImageSet) -> list[Finding]:
    repeated = np.flatnonzero(np.isin(held_out.fingerprints, seen.fingerprints))
    if len(repeated) == 0:
        return []
    share = len(repeated) / len(held_out)
    severity: Severity = "refuse" if share >= _REFUSED_SHARE else "warn"
    examples = [_pair(seen, held_out, row) for row in repeated[:_SHOWN].tolist()]
    return [
        Finding(
            id=f"{second}-overlaps-{first}",
            code=_CODES[first, second],
            severity=severity,
            message=(
                f"{len(repeated):,} of {len(held_out):,} {second} images ({share:.1%}) are identical to "
                f"{_SIDE_NAMES[first]} images, {_MEANING[second]} (for instance {second} image "
                f"{examples[0]['held_out']} is {first} image {examples[0]['seen']})."
            ),
            evidence={"images": len(repeated), "of": len(held_out), "share": share, "examples": examples},
            remedy=(
                f"Build the {second} side from other rows: `train, {second} = images.split({second}=0.2)` keeps "
                "identical images on one side."
            ),
        )
    ]


_SIDE_NAMES = {"train": "training", "valid": "validation"}


def _pair(seen: ImageSet, held_out: ImageSet, row: int) -> dict[str, str]:
    """The ids of a held-out image and of the first identical one, by the names of their sides."""
    twin = int(np.flatnonzero(seen.fingerprints == held_out.fingerprints[row])[0])
    return {"held_out": str(held_out.ids[row]), "seen": str(seen.ids[twin])}
