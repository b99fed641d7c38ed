"""Findings of a training under way."""

from inkproof.audit.findings import Finding

NOT_FINITE = "not-finite"


def not_finite(what: str, where: str) -> Finding:
    """A loss or gradient that is NaN or infinite: the numbers after it mean nothing.

    Args:
        what: "the loss became nan".
        where: "at step 12, before the update".
    """
    return Finding(
        id=NOT_FINITE,
        code="G1",
        severity="refuse",
        message=f"Training stopped {where}: {what}.",
        evidence={"what": what, "where": where},
        remedy="Lower the learning rate, and look for NaN in the inputs or log and sqrt of 0 in the loss.",
    )
