"""The exceptions of inkproof, each with the exit code that a command ends with.

    InkproofError                70  never raised itself
    ├── InputError                2  a file, an option or an argument that cannot be used as given
    ├── Refused                   1  the audit stopped the work: carries its findings
    │   ├── ShapeMismatch         1  predictions and targets that do not pair
    │   └── NotFinite             1  a loss or gradient that is NaN or infinite
    └── Interrupted             130  Ctrl-C, after everything worth keeping was kept

    AuditWarning                     a Python warning: a finding that does not stop the work

A message says what is wrong, where, and what to do, in one line: it is shown to a user as it is, without a
traceback. Mistakes of inkproof's own code are `assert`s and end with exit code 70 and a traceback.
"""

from collections.abc import Sequence
from typing import Any


class InkproofError(Exception):
    """Base of all errors that inkproof raises on purpose."""

    exit_code = 70


class InputError(InkproofError):
    """A file, option or argument that cannot be used; the message names the place and the rule.

    Args:
        message: one line for the user.
        finding: id of the catalogue's entry that explains it, where there is one; the message ends with it.
    """

    exit_code = 2

    def __init__(self, message: str, *, finding: str | None = None):
        super().__init__(message if finding is None else f"{message} [{finding}]")
        self.finding = finding


class Refused(InkproofError):
    """The audit refused to go on.

    Args:
        message: one line for the user.
        findings: the `Finding`s of severity `refuse` that caused it.
    """

    exit_code = 1

    def __init__(self, message: str, findings: Sequence[Any] = ()):
        super().__init__(message)
        self.findings = tuple(findings)


class ShapeMismatch(Refused):
    """Predictions and targets of shapes that would broadcast instead of pairing row by row."""


class NotFinite(Refused):
    """A loss or a gradient became NaN or infinite; training stopped before the step was taken."""


class Interrupted(InkproofError):
    """The user pressed Ctrl-C."""

    exit_code = 130


class AuditWarning(UserWarning):
    """A finding shown as a Python warning, where the audit warns and does not refuse."""
