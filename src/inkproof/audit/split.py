"""Checks of a split: its sides share no image, and show the same kind of images with the same labels."""

import math
from collections.abc import Iterator
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Float64, Int64

from inkproof.audit.catalogue import Seen, check
from inkproof.audit.findings import Severity
from inkproof.audit.sides import Side, Sides
from inkproof.audit.witness import Witness

_REFUSED_SHARE = 0.01
_SHOWN = 5
_NAMES = {"train": "training", "valid": "validation", "test": "test"}
_MEANING = {
    "valid": "so the validation score says nothing about new images",
    "test": "so the test score says nothing about new images",
}
_HINTS = {
    "images": "`images.split({side}=0.2)` keeps identical images on one side",
    "tensors": "look whether the code that makes it uses the training rows by mistake",
}
_SURE = 6.0  # standard deviations
_FEWEST_HELD_OUT = 40
_FEWEST_OF_CLASS = 20
_FEW = 50
_EXACTLY = 1e-5


def _overlap(first: str, second: str, sides: Sides) -> Iterator[Seen]:
    seen, held_out = getattr(sides, first), getattr(sides, second)
    if seen is None or held_out is None or (seen.shape, seen.kind) != (held_out.shape, held_out.kind):
        return
    repeated = np.flatnonzero(np.isin(held_out.hashes, seen.hashes))
    if len(repeated) == 0:
        return
    share = len(repeated) / len(held_out)
    severity: Severity = "refuse" if share >= _REFUSED_SHARE else "warn"
    examples = [_pair(seen, held_out, row) for row in repeated[:_SHOWN].tolist()]
    yield Seen(
        f"{len(repeated):,} of {len(held_out):,} {second} images ({share:.1%}) are identical to {_NAMES[first]} "
        f"images, {_MEANING[second]} (for instance {second} image {examples[0]['held_out']} is {first} image "
        f"{examples[0]['seen']}).",
        {"images": len(repeated), "of": len(held_out), "share": share, "examples": examples},
        f"Build the {second} side from other rows: {_HINTS[seen.kind].format(side=second)}.",
        severity,
    )


def _pair(seen: Side, held_out: Side, row: int) -> dict[str, str]:
    """The ids of a held-out image and of the first identical one, by the names of their sides."""
    twin = int(np.flatnonzero(seen.hashes == held_out.hashes[row])[0])
    return {"held_out": str(held_out.ids[row]), "seen": str(seen.ids[twin])}


for _first, _second in combinations(_NAMES, 2):
    check(
        f"{_second}-overlaps-{_first}",
        code="B1" if _second == "valid" else "B2",
        moment="data",
        severity="refuse",
        means=f"Images of the {_NAMES[_second]} side are {_NAMES[_first]} images too. Its score then tells how well "
        "images are remembered, not how well new ones are read.",
        detected="A content hash of every row, whatever its label, name or place. From 1 % of the held-out side on "
        "it is refused, fewer are warned of, for some data sets hold natural duplicates.",
        misfires="Rows of fewer than 16 numbers are not compared. Shifted or redrawn copies have another content: "
        "`inkproof audit` looks for altered ones.",
    )(lambda sides, first=_first, second=_second: _overlap(first, second, sides))


@check(
    "sides-share-sources",
    code="B4",
    moment="data",
    severity="refuse",
    detected="Equal ids on two sides of the same source. From 1 % of the held-out side on.",
    misfires="Ids that are no ids: row numbers of files with the same name. Rows that are counted from 1 on both sides "
    "are let be.",
)
def sides_share_sources(sides: Sides) -> Iterator[Seen]:
    """Held-out images carry the ids of training images of the same source: they are altered copies of them, made
    before the split.
    """
    for name, side in sides.held_out.items():
        train = sides.train
        if train is None or train.kind != "images" or side.kind != "images" or train.source != side.source:
            continue
        if _numbered_anew(train) and _numbered_anew(side):
            continue
        shared = np.isin(side.ids, train.ids) & ~np.isin(side.hashes, train.hashes)
        if shared.mean() >= _REFUSED_SHARE:
            example = side.ids[int(np.flatnonzero(shared)[0])]
            yield Seen(
                f"{int(shared.sum()):,} of {len(side):,} {name} images have the ids of training images (for instance "
                f"{example}): altered copies stand on both sides.",
                {"images": int(shared.sum()), "of": len(side), "example": str(example)},
                "Split first, then alter the training images.",
            )


