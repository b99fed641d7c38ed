"""A Stepper plans the fastest step there is, and plans a graph only where nothing would be passed by."""

import copy
import math
from contextlib import nullcontext, suppress
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from inkproof import models, schedules
from inkproof.audit import Record
from inkproof.captured import CapturedStep
from inkproof.errors import InputError, NotFinite
from inkproof.hard_examples import HardExamples
from inkproof.heads import Head
from inkproof.images import Split
from inkproof.learner import Learner
from inkproof.objective import Objective
from inkproof.stepper import Stepper
from inkproof.steps import BrokenPass
from inkproof.written_out import ConvolutionalStep, LinearStep, StepOnCopy

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def stepper(model: nn.Module) -> Stepper:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    objective = Objective(Head("classes", 3), F.cross_entropy)
    return Stepper(model, optimizer, objective, "float32", Record("record", ()), captured=CapturedStep(model))


def test_on_a_processor_linear_layers_are_written_out() -> None:
    assert stepper(nn.Linear(4, 3)).plan(CPU).written_out is not None
    assert stepper(nn.Conv2d(1, 3, 3)).plan(CPU).written_out is None


def test_on_a_processor_gradients_of_blocks_are_written_out_in_float32_alone() -> None:
    blocks = stepper(models.strong((1, 8, 8), 3, widths=(4, 6, 5, 7)))
    assert blocks.plan(CPU).gradients is not None
    assert blocks.plan(CUDA).gradients is None
    assert replace(blocks, precision="bfloat16").plan(CPU).gradients is None
    assert stepper(nn.Linear(4, 3)).plan(CPU).gradients is None


@pytest.mark.parametrize("loader", [False, True])
def test_a_training_of_blocks_is_that_of_autograd_also_inside_a_users_autocast(
    few_digits: Split, monkeypatch: pytest.MonkeyPatch, loader: bool
) -> None:
    def histories() -> list[float]:
        pixels = torch.from_numpy(few_digits.train.pixels.copy()).float() / 16
        labels = torch.from_numpy(few_digits.train.require_labels("training").copy())
        data = DataLoader(TensorDataset(pixels, labels), batch_size=20) if loader else few_digits.train
        model = lambda: models.strong((1, 8, 8), 10, widths=(4, 6, 5, 7))  # noqa: E731
        learner = Learner(model, data, batch_size=20, seed=0, on_finding="record")
        with torch.autocast("cpu", torch.bfloat16):
            return [row.train_loss for row in learner.fit(2, lr=0.05, verbose=False)]

    mine = histories()
    monkeypatch.setattr(Stepper, "gradients", None)
    assert mine == pytest.approx(histories(), rel=1e-4)


def test_on_a_gpu_a_graph_is_planned_until_somebody_listens() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    planned = stepper(model)
    assert planned.plan(CUDA).captured is not None
    assert planned.plan(CUDA).guard is None, "a loss that is not finite was allowed"
    hook = model[1].register_forward_hook(lambda *seen: None)
    assert planned.plan(CUDA).captured is None
    hook.remove()
    assert planned.plan(CUDA).captured is not None
    nn.Module.register_forward_hook(model, lambda *seen: None)
    assert planned.plan(CUDA).captured is None


def test_what_was_not_done_by_this_learner_is_not_gone_on_with(few_digits: Split) -> None:
    def learner(hard_examples: HardExamples | None) -> Learner:
        model = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))  # noqa: E731
        return Learner(model, few_digits.train, hard_examples=hard_examples)

    hard = learner(HardExamples(0.3)).epochs(4, schedules.constant(0.1), done=2)
    with pytest.raises(InputError, match="2 epochs are said to be done, 0 are known: load their state"):
        next(iter(hard))
    plain = learner(None)
    seen = []

    def schedule(step: int, steps: int) -> float:
        seen.append((step, steps))
        return 0.1

    list(plain.epochs(4, schedule, done=3))
    assert seen[0] == (3 * len(plain.training_batches), 4 * len(plain.training_batches))


@pytest.mark.parametrize("make", [models.linear, models.hidden, models.deep, models.conv])
@pytest.mark.parametrize("loader", [False, True])
def test_an_epoch_is_trained_and_scored_in_float32_inside_a_users_autocast(
    few_digits: Split, make: Any, loader: bool
) -> None:
    train: Any = few_digits.train
    if loader:
        pixels = torch.from_numpy(train.pixels / np.float32(255))
        train = DataLoader(TensorDataset(pixels, torch.from_numpy(train.labels.copy())), batch_size=64)
    found = []
    for enabled in (False, True):
        learner = Learner(lambda: make((1, 8, 8), 10), train, few_digits.valid, optimizer=torch.optim.SGD)
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            learner.fit(1, lr=0.1, verbose=False)
        found.append((learner.history[-1].valid_loss, list(learner.model.parameters())))
    assert found[0][0] == found[1][0]
    assert all(map(torch.equal, found[0][1], found[1][1]))


