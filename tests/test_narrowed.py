"""Pixels that are blank in all images: left out of products, and nobody can tell from what is learnt."""

import contextlib
import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from test_written_out import net, plain, sharing_weights, without_bias
from torch import Tensor, nn

from inkproof import Deformation, HardExamples, ImageSet, Learner, Split, batches, heads
from inkproof.batches import BYTE, Batches, Inked
from inkproof.errors import NotFinite
from inkproof.objective import Objective
from inkproof.steps import BrokenPass, StepPlan, train_step
from inkproof.written_out import DeepStep, LinearStep, can_be_narrowed, narrowed, quickest, write_out

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


def inked(given: ImageSet, **options: Any) -> Inked | None:
    return Batches(given, **{"batch_size": 8, "device": CPU} | options).inked


def bordered(split: Split) -> list[ImageSet]:
    """The two sides of a split with a blank border."""
    sides = (split.train, split.valid)
    pixels = [np.pad(side.pixels, ((0, 0), (0, 0), (2, 2), (2, 2))) for side in sides]
    return [ImageSet(each, side.labels, classes=side.classes) for each, side in zip(pixels, sides, strict=True)]


# -- batches -----------------------------------------------------------------------------------------------------------


@settings(deadline=None)
@given(ink=st.integers(1, 127), count=st.integers(2, 40), subset=st.booleans(), shuffled=st.booleans())
def test_rows_hold_the_pixels_with_ink_then_zeros_then_one(ink: int, count: int, subset: bool, shuffled: bool) -> None:
    whole = images(count, ink)
    some = whole.subset(np.arange(count - 1, count // 2 - 1, -1)) if subset else whole

    def batches() -> Batches:
        return Batches(some, batch_size=7, device=CPU, shuffle=torch.Generator().manual_seed(0) if shuffled else None)

    fewer = batches().inked
    assert fewer is not None
    assert len(fewer.places) == ink
    assert fewer.width == (ink // 16 + 1) * 16
    assert len(fewer.batches) == len(batches())
    for (all_pixels, labels), (rows, same) in zip(batches(), fewer.batches.in_bytes(), strict=True):
        assert torch.equal(labels, same)
        torch.testing.assert_close(rows[:, :ink] * BYTE, all_pixels.flatten(1)[:, fewer.places])
        assert rows.shape == (len(labels), fewer.width)
        assert not rows[:, ink:-1].any()
        assert (rows[:, -1] == 255).all()
        blank = torch.ones(144, dtype=torch.bool)
        blank[fewer.places] = False
        assert not all_pixels.flatten(1)[:, blank].any()


def test_nothing_is_left_out_where_that_would_not_pay_or_images_are_altered(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator()
    assert inked(images()) is not None
    assert inked(images(ink=127)) is not None
    assert inked(images(ink=128)) is None  # with the one that is as many vectors as all 144
    assert inked(images(), augment=Deformation(), generator=generator) is None
    assert inked(images(), shuffle=generator, hard_examples=HardExamples(0.3)) is None
    on_gpu = Batches(images(), batch_size=8, device=CPU)
    on_gpu.device = torch.device("cuda")
    assert on_gpu.inked is None
    monkeypatch.setattr(batches, "_MOST_TO_COPY", 50 * 144 - 1)
    assert inked(images()) is None
    assert inked(images(49)) is not None


def test_a_copy_is_made_once() -> None:
    given = Batches(images(), batch_size=8, device=CPU)
    assert given.inked is given.inked


# -- the step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "can"),
    [
        (net(144, 3), True),
        (net(144, 30, 3), True),
        (net(143, 30, 3), False),  # of other images
        (sharing_weights(net(144, 144, 144)), False),
        (without_bias(net(144, 30, 3)), False),
        (net(144, 30, 3)[1:], False),  # images would not be flattened: autograd's to refuse
    ],
)
def test_nets_over_flattened_images_can_be_narrowed(model: nn.Module, can: bool) -> None:
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    assert can_be_narrowed(step, (1, 12, 12)) == can


@pytest.mark.parametrize("hidden", [[], [30], [80, 20]])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("leave", [None, KeyboardInterrupt])
def test_what_is_learnt_is_what_autograd_learns_from_all_pixels(hidden: list[int], binary: bool, leave: Any) -> None:
    head = heads.Head("binary", 2) if binary else heads.Head("classes", 3)
    model, objective = net(144, *hidden, head.outputs), Objective(head, head.loss)
    reference, untouched = copy.deepcopy(model), copy.deepcopy(model)
    optimizer, same = plain(model.parameters()), plain(reference.parameters())
    given = images()
    if binary:
        assert given.labels is not None
        given = ImageSet(given.pixels, given.labels % 2)
    step, fewer, losses = write_out(model, head.loss, optimizer), inked(given), []
    assert isinstance(step, LinearStep)
    assert fewer is not None
    with (
        contextlib.suppress(KeyboardInterrupt),
        narrowed(step, fewer.places, fewer.width) as narrow,
        quickest(narrow, unit=BYTE) as now,
    ):
        plan = StepPlan(written_out=now, unit=BYTE)
        for lr, (pixels, labels), (rows, _) in zip(
            torch.linspace(0.1, 0.4, 7).tolist(),
            Batches(given, batch_size=8, device=CPU),
            fewer.batches.in_bytes(),
            strict=True,
        ):
            optimizer.param_groups[0]["lr"] = same.param_groups[0]["lr"] = lr
            own = train_step(model, objective, optimizer, rows, labels, precision="float32", plan=plan)
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


def test_a_batch_that_is_autograds_to_judge_ends_the_pass_that_lacks_pixels() -> None:
    model, fewer = net(144, 30, 3), inked(images())
    optimizer = plain(model.parameters())
    step = write_out(model, F.cross_entropy, optimizer)
    assert isinstance(step, LinearStep)
    assert fewer is not None
    objective, left_out = Objective(heads.Head("classes", 3), F.cross_entropy), torch.full((8,), -100)
    rows, _ = next(iter(fewer.batches.in_bytes()))
    with narrowed(step, fewer.places, fewer.width) as narrow:
        plan = StepPlan(written_out=narrow, unit=BYTE, lacks_pixels=True)
        with pytest.raises(BrokenPass):
            train_step(model, objective, optimizer, rows, left_out, precision="float32", plan=plan)


# -- a training --------------------------------------------------------------------------------------------------------


def learner(split: Split, **options: Any) -> Learner:
    model = lambda: nn.Sequential(nn.Flatten(), nn.Linear(144, 80), nn.ReLU(), nn.Linear(80, 10))  # noqa: E731
    return Learner(model, *bordered(split), optimizer=torch.optim.SGD, batch_size=64, **options)


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Shapes of what steps took: rows, and their width."""
    shapes, step = [], DeepStep.step

    def noted(self: DeepStep, inputs: Tensor, *given: Any, **named: Any) -> Tensor | None:
        shapes.append(tuple(inputs.flatten(1).shape))
        return step(self, inputs, *given, **named)

    monkeypatch.setattr(DeepStep, "step", noted)
    return shapes


NARROW, WHOLE = [(64, 64)] * 4 + [(44, 64)], [(64, 144)] * 4 + [(44, 144)]  # an epoch


def test_a_training_without_blank_pixels_is_that_with_all_of_them(
    few_digits: Split, monkeypatch: pytest.MonkeyPatch, taken: list[tuple[int, int]]
) -> None:
    narrow = learner(few_digits)
    narrow.fit(3, lr=0.1, verbose=False)
    assert taken == NARROW * 3
    taken.clear()
    monkeypatch.setattr(batches, "_MOST_TO_COPY", 0)
    whole = learner(few_digits)
    whole.fit(3, lr=0.1, verbose=False)
    assert taken == WHOLE * 3
    for own, wanted in zip(narrow.history, whole.history, strict=True):
        assert own.metrics == wanted.metrics
        assert own.train_loss == pytest.approx(wanted.train_loss, rel=1e-4)
    torch.testing.assert_close(narrow.model.state_dict(), whole.model.state_dict(), rtol=1e-3, atol=1e-5)


def test_a_pass_that_breaks_is_taken_again_with_all_pixels_and_names_its_step(
    few_digits: Split, taken: list[tuple[int, int]]
) -> None:
    breaking = learner(few_digits)
    schedule = lambda step, steps: float("inf") if step == 2 else 0.1  # noqa: E731
    with pytest.raises(NotFinite, match="step 3, before the update"):
        list(breaking.epochs(1, schedule))
    assert taken == NARROW + WHOLE[:4]


def test_where_each_step_is_looked_at_all_pixels_are_taken(few_digits: Split, taken: list[tuple[int, int]]) -> None:
    learner(few_digits, allow=["not-finite"]).fit(1, lr=0.1, verbose=False)
    assert taken == WHOLE
