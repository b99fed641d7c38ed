"""What verifying one thing of a run came to."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """One thing that was verified.

    Args:
        what: the file, side or number.
        holds: whether it is what the run says.
        detail: what differs, or what was compared.
    """

    what: str
    holds: bool
    detail: str = ""
