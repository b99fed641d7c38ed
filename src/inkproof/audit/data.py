"""Checks of one side: its images, its labels, and whether they belong together."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Int64

from inkproof.audit.catalogue import Seen, check, declare
from inkproof.audit.linear_algebra import centred, matmul
from inkproof.audit.sides import Side, Sides
from inkproof.images import ImageSet

_GREYS = 256  # of a pixel
_BLANK_SHARE = 0.01
_IMBALANCE_NOTED, _IMBALANCE_WARNED = 10, 30
_REPEATED_SHARE = 0.1
_BACKGROUND = 0.2  # of the pixels, where there is one
_SMOOTHER, _ROUGHER = 0.8, 1.5  # of neighbours' differences: what is left when wrapped values are put back
_SHOWN = 5
_NO_SKILL = 4.0  # standard deviations above chance that a witness on real labels exceeds by far
_FEWEST_SCORED = 250
_ENOUGH = 1000  # rows: below, a hard task could look like chance
_NEIGHBOURS = 0.2  # correlation of neighbouring pixels: MNIST 0.8, the embedded digits 0.4, noise 0
_UNSCALED, _DIM = 20.0, 0.02


def _all(sides: Sides) -> dict[str, Side]:
    train = {"training": sides.train} if sides.train is not None else {}
    return train | {{"valid": "validation", "test": "test"}[name]: side for name, side in sides.held_out.items()}


def _ids(side: Side, rows: Int64[np.ndarray, " k"]) -> list[str]:
    return [str(side.ids[row]) for row in rows[:_SHOWN]]


@check(
    "inputs-not-finite",
    code="A5",
    moment="data",
    severity="refuse",
    detected="Every number of tensors is looked at; pixels of images are whole numbers and cannot be NaN.",
)
def inputs_not_finite(sides: Sides) -> Iterator[Seen]:
    """Some inputs are NaN or infinite: the loss and all weights become NaN with them."""
    for name, side in _all(sides).items():
        if side.kind == "tensors":
            broken = np.flatnonzero(~np.isfinite(side.extremes).all(axis=0))
            if len(broken):
                yield Seen(
                    f"{len(broken):,} of {len(side):,} {name} rows hold NaN or infinite numbers (for instance row "
                    f"{side.ids[broken[0]]}).",
                    {"rows": len(broken), "of": len(side), "examples": _ids(side, broken)},
                    "Find where they come from: an empty cell, a division by zero, a logarithm of 0.",
                )


@check(
    "blank-images",
    code="A6",
    moment="data",
    severity="warn",
    detected="Smallest and largest pixel of every image are equal. Any is a warning; from 1 % on it is refused.",
    misfires="A class that is blank on purpose is let be: one class that most of the blank images carry, and that "
    "is mostly blank.",
)
def blank_images(sides: Sides) -> Iterator[Seen]:
    """Some images show nothing: every pixel has the same value. They cannot be told apart by any model."""
    for name, side in _all(sides).items():
        blank = _blank(side)
        rows = np.flatnonzero(blank)
        if len(rows) == 0 or _is_class_of_blanks(side, blank):
            continue
        share = len(rows) / len(side)
        yield Seen(
            f"{len(rows):,} of {len(side):,} {name} images ({share:.1%}) are blank (for instance {side.ids[rows[0]]}).",
            {"images": len(rows), "of": len(side), "share": share, "examples": _ids(side, rows)},
            "Look at these rows in the file they come from, and leave them out or read them anew.",
            severity="refuse" if share >= _BLANK_SHARE else None,
        )


def _blank(side: Side) -> Bool[np.ndarray, " n"]:
    """Which rows hold one number over and over; of images by their hash, where they are more than the blank ones."""
    if side.kind == "images" and len(side) > _GREYS:
        greys = np.arange(_GREYS, dtype=np.uint8)[:, None, None, None] * np.ones(side.shape, np.uint8)
        return np.isin(side.hashes, ImageSet(greys).hashes)
    smallest, largest = side.extremes
    same: Bool[np.ndarray, " n"] = smallest == largest
    return same


def _is_class_of_blanks(side: Side, blank: Bool[np.ndarray, " n"]) -> bool:
    if side.labels is None:
        return False
    label = np.bincount(side.labels[blank] - min(side.labels.min(), 0)).argmax() + min(side.labels.min(), 0)
    of_label = side.labels == label
    return bool(blank[of_label].mean() > 0.5 and of_label[blank].mean() > 0.9)


@check(
    "conflicting-labels",
    code="A7",
    moment="data",
    severity="warn",
    detected="Rows of equal content with unequal labels, by content hash. Blank images are left out.",
    misfires="Tiny or binary images can be equal by nature; up to 0.1 % of the side is a note.",
)
def conflicting_labels(sides: Sides) -> Iterator[Seen]:
    """The same image stands in a side with two different labels: one of them is wrong."""
    for name, side in _all(sides).items():
        if side.labels is None:
            continue
        order = np.argsort(side.hashes, kind="stable")
        same = side.hashes[order][1:] == side.hashes[order][:-1]
        differ = side.labels[order][1:] != side.labels[order][:-1]
        pairs = sorted(
            (int(order[place]), int(order[place + 1]))
            for place in np.flatnonzero(same & differ)
            if _shows(side, int(order[place]))
        )
        if not pairs:
            continue
        first, second = pairs[0]
        yield Seen(
            f"{len(pairs):,} {name} images stand there with two labels (for instance {side.ids[first]} as "
            f"{side.name(int(side.labels[first]))} and {side.ids[second]} as {side.name(int(side.labels[second]))}).",
            {"pairs": len(pairs), "examples": [[str(side.ids[a]), str(side.ids[b])] for a, b in pairs[:_SHOWN]]},
            "Look at them with `inkproof show` and correct or drop the wrong ones.",
            severity="note" if len(pairs) < 0.001 * len(side) else None,
        )


def _shows(side: Side, row: int) -> bool:
    pixels = side.take(np.array([row]))
    return bool(pixels.max() > pixels.min())


@check(
    "duplicate-images",
    code="A7",
    moment="data",
    severity="note",
    detected="Training rows of equal content, by content hash, blank ones left out: noted, and warned of where more "
    "than 10 % of the rows are repetitions.",
    misfires="Rows that are repeated on purpose, to weigh them; tiny or binary images that are equal by nature.",
)
def duplicate_images(sides: Sides) -> Iterator[Seen]:
    """Training images stand there more than once: they count double, and a later split would part them."""
    train = sides.train
    if train is None:
        return
    _, first, counts = np.unique(train.hashes, return_index=True, return_counts=True)
    repeated = [int(row) for row in np.sort(first[counts > 1]) if _shows(train, int(row))]
    again = int(sum(counts[np.isin(first, repeated)] - 1))
    if again:
        share = again / len(train)
        yield Seen(
            f"{again:,} of {len(train):,} training images ({share:.1%}) repeat others (for instance "
            f"{train.ids[repeated[0]]}).",
            {"images": again, "of": len(train), "share": share, "examples": _ids(train, np.array(repeated))},
            "Look whether files or rows were joined twice.",
            severity="warn" if share > _REPEATED_SHARE else None,
        )


@check(
    "class-missing",
    code="C5",
    moment="data",
    severity="warn",
    detected="Labels of the training side against the declared classes, and against those of the held-out sides: a "
    "class that is scored and never trained is refused.",
    misfires="A subset of classes that was chosen on purpose: `with_classes` and --classes declare it.",
)
def class_missing(sides: Sides) -> Iterator[Seen]:
    """A class that the data declares has no training image, so it can never be predicted."""
    train = sides.train
    if train is None or train.labels is None:
        return
    trained = set(np.unique(train.labels).tolist())
    for name, side in sides.held_out.items():
        if side.labels is not None and (unseen := set(np.unique(side.labels).tolist()) - trained):
            rows = int(np.isin(side.labels, list(unseen)).sum())
            yield Seen(
                f"{rows:,} {name} images are of {_classes(side, unseen)}, of which there is no training image.",
                {"classes": [side.name(label) for label in sorted(unseen)], "images": rows},
                "Split the rows at random over all classes: `images.split(valid=0.2)` keeps the share of each.",
                severity="refuse",
            )
    missing = set(range(len(train.classes or ()))) - trained
    if missing and len(train) >= 20 * len(train.classes or ()):
        yield Seen(
            f"no training image is of {_classes(train, missing)}, though the data declares it.",
            {"classes": [train.name(label) for label in sorted(missing)]},
            "Choose the classes there are, with `with_classes(…)` or --classes, or look where the others went.",
        )


def _classes(side: Side, labels: set[int]) -> str:
    names = ", ".join(side.name(label) for label in sorted(labels)[:_SHOWN])
    return f"class {names}" if len(labels) == 1 else f"classes {names}"


@check(
    "class-imbalance",
    code="C6",
    moment="data",
    severity="note",
    detected="Most over fewest images of a class. From 10 on it is noted, from 30 on warned of.",
    misfires="Data that is so by nature.",
)
def class_imbalance(sides: Sides) -> Iterator[Seen]:
    """Some class has many times the training images of another: accuracy says little about the rare one."""
    if sides.train is None or sides.train.labels is None or (sides.train.labels < 0).any():
        return
    counts = np.bincount(sides.train.labels)
    there = np.flatnonzero(counts)
    if len(there) < 2:
        return
    rare, common = there[counts[there].argmin()], there[counts[there].argmax()]
    ratio = counts[common] / counts[rare]
    if any(_common_elsewhere(side, int(rare), counts[rare] / counts.sum()) for side in sides.held_out.values()):
        return  # the split made it rare: `class-shares-differ` says so
    if ratio >= _IMBALANCE_NOTED:
        yield Seen(
            f"class {sides.train.name(int(common))} has {counts[common]:,} training images and class "
            f"{sides.train.name(int(rare))} {counts[rare]:,}, {ratio:.0f} times fewer.",
            {"most": int(counts[common]), "fewest": int(counts[rare]), "ratio": float(ratio)},
            "Read the accuracy of each class, not only the one of all.",
            severity="warn" if ratio >= _IMBALANCE_WARNED else None,
        )


def _common_elsewhere(side: Side, label: int, share: float) -> bool:
    return side.labels is not None and float((side.labels == label).mean()) > 3 * float(share) + 0.01


@check(
    "labels-ignored",
    code="C7",
    moment="data",
    severity="refuse",
    detected="Any whole-number label below 0.",
    misfires="Rows that are masked on purpose: allow it.",
)
def labels_ignored(sides: Sides) -> Iterator[Seen]:
    """Some labels are negative. torch's cross entropy leaves rows with the label -100 out, without a word."""
    for name, side in _all(sides).items():
        if side.labels is not None and len(rows := np.flatnonzero(side.labels < 0)):
            yield Seen(
                f"{len(rows):,} of {len(side):,} {name} labels are negative (for instance {side.labels[rows[0]]} at "
                f"row {side.ids[rows[0]]}): such rows are not learnt from, or raise an error.",
                {"rows": len(rows), "of": len(side), "examples": _ids(side, rows)},
                "Count labels from 0, and drop rows that have none.",
            )


