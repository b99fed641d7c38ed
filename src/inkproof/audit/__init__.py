"""The audit: checks that take plain facts and give findings. One file a subject; `findings` says what is done.

A check is a function of ImageSets, tensors or a history; it imports no Learner and no run, which call it.
"""

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset

from inkproof.audit.findings import Finding, OnFinding, act_on
from inkproof.audit.pairing import PROBE_ROWS, check_pairing_of, ideal_outputs
from inkproof.audit.split import Side, check_sides, side_of
from inkproof.audit.submission import check_rows
from inkproof.audit.training import NOT_FINITE, not_finite
from inkproof.images import ImageSet
from inkproof.pairs import as_tensors, collect

__all__ = [
    "NOT_FINITE",
    "PROBE_ROWS",
    "Finding",
    "OnFinding",
    "Side",
    "act_on",
    "check_images",
    "check_pairing_of",
    "check_rows",
    "check_sides",
    "ideal_outputs",
    "not_finite",
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


def _readable(data: Checkable | None) -> Checkable | None:
    """A torch dataset whose rows are not in memory is read into it."""
    if data is None or isinstance(data, ImageSet | tuple) or as_tensors(data) is not None:
        return data
    return collect(data)
