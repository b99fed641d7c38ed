"""The record of one Learner: what the audit saw so far, and what is done about each thing."""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor

from inkproof.audit.findings import Finding, OnFinding, act_on
from inkproof.audit.training import NOT_FINITE, not_finite
from inkproof.errors import NotFinite


class Record:
    """Findings of one training, each acted on when it comes.

    Args:
        on_finding: "refuse" raises for findings of severity `refuse`, "warn" warns of them, "record" keeps them only.
        allow: ids of findings that may pass.

    Attributes:
        findings: all of them.
        stops_on_not_finite: a loss that is not finite ends the training.
    """

    def __init__(self, on_finding: OnFinding, allow: Collection[str]):
        self.findings: list[Finding] = []
        self.stops_on_not_finite = on_finding == "refuse" and NOT_FINITE not in allow
        self._on_finding = on_finding
        self._allow = frozenset(allow)

    def act(self, findings: Sequence[Finding]) -> None:
        """Stop, warn or keep, as the caller wished; before anything is trained.

        Raises:
            Refused: a finding of severity `refuse` that was not allowed.
        """
        self.findings += act_on(findings, on_finding=self._on_finding, allow=self._allow)

    def tell(self, findings: Sequence[Finding]) -> None:
        """Warn or keep, each id once: what is done cannot be refused any more."""
        known = {finding.id for finding in self.findings}
        told: OnFinding = "record" if self._on_finding == "record" else "warn"
        new = [finding for finding in findings if finding.id not in known]
        self.findings += act_on(new, on_finding=told, allow=self._allow)

    def not_finite(self, what: str, where: str) -> NotFinite:
        """Record a loss or gradient that is not finite; the error for those that it stops."""
        finding = not_finite(what, where)
        if self.stops_on_not_finite:
            self.findings.append(finding)
        else:
            self.tell([finding])
        return NotFinite(f"{finding.message} {finding.remedy}", [finding])

    def check_losses(self, losses: Tensor, first_step: int) -> None:
        """Look at the losses of an epoch's steps, which begin with `first_step`.

        Raises:
            NotFinite: one is not finite and that stops this training; the message names the first such step.
        """
        finite = torch.isfinite(losses)
        if not finite.all():
            step = first_step + int(finite.long().argmin())
            error = self.not_finite("the loss or a gradient became NaN or infinite", f"step {step}")
            if self.stops_on_not_finite:
                raise error
