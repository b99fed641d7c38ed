"""Inputs shared out among threads by columns, blank ones left out: what is learnt is what it was."""

import contextlib
import copy
import gc
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_written_out import CASES, CLASSES, net, plain, sharing_weights, without_bias
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from inkproof import Deformation, HardExamples, ImageSet, Learner, Split, blank_pixels, heads, steps
from inkproof.batches import BYTE, Batches
from inkproof.blank_pixels import Inked
from inkproof.errors import NotFinite
from inkproof.objective import Objective
from inkproof.steps import BrokenPass, StepPlan, train_step
from inkproof.written_out import (
    Columns,
    LinearStep,
    SharedOutStep,
    can_be_shared_out,
    gains_without_blanks,
    parts_of,
    shared_out,
    write_out,
)

CPU = torch.device("cpu")
INK = 90  # pixels of 12×12 images that are not always blank


def images(count: int = 50, ink: int = INK) -> ImageSet:
    """Images of 12×12, whose ink is in some of the pixels alone, and in each of these somewhere."""
    random = np.random.default_rng(0)
    pixels = np.zeros((count, 144), np.uint8)
    places = np.sort(random.permutation(144)[:ink])
    pixels[:, places] = random.integers(0, 2, (count, ink)) * random.integers(1, 256, (count, ink))
    pixels[-1, places] = 7
    return ImageSet(pixels.reshape(-1, 1, 12, 12), np.arange(count) % 3)


def inked(whole: ImageSet, **options: Any) -> Inked | None:
    return Batches(whole, **{"batch_size": 8, "device": CPU} | options).inked


def bordered(split: Split) -> list[ImageSet]:
    """The two sides of a split with a blank border."""
    sides = (split.train, split.valid)
    pixels = [np.pad(side.pixels, ((0, 0), (0, 0), (2, 2), (2, 2))) for side in sides]
    return [ImageSet(each, side.labels, classes=side.classes) for each, side in zip(pixels, sides, strict=True)]


def in_one_memory(model: nn.Sequential) -> nn.Sequential:
    """The net, its weights slices of one tensor that begin elsewhere."""
    memory = torch.randn(144 * 100)
    model[1].weight = nn.Parameter(memory[: 144 * 80].view(80, 144))
    model[3].weight = nn.Parameter(memory[80 : 80 + 240].view(3, 80))
    return model


