"""Layers on images' ink: what they give and learn is what torch gives and learns from all pixels."""

import contextlib
import copy
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from test_written_out import net, plain
from torch import Tensor, nn

from inkproof import Deformation, HardExamples, ImageSet, Learner, heads
from inkproof.batches import BYTE, Batches, ink_for
from inkproof.errors import NotFinite
from inkproof.ink import Ink, InkLayer, ink_of, lists
from inkproof.kernels import library
from inkproof.objective import Objective
from inkproof.recipes import load_recipe
from inkproof.recipes.building import build_learner, build_schedule
from inkproof.seeds import train_together
from inkproof.steps import BrokenPass, StepPlan, collect_outputs, train_step
from inkproof.written_out import Inked, LinearStep, ink_forward, on_copy, takes_ink, write_out

Command = Callable[..., Result]
CPU = torch.device("cpu")
ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(library() is None, reason="no compiler made the kernels")


def images(count: int = 60, *, size: int = 12, share: float = 0.2, seed: int = 0) -> ImageSet:
    """Of three classes that tell by where their ink is."""
    random = np.random.default_rng(seed)
    pixels = random.integers(1, 256, (count, 1, size, size)) * (random.random((count, 1, size, size)) < share)
    labels = np.arange(count) % 3
    for label in range(3):
        pixels[labels == label, :, size // 3 * label : size // 3 * (label + 1)] //= 3
    return ImageSet(pixels.astype(np.uint8), labels, classes=("0", "1", "2"))


def with_a_blank() -> ImageSet:
    pixels = images().pixels.copy()
    pixels[0] = 0
    return ImageSet(pixels)


def known_ink(whole: ImageSet) -> Ink:
    found = ink_of(whole)
    assert found is not None
    return found


@pytest.fixture
def without_kernels(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it, and none are there."""
    return lambda: monkeypatch.setattr(lists, "library", lambda: None)


# -- lists -------------------------------------------------------------------------------------------------------------


def drawn(found: Ink) -> np.ndarray:
    """The images, from their lists."""
    whole = np.zeros((len(found.starts) - 1, found.width), np.uint8)
    for image, start, stop in zip(whole, found.starts[:-1].tolist(), found.starts[1:].tolist(), strict=True):
        assert (stop - start) % 4 == 0
        at = 0
        for gap, value in found.pixels[start:stop].tolist():
            at += gap
            if value:
                assert image[at] == 0, "each pixel stands there once"
                image[at] = value
    return whole


@settings(deadline=None)
@given(
    pixels=arrays.arrays(np.uint8, st.tuples(st.integers(1, 6), st.just(1), st.integers(1, 9), st.integers(1, 90))),
    blanks=st.integers(0, 3),
)
def test_lists_hold_each_pixel_with_ink(pixels: np.ndarray, blanks: int) -> None:
    """However far apart; more than 255 pixels are gone in several steps."""
    pixels[:, :, : len(pixels[0, 0]) * blanks // 3] = 0
    listed = lists._listed(ImageSet(pixels), library())
    assert np.array_equal(drawn(listed), pixels.reshape(len(pixels), -1))


def test_lists_of_a_subset_are_of_its_rows_in_order() -> None:
    whole = images()
    some = whole.subset(np.array([7, 3, 59]))
    assert np.array_equal(drawn(known_ink(some)), whole.pixels.reshape(60, -1)[[7, 3, 59]])


@pytest.mark.parametrize("places", [(0, 255, 511, 2399), (7, 263), (0, 256, 263, 600, 850, 855), (2399,), ()])
def test_ink_that_is_far_from_the_last_is_found(places: tuple[int, ...]) -> None:
    pixels = np.zeros((1, 1, 40, 60), np.uint8)
    for place in places:
        pixels.reshape(-1)[place] = place % 255 + 1
    assert np.array_equal(drawn(known_ink(ImageSet(pixels))), pixels.reshape(1, -1))


def test_rows_that_lie_apart_in_memory_are_listed() -> None:
    whole = images()
    some = whole.subset(np.array([7, 3, 59, 3])[::-2])
    assert np.array_equal(drawn(known_ink(some)), whole.pixels.reshape(60, -1)[[3, 3]])


@pytest.mark.parametrize("row", [-61, 60])
def test_rows_that_are_not_there_are_an_error(row: int) -> None:
    with pytest.raises(IndexError):
        ink_of(images().subset(np.array([0, row])))


def test_how_much_ink_a_subset_has_is_told_by_its_own_rows() -> None:
    pixels = np.concatenate([images(30, share=0.2).pixels, images(30, share=0.9).pixels])
    whole = ImageSet(pixels)
    assert ink_of(whole.subset(np.arange(30))) is not None
    assert ink_of(whole.subset(np.arange(30, 60))) is None


def test_lists_are_shared_by_all_who_ask_and_freed_with_the_images() -> None:
    whole = images()
    assert known_ink(whole) is known_ink(whole)
    known = len(lists._known)
    del whole
    gc.collect()
    assert len(lists._known) < known


def test_images_with_much_ink_or_very_large_ones_have_no_lists(monkeypatch: pytest.MonkeyPatch) -> None:
    assert ink_of(images(share=0.2)) is not None
    assert ink_of(images(share=0.3)) is None
    assert ink_of(ImageSet(255 - images().pixels)) is None
    monkeypatch.setattr(lists, "_LARGEST", 60 * 144 - 1)
    assert ink_of(images()) is None
    assert ink_of(images(59)) is not None


def test_batches_that_alter_images_or_choose_among_them_have_no_ink() -> None:
    def batches(**options: Any) -> Batches:
        return Batches(images(), **{"batch_size": 8, "device": CPU} | options)

    generator = torch.Generator()
    assert batches().ink is not None
    assert batches(augment=Deformation(), generator=generator).ink is None
    assert batches(shuffle=generator, hard_examples=HardExamples(0.3)).ink is None
    on_gpu = batches()
    on_gpu.device = torch.device("cuda")
    assert on_gpu.ink is None
    assert ink_for(batches(), 144) is batches().ink or ink_for(batches(), 144) is not None
    assert ink_for(batches(), 145) is None
    assert ink_for([(torch.zeros(1, 144), torch.zeros(1))], 144) is None


def test_rows_of_ink_are_those_of_the_batches() -> None:
    some = images().subset(np.arange(40, 3, -1))
    passes = [Batches(some, batch_size=7, device=CPU, shuffle=torch.Generator().manual_seed(0)) for _ in range(2)]
    whole = torch.from_numpy(drawn(known_ink(some)))
    for (inputs, labels), (rows, same) in zip(passes[0], passes[1].in_rows(), strict=True):
        assert torch.equal(labels, same)
        torch.testing.assert_close(inputs.flatten(1), whole[rows] * BYTE)


# -- the layer ---------------------------------------------------------------------------------------------------------

UNITS = (1, 10, 15, 16, 17, 30, 32, 33, 64, 100)


def learnt(units: int, threads: int) -> tuple[Tensor, Tensor, Tensor]:
    """What a layer gives for some images, one of them blank, and its numbers after a step."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    layer, whole = InkLayer(torch.randn(units, 144), torch.randn(units), unit=BYTE), known_ink(with_a_blank())
    rows, outputs, gradient = torch.tensor([5, 0, 59, 5]), layer.new_outputs(4), layer.new_gradient(4)
    layer.forward(whole, rows, outputs)
    gradient[:, :units] = torch.randn(4, units)
    layer.learn(whole, rows, gradient, rate=0.3)
    assert outputs[:, units].eq(1).all()
    assert not outputs[:, units + 1 :].any()
    return outputs[:, :units], layer.weight, layer.bias


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("units", UNITS)
def test_a_layer_gives_and_learns_what_products_do(units: int, threads: int) -> None:
    outputs, weight, bias = learnt(units, threads)
    torch.manual_seed(0)
    wanted_weight, wanted_bias = torch.randn(units, 144).double(), torch.randn(units).double()
    inputs = torch.from_numpy(with_a_blank().pixels.reshape(60, 144)[[5, 0, 59, 5]] * BYTE)
    torch.testing.assert_close(outputs.double(), inputs @ wanted_weight.T + wanted_bias, rtol=1e-5, atol=1e-5)
    gradient = torch.randn(4, units).double()
    torch.testing.assert_close(weight.double(), wanted_weight - 0.3 * gradient.T @ inputs, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(bias.double(), wanted_bias - 0.3 * gradient.sum(dim=0), rtol=1e-5, atol=1e-6)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("units", UNITS)
def test_the_number_of_threads_changes_no_bit(units: int) -> None:
    one, *others = (learnt(units, threads) for threads in (1, 2, 3))
    for other in others:
        assert all(map(torch.equal, one, other))


@pytest.mark.parametrize(
    ("layer", "flatten", "takes"),
    [
        (nn.Linear(144, 3), True, True),
        (nn.Linear(144, 3), False, False),  # images would not be flattened: autograd's to refuse
        (nn.Linear(144, 3, bias=False), True, False),
        (nn.Linear(144, 3).double(), True, False),
    ],
)
def test_which_layers_take_ink(layer: nn.Linear, flatten: bool, takes: bool) -> None:
    assert takes_ink(layer, flatten=flatten) == takes


# -- the step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["classes", "binary"])
@pytest.mark.parametrize("hidden", [(), (30,), (32,), (80, 20)])
@pytest.mark.parametrize("leave", [None, KeyboardInterrupt])
def test_what_is_learnt_is_what_autograd_learns_from_all_pixels(hidden: Any, loss: str, leave: Any) -> None:
    model = net(144, *hidden, 3 if loss == "classes" else 1)
    reference = copy.deepcopy(model)
    head = heads.Head("classes", 3) if loss == "classes" else heads.Head("binary", 2)
    optimizer, same = plain(model.parameters()), plain(reference.parameters())
    step, whole = write_out(model, head.loss, optimizer), images()
    assert isinstance(step, LinearStep)
    if loss == "binary":
        assert whole.labels is not None
        whole = ImageSet(whole.pixels, whole.labels % 2)
    passes, objective, losses = Batches(whole, batch_size=8, device=CPU), Objective(head, head.loss), []
    first = Inked(step, known_ink(whole), unit=BYTE)
    with contextlib.suppress(KeyboardInterrupt), on_copy(step, first) as now:
        rates = torch.linspace(0.1, 0.4, len(passes)).tolist()
        for lr, (pixels, labels), (rows, _) in zip(rates, passes, passes.in_rows(), strict=True):
            optimizer.param_groups[0]["lr"] = same.param_groups[0]["lr"] = lr
            own = train_step(
                model, objective, optimizer, rows, labels, precision="float32", check_finite=False,
                plan=StepPlan(written_out=now, unit=BYTE),
            )  # fmt: skip
            losses.append((own, train_step(reference, objective, same, pixels, labels, precision="float32")))
        if leave is not None:
            raise leave
    torch.testing.assert_close(*map(torch.stack, zip(*losses, strict=True)))
    torch.testing.assert_close(model.state_dict(), reference.state_dict(), rtol=1e-4, atol=1e-6)


def test_targets_that_are_autograds_to_judge_end_the_pass_that_has_rows_alone() -> None:
    model = net(144, 80, 3)
    optimizer = plain(model.parameters())
    step = write_out(model, F.cross_entropy, optimizer)
    assert isinstance(step, LinearStep)
    objective, left_out = Objective(heads.Head("classes", 3), F.cross_entropy), torch.full((8,), -100)
    with on_copy(step, Inked(step, known_ink(images()), unit=BYTE)) as now:
        plan = StepPlan(written_out=now, unit=BYTE)
        with pytest.raises(BrokenPass):
            train_step(
                model, objective, optimizer, torch.arange(8), left_out,
                precision="float32", check_finite=False, plan=plan,
            )  # fmt: skip


# -- scores ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hidden", [(), (30,), (80, 20)])
def test_outputs_from_ink_are_those_of_the_model(hidden: tuple[int, ...]) -> None:
    model, batches = net(144, *hidden, 3), Batches(images(), batch_size=16, device=CPU)
    outputs, labels = collect_outputs(model, batches, precision="float32", again=True)
    inputs = torch.cat([inputs for inputs, _ in batches])
    torch.testing.assert_close(outputs, model(inputs).detach(), rtol=1e-4, atol=1e-5)
    assert labels.tolist() == [number % 3 for number in range(60)]


@pytest.mark.parametrize(
    "model",
    [
        net(143, 3),
        net(144, 3)[1:],
        net(144, 3).double(),
        nn.Sequential(nn.Flatten(), nn.Linear(144, 3, bias=False)),
        nn.Sequential(nn.Flatten(), nn.Linear(144, 3), nn.Sigmoid()),
        nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten()),
    ],
)
def test_models_of_other_kinds_are_given_all_pixels(model: nn.Module) -> None:
    """Nor are lists made for them."""
    asked: list[int] = []

    def ask(width: int) -> None:
        asked.append(width)

    assert ink_forward(model, ask, unit=BYTE, precision="float32") is None
    assert set(asked) <= {143}


def test_weights_that_are_not_finite_are_seen_though_their_pixels_are_blank() -> None:
    model, pixels = net(144, 30, 3), images().pixels.copy()
    pixels[:, 0, 0, 0] = 0
    with torch.no_grad():
        model[1].weight[:, 0] = torch.nan
    outputs, _ = collect_outputs(
        model, Batches(ImageSet(pixels), batch_size=16, device=CPU), precision="float32", again=True
    )
    assert outputs.isnan().all()


def test_images_that_are_scored_once_are_not_listed() -> None:
    whole = images()
    collect_outputs(net(144, 30, 3), Batches(whole, batch_size=16, device=CPU), precision="float32")
    assert whole not in lists._known


# -- trainings ---------------------------------------------------------------------------------------------------------


def learner(*widths: int, **options: Any) -> Learner:
    sides = images(150), images(45, seed=1)
    return Learner(lambda: net(144, *widths, 3), *sides, optimizer=torch.optim.SGD, batch_size=32, **options)


@pytest.fixture
def steps_of_ink(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many images each step on ink took."""
    taken, forward = [], Inked.forward

    def counted(self: Inked, inputs: Tensor, *given: Any) -> bool:
        taken.append(len(inputs))
        return forward(self, inputs, *given)

    monkeypatch.setattr(Inked, "forward", counted)
    return taken


@pytest.mark.parametrize("widths", [(), (30,), (80, 20)])
def test_a_training_on_ink_is_that_on_all_pixels(
    widths: tuple[int, ...], without_kernels: Callable[[], None], steps_of_ink: list[int]
) -> None:
    own = learner(*widths)
    own.fit(3, lr=0.1, verbose=False)
    assert sum(steps_of_ink) == 3 * 150
    without_kernels()
    whole = learner(*widths)
    whole.fit(3, lr=0.1, verbose=False)
    assert sum(steps_of_ink) == 3 * 150
    for row, wanted in zip(own.history, whole.history, strict=True):
        assert row.train_loss == pytest.approx(wanted.train_loss, rel=1e-4)
        assert row.valid_loss == pytest.approx(wanted.valid_loss, rel=1e-4)
    torch.testing.assert_close(own.model.state_dict(), whole.model.state_dict(), rtol=1e-3, atol=1e-5)


def test_a_pass_that_breaks_is_taken_again_with_all_pixels_and_names_its_step(steps_of_ink: list[int]) -> None:
    breaking = learner(30)
    schedule = lambda step, steps: float("inf") if step == 2 else 0.1  # noqa: E731
    with pytest.raises(NotFinite, match="step 3, before the update"):
        list(breaking.epochs(1, schedule))
    assert sum(steps_of_ink) == 150


def test_what_is_learnt_does_not_depend_on_what_findings_do(steps_of_ink: list[int]) -> None:
    stopped, allowed = learner(30), learner(30, allow=["not-finite"])
    for each in (stopped, allowed):
        each.fit(2, lr=0.1, verbose=False)
    assert sum(steps_of_ink) == 2 * 2 * 150
    torch.testing.assert_close(stopped.model.state_dict(), allowed.model.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["linear-cross-entropy", "hidden-cross-entropy"])
def test_seeds_side_by_side_on_ink_equal_lone_trainings(name: str, steps_of_ink: list[int]) -> None:
    together, alone = (
        [build_learner(load_recipe(name), images(150), images(45, seed=1), seed=seed) for seed in range(3)]
        for _ in range(2)
    )
    schedule = build_schedule(load_recipe(name))
    assert train_together(together, 2, schedule)
    assert not steps_of_ink
    for stacked, lone in zip(together, alone, strict=True):
        list(lone.epochs(2, schedule))
        torch.testing.assert_close(stacked.model.state_dict(), lone.model.state_dict(), rtol=1e-4, atol=1e-5)
        assert stacked.history[-1].train_loss == pytest.approx(lone.history[-1].train_loss, rel=1e-4)
        assert stacked.history[-1].valid_loss == pytest.approx(lone.history[-1].valid_loss, rel=1e-4)
    assert sum(steps_of_ink) == 3 * 2 * 150


@pytest.mark.parametrize("valid", [32, 64, 45])
@pytest.mark.parametrize("name", ["linear-cross-entropy", "hidden-cross-entropy"])
def test_seeds_are_scored_in_batches_of_any_size(name: str, valid: int) -> None:
    """Those of a training batch's size share its memory, and those of one size each other's."""
    recipe, sides = load_recipe(name).model_copy(update={"batch_size": 32}), (images(150), images(valid, seed=1))
    together, alone = ([build_learner(recipe, *sides, seed=seed) for seed in range(2)] for _ in range(2))
    for each in (*together, *alone):
        assert isinstance(each.validation_batches, Batches)
        each.validation_batches.batch_size = 32
    assert train_together(together, 2, build_schedule(recipe))
    for stacked, lone in zip(together, alone, strict=True):
        list(lone.epochs(2, build_schedule(recipe)))
        assert stacked.history[-1].valid_loss == pytest.approx(lone.history[-1].valid_loss, rel=1e-4)
        assert stacked.history[-1].metrics == lone.history[-1].metrics


def test_seeds_whose_validation_images_have_much_ink_take_all_pixels() -> None:
    sides = images(150, share=0.24), images(45, share=0.26, seed=1)
    name = "hidden-cross-entropy"
    together, alone = ([build_learner(load_recipe(name), *sides, seed=seed) for seed in range(2)] for _ in range(2))
    schedule = build_schedule(load_recipe(name))
    assert train_together(together, 2, schedule)
    for stacked, lone in zip(together, alone, strict=True):
        list(lone.epochs(2, schedule))
        assert stacked.history[-1].valid_loss == pytest.approx(lone.history[-1].valid_loss, rel=1e-4)
