"""A stem learns for a share of a training's steps, and is then left as it is until the next training."""

from contextlib import suppress
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from inkproof import models
from inkproof.errors import InputError
from inkproof.hard_examples import HardExamples
from inkproof.images import Split
from inkproof.learner import Learner
from inkproof.recipes import load_recipe
from inkproof.schedules import constant
from inkproof.stem import stem_of


def net() -> nn.Sequential:
    return models.strong((1, 8, 8), 10, widths=(4, 6, 8, 8))


def learner(split: Split, stem_learns: float, **settings: Any) -> Learner:
    return Learner(net, split.train, split.valid, batch_size=32, stem_learns=stem_learns, seed=0, **settings)


def numbers(layers: Any) -> list[Tensor]:
    return [value.clone() for layer in layers for value in layer.state_dict().values()]


def are_equal(some: list[Tensor], others: list[Tensor]) -> bool:
    return all(torch.equal(one, other) for one, other in zip(some, others, strict=True))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_stem_learns_for_its_share_of_the_steps(few_digits: Split, precision: Any) -> None:
    trained = learner(few_digits, 0.5, precision=precision)
    assert isinstance(trained.model, nn.Sequential)
    assert (trained.stepper().plan(torch.device("cpu")).gradients is not None) == (precision == "float32")
    stem, rest = trained.model[:3], trained.model[3:]
    stages = [(numbers(stem), numbers(rest))]
    for _ in trained.epochs(4, constant(0.05)):
        stages.append((numbers(stem), numbers(rest)))
    moved = [not are_equal(before[0], after[0]) for before, after in pairwise(stages)]
    assert moved == [True, True, False, False]
    assert not any(are_equal(before[1], after[1]) for before, after in pairwise(stages))


def test_within_an_epoch_it_stops_at_the_step(few_digits: Split) -> None:
    whole, half = learner(few_digits, 1.0), learner(few_digits, 0.5)
    assert isinstance(whole.model, nn.Sequential)
    assert isinstance(half.model, nn.Sequential)
    for each in (whole, half):
        each.fit(1, lr=0.05, verbose=False)
    batches = len(whole.training_batches)
    assert (int(whole.model[1].num_batches_tracked), int(half.model[1].num_batches_tracked)) == (batches, batches // 2)


@pytest.mark.parametrize("leave", [None, KeyboardInterrupt, ValueError])
def test_it_stops_before_its_step_and_can_learn_again_however_the_pass_ends(leave: type[BaseException] | None) -> None:
    model, learnt = net(), list[tuple[bool, bool]]()
    stem = stem_of(model, 0.55)
    with suppress(KeyboardInterrupt, ValueError), stem:
        for step in range(4, 8):
            stem.before(step, 10)
            learnt.append((next(model.parameters()).requires_grad, model[1].training))
            if step == 7 and leave is not None:
                raise leave
    assert learnt == [(True, True), (True, True), (False, False), (False, False)]
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(module.training for module in model.modules())


def test_it_learns_for_a_step_at_least() -> None:
    model = net()
    stem = stem_of(model, 0.01)
    with stem:
        stem.before(0, 4)
        assert next(model.parameters()).requires_grad
        stem.before(1, 4)
        assert not next(model.parameters()).requires_grad


def test_it_ends_before_the_next_layer_with_a_convolution_inside() -> None:
    inner = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), inner, nn.Conv2d(4, 10, 4))
    stem = stem_of(model, 0.07)
    with stem:
        stem.before(6, 100)
        assert all(parameter.requires_grad for parameter in model.parameters())
        stem.before(7, 100)
        assert [parameter.requires_grad for parameter in model.parameters()] == [False] * 4 + [True] * 6
        assert not model[1].training
        assert inner[1].training


def test_what_a_user_fixed_stays_fixed(few_digits: Split) -> None:
    trained = learner(few_digits, 0.1)
    next(trained.model.parameters()).requires_grad_(False)
    trained.fit(1, lr=0.05, verbose=False)
    flags = [parameter.requires_grad for parameter in trained.model.parameters()]
    assert flags == [False, *[True] * (len(flags) - 1)]


def test_a_training_that_is_put_back_goes_on_to_the_same_bits(few_digits: Split) -> None:
    whole, begun, other = (learner(few_digits, 0.4, hard_examples=HardExamples(0.3)) for _ in range(3))
    list(whole.epochs(3, constant(0.05)))
    rows = begun.epochs(3, constant(0.05))
    next(rows)
    next(rows)
    other.load_state_dict(begun.state_dict())
    list(other.epochs(3, constant(0.05), done=2))
    assert are_equal(numbers([whole.model]), numbers([other.model]))


@pytest.mark.parametrize("share", [0.0, -0.1, 1.1, float("nan")])
def test_a_share_is_a_share(few_digits: Split, share: float) -> None:
    with pytest.raises(InputError, match=r"stem_learns is a share of the steps, above 0 and at most 1, not"):
        learner(few_digits, share)


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(64, 10)),
        nn.Sequential(nn.Conv2d(1, 10, 8), nn.BatchNorm2d(10), nn.Flatten()),
        models.conv((1, 8, 8), 10),
    ],
)
def test_a_model_without_a_stem_is_refused(few_digits: Split, model: nn.Module) -> None:
    with pytest.raises(InputError, match=r"stem_learns = 0\.2 is for an nn.Sequential that begins with a convolution"):
        Learner(model, few_digits.train, stem_learns=0.2, on_finding="record")


def test_a_recipe_may_ask_for_it(few_digits: Split) -> None:
    from inkproof.recipes.building import build_learner

    recipe = load_recipe("fast").model_copy(update={"stem_learns": 0.5})
    trained = build_learner(recipe, few_digits.train, None)
    list(trained.epochs(2, constant(0.05)))
    assert isinstance(trained.model, nn.Sequential)
    assert int(trained.model[1].num_batches_tracked) < int(trained.model[4].num_batches_tracked)