# -- batches -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(ink=st.integers(1, 111), count=st.integers(2, 40), subset=st.booleans(), shuffled=st.booleans())
def test_rows_hold_the_pixels_with_ink_then_zeros_then_one(ink: int, count: int, subset: bool, shuffled: bool) -> None:
    whole = images(count, ink)
    some = whole.subset(np.arange(count - 1, count // 2 - 1, -1)) if subset else whole

    def passes() -> Batches:
        return Batches(some, batch_size=7, device=CPU, shuffle=torch.Generator().manual_seed(0) if shuffled else None)

    fewer = passes().inked
    assert fewer is not None
    assert fewer.rows.shape == (len(some), (ink // 16 + 1) * 16)
    assert len(fewer.places) == ink
    assert len(passes().in_rows(fewer)) == len(passes())
    for (all_pixels, labels), (rows, same) in zip(passes(), passes().in_rows(fewer).in_bytes(), strict=True):
        assert torch.equal(labels, same)
        torch.testing.assert_close(rows[:, :ink] * BYTE, all_pixels.flatten(1)[:, fewer.places])
        assert not rows[:, ink:-1].any()
        assert (rows[:, -1] == 255).all()
        blank = torch.ones(144, dtype=torch.bool)
        blank[fewer.places] = False
        assert not all_pixels.flatten(1)[:, blank].any()


def test_nothing_is_left_out_where_that_would_not_pay_or_images_are_altered(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator()
    assert inked(images()) is not None
    assert inked(images(ink=111)) is not None
    assert inked(images(ink=112)) is None  # with the bias's input 128 of 144
    assert inked(images(), augment=Deformation(), generator=generator) is None
    assert inked(images(), shuffle=generator, hard_examples=HardExamples(0.3)) is None
    on_gpu = Batches(images(), batch_size=8, device=CPU)
    on_gpu.device = torch.device("cuda")
    assert on_gpu.inked is None
    monkeypatch.setattr(blank_pixels, "_MOST_TO_COPY", 50 * 144 - 1)
    assert inked(images()) is None
    assert inked(images(49)) is not None


def test_a_copy_is_shared_by_all_batches_of_a_set_and_freed_with_it() -> None:
    whole = images()
    first, second = (Batches(whole, batch_size=size, device=CPU) for size in (8, 9))
    assert first.inked is second.inked
    known = len(blank_pixels._inked)
    del whole, first, second
    gc.collect()
    assert len(blank_pixels._inked) < known


def test_batches_of_rows_are_as_the_batches_are_set_now() -> None:
    shuffled = Batches(images(), batch_size=8, device=CPU, shuffle=torch.Generator())
    assert shuffled.inked is not None
    shuffled.batch_size = 25
    assert [len(labels) for _, labels in shuffled.in_rows(shuffled.inked)] == [25, 25]
    shuffled.augment = Deformation()
    assert shuffled.inked is None


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_inputs_lie_part_by_part(parts: int) -> None:
    passes = Batches(images(), batch_size=8, device=CPU)
    for (wanted, labels), (inputs, same) in zip(passes, passes.in_bytes(parts=parts), strict=True):
        assert torch.equal(labels, same)
        torch.testing.assert_close(inputs.flatten(1) * BYTE, wanted.flatten(1))
        if parts > 1:
            assert inputs.shape[1:] == (parts, 144 // parts)
            assert all(part.is_contiguous() for part in inputs.unbind(1))
        else:
            assert inputs.shape == wanted.shape


def test_labels_become_targets_of_the_same_images() -> None:
    passes = Batches(images(), batch_size=8, device=CPU, shuffle=torch.Generator().manual_seed(0))
    given = passes.with_targets(lambda labels: labels.float()[:, None])
    labels = torch.cat([labels for _, labels in passes])
    assert passes.shuffle is not None
    passes.shuffle.manual_seed(0)
    targets = torch.cat([targets for _, targets in given])
    assert torch.equal(targets, labels.float()[:, None])


# -- the step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "can", "gains"),
    [
        (net(144, 65, 3), True, True),
        (net(144, 80, 20, 3), True, True),
        (net(144, 64, 3), True, False),  # not wide
        (net(144, 80), True, False),  # one layer
        (net(143, 80, 3), True, False),  # of other images
        (net(144, 80, 3).double(), False, True),
        (without_bias(net(144, 80, 3)), False, True),
        (sharing_weights(net(144, 144, 144)), False, True),
        (in_one_memory(net(144, 80, 3)), False, True),
        (net(144, 80, 3)[1:], True, False),  # images would not be flattened: autograd's to refuse
    ],
)
def test_which_nets_are_shared_out_and_which_gain_without_blank_pixels(
    model: nn.Module, can: bool, gains: bool
) -> None:
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    assert can_be_shared_out(step) == can
    assert gains_without_blanks(step, 144) == gains


@pytest.mark.usefixtures("two_threads")
def test_each_thread_has_a_part_where_columns_are_many_and_divide() -> None:
    assert [parts_of(width, CPU) for width in (784, 640, 256, 255, 254, 785)] == [2, 2, 2, 1, 1, 1]
    assert parts_of(784, torch.device("cuda")) == 1
    for threads, parts in ((1, 1), (3, 1), (4, 4), (7, 1), (16, 1)):
        torch.set_num_threads(threads)
        assert parts_of(784, CPU) == parts


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("lie_in_parts", [True, False])
@pytest.mark.parametrize("hidden", [(), (7,), (7, 4)])
@pytest.mark.parametrize(("loss", "outputs", "targets"), CASES)
def test_three_steps_equal_those_of_the_plain_step(
    loss: Any, outputs: int, targets: Tensor, hidden: tuple[int, ...], lie_in_parts: bool, parts: int
) -> None:
    torch.manual_seed(1)
    model = net(6, *hidden, outputs).double()
    reference = copy.deepcopy(model)
    y = targets.double() if targets.is_floating_point() else targets
    step, same = (write_out(each, loss, plain(each.parameters())) for each in (model, reference))
    assert isinstance(step, LinearStep)
    assert same is not None
    with shared_out(step, Columns(6, parts)) as now:
        for lr in (0.3, 0.2, 0.4):
            step.optimizer.param_groups[0]["lr"] = same.optimizer.param_groups[0]["lr"] = lr
            x = torch.randn(5, parts, 6 // parts).double() if lie_in_parts else torch.randn(5, 1, 2, 3).double()
            own = now.step(x, lambda _: y, check_finite=False)
            torch.testing.assert_close(own, same.step(x, lambda _: y, check_finite=False))
    for own, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("leave", [None, KeyboardInterrupt])
def test_what_was_learnt_is_written_back_however_the_pass_ends(leave: type[BaseException] | None) -> None:
    model, x = net(6, 30, 3), torch.randn(5, 6)
    reference, parameters = copy.deepcopy(model), list(model.parameters())
    step = write_out(model, F.cross_entropy, plain(parameters))
    same = write_out(reference, F.cross_entropy, plain(reference.parameters()))
    assert isinstance(step, LinearStep)
    assert same is not None
    with contextlib.suppress(KeyboardInterrupt), shared_out(step, Columns(6, 2)) as now:
        for _ in range(2):
            assert now.step(x, lambda _: CLASSES, check_finite=False) is not None
            assert same.step(x, lambda _: CLASSES, check_finite=False) is not None
        if leave is not None:
            raise leave
    for own, wanted in zip(parameters, reference.parameters(), strict=True):
        torch.testing.assert_close(own, wanted)


def test_batches_of_a_size_share_memory_and_no_numbers() -> None:
    """Batches of several sizes in turn, some in the memory of the one before, some laid out in another order."""
    model = net(784, 30, 3).double()
    reference = copy.deepcopy(model)
    step, same = (write_out(each, F.cross_entropy, plain(each.parameters())) for each in (model, reference))
    assert isinstance(step, LinearStep)
    assert same is not None
    first, second = (torch.randn(128, 1, 28, 28).double() for _ in range(2))
    by_columns = torch.randn(128, 2, 14, 28).double().to(memory_format=torch.channels_last)
    in_parts = torch.randn(2, 128, 392).double().transpose(0, 1)
    with shared_out(step, Columns(784, 2)) as now:
        for inputs in (first, second, first[:5], second[:3], in_parts, first[:1], in_parts, first, by_columns):
            y = torch.arange(len(inputs)) % 3
            losses = [each.step(inputs, lambda _, y=y: y, check_finite=False) for each in (now, same)]
            torch.testing.assert_close(*losses)
            inputs.mul_(-0.5).add_(0.1)
    for own, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, wanted)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("flattens", [True, False])
def test_inputs_and_targets_that_do_not_fit_are_left_to_torch(flattens: bool, parts: int) -> None:
    whole = net(6, 30, 3)
    model = whole if flattens else whole[1:]
    before = [parameter.clone() for parameter in model.parameters()]
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    odd = [
        torch.randn(0, 6),
        torch.randn(5, 8),
        torch.randn(5, 6).to_sparse(),
        torch.randn(6),
        torch.randn(5, 6).double(),
    ]
    if not flattens:
        odd.append(torch.randn(5, 4, 6))  # a linear layer over the last of three dimensions
    with shared_out(step, Columns(6, parts)) as now:
        for x in odd:
            assert now.step(x, lambda outputs: CLASSES[: len(outputs)], check_finite=False) is None
        assert now.step(torch.randn(5, 6), lambda _: CLASSES + 3, check_finite=False) is None
    assert all(map(torch.equal, before, model.parameters()))


def test_a_graph_over_weights_that_were_learnt_on_a_copy_is_refused_by_autograd() -> None:
    """Torch's own error for gradients of weights that are no longer those of the forward pass."""
    model, x = net(6, 30, 3), torch.randn(5, 6)
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    loss = F.cross_entropy(model(x), CLASSES)
    with torch.inference_mode(), shared_out(step, Columns(6, 1)) as now:
        now.step(x, lambda _: CLASSES, check_finite=False)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("loss", ["classes", "binary"])
@pytest.mark.parametrize("leave", [None, KeyboardInterrupt])
@pytest.mark.usefixtures("two_threads")
def test_what_is_learnt_is_what_autograd_learns_from_all_pixels(loss: str, leave: Any, threads: int) -> None:
    torch.set_num_threads(threads)
    model = net(144, 80, 20, 3 if loss == "classes" else 1)
    reference, untouched = copy.deepcopy(model), copy.deepcopy(model)
    head = heads.Head("classes", 3) if loss == "classes" else heads.Head("binary", 2)
    optimizer, same = plain(model.parameters()), plain(reference.parameters())
    step = write_out(model, head.loss, optimizer)
    assert isinstance(step, LinearStep)
    whole = images()
    if loss == "binary":
        assert whole.labels is not None
        whole = ImageSet(whole.pixels, whole.labels % 2)
    passes = Batches(whole, batch_size=8, device=CPU)
    fewer = passes.inked
    assert fewer is not None
    objective, losses = Objective(head, head.loss), []
    with (
        contextlib.suppress(KeyboardInterrupt),
        shared_out(step, Columns(fewer.rows.shape[1], threads, fewer.places, BYTE)) as now,
    ):
        for lr, (pixels, labels), (rows, _) in zip(
            torch.linspace(0.1, 0.4, 7).tolist(),
            passes,
            passes.in_rows(fewer).in_bytes(parts=threads),
            strict=True,
        ):
            optimizer.param_groups[0]["lr"] = same.param_groups[0]["lr"] = lr
            own = train_step(
                model, objective, optimizer, rows, labels, precision="float32", check_finite=False,
                plan=StepPlan(written_out=now, unit=BYTE),
            )  # fmt: skip
            losses.append((own, train_step(reference, objective, same, pixels, labels, precision="float32")))
        if leave is not None:
            raise leave
    torch.testing.assert_close(*map(torch.stack, zip(*losses, strict=True)))
    for own, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-4, atol=1e-6)
    blank = torch.ones(144, dtype=torch.bool)
    blank[fewer.places] = False
    assert torch.equal(model[1].weight[:, blank], untouched[1].weight[:, blank])
    assert not torch.equal(model[1].weight, untouched[1].weight)


def test_targets_that_are_autograds_to_judge_end_the_pass_that_lacks_pixels() -> None:
    model, fewer = net(144, 80, 3), inked(images())
    optimizer = plain(model.parameters())
    step = write_out(model, F.cross_entropy, optimizer)
    assert isinstance(step, LinearStep)
    assert fewer is not None
    objective, left_out = Objective(heads.Head("classes", 3), F.cross_entropy), torch.full((8,), -100)
    rows = fewer.rows[:8].float()
    with shared_out(step, Columns(rows.shape[1], 1, fewer.places, BYTE)) as now:
        plan = StepPlan(written_out=now, unit=BYTE)
        with pytest.raises(BrokenPass):
            train_step(model, objective, optimizer, rows, left_out, precision="float32", check_finite=False, plan=plan)


@pytest.mark.parametrize("kind", ["classes", "binary"])
def test_targets_of_a_whole_side_are_those_of_its_batches(kind: Any) -> None:
    objective = Objective(heads.Head(kind, 2), heads.cross_entropy)
    labels = torch.tensor([0, 1, 1])
    outputs = torch.rand(3, objective.head.outputs, dtype=torch.float64)
    whole = objective.all_targets(labels, torch.float64)
    assert torch.equal(whole, objective.targets(labels, outputs))
    assert objective.targets(whole, outputs) is whole


# -- a training --------------------------------------------------------------------------------------------------------


def learner(split: Split, **options: Any) -> Learner:
    model = lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 80), nn.ReLU(), nn.Linear(80, 10))  # noqa: E731
    return Learner(model, *bordered(split), optimizer=torch.optim.SGD, batch_size=64, **options)


@pytest.fixture
def rows_taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each step took that did without pixels."""
    taken, step = [], SharedOutStep.step

    def counted(self: SharedOutStep, inputs: Tensor, *given: Any, **named: Any) -> Tensor | None:
        if inputs[0].numel() < 144:
            taken.append(len(inputs))
        return step(self, inputs, *given, **named)

    monkeypatch.setattr(SharedOutStep, "step", counted)
    return taken


def test_a_training_without_blank_pixels_is_that_with_all_of_them(
    few_digits: Split, monkeypatch: pytest.MonkeyPatch, rows_taken: list[int]
) -> None:
    narrow = learner(few_digits)
    narrow.fit(3, lr=0.1, verbose=False)
    assert sum(rows_taken) == 3 * 300
    monkeypatch.setattr(blank_pixels, "_MOST_TO_COPY", 0)
    whole = learner(few_digits)
    whole.fit(3, lr=0.1, verbose=False)
    assert sum(rows_taken) == 3 * 300
    for own, wanted in zip(narrow.history, whole.history, strict=True):
        assert own.metrics == wanted.metrics
        assert own.train_loss == pytest.approx(wanted.train_loss, rel=1e-4)
    torch.testing.assert_close(narrow.model.state_dict(), whole.model.state_dict(), rtol=1e-3, atol=1e-5)


def test_a_pass_that_breaks_is_taken_again_with_all_pixels_and_names_its_step(
    few_digits: Split, rows_taken: list[int]
) -> None:
    breaking = learner(few_digits)
    schedule = lambda step, steps: float("inf") if step == 2 else 0.1  # noqa: E731
    with pytest.raises(NotFinite, match="step 3, before the update"):
        list(breaking.epochs(1, schedule))
    assert sum(rows_taken) == 300


def test_what_is_learnt_does_not_depend_on_what_findings_do(few_digits: Split, rows_taken: list[int]) -> None:
    stopped, allowed = learner(few_digits), learner(few_digits, allow=["not-finite"])
    for each in (stopped, allowed):
        each.fit(2, lr=0.1, verbose=False)
    assert sum(rows_taken) == 2 * 2 * 300
    torch.testing.assert_close(stopped.model.state_dict(), allowed.model.state_dict(), rtol=0, atol=0)


def framed(count: int = 150) -> ImageSet:
    """Images of 20×20 whose last four columns are blank, of three classes that tell by their brightness."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    pixels = random.integers(0, 60, (count, 1, 20, 20)) + 60 * labels[:, None, None, None]
    pixels[..., 16:] = 0
    return ImageSet(pixels.astype(np.uint8), labels)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("on_finding", ["refuse", "record"])
@pytest.mark.parametrize("given", ["images", "tensors"])
@pytest.mark.parametrize("widths", [(400, 3), (400, 30, 3), (400, 80, 20, 3)])
def test_a_training_shared_out_among_threads_is_that_of_the_plain_step(
    widths: tuple[int, ...], given: str, on_finding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pixels, and those that are not blank; batches that lie in parts, and others; the last one smaller."""
    images, parts = framed(), []
    step = SharedOutStep.__init__

    def noted(self: SharedOutStep, plain: LinearStep, columns: Columns) -> None:
        parts.append((columns.parts, columns.width))
        step(self, plain, columns)

    monkeypatch.setattr(SharedOutStep, "__init__", noted)
    assert images.labels is not None
    pairs = TensorDataset(torch.from_numpy(images.pixels / np.float32(255)), torch.from_numpy(images.labels.copy()))
    found = []
    for shares in (True, False):
        if not shares:
            monkeypatch.setattr(steps, "can_be_shared_out", lambda step: False)
        learner = Learner(
            lambda: net(*widths),
            images if given == "images" else pairs,
            optimizer=torch.optim.SGD,
            batch_size=40,
            on_finding=on_finding,
        )
        learner.fit(2, lr=0.1, verbose=False)
        found.append((learner.model.state_dict(), [row.train_loss for row in learner.history]))
    whole = 336 if given == "images" and widths[1] > 64 else 400
    assert parts == [(2 if given == "images" else 1, whole)] * 2
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
