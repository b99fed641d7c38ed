"""Checks of a submission: one prediction for each row of the test file, in its order, and of its images."""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from inkproof.audit.catalogue import Seen, check, look
from inkproof.audit.findings import Finding
from inkproof.audit.sides import Side
from inkproof.submission import Sample

_SURE, _FAR = 6.0, 4.0  # standard deviations: of a part that is lost, of more than half


@dataclass(frozen=True)
class Submitted:
    """A submission, and what it should be of.

    Args:
        ids: of its rows, in order.
        labels: the class name that it gives each; None where only the rows are looked at.
        rows: how many predictions there are.
        wanted: the ids that are asked for, in order.
        asked_by: what asks for them.
        test: the test images, in the order of their file.
        train: training images with their labels.
    """

    ids: Sequence[str]
    labels: Sequence[str] | None
    rows: int
    wanted: Sequence[str]
    asked_by: str
    test: Side | None = None
    train: Side | None = None

    @property
    def fits(self) -> bool:
        """Whether it has the right ids in their order."""
        return self.rows == len(self.wanted) and list(self.ids) == list(self.wanted)


def check_rows(predictions: int, ids: Sequence[str], sample: Sample | None) -> list[Finding]:
    """Compare the number of predictions and the ids of the images with what the competition's sample asks for.

    Args:
        predictions: how many there are.
        ids: of the images predicted, in order.
        sample: the competition's sample submission; None asks for 1..n.
    """
    wanted = sample.ids if sample is not None else tuple(str(number) for number in range(1, len(ids) + 1))
    asked_by = "the sample submission" if sample is not None else "the test file"
    return look("submission", Submitted(ids, None, predictions, wanted, asked_by))


@check(
    "submission-row-count",
    code="I1",
    moment="submission",
    severity="refuse",
    detected="The number of predictions and of rows asked for are not equal.",
)
def submission_row_count(submitted: Submitted) -> Iterator[Seen]:
    """There are more or fewer predictions than rows: they are of other images, or some are missing."""
    if submitted.rows != len(submitted.wanted):
        yield Seen(
            f"{submitted.rows:,} predictions for the {len(submitted.wanted):,} rows of {submitted.asked_by}.",
            {"predictions": submitted.rows, "rows": len(submitted.wanted)},
            "Predict the competition's test file itself, all of it and nothing else.",
        )


@check(
    "submission-ids",
    code="I2",
    moment="submission",
    severity="refuse",
    detected="The ids differ from those asked for, in their order.",
)
def submission_ids(submitted: Submitted) -> Iterator[Seen]:
    """The ids are not those asked for: counted from 0, repeated, or in another order."""
    ids, wanted = submitted.ids, submitted.wanted
    if submitted.rows != len(wanted) or len(ids) != len(wanted):
        return
    different = [place for place, (have, want) in enumerate(zip(ids, wanted, strict=True)) if have != want]
    if different:
        place = different[0]
        yield Seen(
            f"{len(different):,} of {len(wanted):,} ids differ from {submitted.asked_by}: row {place + 1} is the image "
            f"{ids[place]!r} and should be {wanted[place]!r}.",
            {
                "different": len(different),
                "first_row": place + 1,
                "is": ids[place],
                "should_be": wanted[place],
            },
            "Give the test file with its rows in the order of the sample submission.",
        )


@check(
    "submission-labels",
    code="I4",
    moment="submission",
    severity="refuse",
    detected="A label that is no class of the training images; without these, one that is no whole number.",
)
def submission_labels(submitted: Submitted) -> Iterator[Seen]:
    """Labels are written otherwise than the classes are called: as 3.0, as probabilities, or counted from elsewhere."""
    if submitted.labels is None:
        return
    classes = submitted.train.classes if submitted.train is not None else None
    strange = [
        (row, label)
        for row, label in enumerate(submitted.labels, start=1)
        if (label not in classes if classes is not None else not label.isdigit())
    ]
    if strange:
        row, label = strange[0]
        asked = f"; the classes are {', '.join(classes[:12])}" if classes is not None else ""
        yield Seen(
            f"{len(strange):,} of {len(submitted.labels):,} labels are no class (row {row} has {label!r}{asked}).",
            {"labels": len(strange), "first_row": row, "is": label},
            "Write class names as the training file has them, whole numbers without a point.",
        )


@check(
    "submission-one-class",
    code="I6",
    moment="submission",
    severity="refuse",
    detected="More than 20 rows, all with the same label.",
    misfires="Test files of one class.",
)
def submission_one_class(submitted: Submitted) -> Iterator[Seen]:
    """Every image got the same label: the model has collapsed, or the predictions were never written."""
    if submitted.labels is not None and len(submitted.labels) > 20 and len(set(submitted.labels)) == 1:
        yield Seen(
            f"every one of the {len(submitted.labels):,} images is labelled {submitted.labels[0]}.",
            {"label": submitted.labels[0], "rows": len(submitted.labels)},
            "Look at the model's scores on validation images first.",
        )


@check(
    "submission-misaligned",
    code="I3",
    moment="submission",
    severity="refuse",
    detected="A witness fitted on training images agrees with the labels on the test images less than half as much "
    "above chance as it is right on new training images, by more than 4 standard deviations: refused. Losing 15 % of "
    "it, by more than 6, is a warning.",
    misfires="Test images from another world than training; a witness that is weak says nothing.",
)
def submission_misaligned(submitted: Submitted) -> Iterator[Seen]:
    """The labels do not belong to these test images: they are predictions of other rows, or in another order."""
    train, test = submitted.train, submitted.test
    if train is None or test is None or train.classes is None or submitted.labels is None or train.witness is None:
        return
    if len(submitted.labels) != len(test) or train.shape != test.shape or not train.witness.speaks:
        return
    known = {name: label for label, name in enumerate(train.classes)}
    given = np.array([known.get(submitted.labels[row], -1) for row in test.sampled.tolist()])
    said = train.witness.classify(test.sample)
    shares = [Counter(labels.tolist()) for labels in (given, said)]
    chance = sum(shares[0][label] * shares[1][label] for label in shares[0]) / len(said) ** 2
    agreement, expected = float((given == said).mean()), train.witness.accuracy
    kept = (agreement - chance) / max(expected - chance, 1e-9)
    error = math.sqrt(0.25 / len(said) + 0.25 / train.witness.scored)
    if kept < 0.85 and (expected - agreement) / error > (_SURE if kept >= 0.5 else _FAR):
        yield Seen(
            f"a plain classifier that is right on {expected:.0%} of new training images agrees with {agreement:.0%} of "
            f"these labels (chance: {chance:.0%}): they do not belong to these images, or not in this order.",
            {"agreement": agreement, "expected": expected, "chance": chance, "rows": len(said)},
            "Predict the test file once more, whole and in its order, and compare.",
            severity=None if kept < 0.5 else "warn",
        )