def _numbered_anew(side: Side) -> bool:
    """Whether the ids are nothing but 1..n, as rows get them that came without any."""
    return bool(np.array_equal(side.ids, np.arange(1, len(side) + 1)))


@check(
    "class-shares-differ",
    code="B6",
    moment="data",
    severity="warn",
    detected="Chi-square of the label counts above its one-in-a-million value, and more than 5 % of the labels in "
    "other classes; or a class that has less than a third of its share, by more than 4.5 standard deviations.",
    misfires="Sides that differ on purpose, such as a later year's images.",
)
def class_shares_differ(sides: Sides) -> Iterator[Seen]:
    """The classes have other shares on a held-out side than in training, as when a sorted file is cut in two."""
    train = sides.train
    if train is None or train.labels is None:
        return
    for name, side in sides.held_out.items():
        if side.labels is None or (side.labels < 0).any() or (train.labels < 0).any():
            continue
        kinds = int(max(train.labels.max(), side.labels.max())) + 1
        counts = np.stack([np.bincount(labels, minlength=kinds) for labels in (train.labels, side.labels)])
        counts = counts[:, counts.sum(axis=0) > 0]
        shares = counts / counts.sum(axis=1, keepdims=True)
        moved = float(np.abs(shares[0] - shares[1]).sum() / 2)
        expected = counts.sum(axis=0) * counts.sum(axis=1, keepdims=True) / counts.sum()
        chi_square = float(((counts - expected) ** 2 / expected).sum())
        cut_off = _cut_off(counts)
        if cut_off or (moved > 0.05 and chi_square > _one_in_a_million(counts.shape[1] - 1)):
            yield Seen(
                f"{moved:.0%} of the {name} labels would have to change for classes to have the shares of training.",
                {"moved": moved, "chi_square": chi_square},
                "Split at random and by class: `images.split(valid=0.2)` does.",
            )


def _cut_off(counts: Int64[np.ndarray, "2 classes"]) -> bool:
    """Whether a class of the second row has less than a third of the share that it has in the first, surely."""
    totals = counts.sum(axis=1, keepdims=True)
    first, second = counts / totals
    both = counts.sum(axis=0) / totals.sum()
    error = np.sqrt(both * (1 - both) * (1 / totals).sum())
    return bool(((3 * second < first) & (first - second > 4.5 * error)).any())


def _one_in_a_million(degrees: int) -> float:
    """The chi-square that chance exceeds once in a million times (Wilson and Hilferty 1931)."""
    if degrees < 1:
        return math.inf
    part = 2 / (9 * degrees)
    return degrees * (1 - part + 4.75 * math.sqrt(part)) ** 3


