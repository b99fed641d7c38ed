"""Altered copies: images that are the same but for brightness, noise, recompression, or a shift by a pixel.

Every image is brought to its centre of mass and to unit length, projected to a few directions of largest variance, and
compared with the others there; the few nearest are then compared whole, at shifts by a pixel. How near is suspiciously
near is read off the data set itself: far below the distance at which its own images, copies left out, lie apart.
"""

from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

from inkproof.audit.catalogue import Seen, declare
from inkproof.audit.findings import Finding
from inkproof.images import ImageSet

_ALTERED_COPIES = declare(
    "altered-copies",
    code="B5",
    moment="data",
    severity="warn",
    means="Images are the same as others but for brightness, noise, recompression or a shift by a pixel: on two sides "
    "of a split they leak, on one they count twice.",
    detected="By `inkproof audit` alone: centred images are compared by their correlation at shifts of up to a pixel. "
    "A pair counts from 0.992 on; two pairs, or one in a thousand images, are let be.",
    misfires="Very plain images, such as straight strokes, can be that alike by nature: MNIST's 60,000 images hold no "
    "such pair.",
)
_FEWEST, _SHARE, _SHOWN = 3, 0.001, 10
_DIRECTIONS = 48
_CHUNK = 1500
_PROBED = 8  # cells that each image asks
_SEEN = 20_000  # images that the directions are taken from
_NEAR = 0.35  # of the median distance to the nearest other image
_SMALLEST = 12  # pixels a side: in smaller images different ones are too alike
_ALIKE = 0.992  # correlation of two images at their best shift that makes them copies


@dataclass(frozen=True)
class Copies:
    """Pairs of images that are altered copies of each other.

    Args:
        first: rows of the first side, (pairs,).
        second: rows of the second side, (pairs,).
        likeness: correlation of each pair at its best shift, (pairs,).
    """

    first: Int64[np.ndarray, " pairs"]
    second: Int64[np.ndarray, " pairs"]
    likeness: Float[np.ndarray, " pairs"]


def find_copies(first: ImageSet, second: ImageSet | None = None) -> Copies:
    """Find altered copies within one side, or of the first side's images in the second.

    Args:
        first: images.
        second: of the same shape; None looks within `first`.
    """
    one = _aligned(first)
    other = one if second is None else _aligned(second)
    directions = _principal(one)
    short = [F.normalize(rows @ directions) for rows in (one, other)]
    nearest, distances = _nearest(short[0], short[1], own=second is None)
    limit = _NEAR * float(distances.median())
    rows = torch.nonzero(distances < max(limit, 0.05)).flatten()
    likeness = _likeness(first, rows, second or first, nearest[rows])
    alike = likeness > _ALIKE
    rows, likeness = rows[alike], likeness[alike]
    if second is None:  # each pair once
        once = (rows < nearest[rows]) | (nearest[nearest[rows]] != rows)
        rows, likeness = rows[once], likeness[once]
    order = likeness.argsort(descending=True)
    return Copies(rows[order].numpy(), nearest[rows[order]].numpy(), likeness[order].double().numpy())


def check_copies(train: ImageSet, valid: ImageSet | None = None, test: ImageSet | None = None) -> list[Finding]:
    """Look for altered copies within the training side, and of held-out images in the other sides.

    Images that are identical to the last pixel are left to the checks of overlap, labels and duplicates.

    Args:
        train: the images to train on.
        valid: the images to choose on.
        test: the images to score or predict.
    """
    sides = {name: side for name, side in (("train", train), ("valid", valid), ("test", test)) if side is not None}
    findings = []
    for first, second in combinations_with_replacement(sides, 2):
        if first == second and first != "train":
            continue
        asked, among = sides[second], sides[first]
        if asked.shape != among.shape or min(asked.shape[1:]) < _SMALLEST:
            continue
        copies = find_copies(asked, None if first == second else among)
        kept = among.fingerprints[copies.second] != asked.fingerprints[copies.first]
        pairs = list(zip(copies.first[kept].tolist(), copies.second[kept].tolist(), strict=True))
        if len(pairs) >= max(_FEWEST, _SHARE * len(asked)):
            findings.append(_ALTERED_COPIES.found(_seen(first, second, asked, among, pairs)))
    return findings


def _seen(first: str, second: str, asked: ImageSet, among: ImageSet, pairs: list[tuple[int, int]]) -> Seen:
    where = "of the train side" if first == second else f"of the {second} side and the {first} side"
    shown = [[str(asked.ids[one]), str(among.ids[other])] for one, other in pairs[:_SHOWN]]
    evidence: dict[str, Any] = {"pairs": len(pairs), "sides": [first, second], "examples": shown}
    return Seen(
        f"{len(pairs):,} pairs of images {where} are altered copies of each other (for instance {shown[0][0]} and "
        f"{shown[0][1]}).",
        evidence,
        "Look at them, and keep all copies of an image on one side.",
    )


