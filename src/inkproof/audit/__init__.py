"""The audit: checks that take plain facts and give findings. One file a subject; `findings` says what is done.

A check is a function of ImageSets, tensors or a history; it imports no Learner and no run, which call it.
"""

from inkproof.audit.findings import Finding, OnFinding, act_on
from inkproof.audit.pairing import check_pairing_of
from inkproof.audit.split import check_sides
from inkproof.audit.submission import check_rows
from inkproof.audit.training import NOT_FINITE, not_finite
from inkproof.images import ImageSet

__all__ = [
    "NOT_FINITE",
    "Finding",
    "OnFinding",
    "act_on",
    "check_images",
    "check_pairing_of",
    "check_rows",
    "check_sides",
    "not_finite",
]


def check_images(train: ImageSet, valid: ImageSet | None = None, test: ImageSet | None = None) -> list[Finding]:
    """All checks of images, before anything is trained.

    Args:
        train: the images to train on.
        valid: the images to choose on.
        test: the images to score or predict.
    """
    return check_sides(train, valid, test)