@check(
    "inputs-rescaled",
    code="D3",
    moment="data",
    severity="warn",
    detected="Mean and spread of up to 4,000 rows of each: apart by more than a quarter of the training spread, or "
    "by a factor of 1.3, and by more than 6 standard errors. A factor of 3, or a shift of one spread, is "
    "refused.",
    misfires="Held-out images that are darker or brighter by nature.",
)
def inputs_rescaled(sides: Sides) -> Iterator[Seen]:
    """A held-out side has numbers of another scale or brightness than training, as when only one of them was divided
    by 255, standardised, or inverted.
    """
    train = sides.train
    if train is None:
        return
    for name, side in sides.held_out.items():
        if side.shape != train.shape or not (train.is_finite and side.is_finite):
            continue
        spread = train.spread or 1e-9
        means = [one.sample.mean(axis=1) for one in (train, side)]
        error = math.sqrt(sum(float(mean.var()) / len(mean) for mean in means)) + 1e-9
        shift = float(means[1].mean() - means[0].mean())
        factor = max(side.spread / spread, 1e-9)
        shifted = abs(shift) > 0.25 * spread and abs(shift) / error > _SURE
        stretched = max(factor, 1 / factor) > 1.3 and len(side.sample) >= _FEWEST_HELD_OUT
        if shifted or stretched:
            far = max(factor, 1 / factor) > 3 or abs(shift) > spread
            yield Seen(
                f"{name} inputs have mean {side.sample.mean():.3g} and standard deviation {side.spread:.3g}, "
                f"training inputs {train.sample.mean():.3g} and {spread:.3g}: they were prepared in another way.",
                {"shift": shift, "factor": factor, "standard_error": error},
                "Prepare all sides by the same function, with the numbers taken from training.",
                severity="refuse" if far else None,
            )


@check(
    "statistics-of-all-rows",
    code="B8",
    moment="data",
    severity="note",
    detected="Tensors whose training and held-out rows together have mean 0 and standard deviation 1, to one in a "
    "hundred thousand, while the training rows alone have not.",
    misfires="Statistics that were rounded, or taken a pixel at a time, are not seen.",
)
def statistics_of_all_rows(sides: Sides) -> Iterator[Seen]:
    """Inputs were standardised with mean and deviation of all rows, held-out ones too: a little of these leaked."""
    known = [sides.train, *sides.held_out.values()]
    tensors = [side for side in known if side is not None and side.kind == "tensors"]
    if sides.train is None or len(tensors) < 2 or len({side.shape for side in tensors}) > 1:
        return
    # Reading all rows takes long, and of most data the samples tell that they are not standardised at all.
    if not _standardised(np.sum([_sampled_moments(side) for side in tensors], axis=0), within=0.5):
        return
    moments = [_moments(side) for side in tensors]
    if not np.isfinite(moments).all():
        return
    together = np.sum(moments, axis=0)
    if _standardised(together) and not _standardised(moments[0]):
        own = moments[0][1] / moments[0][0]
        yield Seen(
            f"all rows together have mean 0 and standard deviation 1, and the training rows have mean {own:.2g}: the "
            "statistics were taken from all of them.",
            {"training_mean": float(own)},
            "Take mean and standard deviation from the training rows, and apply them to all sides.",
        )


def _moments(side: Side) -> Float64[np.ndarray, "3"]:
    """How many numbers the rows hold, their sum, and the sum of their squares."""
    moments = np.zeros(3)
    for rows in side.in_parts():
        values = rows.astype(np.float64).ravel()
        squares = np.einsum("i,i->", values, values)  # `values @ values` wakes OpenBLAS's threads (`linear_algebra`)
        moments += np.array([values.size, values.sum(), squares])
    return moments


def _sampled_moments(side: Side) -> Float64[np.ndarray, "3"]:
    """About the same, up to a factor, from the sample alone."""
    mean = float(side.sample.mean())
    return len(side) * np.array([1.0, mean, mean**2 + side.spread**2])


def _standardised(moments: Float64[np.ndarray, "3"], *, within: float = _EXACTLY) -> bool:
    mean = moments[1] / moments[0]
    spread = math.sqrt(max(moments[2] / moments[0] - mean**2, 0.0))
    # Dividing by n - 1 in place of n, as torch's std does, leaves half of 1/n.
    return bool(abs(mean) < within and abs(spread - 1) < within + 0.6 / moments[0])