def _aligned(images: ImageSet) -> Float[Tensor, "n numbers"]:
    """Each image moved by whole pixels so that its centre of mass is in the middle, without mean, of length 1."""
    aligned = []
    for start in range(0, len(images), _CHUNK):
        pixels = torch.from_numpy(
            images.subset(np.arange(start, min(start + _CHUNK, len(images)))).pixels.copy()
        ).float()
        border = torch.cat([pixels[:, :, 0], pixels[:, :, -1], pixels[..., 0], pixels[..., -1]], dim=2).median(dim=2)
        ink = (pixels - border.values[..., None, None]).abs()
        aligned.append(_centred(ink).flatten(1))
    rows = torch.cat(aligned)
    return F.normalize(rows - rows.mean(dim=1, keepdim=True))


def _centred(ink: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    n, _, height, width = ink.shape
    mass = ink.sum(dim=1)
    total = mass.sum(dim=(1, 2)).clamp(min=1e-6)
    down = (mass.sum(dim=2) @ torch.arange(height).float()) / total - (height - 1) / 2
    right = (mass.sum(dim=1) @ torch.arange(width).float()) / total - (width - 1) / 2
    rows = (torch.arange(height)[None] + down.round().long()[:, None]).clamp(0, height - 1)
    columns = (torch.arange(width)[None] + right.round().long()[:, None]).clamp(0, width - 1)
    moved: Tensor = ink[torch.arange(n)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def _principal(rows: Float[Tensor, "n numbers"]) -> Float[Tensor, "numbers directions"]:
    few = rows[:: -(-len(rows) // _SEEN)]
    few = few - few.mean(dim=0)
    _, vectors = torch.linalg.eigh(few.T @ few)
    widest: Tensor = vectors[:, -_DIRECTIONS:]  # all of them, where there are fewer
    return widest


def _nearest(
    asked: Float[Tensor, "n directions"], among: Float[Tensor, "m directions"], *, own: bool
) -> tuple[Int64[Tensor, " n"], Float[Tensor, " n"]]:
    """The nearest of `among` to each row, and how far it is; with `own`, the row itself is left out.

    `among` is divided into cells around rows of its own, and each row asks the cells nearest to it: time grows with
    n·√m (an inverted file, as Sivic and Zisserman 2003). A copy lies in its original's cell or beside it.
    """
    centres = among[:: max(round(len(among) ** 0.5), 1)]
    cells = torch.cat([(part @ centres.T).argmax(dim=1) for part in torch.split(among, _CHUNK)])
    probed = min(_PROBED, len(centres))
    asks = torch.cat([(part @ centres.T).topk(probed, dim=1).indices for part in torch.split(asked, _CHUNK)])
    members = _by_value(cells, len(centres))
    askers = _by_value(asks.flatten(), len(centres))
    best, places = torch.full((len(asked),), -2.0), torch.zeros(len(asked), dtype=torch.int64)
    for rows, places_asked in zip(members, askers, strict=True):
        if len(rows) == 0 or len(places_asked) == 0:
            continue
        asking = places_asked // probed
        alike = asked[asking] @ among[rows].T
        if own:
            alike[asking[:, None] == rows[None]] = -2
        found = alike.max(dim=1)
        nearer = found.values > best[asking]
        best[asking[nearer]] = found.values[nearer]
        places[asking[nearer]] = rows[found.indices[nearer]]
    return places, (2 - 2 * best).clamp(min=0).sqrt()


def _by_value(values: Int64[Tensor, " k"], count: int) -> list[Int64[Tensor, " some"]]:
    """For each value below `count`, the places where it stands."""
    order = values.argsort()
    return list(torch.split(order, torch.bincount(values, minlength=count).tolist()))


def _likeness(
    first: ImageSet, rows: Int64[Tensor, " pairs"], second: ImageSet, others: Int64[Tensor, " pairs"]
) -> Float[Tensor, " pairs"]:
    """Correlation of each pair, the best over shifts by up to a pixel in each direction."""
    if len(rows) == 0:
        return torch.zeros(0)
    one = torch.from_numpy(first.subset(rows.numpy()).pixels.copy()).float()
    other = torch.from_numpy(second.subset(others.numpy()).pixels.copy()).float()
    best = torch.full((len(rows),), -1.0)
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            moved = torch.roll(other, (down, right), dims=(2, 3))[:, :, 1:-1, 1:-1].flatten(1)
            kept = one[:, :, 1:-1, 1:-1].flatten(1)
            pair = [F.normalize(part - part.mean(dim=1, keepdim=True)) for part in (kept, moved)]
            best = torch.maximum(best, (pair[0] * pair[1]).sum(dim=1))
    return best
