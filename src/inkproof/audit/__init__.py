"""The audit: checks that take plain facts and give findings. One file a subject; `findings` says what is done.

A check is a function of what is known of data, functions, models or a training; it imports no Learner and no run, which
call it. `catalogue` holds all of them and the words that explain each.
"""

from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor
from torch.utils.data import Dataset

import inkproof.audit.data
import inkproof.audit.opening
import inkproof.audit.order
import inkproof.audit.split  # noqa: F401  # the checks of these files are declared as they are imported
from inkproof.audit.catalogue import Check, Seen, catalogue, check, explain, look
from inkproof.audit.copies import check_copies
from inkproof.audit.data import LABELS_LIKELY_WRONG
from inkproof.audit.findings import Finding, OnFinding, act_on
from inkproof.audit.functions import Functions, ideal_outputs
from inkproof.audit.ledger import forget, record_steps
from inkproof.audit.measured import measured
from inkproof.audit.progress import check_history
from inkproof.audit.reading import Reading
from inkproof.audit.record import Record
from inkproof.audit.scores import check_score
from inkproof.audit.setup import Inspection, Setup, check_outputs
from inkproof.audit.sides import Side, Sides, side_of
from inkproof.audit.submission import Submitted, check_rows
from inkproof.audit.training import NOT_FINITE, not_finite
from inkproof.audit.watching import Watched, watch
from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.pairs import as_tensors, collect
from inkproof.submission import read_sample, read_submission

__all__ = [
    "LABELS_LIKELY_WRONG",
    "NOT_FINITE",
    "Check",
    "Finding",
    "Functions",
    "Inspection",
    "OnFinding",
    "Reading",
    "Record",
    "Seen",
    "Setup",
    "Side",
    "Sides",
    "Watched",
    "act_on",
    "catalogue",
    "check",
    "check_copies",
    "check_history",
    "check_images",
    "check_outputs",
    "check_rows",
    "check_score",
    "check_sides",
    "check_submission",
    "explain",
    "forget",
    "ideal_outputs",
    "look",
    "measured",
    "not_finite",
    "record_steps",
    "side_of",
    "watch",
]


_checked: WeakKeyDictionary[Side, list[tuple[tuple[Side | None, Side | None, int], list[Finding]]]] = (
    WeakKeyDictionary()
)
Checkable = ImageSet | tuple[Tensor, Tensor] | Dataset[Any]


def check_images(train: Checkable, valid: Checkable | None = None, test: Checkable | None = None) -> list[Finding]:
    """All checks of images, before anything is trained.

    Args:
        train: the images to train on: an ImageSet, (inputs, targets) tensors, or a torch dataset of such pairs, which
            is read once.
        valid: the images to choose on.
        test: the images to score or predict.
    """
    return check_sides(*(side_of(_readable(data)) for data in (train, valid, test)))


def check_sides(train: Side | None, valid: Side | None = None, test: Side | None = None) -> list[Finding]:
    """All checks of data, of sides that `side_of` described; the same sides are looked at once."""
    if train is None or train in (valid, test):  # a side that is kept for itself would never be freed
        return look("data", Sides(train, valid, test))
    seen = _checked.setdefault(train, [])
    asked = (valid, test, len(catalogue()))
    for before, findings in seen:
        if all(one is two for one, two in zip(before[:2], asked[:2], strict=True)) and before[2] == asked[2]:
            return list(findings)
    findings = look("data", Sides(train, valid, test))
    seen.append((asked, findings))
    return list(findings)


def check_submission(
    submission: Path | str, test: ImageSet, *, sample: Path | str | None = None, train: ImageSet | None = None
) -> list[Finding]:
    """All checks of a submission.

    Args:
        submission: the CSV.
        test: the test images, in the order of their file.
        sample: the competition's sample submission; None asks for the ids of the test images.
        train: training images with labels, by which the labels are judged.

    Raises:
        InputError: a file that cannot be read.
    """
    given, labels = read_submission(Path(submission))
    wanted = read_sample(Path(sample)).ids if sample is not None else tuple(map(str, test.ids))
    if sample is not None and len(wanted) != len(test):
        raise InputError(
            f"{sample}: has {len(wanted):,} rows, and the test images are {len(test):,}: give its test file"
        )
    asked_by = "the sample submission" if sample is not None else "the test file"
    train_side = None if train is None else side_of(train)
    return look(
        "submission",
        Submitted(given.ids, labels, len(given.ids), wanted, asked_by, side_of(test), train_side),
    )


def _readable(data: Checkable | None) -> Checkable | None:
    """A torch dataset whose rows are not in memory is read into it."""
    if data is None or isinstance(data, ImageSet | tuple) or as_tensors(data) is not None:
        return data
    return collect(data)