@check(
    "sides-do-not-match",
    code="C4",
    moment="data",
    severity="warn",
    detected="A witness fitted on training rows loses more than 40 % of its skill on the held-out labels, by more "
    "than 6 standard deviations; losing 80 % is refused. One that is weak on training "
    "rows themselves tells only the latter.",
    misfires="Held-out images from another world, such as another scanner.",
)
def sides_do_not_match(sides: Sides) -> Iterator[Seen]:
    """What a plain classifier learns from the training side does not hold on a held-out side: its labels are counted
    otherwise or belong to other rows, or its images are turned, mirrored or inverted.
    """
    for name, _, witness, right in _testified(sides):
        accuracy = float(right.mean())
        kept = (accuracy - witness.chance) / (witness.accuracy - witness.chance)
        shares = ((accuracy, len(right)), (witness.accuracy, witness.scored))
        error = math.sqrt(sum(max(share * (1 - share), 0.02) / rows for share, rows in shares))
        if kept < (0.6 if witness.speaks else 0.2) and (witness.accuracy - accuracy) / error > _SURE:
            yield Seen(
                f"a plain classifier that is right on {witness.accuracy:.0%} of new training images is right on "
                f"{accuracy:.0%} of the {name} images: their labels or their orientation are not those of training.",
                {"on_training": witness.accuracy, f"on_{name}": accuracy, "chance": witness.chance},
                "Show some images of both sides with their labels, and compare the order of the classes.",
                severity="refuse" if kept < 0.2 else None,
            )


@check(
    "classes-swapped",
    code="C4",
    moment="data",
    severity="warn",
    detected="A witness fitted on training rows reads under 30 % as much of a class as it does of training rows, "
    "and most of the class as one other, while it holds elsewhere.",
    misfires="A rare class: under 20 images nothing is said.",
)
def classes_swapped(sides: Sides) -> Iterator[Seen]:
    """One class of a held-out side is read as another one throughout: two classes have changed places, or a class
    has another number there.
    """
    for name, side, witness, right in _testified(sides):
        labels = side.sample_labels
        assert labels is not None, "testified of"
        if not witness.speaks or (right.mean() - witness.chance) < 0.6 * (witness.accuracy - witness.chance):
            continue  # that is more than some classes
        lost = []
        for label in np.unique(labels).tolist():
            of_label = labels == label
            recall, count = witness.recall.get(label, (0.0, 0))
            enough = min(int(of_label.sum()), count) >= _FEWEST_OF_CLASS
            if enough and recall > 0.4 and right[of_label].mean() < 0.3 * recall:
                lost.append(label)
        if lost:
            names = ", ".join(side.name(label) for label in lost)
            yield Seen(
                f"{name} images labelled {names} do not look like training images of these labels.",
                {"classes": [side.name(label) for label in lost]},
                "Compare the order of the class names on both sides.",
            )


def _testified(sides: Sides) -> Iterator[tuple[str, Side, Witness, Bool[np.ndarray, " k"]]]:
    """Held-out sides with labels, beside a witness that is strong enough, and where it is right on their rows."""
    labelled = {name: side for name, side in sides.held_out.items() if side.sample_labels is not None}
    train = sides.train
    if train is None or not labelled or train.witness is None or not train.witness.knows:
        return
    for name, side in labelled.items():
        if side.shape == train.shape and len(side.sampled) >= _FEWEST_HELD_OUT and side.is_finite:
            yield name, side, train.witness, train.witness.classify(side.sample) == side.sample_labels


@check(
    "held-out-side-small",
    code="B9",
    moment="data",
    severity="note",
    detected="Fewer than 50 images: an accuracy of 90 % is known to within 8 points.",
    misfires="It states a fact; small data is no mistake.",
)
def held_out_side_small(sides: Sides) -> Iterator[Seen]:
    """A held-out side is so small that its score is known to within many points only."""
    for name, side in sides.held_out.items():
        half = 1.96 * math.sqrt(0.09 / max(len(side), 1))
        if len(side) < _FEW and side.labels is not None:
            yield Seen(
                f"the {name} side has {len(side):,} images: accuracies on it are known to about ± {half:.0%}.",
                {"images": len(side), "half_width": half},
                "Read its scores with their intervals, or take several splits.",
            )
