"""The audit: checks that take plain facts and give findings. One file a subject; `findings` says what is done.

A check is a function of what is known of data, functions, models or a training; it imports no Learner and no run, which
call it. `catalogue` holds all of them and the words that explain each.
"""

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

import inkproof.audit.data
import inkproof.audit.split  # noqa: F401  # the checks of these files are declared as they are imported
from inkproof.audit.catalogue import Check, Seen, catalogue, check, explain, look
from inkproof.audit.findings import Finding, OnFinding, act_on
from inkproof.audit.functions import Functions, ideal_outputs
from inkproof.audit.ledger import record_steps
from inkproof.audit.record import Record
from inkproof.audit.setup import Inspection, Setup
from inkproof.audit.sides import Side, Sides, side_of
from inkproof.audit.submission import check_rows
from inkproof.audit.training import NOT_FINITE, not_finite
from inkproof.images import ImageSet
from inkproof.pairs import as_tensors, collect

__all__ = [
    "NOT_FINITE",
    "Check",
    "Finding",
    "Functions",
    "Inspection",
    "OnFinding",
    "Record",
    "Seen",
    "Setup",
    "Side",
    "Sides",
    "act_on",
    "catalogue",
    "check",
    "check_images",
    "check_rows",
    "check_sides",
    "explain",
    "ideal_outputs",
    "look",
    "not_finite",
    "record_steps",
    "side_of",
]


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
    """All checks of data, of sides that `side_of` described."""
    return look("data", Sides(train, valid, test))


def _readable(data: Checkable | None) -> Checkable | None:
    """A torch dataset whose rows are not in memory is read into it."""
    if data is None or isinstance(data, ImageSet | tuple) or as_tensors(data) is not None:
        return data
    return collect(data)
