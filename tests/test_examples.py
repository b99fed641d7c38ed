"""The example notebook runs from top to bottom: clean without a word, with the published mistake by its name."""

import json
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas
import pytest
from matplotlib import pyplot

from inkproof.errors import AuditWarning

EXAMPLE = Path(__file__).parents[1] / "examples" / "digit_recognizer.ipynb"
SOUND, MISTAKEN = "return list(zip(images, labels))", "return list(zip(x_train, y_train))"


@pytest.fixture(autouse=True)
def _as_on_kaggle(kaggle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(kaggle.parent)
    kaggle.rename("digit-recognizer")
    yield
    pyplot.close("all")


def run(text: str) -> tuple[dict[str, Any], list[str]]:
    """Run the code cells one after another; their names at the end, and the findings they warned of."""
    cells = ["".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
    names: dict[str, Any] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", AuditWarning)
        for cell in cells:
            exec(cell, names)
    return names, [str(warning.message) for warning in caught]


def test_clean_it_gives_a_submission_and_no_warning() -> None:
    names, warned = run(EXAMPLE.read_text(encoding="utf-8"))
    assert warned == []
    submission = pandas.read_csv("submission.csv")
    assert submission["ImageId"].tolist() == list(range(1, 41))
    assert submission["Label"].isin(range(10)).all()
    assert names["learn"].findings == []


def test_with_validation_and_test_rows_made_of_training_rows_both_are_named() -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    assert SOUND in text
    names, warned = run(text.replace(SOUND, MISTAKEN))
    assert len(warned) == 2
    assert "valid-overlaps-train: 240 of 240 valid images (100.0%) are identical to training images" in warned[0]
    assert "look whether the code that makes it uses the training rows by mistake" in warned[0]
    assert "test-overlaps-train: 240 of 240 test images (100.0%)" in warned[1]
    assert [finding.id for finding in names["learn"].findings] == ["valid-overlaps-train", "test-overlaps-train"]