def test_a_loader_that_reads_the_weights_sees_them_learn_where_an_epoch_of_images_learns_on_a_copy(
    few_digits: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_copy: list[int] = []
    step = StepOnCopy.step

    def counted(self: StepOnCopy, inputs: Tensor, *given: Any, **named: Any) -> Tensor | None:
        on_copy.append(len(inputs))
        return step(self, inputs, *given, **named)

    monkeypatch.setattr(StepOnCopy, "step", counted)
    seen: list[float] = []

    class Reading(TensorDataset):
        def __getitem__(self, index: int) -> tuple[Tensor, ...]:
            seen.append(loaded[-1].weight.detach().double().abs().sum().item())
            return super().__getitem__(index)

    train = few_digits.train
    pixels, labels = torch.from_numpy(train.pixels / np.float32(255)), torch.from_numpy(train.labels.copy())
    torch.manual_seed(0)
    model = models.hidden((1, 8, 8), 10)
    loaded = copy.deepcopy(model)
    Learner(model, train, batch_size=64, shuffle=False, optimizer=torch.optim.SGD).fit(2, lr=0.1, verbose=False)
    assert sum(on_copy) == 2 * len(train)
    learner = Learner(loaded, DataLoader(Reading(pixels, labels), batch_size=64), optimizer=torch.optim.SGD)
    seen.clear()
    learner.fit(2, lr=0.1, verbose=False)
    assert len(set(seen)) == 2 * -(-len(train) // 64)
    assert sum(on_copy) == 2 * len(train)
    for own, reference in zip(loaded.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-4, atol=1e-5)


class LooksAtEachStep(Learner):
    def _train_epoch(self, schedule: Any, first_step: int, steps: int, *, again: bool) -> float:
        return super()._train_epoch(schedule, first_step, steps, again=False)


@pytest.mark.parametrize("make", [models.linear, models.hidden, models.deep, models.conv])
def test_where_steps_looked_at_together_broke_the_epoch_is_taken_again_with_a_look_at_each(
    few_digits: Split, make: Any
) -> None:
    found = []
    for kind in (Learner, LooksAtEachStep):
        learner = kind(lambda: make((1, 8, 8), 10), few_digits.train, few_digits.valid, optimizer=torch.optim.SGD)
        breaks = len(learner.training_batches) + 2
        schedule = lambda step, steps, breaks=breaks: float("inf") if step == breaks else 0.1  # noqa: E731
        with pytest.raises(NotFinite) as error:
            list(learner.epochs(3, schedule))
        assert f"step {breaks + 1}, before the update" in str(error.value)
        found.append((str(error.value), learner.history.as_dicts(), learner.state_dict()["model"]))
    (message, history, weights), (expected_message, expected_history, expected_weights) = found
    assert message == expected_message
    assert len(history) == 1
    assert history[0]["train_loss"] == pytest.approx(expected_history[0]["train_loss"], rel=1e-5)
    torch.testing.assert_close(weights, expected_weights, rtol=1e-4, atol=1e-6, equal_nan=True)


@pytest.mark.parametrize(("on_finding", "passes"), [("refuse", 2), ("record", 1)])
def test_an_epoch_is_taken_again_only_where_that_stops_it(
    few_digits: Split, monkeypatch: pytest.MonkeyPatch, on_finding: Any, passes: int
) -> None:
    looked: list[bool] = []
    for kind in (LinearStep, StepOnCopy):

        def noted(self: Any, *given: Any, check_finite: bool, step: Any = kind.step) -> Tensor | None:
            looked.append(check_finite)
            return step(self, *given, check_finite=check_finite)

        monkeypatch.setattr(kind, "step", noted)
    learner = Learner(
        lambda: models.hidden((1, 8, 8), 10),
        few_digits.train,
        few_digits.valid,
        optimizer=torch.optim.SGD,
        on_finding=on_finding,
    )
    learner.fit(1, lr=0.1, verbose=False)
    assert looked == [False] * len(learner.training_batches)
    looked.clear()
    with suppress(NotFinite):
        learner.fit(1, lr=1e30, verbose=False)
    assert set(looked[: len(learner.training_batches)]) == {False}
    assert set(looked[len(learner.training_batches) :]) == ({True} if passes == 2 else set())


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf, 1e16])
@pytest.mark.parametrize("place", ["loss", "weight", "bias", None])
def test_losses_and_weights_are_looked_at_together(place: str | None, broken: float) -> None:
    model, losses = nn.Linear(4, 3).double(), []  # of float32 a copy would learn
    trained = stepper(model)
    with (
        nullcontext() if place is None else pytest.raises(BrokenPass),
        trained.plan(CPU).quickest([], trained.objective, again=True, losses=losses),
        torch.no_grad(),
    ):
        losses += [torch.tensor(1.0), torch.tensor(broken if place == "loss" else 1.0), torch.tensor(1.0)]
        if place == "weight":
            model.weight[1, 2] = broken
        elif place == "bias":
            model.bias[1] = broken


