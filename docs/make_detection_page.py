"""Write docs/detection.md from what the benches measured.

python benchmarks/faults --mnist DIR --json src/inkproof/audit/measured.json
python benchmarks/faults_in_peers.py --peer NAME --json docs/peers/NAME.json     # for each peer, in its environment
python docs/make_detection_page.py
"""

import json
from pathlib import Path
from typing import Any

from inkproof.audit import catalogue
from inkproof.audit.measured import measurements
from inkproof.metrics import wilson_interval

HERE = Path(__file__).parent
PAGE = HERE / "detection.md"
PEERS = ("fastai", "lightning", "keras", "skorch")
HEAD = """# How well the audit detects

Measured by `python benchmarks/faults` ({machine}, torch {torch}).
Thresholds were set on the embedded digits, their 3s and 7s and MNIST's training images; letters, shapes and textures,
drawn by the bench, judge them. Three checks were changed after a first run had shown their misses and alarms on those
too: `values-wrapped`, `augmentation-changes-labels` and `class-shares-differ`.

| | |
|---|---|
| clean trainings | {runs}, of 81 set-ups and loops that look frightening |
| refused | {refused} (95 % interval up to {refused_high:.1%}) |
| warned of | {warned} ({warned_share:.1%}; {warned_low:.1%} to {warned_high:.1%}) |
| planted faults named first by the right id, sources of the thresholds | {tuned:.1%} |
| the same, other sources | {held_out:.1%} |

The share of faults is an average over {faults} faults, each planted twice on every source. A training with any alarm
of severity `warn` counts as warned of, whatever the reason; alarms by id: {alarms}.
"""
NOT_DETECTED = """## What cannot be detected, and is not counted

- C3, a class map that is wrong everywhere alike: nothing inside the data shows it. `inkproof show` does, to an eye.
- Labels wrong below the noise of hard images, same writers on two sides, empty pixels filled with 0: see
  [Findings](findings.md).
- Inverted images whose inverse is an image of the same kind, as of the bench's textures: left in the table.
- H9, a claim within noise, is answered by a test and not by a finding: `inkproof compare`.
- J1 and J3 are not planted: inkproof draws everything from one seed, and `inkproof verify` fails when a record is
  missing.
"""
EARLY = ("opening", "data", "reading", "functions", "model")


def write_page() -> str:
    """The text of the page."""
    return "\n".join([_head(), _table(), _before_first_step(), NOT_DETECTED, _peers()])


def _head() -> str:
    measured = measurements()
    clean = measured["clean"]
    low, high = wilson_interval(clean["warned"], clean["runs"])
    return HEAD.format(
        machine=measured["machine"],
        torch=measured["torch"],
        runs=clean["runs"],
        refused=clean["refused"],
        refused_high=wilson_interval(clean["refused"], clean["runs"])[1],
        warned=clean["warned"],
        warned_share=clean["warned"] / clean["runs"],
        warned_low=low,
        warned_high=high,
        tuned=measured["tuned"],
        held_out=measured["held_out"],
        faults=len(measured["faults"]),
        alarms=", ".join(f"`{name}` {count}" for name, count in clean["alarms"].items()) or "none",
    )


def _table() -> str:
    rows = ["| fault | id | severity | named first | on other sources |", "|---|---|---|---|---|"]
    for row in measurements()["faults"]:
        counts = [f"{row[side][0]} of {row[side][1]}" if row[side][1] else "-" for side in ("tuned", "held_out")]
        wanted = " or ".join(f"`{one}`" for one in row["wanted"])
        rows.append(f"| {row['code']} {row['fault']} | {wanted} | {row['severity']} | {' | '.join(counts)} |")
    return "\n".join(["## Every planted fault\n", *rows, ""])


def _before_first_step() -> str:
    early = [f"`{one.id}`" for one in catalogue() if one.moment in EARLY]
    return "\n".join(["## Seen before the first step\n", ", ".join(early) + ".", ""])


def _peers() -> str:
    known: dict[str, Any] = {name: json.loads((HERE / "peers" / f"{name}.json").read_text()) for name in PEERS}
    heads = [f"{known[name]['peer']} {known[name]['version']}" for name in PEERS]
    rows = [f"| fault | {' | '.join(heads)} |", "|---" * (len(PEERS) + 1) + "|"]
    for fault in known[PEERS[0]]["said"]:
        if fault != "clean":
            said = [known[name]["said"][fault].replace("|", "/") or "silent" for name in PEERS]
            rows.append(f"| {fault} | {' | '.join(said)} |")
    about = (
        "`python benchmarks/faults_in_peers.py`, each in an environment of its own: the embedded digits, a net of one "
        "hidden layer, three epochs. A warning that the clean training gives too does not count."
    )
    return "\n".join(["## What other libraries say to such faults\n", about, "", *rows, ""])


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