LABELS_LIKELY_WRONG = declare(
    "labels-likely-wrong",
    code="C2",
    moment="data",
    severity="note",
    means="Nets that did not see these images contradict their labels with confidence: part of the labels is noise.",
    detected="By `inkproof audit --labels` alone: confident learning from predictions out of fold. Noted, and warned "
    "of where more than 1 % of the labels are contradicted.",
    misfires="Hard images: on clean MNIST 0.2 % of the labels are contradicted, and about half of these are wrong.",
)


@check(
    "inputs-not-scaled",
    code="D1",
    moment="data",
    severity="warn",
    detected="The largest number of up to 4,000 training rows is above 20 in size. Images are always scaled.",
    misfires="Inputs of another nature than pixels; behind a first batch normalisation the scale does no harm.",
)
def inputs_not_scaled(sides: Sides) -> Iterator[Seen]:
    """Inputs reach far beyond what a net learns well from, as pixels of 0..255 do that were not divided by 255."""
    if sides.train is None or sides.train.kind == "images":
        return
    largest = sides.train.largest
    if _UNSCALED < largest < np.inf:
        yield Seen(
            f"training inputs reach {largest:.4g}: nets learn slowly from such, or not at all.",
            {"largest": largest},
            "Divide pixels by 255.",
        )


