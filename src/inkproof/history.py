"""The history: the table of a training, one row an epoch, and how people see it."""

import csv
import io
import sys
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inkproof.files import write_text


@dataclass(frozen=True)
class Row:
    """One epoch.

    Args:
        epoch: counted from 1 over the whole life of the model.
        train_loss: mean over the rows trained on, each batch as it was met; with hard examples over those, so that it
            is higher from the second epoch on.
        valid_loss: the loss of all validation rows at once; None without a validation side.
        metrics: name → value on the validation side.
        seconds: wall-clock time of the epoch, validation included.
        train_seconds: the part of it spent training.
    """

    epoch: int
    train_loss: float
    valid_loss: float | None
    metrics: dict[str, float]
    seconds: float
    train_seconds: float

    @property
    def rank(self) -> float:
        """The validation loss, infinite without a validation side: the smallest is the best epoch's."""
        return float("inf") if self.valid_loss is None else self.valid_loss

    def as_dict(self) -> dict[str, Any]:
        """The row as a flat dictionary, in the order of the columns."""
        return {
            "epoch": self.epoch,
            "train_loss": self.train_loss,
            "valid_loss": self.valid_loss,
            **self.metrics,
            "seconds": self.seconds,
            "train_seconds": self.train_seconds,
        }


@dataclass(repr=False)
class History:
    """The rows of a training, oldest first."""

    rows: list[Row] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __getitem__(self, index: int) -> Row:
        return self.rows[index]

    @property
    def columns(self) -> list[str]:
        """Names of the columns; metrics stand between the losses and the seconds."""
        return list(self.rows[0].as_dict()) if self.rows else ["epoch", "train_loss", "valid_loss", "seconds"]

    @property
    def train_seconds(self) -> float:
        """Time spent training, evaluation left out."""
        return sum(row.train_seconds for row in self.rows)

    def as_dicts(self) -> list[dict[str, Any]]:
        """The rows as flat dictionaries."""
        return [row.as_dict() for row in self.rows]

    def to_csv(self, path: Path) -> None:
        """Write the table, atomically; numbers keep all their digits, missing ones are empty."""
        text = io.StringIO()
        writer = csv.DictWriter(text, fieldnames=self.columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.as_dicts())
        write_text(path, text.getvalue())

    @classmethod
    def from_dicts(cls, rows: Sequence[dict[str, Any]]) -> "History":
        """The history that `as_dicts` was called on."""
        fixed = {"epoch", "train_loss", "valid_loss", "seconds", "train_seconds"}
        return cls(
            [
                Row(
                    epoch=int(row["epoch"]),
                    train_loss=float(row["train_loss"]),
                    valid_loss=None if row["valid_loss"] is None else float(row["valid_loss"]),
                    metrics={name: float(value) for name, value in row.items() if name not in fixed},
                    seconds=float(row["seconds"]),
                    train_seconds=float(row["train_seconds"]),
                )
                for row in rows
            ]
        )

    @classmethod
    def from_csv(cls, path: Path) -> "History":
        """The history that `to_csv` wrote, to the last digit."""
        with path.open(encoding="utf-8", newline="") as file:
            rows = [{name: text or None for name, text in row.items()} for row in csv.DictReader(file)]
        return cls.from_dicts(rows)

    def __str__(self) -> str:
        return "\n".join([header_line(self.rows[0]), *(row_line(row) for row in self.rows)]) if self.rows else ""

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """The table as a notebook shows it."""
        shown = [dict(_cells(row)) for row in self.rows]
        head = "".join(f"<th>{name}</th>" for name in (shown[0] if shown else []))
        body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row.values()) + "</tr>" for row in shown)
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class LiveTable:
    """Shows rows as they come: lines in a terminal or file, one growing table in a notebook."""

    def __init__(self) -> None:
        self._history = History()
        self._display = notebook_display()
        self._handle: Any = None

    def add(self, row: Row) -> None:
        """Show one more row."""
        self._history.rows.append(row)
        if self._display is None:
            if len(self._history) == 1:
                print(header_line(row), file=sys.stderr)
            print(row_line(row), file=sys.stderr, flush=True)
        elif self._handle is None:
            self._handle = self._display(self._history, display_id=True)
        else:
            self._handle.update(self._history)


def header_line(row: Row) -> str:
    """The names of the columns, as wide as the cells below them."""
    return "  ".join(f"{name:>{max(len(name), 8)}}" for name, _ in _cells(row))


def row_line(row: Row) -> str:
    """One row as text, aligned with `header_line`."""
    return "  ".join(f"{text:>{max(len(name), 8)}}" for name, text in _cells(row))


def _cells(row: Row) -> list[tuple[str, str]]:
    cells = [("epoch", str(row.epoch)), ("train_loss", f"{row.train_loss:.4f}")]
    if row.valid_loss is not None:
        cells.append(("valid_loss", f"{row.valid_loss:.4f}"))
    cells += [(name, f"{value:.4f}") for name, value in row.metrics.items()]
    return [*cells, ("seconds", f"{row.seconds:.2f}")]


def notebook_display() -> Any:
    """IPython's display function inside a notebook kernel, else None."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    if shell is None or not hasattr(shell, "kernel"):
        return None
    from IPython.display import display

    return display


@contextmanager
def ending_on_ctrl_c(rows: Generator[Row, None, None]) -> Iterator[None]:
    """Let Ctrl-C inside the block end them, as it does inside an epoch: the last whole epoch is kept."""
    try:
        yield
    except KeyboardInterrupt:
        with suppress(StopIteration):
            rows.throw(KeyboardInterrupt())
