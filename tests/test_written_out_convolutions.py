"""The written-out step of convolutions equals autograd's, and is taken only where it is sure to."""

import contextlib
import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inkproof import heads, models
from inkproof.batches import TensorBatches
from inkproof.errors import NotFinite
from inkproof.objective import Objective
from inkproof.steps import StepPlan, train_step
from inkproof.written_out import ConvolutionalStep, LinearStep, in_place, quick_forward, write_out

plain = partial(torch.optim.SGD, lr=0.3)


@pytest.fixture(autouse=True)
def on_two_threads_with_avx2(monkeypatch: pytest.MonkeyPatch, two_threads: None) -> None:
    """On any machine as on those that these steps are for: batches of 64 and more then have parts."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


def uneven() -> nn.Sequential:
    """For images of 2×9×11; its convolutions are as odd as the step takes them."""
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(4, 5, (2, 3), stride=2, padding=(0, 1), bias=False),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(30, 6),
        nn.ReLU(),
        nn.Linear(6, 3),
    )


def skipping() -> nn.Sequential:
    """For images of 1×7×7; units lie between windows, and the last convolution sees more zeros than numbers."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 2),
        nn.ReLU(),
        nn.Conv2d(4, 5, 2, stride=4),
        nn.ReLU(),
        nn.Conv2d(5, 3, 3, stride=2, padding=1),
        nn.Flatten(),
    )


def ending_in_maps() -> nn.Sequential:
    """For images of 1×9×9: three outputs are one channel of one row and three columns."""
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 1, (2, 1), stride=(4, 2)), nn.Flatten()
    )


def with_a_weight_laid_out_by_columns() -> nn.Sequential:
    """For images of 1×7×7."""
    model = nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3))
    model[3].weight = nn.Parameter(torch.randn(27, 3).T)
    return model


MODELS: list[tuple[Callable[[], nn.Sequential], tuple[int, ...]]] = [
    (uneven, (2, 9, 11)),
    (skipping, (1, 7, 7)),
    (lambda: models.conv((1, 8, 8), 3, channels=(4, 6, 5)), (1, 8, 8)),
    (ending_in_maps, (1, 9, 9)),
    (with_a_weight_laid_out_by_columns, (1, 7, 7)),
]


def step_of(model: nn.Module) -> ConvolutionalStep | None:
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert not step or isinstance(step, ConvolutionalStep)
    return step


def after_three_steps(model: nn.Module, x: Tensor, y: Tensor, *, written_out: bool) -> list[Tensor]:
    model = copy.deepcopy(model)
    optimizer = plain(model.parameters())
    step = write_out(model, F.cross_entropy, optimizer) if written_out else None
    assert isinstance(step, ConvolutionalStep) == written_out
    objective, plan = Objective(heads.Head("classes", 3), F.cross_entropy), StepPlan(written_out=step)
    losses = [train_step(model, objective, optimizer, x, y, precision="float32", plan=plan) for _ in range(3)]
    return [*(parameter.detach() for parameter in model.parameters()), torch.stack(losses)]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rows", [1, 5, 64, 128])
