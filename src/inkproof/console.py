"""What people and scripts see: tables and scores on standard output, progress and errors on standard error."""

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any


def print_json(data: Any) -> None:
    """One JSON object on standard output."""
    print(json.dumps(data, indent=1))


def say(text: str) -> None:
    """One line of progress, on standard error."""
    print(text, file=sys.stderr, flush=True)


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


def describe_score(side: str, score: dict[str, Any]) -> str:
    """One line for the score of a side, with its error bar: over images for one seed, over seeds for several."""
    accuracy = f"{side} accuracy {score['accuracy']:.2%}"
    if "accuracy_by_seed" in score:
        seeds = len(score["accuracy_by_seed"])
        spread = f" ± {score['accuracy_sd']:.2%}" if score["accuracy_sd"] is not None else ""
        return f"{accuracy}{spread} (mean and standard deviation of {seeds} seeds on {score['images']:,} images)"
    low, high = score["interval"]
    correct = f"{score['correct']:,} of {score['images']:,} images"
    return f"{accuracy} ({correct}; 95 % interval {low:.2%} to {high:.2%})"
