"""Checks of what held-out rows were used for before: the ledger of this process knows."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

from inkproof.audit.catalogue import Seen, check, look
from inkproof.audit.findings import Finding
from inkproof.audit.ledger import Role, record_use, uses_of
from inkproof.audit.sides import Side

_OFTEN = 5  # scores of one test side that are no re-runs any more
_MANY = 3  # trainings chosen among on one validation side


@dataclass(frozen=True)
class Use:
    """Held-out rows that are used now.

    Args:
        train: the rows that the weights were trained on.
        held_out: the rows that are used.
        role: what for.
        times: how many different weights were used with them in this role, the present ones included.
    """

    train: Side
    held_out: Side
    role: Role
    times: int


def check_use(train: Side | None, held_out: Side | None, role: Role, weights: int) -> list[Finding]:
    """Write a use of held-out rows into the ledger, and look at what it says of them.

    Args:
        train: the rows that the weights were trained on; nothing is said where they are not known.
        held_out: the rows that are used.
        role: what for.
        weights: hash of the weights.
    """
    if train is None or held_out is None:
        return []
    times = record_use(train.rows_hash, held_out.rows_hash, role, weights)
    return look("lineage", Use(train, held_out, role, times))


@check(
    "test-used-for-choice",
    code="B7",
    moment="lineage",
    severity="warn",
    detected="The ledger of this process: the same held-out rows, beside the same training rows, were first given for "
    "choosing (validation) and then for a final score (test), or the other way round.",
    misfires="Rows that change their role between unrelated questions, in one process.",
)
def test_used_for_choice(use: Use) -> Iterator[Seen]:
    """The rows of the final score were also validated on: what was chosen by them looks better on them than it is."""
    other: Role = "scored" if use.role == "chosen on" else "chosen on"
    if uses_of(use.train.rows_hash, use.held_out.rows_hash, other):
        before, now = ("a final score", "validation") if use.role == "chosen on" else ("validation", "a final score")
        yield Seen(
            f"the same {len(use.held_out):,} images were used for {before} before, and now for {now}.",
            {"images": len(use.held_out), "before": other, "now": use.role},
            "Choose on a validation side, and open the test side once, at the end: "
            "`images.split(valid=0.1, test=0.2)`.",
        )


@check(
    "test-scored-repeatedly",
    code="B7",
    moment="lineage",
    severity="note",
    detected="The ledger of this process counts different weights, trained on the same rows, that were scored on the "
    "same labelled held-out rows: noted from two on, warned of from five on.",
    misfires="Several seeds of one recipe that are all reported, and rows that are only looked at.",
)
def test_scored_repeatedly(use: Use) -> Iterator[Seen]:
    """One test side has scored several models: the best of these scores is too good."""
    if use.role == "scored" and use.times > 1:
        yield Seen(
            f"{use.times} different models were scored on the same {len(use.held_out):,} test images.",
            {"models": use.times, "images": len(use.held_out), "best_looks_better_by": _optimism(use)},
            "Choose by the validation side, and report the test score of the one that was chosen.",
            severity="warn" if use.times >= _OFTEN else None,
        )


@check(
    "best-of-many",
    code="H8",
    moment="lineage",
    severity="note",
    detected="The ledger of this process counts the trainings that were judged by the same validation rows: noted from "
    "three on, with how much better the best of so many looks by chance.",
    misfires="It states a fact: choosing is what a validation side is for.",
)
def best_of_many(use: Use) -> Iterator[Seen]:
    """Many trainings were judged by one validation side: the best score among them is better than the model."""
    if use.role == "chosen on" and use.times >= _MANY:
        optimism = _optimism(use)
        yield Seen(
            f"{use.times} trainings were judged by the same {len(use.held_out):,} validation images: by chance alone "
            f"the best of them looks up to {optimism:.1%} better.",
            {"trainings": use.times, "images": len(use.held_out), "best_looks_better_by": optimism},
            "Report a test score of the chosen one, or the mean of all.",
        )


def _optimism(use: Use) -> float:
    """Expected excess of the best of so many scores of 95 % on so many images (Blom 1958, normal scores)."""
    share = (use.times - 0.375) / (use.times + 0.25)
    return NormalDist().inv_cdf(share) * math.sqrt(0.05 * 0.95 / len(use.held_out))