@pytest.mark.parametrize(("make", "shape"), MODELS)
def test_three_steps_equal_those_of_autograd(
    make: Callable[[], nn.Sequential], shape: tuple[int, ...], rows: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    model = make().double().to(memory_format=memory_format)
    x, y = torch.randn(rows, *shape, dtype=torch.float64), torch.randint(3, (rows,))
    mine = after_three_steps(model, x, y, written_out=True)
    torchs = after_three_steps(model, x, y, written_out=False)
    for own, reference in zip(mine, torchs, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rows", [1, 5, 128])
@pytest.mark.parametrize(("make", "shape"), MODELS)
def test_bytes_are_scaled_within_the_first_product(
    make: Callable[[], nn.Sequential], shape: tuple[int, ...], rows: int
) -> None:
    torch.manual_seed(0)
    model = make().double()
    x, y = torch.randint(0, 256, (rows, *shape), dtype=torch.uint8), torch.randint(3, (rows,))
    reference = after_three_steps(model, x.double() / 255, y, written_out=False)
    step = step_of(model)
    assert step is not None
    with in_place(step, unit=1 / 255) as now:
        losses = [now.step(x, lambda _: y, check_finite=True) for _ in range(3)]
    assert all(loss is not None for loss in losses)
    mine = [
        *(parameter.detach() for parameter in model.parameters()),
        torch.stack([loss for loss in losses if loss is not None]),
    ]
    for own, wanted in zip(mine, reference, strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(
    ("make", "shape"), [*MODELS, (lambda: models.conv((1, 8, 8), 1, channels=(4, 6, 5)), (1, 8, 8))]
)
def test_scores_are_those_of_the_model(
    make: Callable[[], nn.Sequential], shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    model = make().to(memory_format=memory_format)
    forward = quick_forward(model)
    assert forward is not None
    for rows in (1, 64, 1100, 64):
        x = torch.rand(rows, *shape)
        wanted = model(x).detach()
        outputs = forward(x, 1.0)
        assert outputs is not None
        torch.testing.assert_close(outputs, wanted, rtol=1e-4, atol=1e-5)
        outputs.requires_grad_()  # no inference tensor: a user may go on with it
        torch.testing.assert_close(forward(x * 255, 1 / 255), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64])
def test_inputs_of_another_dtype_than_the_weights_are_left_to_autograd(dtype: torch.dtype) -> None:
    step, x = step_of(uneven().double()), torch.ones(4, 2, 9, 11)
    assert step is not None
    assert step.step(x.double(), lambda _: torch.zeros(4, dtype=torch.int64), check_finite=True) is not None
    assert step.step(x.to(dtype), lambda _: torch.zeros(4, dtype=torch.int64), check_finite=True) is None


@pytest.mark.parametrize("x", [torch.rand(4, 3, 9, 11), torch.rand(0, 2, 9, 11), torch.rand(4, 2, 9, 11).double()])
def test_what_the_layers_do_not_take_is_not_scored(x: Tensor) -> None:
    forward = quick_forward(uneven())
    assert forward is not None
    assert forward(x, 1.0) is None


@pytest.mark.parametrize("leave", [None, KeyboardInterrupt])
def test_what_an_epoch_learns_on_a_copy_is_written_back_however_it_ends(leave: type[BaseException] | None) -> None:
    torch.manual_seed(0)
    model = uneven().double()
    reference, before = copy.deepcopy(model), [parameter.detach().clone() for parameter in model.parameters()]
    x, y = torch.randint(0, 256, (64, 2, 9, 11)).double(), torch.randint(3, (64,))
    on_copy, each_time = step_of(model), step_of(reference)
    assert on_copy is not None
    assert each_time is not None
    with contextlib.suppress(KeyboardInterrupt), in_place(on_copy, unit=1 / 255) as now:
        for _ in range(2):
            assert now.step(x, lambda outputs: y, check_finite=True) is not None
            assert each_time.step(x / 255, lambda outputs: y, check_finite=True) is not None
        assert all(map(torch.equal, before, model.parameters()))
        if leave is not None:
            raise leave
    for own, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-9, atol=1e-12)
    assert on_copy.step(x / 255, lambda outputs: y, check_finite=True) is not None
    assert each_time.step(x / 255, lambda outputs: y, check_finite=True) is not None
    for own, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-9, atol=1e-12)


def test_layers_that_share_weights_go_through_autograd() -> None:
    model = nn.Sequential(nn.Conv2d(3, 3, 2, stride=2), nn.ReLU(), nn.Conv2d(3, 3, 2, stride=2), nn.Flatten())
    assert step_of(model) is not None
    model[2].weight = model[0].weight
    assert step_of(model) is None


@pytest.mark.parametrize(
    "model",
    [
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten()),  # windows that overlap ninefold
        nn.Sequential(nn.Conv2d(1, 3, 3, stride=2, padding="valid"), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 3, 3, stride=2, dilation=2), nn.Flatten()),
        nn.Sequential(nn.Conv2d(2, 4, 3, stride=2, groups=2), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 3, 3, stride=2, padding=1, padding_mode="circular"), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.AvgPool2d(2), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.BatchNorm2d(3), nn.Flatten()),
        nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.ReLU(), nn.Linear(4, 3)),
        nn.Sequential(nn.Conv2d(1, 3, 3, stride=2), nn.Flatten(2)),
        nn.Sequential(nn.Conv2d(1, 3, 3, stride=2)),
    ],
)
def test_other_models_go_through_autograd(model: nn.Module) -> None:
    assert step_of(model) is None


