"""A finding: what a check saw, with its evidence and the way out; and what is done about it."""

import sys
import warnings
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from inkproof.errors import AuditWarning, Refused

Severity = Literal["refuse", "warn", "note"]
OnFinding = Literal["refuse", "warn", "record"]

_PACKAGE = __name__.partition(".")[0]


@dataclass(frozen=True)
class Finding:
    """Something the audit saw.

    Args:
        id: stable name in kebab case, as `--allow` takes it.
        code: code of the fault catalogue, where it has one.
        severity: `refuse` for broken contracts, `warn` for what is likely wrong, `note` for information.
        message: one sentence in the user's terms.
        evidence: the numbers behind it, and ids of images to look at.
        remedy: what to do.
        allowed: the user let it pass by its id.
    """

    id: str
    code: str | None
    severity: Severity
    message: str
    evidence: dict[str, Any] = field(default_factory=dict)
    remedy: str = ""
    allowed: bool = False

    def as_dict(self) -> dict[str, Any]:
        """The finding as plain data, for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.severity}: {self.id}: {self.message} {self.remedy}".strip()


def act_on(
    findings: Sequence[Finding], *, on_finding: OnFinding = "refuse", allow: Collection[str] = ()
) -> list[Finding]:
    """Stop, warn or record, as the caller wishes.

    Args:
        findings: what the checks gave.
        on_finding: "refuse" raises for findings of severity `refuse` and warns of those of severity `warn`;
            "warn" warns of both; "record" does neither.
        allow: ids of findings that may pass; they are kept and marked `allowed`.

    Returns:
        The findings, for the record.

    Raises:
        Refused: a finding of severity `refuse` that was not allowed.
    """
    marked = [_allow(finding) if finding.id in allow else finding for finding in findings]
    refused = [finding for finding in marked if finding.severity == "refuse" and not finding.allowed]
    if on_finding == "refuse" and refused:
        raise Refused(_refusal(refused), refused)
    if on_finding != "record":
        for finding in marked:
            if finding.severity != "note" and not finding.allowed:
                warnings.warn(str(finding), AuditWarning, stacklevel=_level_of_caller())
    return marked


def _level_of_caller() -> int:
    """How far up the stack, from the function that asks, the first frame outside this package is."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").partition(".")[0] == _PACKAGE:
        level, frame = level + 1, frame.f_back
    return level


def _allow(finding: Finding) -> Finding:
    return Finding(**{**vars(finding), "allowed": True})


def _refusal(refused: Iterable[Finding]) -> str:
    return " | ".join(
        f"{finding.message} {finding.remedy} (to go on all the same: allow '{finding.id}')" for finding in refused
    )
