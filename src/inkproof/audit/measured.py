"""What the bench measured of each check: alarms in clean trainings, and planted faults that it named.

`measured.json` beside this file is what `python benchmarks/faults --json` wrote.
"""

import json
import math
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("measured.json")


@cache
def measurements() -> dict[str, Any]:
    """All that the bench measured: `clean` (runs, refused, warned, alarms by id) and `faults` (a list of rows)."""
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


def measured(id: str) -> str:  # noqa: A002  # the word of findings
    """What was measured of a check, in a sentence: its false alarms, and how often it named what was planted."""
    clean = measurements()["clean"]
    alarms, runs = clean["alarms"].get(id, 0), clean["runs"]
    below = _upper_bound(alarms, runs)
    sentence = f"{alarms} alarms in {runs} clean trainings (95 % sure to be below {below:.1%})"
    rows = [row for row in measurements()["faults"] if id in row["wanted"]]
    if not rows:
        return f"{sentence}; no fault is planted for it."
    named, planted = (sum(row[side][place] for row in rows for side in ("tuned", "held_out")) for place in (0, 1))
    return (
        f"{sentence}; of {planted} faults planted for it, {named} were named first by it or one that stands for it too."
    )


def _upper_bound(count: int, runs: int) -> float:
    """The largest rate at which so few alarms are not rarer than one time in twenty (Clopper and Pearson 1934)."""
    low, high = count / runs, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        tail = sum(math.comb(runs, k) * middle**k * (1 - middle) ** (runs - k) for k in range(count + 1))
        low, high = (middle, high) if tail > 0.05 else (low, middle)
    return high
