"""What people and scripts see: tables and scores on standard output, progress and errors on standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from inkproof.images import Split


def print_json(data: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(data, indent=1))


_CLEAR_LINE = "\r\x1b[K"


def say(text: str) -> None:
    """One line for people, on standard error."""
    print((_CLEAR_LINE if sys.stderr.isatty() else "") + text, file=sys.stderr, flush=True)


def show_progress(text: str) -> None:
    """A line on the terminal that the next one replaces; nothing into a file or pipe."""
    if sys.stderr.isatty():
        print(_CLEAR_LINE + text, file=sys.stderr, end="", flush=True)


def count(number: int, thing: str) -> str:
    """Say how many: 1 epoch, 3 epochs."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def print_error(message: str) -> None:
    """One line that says what is wrong, on standard error."""
    from rich.console import Console
    from rich.markup import escape

    Console(stderr=True, soft_wrap=True, highlight=False).print(f"[bold red]error:[/] {escape(message)}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Sequence[str] = ()) -> None:
    """A table on standard output.

    Args:
        columns: their names.
        rows: their cells.
        numbers: names of the columns to align right.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right" if column in numbers else "left")
    for row in rows:
        table.add_row(*row)
    # Into a file or pipe nothing is wrapped or cut.
    Console(width=None if sys.stdout.isatty() else 200, highlight=False).print(table)


def print_findings(findings: Iterable[dict[str, Any]]) -> None:
    """The findings that a user should see, on standard error, one line each."""
    for finding in findings:
        passed = " (allowed)" if finding["allowed"] else ""
        if finding["severity"] != "note":
            say(f"{finding['severity']}{passed}: {finding['id']}: {finding['message']} {finding['remedy']}")


def print_ladder(table: dict[str, Any]) -> None:
    """The table of rungs, with what must be known of a row as numbered notes below it."""
    notes: dict[str, int] = {}
    rows = []
    for row in table["rungs"]:
        own = [*row["remarks"], *(row["why"].split("; ") if row["why"] else [])]
        numbers = sorted(notes.setdefault(note, len(notes) + 1) for note in own)
        name = row["rung"] if row["kind"] == "sound" else f"{row['rung']} (wrong on purpose)"
        published = [value for value in row["published"].values() if value is not None]
        rows.append(
            (
                name,
                f"{row['parameters']:,}",
                str(row["epochs"]),
                f"{row['seconds']:.1f}",
                describe_accuracy(row["valid"]),
                describe_accuracy(row["test"]),
                " / ".join(f"{value:.2%}" for value in published),
                " ".join(map(str, numbers)),
            )
        )
    columns = ["rung", "parameters", "epochs", "seconds", "valid", "test", "published", "notes"]
    print_table(columns, rows, numbers=columns[1:-1])
    for note, number in notes.items():
        print(f"{number:>3}  {note}")
    print("± is the standard deviation over seeds; in brackets, for one seed, the 95 % interval over images")


def describe_accuracy(score: dict[str, Any] | None) -> str:
    """An accuracy with its error bar, short."""
    if score is None:
        return "-"
    if score["accuracy_sd"] is not None:
        return f"{score['accuracy']:.2%} ± {score['accuracy_sd']:.2%}"
    low, high = score["interval"]
    return f"{score['accuracy']:.2%} [{low:.1%}, {high:.1%}]"


def describe_sides(sides: "Split") -> str:
    """What is trained on: source, images of each side, their shape, their classes."""
    named = {"train": sides.train, "valid": sides.valid, "test": sides.test}
    counts = ", ".join(f"{len(side):,} {name}" for name, side in named.items() if side is not None)
    shape = "x".join(map(str, sides.train.shape))
    return f"{sides.train.source}: {counts} images of {shape}, {len(sides.train.classes)} classes"


def describe_seeds(seeds: Sequence[int]) -> str:
    """Name the seeds: seed 0, or seeds 0, 1, 2."""
    return f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"


def describe_score(side: str, score: dict[str, Any]) -> str:
    """One line for the score of a side, with its error bar: over images for one seed, over seeds for several."""
    accuracy = f"{side} accuracy {score['accuracy']:.2%}"
    if "accuracy_by_seed" in score:
        seeds = len(score["accuracy_by_seed"])
        spread = f" ± {score['accuracy_sd']:.2%}" if score["accuracy_sd"] is not None else ""
        together = (
            "" if score.get("together") is None else f"; their mean prediction {score['together']['accuracy']:.2%}"
        )
        return (
            f"{accuracy}{spread} (mean and standard deviation of {seeds} seeds on {score['images']:,} images){together}"
        )
    low, high = score["interval"]
    correct = f"{score['correct']:,} of {score['images']:,} images"
    return f"{accuracy} ({correct}; 95 % interval {low:.2%} to {high:.2%})"
