"""Convolutions by compiled kernels: what they give and learn is what autograd gives and learns in double precision."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from test_written_out_convolutions import MODELS, plain
from torch import Tensor, nn

from inkproof import kernels, models
from inkproof.written_out import ConvolutionalStep, in_place, quick_forward, window_kernels, write_out
from inkproof.written_out.window_kernels import WindowKernels

pytestmark = pytest.mark.skipif(not kernels.are_there(), reason="no compiler made the kernels")

Make = Callable[[], nn.Sequential]


def three_channels() -> nn.Sequential:
    """Channels and units that fill no four."""
    return nn.Sequential(
        *(nn.Conv2d(3, 33, 3, stride=2), nn.ReLU(), nn.Conv2d(33, 6, 2, stride=2), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(24, 3)),
    )


NETS: list[tuple[Make, tuple[int, ...]]] = [
    *MODELS,
    (lambda: models.conv((1, 8, 8), 3, channels=(4, 18, 8)), (1, 8, 8)),  # of one vector of units, two, and three
    (three_channels, (3, 9, 9)),
]


@pytest.fixture(autouse=True)
def on_two_threads_with_avx2(monkeypatch: pytest.MonkeyPatch, two_threads: None) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


@pytest.fixture(autouse=True)
def taken(monkeypatch: pytest.MonkeyPatch) -> list[WindowKernels]:
    """Whose forward passes were taken."""
    every: list[WindowKernels] = []
    forward = WindowKernels.forward

    def noted(self: WindowKernels, *, unit: float, relu: bool) -> None:
        every.append(self)
        forward(self, unit=unit, relu=relu)

    monkeypatch.setattr(WindowKernels, "forward", noted)
    return every


def learnt(model: nn.Module, x: Tensor, y: Tensor) -> list[Tensor]:
    """Losses and weights of three steps by autograd, in double precision."""
    model, x = model.double(), x.double() / 255 if x.dtype == torch.uint8 else x.double()
    optimizer, losses = plain(model.parameters()), []
    for _ in range(3):
        optimizer.zero_grad()
        losses.append(F.cross_entropy(model(x), y))
        losses[-1].backward()
        optimizer.step()
    return [torch.stack(losses).detach(), *(parameter.detach() for parameter in model.parameters())]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rows", [16, 64, 128, 256])
@pytest.mark.parametrize("of_bytes", [True, False])
@pytest.mark.parametrize(("make", "shape"), NETS)
def test_three_steps_equal_those_of_autograd(
    make: Make,
    shape: tuple[int, ...],
    of_bytes: bool,
    rows: int,
    memory_format: torch.memory_format,
    taken: list[WindowKernels],
) -> None:
    torch.manual_seed(0)
    model, reference = make().to(memory_format=memory_format), make()
    reference.load_state_dict(model.state_dict())
    x = torch.randint(0, 256, (rows, *shape), dtype=torch.uint8) if of_bytes else torch.randn(rows, *shape)
    y = torch.randint(3, (rows,))
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, ConvolutionalStep)
    with torch.inference_mode(), in_place(step, unit=1 / 255 if of_bytes else 1.0) as now:
        losses = [now.step(x, lambda _: y, check_finite=True) for _ in range(3)]
    own = [torch.stack([loss for loss in losses if loss is not None]), *model.parameters()]
    assert taken, "by kernels, and not beside them"
    for one, wanted in zip(own, learnt(reference, x, y), strict=True):
        torch.testing.assert_close(one.detach().double(), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("make", "shape"), NETS)
def test_scores_are_those_of_the_model(make: Make, shape: tuple[int, ...], taken: list[WindowKernels]) -> None:
    model, x = make(), torch.randint(0, 256, (544, *shape), dtype=torch.uint8)
    forward = quick_forward(model)
    assert forward is not None
    with torch.no_grad():
        own = forward(x.float(), 1 / 255)
        assert own is not None
        torch.testing.assert_close(own, model(x / 255), rtol=1e-4, atol=1e-5)
    assert taken


@pytest.mark.parametrize("rows", [1, 15, 40, 65])
def test_parts_that_fill_no_vectors_are_computed_by_torch(rows: int, taken: list[WindowKernels]) -> None:
    model, x, y = NETS[0][0](), torch.randn(rows, *NETS[0][1]), torch.randint(3, (rows,))
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert step is not None
    assert step.step(x, lambda _: y, check_finite=True) is not None
    assert not taken


def test_without_kernels_torch_computes(taken: list[WindowKernels], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(window_kernels, "library", lambda: None)
    model, x, y = NETS[0][0](), torch.randn(64, *NETS[0][1]), torch.randint(3, (64,))
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert step is not None
    assert step.step(x, lambda _: y, check_finite=True) is not None
    assert not taken


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
@pytest.mark.parametrize("at", [0, 2])
def test_what_is_not_finite_is_seen_though_relu_follows(broken: float, at: int, taken: list[WindowKernels]) -> None:
    """A weight of the first convolution, or of the second; an update is not taken."""
    model, x, y = NETS[2][0](), torch.rand(64, *NETS[2][1]), torch.randint(3, (64,))
    with torch.no_grad():
        model[at].weight[0, 0, 1, 1] = broken
    before = [parameter.clone() for parameter in model.parameters()]
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert step is not None
    assert step.step(x, lambda _: y, check_finite=True) is None
    assert taken
    for own, wanted in zip(model.parameters(), before, strict=True):
        torch.testing.assert_close(own, wanted, rtol=0, atol=0, equal_nan=True)