def test_what_is_raised_after_a_number_broke_does_not_hide_it(
    few_digits: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    step = Stepper.step

    def failing(self: Stepper, inputs: Tensor, labels: Tensor, number: int, *given: Any) -> Tensor:
        if number == 4:
            raise ValueError("no such step")
        return step(self, inputs, labels, number, *given)

    monkeypatch.setattr(Stepper, "step", failing)
    for breaks in (False, True):
        learner = Learner(lambda: models.hidden((1, 8, 8), 10), few_digits.train, optimizer=torch.optim.SGD)
        assert len(learner.training_batches) > 4
        kind, message = (NotFinite, "step 2, before the update") if breaks else (ValueError, "no such step")
        schedule = lambda step, steps, breaks=breaks: math.inf if breaks and step == 1 else 0.1  # noqa: E731
        with pytest.raises(kind, match=message):
            list(learner.epochs(1, schedule))


@pytest.mark.parametrize("on_finding", ["refuse", "record"])
def test_a_schedule_may_do_what_it_likes_with_the_weights(few_digits: Split, on_finding: Any) -> None:
    """It is asked outside the pass, whose tensors cannot be trained."""
    kept: list[Tensor] = []

    def schedule(step: int, steps: int) -> float:
        if not step:
            kept.append(next(learner.model.parameters()).clone())
        kept[-1] = kept[-1] * 0.9
        return 0.1

    learner = Learner(
        lambda: models.hidden((1, 8, 8), 10), few_digits.train, optimizer=torch.optim.SGD, on_finding=on_finding
    )
    list(learner.epochs(2, schedule))
    assert len(kept) == 1
    assert kept[0].requires_grad
    assert not kept[0].is_inference()


@pytest.mark.filterwarnings("ignore:Converting a tensor with requires_grad")  # the audit looks at such tensors too
@pytest.mark.parametrize("make", [models.linear, models.hidden, models.conv])
@pytest.mark.parametrize("read", ["altered", "loaded"])
def test_images_that_ask_for_gradients_are_trained_on(few_digits: Split, make: Any, read: str) -> None:
    """An augmentation by a net of its own, or a user's tensors, from which no gradients are wanted here."""
    train: Any = few_digits.train
    filters = nn.Conv2d(1, 1, 3, padding=1)
    if read == "loaded":
        pixels = torch.from_numpy(train.pixels / np.float32(255)).requires_grad_()
        train = DataLoader(TensorDataset(pixels, torch.from_numpy(train.labels.copy())), batch_size=64)
    learner = Learner(
        lambda: make((1, 8, 8), 10),
        train,
        optimizer=torch.optim.SGD,
        augment=(lambda images, generator: filters(images)) if read == "altered" else None,
        on_finding="record",
    )
    history = learner.fit(2, lr=0.1, verbose=False)
    assert history[-1].train_loss < history[0].train_loss


def test_rows_that_autograd_must_judge_are_given_to_it_once_and_for_all(
    few_digits: Split, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first pass breaks at a label to leave out; those after it are taken step by step."""
    labels = torch.from_numpy(few_digits.train.labels.copy())
    labels[7] = -100
    pairs = TensorDataset(torch.from_numpy(few_digits.train.pixels / np.float32(255)), labels)
    found = []
    for written_out in (True, False):
        learner = Learner(
            lambda: models.hidden((1, 8, 8), 10), pairs, optimizer=torch.optim.SGD, allow=["labels-ignored"]
        )
        passes: list[bool] = []
        train_epoch = learner._train_epoch

        def noted(*given: Any, again: bool, passes: Any = passes, train_epoch: Any = train_epoch) -> float:
            passes.append(again)
            loss: float = train_epoch(*given, again=again)
            return loss

        monkeypatch.setattr(learner, "_train_epoch", noted)
        if not written_out:
            monkeypatch.setattr(Stepper, "written_out", None)
        learner.fit(3, lr=0.1, verbose=False)
        assert passes == ([True, False, False, False] if written_out else [True] * 3)
        found.append(learner.model.state_dict())
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


def test_an_epoch_of_convolutions_takes_images_as_bytes(few_digits: Split, monkeypatch: pytest.MonkeyPatch) -> None:
    dtypes = set()
    step = ConvolutionalStep.step

    def noted(self: ConvolutionalStep, inputs: Tensor, *given: Any, **named: Any) -> Tensor | None:
        dtypes.add(inputs.dtype)
        return step(self, inputs, *given, **named)

    monkeypatch.setattr(ConvolutionalStep, "step", noted)
    model = lambda: nn.Sequential(  # noqa: E731
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 10)
    )
    Learner(model, few_digits.train, optimizer=torch.optim.SGD).fit(1, lr=0.1, verbose=False)
    assert dtypes == {torch.uint8}