@check(
    "inputs-scaled-twice",
    code="D2",
    moment="data",
    severity="warn",
    detected="The standard deviation of up to 4,000 training rows is below 0.02, and their largest number below 0.1.",
    misfires="Very faint images.",
)
def inputs_scaled_twice(sides: Sides) -> Iterator[Seen]:
    """Inputs hardly differ from each other, as pixels do that were divided by 255 twice."""
    if sides.train is None:
        return
    spread, largest = sides.train.spread, sides.train.largest
    if 0 < spread < _DIM and largest < 0.1:
        yield Seen(
            f"training inputs have a standard deviation of {spread:.2g} and reach {largest:.2g}: too dim to learn.",
            {"standard_deviation": spread, "largest": largest},
            "Divide pixels by 255 once.",
        )


@check(
    "values-wrapped",
    code="A4",
    moment="data",
    severity="refuse",
    detected="Tensors of whole numbers (or whole 255ths) that fill -128..127, and whose most frequent number is 0, as "
    "a background is; or whose neighbours differ a fifth less when 256 is added to the negative ones, or by not half "
    "as much again while the median is below 64.",
    misfires="Differences of images, in whole numbers. Pixels that were centred by subtracting 128 are let be.",
)
def values_wrapped(sides: Sides) -> Iterator[Seen]:
    """Bright pixels became negative: 0..255 was stored in signed bytes, and 200 is now -56."""
    for name, side in _all(sides).items():
        if side.kind != "tensors" or not side.is_finite or not (side.sample < 0).any():
            continue
        scale = 1.0 if side.largest > 1.01 else 255.0
        values = side.sample * scale
        whole = np.abs(values - np.round(values)).max() < 1e-2
        if not whole or not (-128.5 < values.min() < -100 and 100 < values.max() < 127.5):
            continue
        background = float((np.abs(values) < 0.5).mean())
        put_back = np.where(values < -0.5, values + 256, values)
        left = float(np.abs(np.diff(put_back)).mean() / max(np.abs(np.diff(values)).mean(), 1e-9))
        calm = left < _ROUGHER and abs(float(np.median(values))) < 64
        if left < _SMOOTHER or background > _BACKGROUND or calm:
            yield Seen(
                f"{name} inputs were wrapped: {(values < -0.5).mean():.0%} of them are negative, and 256 more makes "
                "pictures of them again.",
                {"smallest": float(side.sample.min()), "differences_left": left},
                "Read pixels as uint8 or float32, never as int8.",
            )


