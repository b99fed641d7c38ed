"""Draw the README's picture: what `inkproof train` prints, as a terminal shows it.

python docs/make_picture.py        # writes docs/train.svg
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

_FIRST, _LAST = 11, 9  # lines that stay: the head with the first epochs, the last epochs with the scores


def _shortened(lines: list[str]) -> list[str]:
    """The first and the last lines, with a mark for those between."""
    if len(lines) <= _FIRST + _LAST + 1:
        return lines
    return [*lines[:_FIRST], f"{'…':>8}", *lines[-_LAST:]]


def main() -> None:
    """Train in a folder of its own and draw what was printed."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "inkproof", "train", "--out", "runs/first"]
        done = subprocess.run(
            command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True
        )
    with Path("/dev/null").open("w") as nowhere:
        console = Console(record=True, width=104, file=nowhere, force_terminal=True)
        console.print(Text("$ inkproof train", style="bold"))
        for line in _shortened(done.stdout.splitlines()):
            important = line.startswith("test accuracy")
            console.print(Text(line, style="bold green" if important else ""), no_wrap=True, crop=True)
    console.save_svg(str(Path(__file__).parent / "train.svg"), title="inkproof")


if __name__ == "__main__":
    main()
