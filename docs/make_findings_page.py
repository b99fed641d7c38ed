"""Write docs/findings.md from the audit's catalogue.

python docs/make_findings_page.py
"""

from pathlib import Path

from inkproof.audit import Check, catalogue

PAGE = Path(__file__).parent / "findings.md"
MOMENTS = {
    "opening": "Files, as they are opened",
    "data": "Data and splits, before anything is trained",
    "reading": "How rows are read, before anything is trained",
    "functions": "Loss and metrics, before the first step",
    "model": "Model, optimiser and order, before the first step",
    "training": "Trainings, while they run and when they end",
    "history": "Histories: what the table of a training tells, any library's by `inkproof.audit.check_history`",
    "lineage": "What held-out rows were used for before, in this process",
    "loop": "Loops of one's own, inside `inkproof.audit.watch`",
    "score": "Scores that are claimed, by `inkproof.audit.check_score`",
    "submission": "Submissions",
}
HEAD = """# Findings

What the audit can find. `inkproof findings` lists it, `inkproof findings ID` explains one; this page is made of the
same words. A finding of severity `refuse` stops the work in a command and in a `Learner`, and is a warning on the
notebook surface, in a loop of one's own, and when a training has ended; `warn` is a warning everywhere; `note` is
recorded. `--allow ID`, or `allow=[ID]`, lets one pass and records that.

A check of one's own is a function of ten lines: see `inkproof.audit.check`.
"""
TAIL = """## What is not checked

- Labels that are relabelled alike everywhere, in training, validation and test: nothing inside the data shows it.
- Images of the same writer, camera or day on two sides.
- Labels of which a few are wrong: `inkproof audit --labels` ranks them, no training stops for them.
- Altered copies in a training: `inkproof audit` looks for them. Copies that are turned, redrawn or shifted by several
  pixels are not found anywhere.
- Loops of one's own outside of `inkproof.audit.watch`.
- What other processes trained, scored or chose: the ledger lives in one process.
- Empty pixels that were filled with 0 before inkproof saw them.
"""


def write_page() -> str:
    """The text of the page."""
    sections = [HEAD]
    for moment, title in MOMENTS.items():
        sections += [f"## {title}\n", *(_entry(one) for one in catalogue() if one.moment == moment)]
    return "\n".join([*sections, TAIL])


def _entry(one: Check) -> str:
    silent = f" *Wrong or silent:* {one.misfires}" if one.misfires else ""
    return f"### `{one.id}` ({one.severity})\n\n{one.means}\n\n*Seen by:* {one.detected}{silent}\n"


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
