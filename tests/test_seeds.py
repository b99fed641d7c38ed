"""Seeds trained side by side: each equals its lone training, to rounding; what cannot be stacked is trained in turn."""

import copy
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Result
from safetensors.torch import load_file

from inkproof.images import ImageSet, Split
from inkproof.learner import Learner
from inkproof.recipes import load_recipe
from inkproof.recipes.building import build_learner, build_schedule
from inkproof.runs import open_run
from inkproof.seeds import can_train_together, train_together
from inkproof.sources import open_one
from inkproof.stacked import StackedNets
from inkproof.written_out import LinearStep

Command = Callable[..., Result]
RECIPES = ["linear", "linear-cross-entropy", "hidden-cross-entropy", "hidden-softmax", "logistic-torch"]


def learners(name: str, sides: Split, seeds: int = 3) -> list[Learner]:
    recipe = load_recipe(name)
    if recipe.classes is not None:
        sides = Split(*(side.with_classes(recipe.classes, rest="drop") for side in (sides.train, sides.valid)))
    return [build_learner(recipe, sides.train, sides.valid, seed=seed) for seed in range(seeds)]


def larger(split: Split) -> Split:
    """The same digits in images of 16×16, enough columns for two threads."""
    sides = (split.train, split.valid)
    pixels = [np.pad(side.pixels, ((0, 0), (0, 0), (4, 4), (4, 4))) for side in sides]
    return Split(*(ImageSet(each, side.labels, ids=side.ids) for each, side in zip(pixels, sides, strict=True)))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("name", ["linear-cross-entropy", "hidden-cross-entropy", "logistic-torch"])
def test_seeds_that_take_their_inputs_in_parts_equal_their_lone_trainings(name: str, few_digits: Split) -> None:
    sides = larger(few_digits)
    together, alone = learners(name, sides, seeds=2), learners(name, sides, seeds=2)
    nets = [each.stepper().written_out for each in together]
    assert StackedNets([one for one in nets if isinstance(one, LinearStep)]).parts == 2
    schedule = build_schedule(load_recipe(name))
    assert train_together(together, 2, schedule)
    for stacked, lone in zip(together, alone, strict=True):
        list(lone.epochs(2, schedule))
        torch.testing.assert_close(stacked.model.state_dict(), lone.model.state_dict(), rtol=1e-4, atol=1e-5)
        assert stacked.history[-1].valid_loss == pytest.approx(lone.history[-1].valid_loss, rel=1e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_each_seed_equals_its_lone_training(name: str, few_digits: Split) -> None:
    together, alone = learners(name, few_digits), learners(name, few_digits)
    assert can_train_together(together)
    schedule = build_schedule(load_recipe(name))
    assert train_together(together, 3, schedule)
    for stacked, lone in zip(together, alone, strict=True):
        list(lone.follow(lone.epochs(3, schedule)))
        for name_, tensor in lone.model.state_dict().items():
            torch.testing.assert_close(stacked.model.state_dict()[name_], tensor, rtol=1e-4, atol=1e-5)
        for one, other in zip(stacked.history, lone.history, strict=True):
            assert one.train_loss == pytest.approx(other.train_loss, rel=1e-4)
            assert one.valid_loss == pytest.approx(other.valid_loss, rel=1e-4)
            assert one.metrics == pytest.approx(other.metrics, abs=0.011)
        told = [[one.id for one in each.findings if one.id != "best-of-many"] for each in (stacked, lone)]
        assert told[0] == told[1]


def test_what_breaks_weights_in_the_last_step_is_seen_before_any_seed_gets_them(few_digits: Split) -> None:
    every = learners("hidden-cross-entropy", few_digits)
    before = [copy.deepcopy(each.model.state_dict()) for each in every]
    last = 2 * len(every[0].training_batches) - 1
    assert not train_together(every, 2, lambda step, steps: float("inf") if step == last else 0.1)
    for each, weights in zip(every, before, strict=True):
        torch.testing.assert_close(each.model.state_dict(), weights, rtol=0, atol=0)
        assert not each.history


def test_losses_that_break_alone_are_seen(few_digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    step = StackedNets.step
    monkeypatch.setattr(StackedNets, "step", lambda self, *given, **named: step(self, *given, **named) * torch.nan)
    assert not train_together(learners("hidden-cross-entropy", few_digits), 1, lambda step, steps: 0.1)


def test_nets_side_by_side_are_float32_inside_a_users_autocast(few_digits: Split) -> None:
    found = []
    for enabled in (False, True):
        every = learners("hidden-cross-entropy", few_digits)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            assert train_together(every, 1, lambda step, steps: 0.1)
        found.append([(each.history[-1].train_loss, each.history[-1].valid_loss) for each in every])
    assert found[0] == found[1]


def test_the_nets_of_the_ladder_can_be_stacked(few_digits: Split) -> None:
    for name in ("linear-cross-entropy", "hidden-cross-entropy"):
        assert can_train_together(learners(name, few_digits))
    for name in ("deep", "conv-he", "accurate"):
        assert not can_train_together(learners(name, few_digits))
    assert not can_train_together(learners("hidden-cross-entropy", few_digits, seeds=1))


def test_numbers_that_leave_float32_are_left_to_lone_trainings(few_digits: Split) -> None:
    every = learners("hidden-cross-entropy", few_digits)
    before = [parameter.clone() for parameter in every[0].model.parameters()]
    assert not train_together(every, 3, lambda step, steps: 1e20)
    assert all(torch.equal(a, b) for a, b in zip(before, every[0].model.parameters(), strict=True))
    assert len(every[0].history) == 0


def test_a_run_of_several_seeds_holds_what_lone_runs_hold(inkproof: Command, tmp_path: Path) -> None:
    options = ["train", "--recipe", "hidden-cross-entropy", "--epochs", "3"]
    result = inkproof(*options, "--seeds", "3", "--out", tmp_path / "three", "--json")
    assert result.code == 0
    assert inkproof(*options, "--seed", "2", "--out", tmp_path / "two").code == 0
    one, other = (load_file(path / "weights.safetensors") for path in (tmp_path / "three/seeds/2", tmp_path / "two"))
    for name, tensor in one.items():
        torch.testing.assert_close(tensor, other[name], rtol=1e-4, atol=1e-5)
    assert [len(history) for history in result.json["history"].values()] == [3, 3, 3]
    scores = json.loads((tmp_path / "three/scores.json").read_text())
    assert len(scores["test"]["accuracy_by_seed"]) == 3
    probabilities = open_run(tmp_path / "three").probabilities(open_one("digits"))
    assert probabilities.shape == (1797, 10)
    assert scores["test"]["together"]["images"] == scores["test"]["images"]
    assert scores["test"]["together"]["accuracy"] >= min(scores["test"]["accuracy_by_seed"].values())
    assert (
        f"their mean prediction {scores['test']['together']['accuracy']:.2%}" in inkproof(*options, "--seeds", "3").out
    )
    assert result.json["findings"] == [], "all seeds are reported: none is the best of many"
    assert inkproof("verify", tmp_path / "three", "--retrain").code == 0
