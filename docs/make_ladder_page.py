"""Write docs/ladder.md and its charts from measured ladders.

    inkproof ladder --seeds 3 --out runs/ladder-digits
    inkproof ladder --data train.csv --test test_labelled.csv --seeds 3 --out runs/ladder-mnist
    python docs/make_ladder_page.py runs/ladder-digits runs/ladder-mnist

The second takes Kaggle-shaped files: 42,000 of MNIST's training images, and the other 18,000 with their labels. What
was measured is kept in docs/ladders.json; without arguments the page is written anew from there.
"""

import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from inkproof.console import describe_accuracy
from inkproof.picture import draw_ladder

DOCS = Path(__file__).parent
LADDERS = DOCS / "ladders.json"
TITLES = {
    "mnist": "At full size: MNIST as Kaggle's files",
    "digits": "In 40 seconds: the embedded digits",
}
SOURCES = {
    "mnist": "42,000 of MNIST's training images as a Kaggle CSV, scored on the other 18,000",
    "digits": "scikit-learn's 1,797 scanned digits of 8×8 pixels",
}
HEAD = """# The ladder

Every rung is a named recipe: `inkproof recipes` lists them, `inkproof train --recipe NAME` trains one, and
`inkproof ladder` all of them. Published figures come from write-ups of people learning to classify digits; where they
cannot be compared with what is measured here, a note says why. Rungs that are wrong on purpose are kept as they were
published, to show how they fail. When the tables were measured `fast` pooled its images a block later, had
14,000 parameters fewer than today and began with all images, and `accurate` had no clean statistics.
"""


def write_page() -> str:
    """The text of the page, from what was measured."""
    ladders = json.loads(LADDERS.read_text(encoding="utf-8"))
    return "\n".join([HEAD, *(_section(name, ladders[name]) for name in TITLES)])


def _section(name: str, ladder: dict[str, Any]) -> str:
    environment, images = ladder["environment"], ladder["images"]
    seeds = len(ladder["seeds"])
    measured = (
        f"{SOURCES[name]}: {images['train']:,} images to train on, {images['valid']:,} to validate on, "
        f"{images['test']:,} to score on. Mean ± standard deviation of {seeds} seeds; seconds of training for one. "
        f"Measured on {ladder['measured']}: {environment['cores']} cores of an {environment['processor']}, torch "
        f"{environment['packages']['torch']}."
    )
    notes: dict[str, int] = {}
    lines = [_line(row, notes) for row in ladder["rungs"]]
    return "\n".join(
        [
            f"## {TITLES[name]}\n",
            measured + "\n",
            f"![accuracy of every rung](pictures/ladder-{name}.svg)\n",
            "| rung | what it is | parameters | epochs | seconds | validation | test | published | notes |",
            "|---|---|---|---|---|---|---|---|---|",
            *lines,
            "",
            *(f"{number}. {note}" for note, number in notes.items()),
            "",
        ]
    )


def _line(row: dict[str, Any], notes: dict[str, int]) -> str:
    own = [*row["remarks"], *(row["why"].split("; ") if row["why"] else [])]
    numbers = sorted(notes.setdefault(note, len(notes) + 1) for note in own)
    wrong = ", *wrong on purpose*" if row["kind"] == "wrong" else ""
    published = " / ".join(f"{value:.2%}" for value in row["published"].values() if value is not None)
    cells = [
        f"`{row['rung']}`",
        row["summary"] + wrong,
        f"{row['parameters']:,}",
        str(row["epochs"]),
        f"{row['seconds']:.1f}",
        describe_accuracy(row["valid"]),
        describe_accuracy(row["test"]),
        published,
        ", ".join(map(str, numbers)),
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Keep what was measured, where a new ladder is given, and write page and charts."""
    if sys.argv[1:]:
        kept = {}
        for name, folder in zip(("digits", "mnist"), sys.argv[1:], strict=True):
            whole = json.loads((Path(folder) / "ladder.json").read_text(encoding="utf-8"))
            kept[name] = {key: whole[key] for key in ("images", "seeds", "environment", "rungs")}
            kept[name] |= {"data": name, "measured": str(datetime.now(UTC).date())}
        LADDERS.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    for name, ladder in json.loads(LADDERS.read_text(encoding="utf-8")).items():
        draw_ladder(ladder, DOCS / "pictures" / f"ladder-{name}.svg")
    (DOCS / "ladder.md").write_text(write_page(), encoding="utf-8")


if __name__ == "__main__":
    main()
