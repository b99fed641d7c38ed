"""The catalogue: every check with its id, moment, severity, and the words that explain it.

A check is a small function of plain facts that yields what it saw:

    @check("too-many-sevens", moment="data", severity="warn", detected="The share of the label 7.")
    def too_many_sevens(sides):
        '''More than half of the training images are sevens.'''
        share = (sides.train.labels == 7).mean()
        if share > 0.5:
            yield Seen(f"{share:.0%} of the training images are sevens.", {"share": share}, "Collect other digits.")

Once declared it runs wherever checks of its moment do.
"""

import difflib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

from inkproof.audit.findings import Finding, Severity
from inkproof.errors import InputError

Moment = Literal[
    "opening", "data", "reading", "functions", "model", "training", "history", "lineage", "loop", "score", "submission"
]
"""When a check looks: at a file as it is opened; at images before training, and at how they are read; at loss and
metrics, at model and optimiser before the first step; at a training when it ends, at its history, and at
what its rows were used for before; at a loop of one's own; at a score that is claimed; at a submission."""


@dataclass(frozen=True)
class Seen:
    """What a check saw, in the user's terms.

    Args:
        message: one sentence.
        evidence: the numbers behind it, and ids of images to look at.
        remedy: what to do.
        severity: where it differs from the check's own.
    """

    message: str
    evidence: dict[str, Any] = field(default_factory=dict)
    remedy: str = ""
    severity: Severity | None = None


@dataclass(frozen=True)
class Check:
    """One check of the catalogue.

    Args:
        id: stable name in kebab case.
        moment: when it looks.
        severity: of its findings, unless one says otherwise.
        means: what a finding means.
        detected: how it is seen, with its thresholds.
        misfires: when it is wrong, or says nothing.
        code: in the catalogue of faults, where it has one.
        function: takes the facts of its moment and yields what it saw; None where the work itself meets the fault.
    """

    id: str
    moment: Moment
    severity: Severity
    means: str
    detected: str
    misfires: str
    code: str | None
    function: Callable[..., Iterable[Seen]] | None

    def found(self, seen: Seen) -> Finding:
        """A finding of this check."""
        return Finding(self.id, self.code, seen.severity or self.severity, seen.message, seen.evidence, seen.remedy)


_CHECKS: dict[str, Check] = {}
_WORST_FIRST = ("refuse", "warn", "note")


def check(
    id: str,  # noqa: A002  # the word of findings
    *,
    moment: Moment,
    severity: Severity,
    detected: str,
    misfires: str = "",
    code: str | None = None,
    means: str | None = None,
) -> Callable[[Callable[..., Iterable[Seen]]], Callable[..., Iterable[Seen]]]:
    """Declare a check: decorates a function of the facts of its moment. The arguments are those of `Check`.

    What a finding means is the function's docstring, unless `means` says it.

    Raises:
        InputError: the id is taken.
    """

    def declared(function: Callable[..., Iterable[Seen]]) -> Callable[..., Iterable[Seen]]:
        said = " ".join((means or function.__doc__ or "").split())
        _register(Check(id, moment, severity, said, detected, misfires, code, function))
        return function

    return declared


def declare(
    id: str,  # noqa: A002  # the word of findings
    *,
    moment: Moment,
    severity: Severity,
    means: str,
    detected: str,
    misfires: str = "",
    code: str | None = None,
) -> Check:
    """Declare a finding that the work itself meets, such as a loss that became NaN."""
    return _register(Check(id, moment, severity, means, detected, misfires, code, None))


def look(moment: Moment, facts: Any) -> list[Finding]:
    """Run all checks of a moment; what is worst comes first, else the order in which checks were declared."""
    asked = [one for one in _CHECKS.values() if one.moment == moment and one.function is not None]
    found = [one.found(seen) for one in asked for seen in (one.function(facts) if one.function else ())]
    return sorted(found, key=lambda finding: _WORST_FIRST.index(finding.severity))


def catalogue() -> tuple[Check, ...]:
    """Every check that is declared."""
    return tuple(_CHECKS.values())


def explain(id: str) -> Check:  # noqa: A002  # the word of findings
    """The check of an id.

    Raises:
        InputError: no such id; the message names close ones.
    """
    if id not in _CHECKS:
        close = [name for name in _CHECKS if id in name][:3] or difflib.get_close_matches(id, _CHECKS, n=3)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        raise InputError(f"no finding has the id {id!r}: {hint}`inkproof findings` lists them")
    return _CHECKS[id]


def _register(one: Check) -> Check:
    if one.id in _CHECKS:
        raise InputError(f"a check with the id {one.id!r} is declared already: choose another")
    _CHECKS[one.id] = one
    return one