def test_images_whose_windows_are_many_are_left_to_onednn() -> None:
    model = nn.Sequential(nn.Conv2d(1, 3, 2, stride=2), nn.Flatten())
    step, y = step_of(model), torch.zeros(4, dtype=torch.int64)
    assert step is not None
    assert step.step(torch.randn(4, 1, 88, 88), lambda outputs: y, check_finite=True) is not None
    assert step.step(torch.randn(4, 1, 92, 92), lambda outputs: y, check_finite=True) is None


@pytest.mark.parametrize("shape", [(3, 9, 11), (2, 9, 14), (2, 1, 11), (9, 11)])
def test_images_that_the_layers_do_not_take_are_left_to_torch(shape: tuple[int, ...]) -> None:
    step = step_of(uneven())
    assert step is not None
    y = torch.zeros(4, dtype=torch.int64)
    assert step.step(torch.randn(4, *shape), lambda outputs: y, check_finite=True) is None


def test_on_processors_where_it_was_not_measured_convolutions_are_left_to_torch(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert step_of(skipping()) is not None
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    assert step_of(skipping()) is None


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e36])
def test_numbers_near_the_end_of_float32_are_looked_at_before_the_update(broken: float) -> None:
    torch.manual_seed(0)
    model = uneven()
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = plain(model.parameters())
    step = write_out(model, F.cross_entropy, optimizer)
    assert step is not None
    x, y = torch.randn(4, 2, 9, 11), torch.tensor([0, 1, 2, 0])
    x[2, 0, 4, 4] = broken
    assert step.step(x, lambda outputs: y, check_finite=True) is None
    assert all(map(torch.equal, before, model.parameters()))
    objective, plan = Objective(heads.Head("classes", 3), F.cross_entropy), StepPlan(written_out=step)
    with pytest.raises(NotFinite):
        train_step(model, objective, optimizer, x * x, y, precision="float32", plan=plan)


def test_an_infinite_pixel_that_relu_hides_is_seen_before_the_update() -> None:
    model = with_a_weight_laid_out_by_columns()
    nn.init.constant_(model[0].weight, -1.0)
    before = [parameter.clone() for parameter in model.parameters()]
    step, y = step_of(model), torch.tensor([0, 1, 2, 0])
    assert step is not None
    x = torch.rand(4, 1, 7, 7)
    x[2, 0, 3, 3] = float("inf")
    assert torch.isfinite(model(x)).all()
    assert step.step(x, lambda outputs: y, check_finite=True) is None
    assert all(map(torch.equal, before, model.parameters()))


def test_empty_batches_and_targets_that_do_not_fit_are_left_to_torch() -> None:
    step = step_of(skipping())
    assert step is not None
    few = torch.zeros(3, dtype=torch.int64)
    assert step.step(torch.randn(0, 1, 7, 7), lambda outputs: few[:0], check_finite=True) is None
    assert step.step(torch.randn(4, 1, 7, 7), lambda outputs: few, check_finite=True) is None


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("written_out", ["linear", "convolutional"])
def test_what_autograd_must_judge_is_judged_with_what_was_learnt(
    written_out: str, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label to leave out is not the written-out step's; its neighbours go on from what autograd made of it.

    In a pass of inference mode, as an epoch is.
    """
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    torch.manual_seed(1)
    layers = [nn.Conv2d(1, 3, 2, stride=2), nn.ReLU()] if written_out == "convolutional" else []
    start = nn.Sequential(*layers, nn.Flatten(), nn.Linear(27 if layers else 36, 3)).double()
    x, classes = torch.randn(15, 1, 6, 6, dtype=torch.float64), torch.tensor([0, 2, 1, 2, 0] * 3)
    classes[7] = -100
    objective, found = Objective(heads.Head("classes", 3), F.cross_entropy), []
    for quick in (True, False):
        model = copy.deepcopy(start)
        optimizer = plain(model.parameters(), fused=fused)
        step = write_out(model, F.cross_entropy, optimizer)
        assert type(step) is (ConvolutionalStep if layers else LinearStep)
        batches = TensorBatches(x, classes, batch_size=5, device=torch.device("cpu"))
        plan = StepPlan(written_out=step if quick else None)
        with plan.quickest(batches, objective, again=False) as (now, taken):
            assert torch.is_inference_mode_enabled() == quick
            for inputs, labels in taken:
                train_step(model, objective, optimizer, inputs, labels, precision="float32", plan=now)
        found.append([parameter.detach() for parameter in model.parameters()])
    for own, reference in zip(*found, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-12)
