"""The ladder: every rung in one table, with its error bars, beside what was published."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result

from inkproof.errors import InputError
from inkproof.images import ImageSet, Split
from inkproof.recipes import RUNGS, named_recipes
from inkproof.runs import fitting_rungs

Command = Callable[..., Result]
FEW = ("--rungs", "one-number,mean-image,conv-one-cycle,logistic-torch")


@pytest.fixture
def table(inkproof: Command) -> dict[str, Any]:
    result: dict[str, Any] = inkproof("ladder", *FEW, "--seeds", 2, "--out", "lad", "--json").json
    return result


def test_the_rungs_are_the_named_recipes_each_once() -> None:
    assert sorted(rung.recipe for rung in RUNGS) == sorted(named_recipes())
    assert all(rung.why for rung in RUNGS if rung.kind == "wrong"), "a rung that is wrong on purpose says why"


def test_every_published_figure_is_a_share() -> None:
    figures = [figure for rung in RUNGS for figure in (rung.published_valid, rung.published_test) if figure is not None]
    assert len(figures) > 20
    assert all(0 < figure < 1 for figure in figures)


def test_a_row_says_what_a_reader_needs(table: dict[str, Any]) -> None:
    rows = {row["rung"]: row for row in table["rungs"]}
    assert list(rows) == FEW[1].split(",")
    assert table["images"] == {"train": 1079, "valid": 359, "test": 359}
    linear = rows["one-number"]
    assert (linear["parameters"], linear["epochs"], linear["kind"]) == (65, 11, "wrong")
    assert linear["published"] == {"valid": 0.146, "test": None}
    for side in ("valid", "test"):
        score = linear[side]
        by_seed = list(score["accuracy_by_seed"].values())
        assert score["accuracy"] == pytest.approx(np.mean(by_seed))
        assert score["accuracy_sd"] == pytest.approx(np.std(by_seed, ddof=1))
        assert score["interval"][0] < score["accuracy"] < score["interval"][1]
    assert rows["mean-image"]["test"]["accuracy"] > 3 * linear["test"]["accuracy"]
    assert rows["logistic-torch"]["classes"] == 2
    assert rows["logistic-torch"]["test"]["images"] == 73


def test_a_rung_short_of_steps_or_at_a_constant_says_so(table: dict[str, Any]) -> None:
    remarks = {row["rung"]: row["remarks"] for row in table["rungs"]}
    assert "short of steps: 55 here, 1,452 on the published 33,600 images" in remarks["one-number"]
    assert "predicts one class for every image with 2 of 2 seeds" in remarks["conv-one-cycle"]
    assert remarks["mean-image"] == []


def test_the_table_is_saved_as_json_csv_and_chart(table: dict[str, Any]) -> None:
    saved = json.loads(Path("lad/ladder.json").read_text())
    assert saved["rungs"] == table["rungs"]
    assert saved["environment"]["packages"]["torch"]
    lines = list(csv.DictReader(Path("lad/ladder.csv").read_text().splitlines()))
    assert [line["rung"] for line in lines] == FEW[1].split(",")
    assert float(lines[0]["test_accuracy"]) == table["rungs"][0]["test"]["accuracy"]
    assert "one-number" in Path("lad/ladder.svg").read_text()
    assert Path("lad/rungs/mean-image/weights.safetensors").exists() or Path("lad/rungs/mean-image/seeds/1").exists()


def test_people_see_a_table_with_notes(inkproof: Command) -> None:
    shown = inkproof("ladder", *FEW).out
    assert "one-number (wrong on purpose)" in shown
    assert "published validation rows were the training rows" in shown
    assert "95 % interval over images" in shown


def test_a_ladder_goes_on_where_it_was_left(inkproof: Command) -> None:
    first = inkproof("ladder", "--rungs", "mean-image", "--out", "lad", "--json").json
    assert inkproof("ladder", *FEW, "--out", "lad").code == 2, "nothing is overwritten"
    whole = inkproof("ladder", *FEW, "--out", "lad", "--resume", "--json").json
    assert whole["rungs"][1] == first["rungs"][0]
    other = inkproof("ladder", *FEW, "--out", "lad", "--resume", "--split-seed", 1)
    assert other.code == 2
    assert "was begun with other sides" in other.err
    assert inkproof("ladder", "--resume").code == 2


def test_test_images_without_labels_are_replaced_by_a_cut(inkproof: Command, kaggle: Path) -> None:
    result = inkproof("ladder", "--rungs", "mean-image", "--data", kaggle / "train.csv", "--test", kaggle / "test.csv")
    assert "test.csv has no labels to score on: the test side is cut from the data instead" in result.err
    assert result.code == 0


def test_two_classes_take_the_rungs_for_two(digits: ImageSet) -> None:
    whole = Split(digits)
    names = [rung.recipe for rung in fitting_rungs(whole)]
    assert names == [rung.recipe for rung in RUNGS if not rung.long]
    odd = Split(digits.with_classes(("0", "1", "2"), rest="drop"))
    assert "logistic-torch" not in [rung.recipe for rung in fitting_rungs(odd)]
    two = Split(digits.with_classes(("0", "1"), rest="drop"))
    assert "logistic-torch" in [rung.recipe for rung in fitting_rungs(two)]
    with pytest.raises(InputError, match=r"the rung logistic-torch is for the classes 3, 7, and digits has 0, 1, 2"):
        fitting_rungs(odd, ["logistic-torch"])
    with pytest.raises(InputError, match=r"no rung is called 'nothing'; known: one-number, "):
        fitting_rungs(whole, ["nothing"])


def test_a_recipe_for_two_classes_cuts_its_sides_from_these_alone(inkproof: Command) -> None:
    scores = inkproof("train", "--recipe", "logistic-torch", "--test-size", 50, "--json").json["scores"]
    assert scores["test"]["images"] == 50
    assert len(scores["test"]["confusion"]) == 2