@check(
    "label-among-inputs",
    code="A3",
    moment="data",
    severity="refuse",
    detected="A column of up to 4,000 training rows whose correlation with the label is 1, among three classes or "
    "more; of two classes, a column of tensors that is the label itself.",
    misfires="Made-up images that draw the class number as a brightness.",
)
def label_among_inputs(sides: Sides) -> Iterator[Seen]:
    """One column of the inputs is the label itself: a model learns to read it, and fails where it is not there."""
    train = sides.train
    if train is None or train.sample_labels is None or len(train.sampled) < 100:
        return
    kinds = len(np.unique(train.sample_labels))
    if kinds < 2 or (kinds == 2 and train.kind == "images"):
        return
    labels = (train.sample_labels - train.sample_labels.mean()).astype(np.float32)
    columns = centred(train.sample)
    size = np.sqrt(np.einsum("ij,ij->j", columns, columns)) * np.sqrt(labels @ labels)
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.abs(np.where(size > 0, matmul(labels, columns) / size, 0.0))
    column = int(np.nanargmax(correlation))
    if correlation[column] > 0.9999 and (kinds > 2 or (train.sample[:, column] == train.sample_labels).all()):
        yield Seen(
            f"number {column} of each training row is its label.",
            {"column": column, "correlation": float(correlation[column])},
            "Take the label out of the inputs: df.drop(columns='label').",
        )


@check(
    "labels-unrelated-to-images",
    code="C1",
    moment="data",
    severity="refuse",
    detected="Nearest class mean, ridge regression and nearest neighbour, fitted on a part of up to 4,000 training "
    "rows, all stay within 4 standard deviations of chance on the others. Images of pure noise, and fewer than 1,000 "
    "rows, are only warned of.",
    misfires="A task that no plain classifier has any grip on; fewer than 250 rows, where nothing is said.",
)
def labels_unrelated_to_images(sides: Sides) -> Iterator[Seen]:
    """Labels and images of the training side have nothing to do with each other: labels were shifted, shuffled, or
    belong to other rows.
    """
    train = sides.train
    witness = None if train is None else train.witness
    if train is None or witness is None or witness.scored < _FEWEST_SCORED:
        return
    above = witness.deviations(witness.accuracy, witness.scored)
    if above < _NO_SKILL:
        yield Seen(
            f"plain classifiers that saw a part of the training images with their labels are right on "
            f"{witness.accuracy:.1%} of {witness.scored:,} others, no better than chance ({witness.chance:.1%}): the "
            "labels do not belong to these images.",
            {"accuracy": witness.accuracy, "chance": witness.chance, "scored": witness.scored, "deviations": above},
            "Look at some with `inkproof show` or show_images: were images and labels read, sorted or cut apart?",
            severity=None if _shows_something(train) and len(train.sampled) >= _ENOUGH else "warn",
        )


def _shows_something(side: Side) -> bool:
    """Whether neighbouring pixels are alike, as in pictures of anything; in pure noise they are not."""
    rows = side.sample - side.sample.mean()
    alike = float((rows[:, :-1] * rows[:, 1:]).mean() / max(float((rows**2).mean()), 1e-12))
    return alike > _NEIGHBOURS
