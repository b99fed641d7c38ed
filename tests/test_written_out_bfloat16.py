"""Steps without autograd whose products are in bfloat16: they learn what autocast learns, on weights in float32."""

import copy
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from inkproof import ImageSet, Learner, models, schedules, stepper
from inkproof.batches import BYTE, Batches
from inkproof.optimizers import SGD
from inkproof.seeds import can_train_together
from inkproof.steps import forward
from inkproof.written_out import ConvolutionalStep, LinearStep, SharedOutStep, quick_forward, write_out

CPU = torch.device("cpu")
SHAPE = (1, 16, 16)
CONVOLUTIONS = partial(models.conv, SHAPE, 3, channels=(4, 16, 8))


def wide() -> nn.Sequential:
    """Its first two layers have enough weights to be rounded, its last two have not."""
    sizes = (256, 256, 128, 20, 3)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def small() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 30), nn.ReLU(), nn.Linear(30, 3))


@pytest.fixture(autouse=True)
def on_a_processor_that_multiplies_bfloat16(monkeypatch: pytest.MonkeyPatch, two_threads: None) -> None:
    """Others compute the same, and take longer."""
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: True)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


def images(seed: int, count: int = 300) -> ImageSet:
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = random.integers(0, 120, (count, *SHAPE))
    pixels[np.arange(count), 0, 4 * labels] = 255
    return ImageSet(pixels.astype(np.uint8), labels)


def learner(make: Any, given: Any = images, *, precision: Any = "bfloat16") -> Learner:
    sgd = partial(SGD, momentum=0.0)
    return Learner(make, given(0), given(1), optimizer=sgd, batch_size=64, seed=0, precision=precision, device="cpu")


def trained(
    make: Any, given: Any = images, *, epochs: int = 3, lr: float = 0.1, precision: Any = "bfloat16"
) -> Learner:
    one = learner(make, given, precision=precision)
    for _ in one.epochs(epochs, schedules.constant(lr)):
        pass
    return one


def weights(one: Learner) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in one.model.parameters()])


def tensors(seed: int) -> TensorDataset:
    data = images(seed)
    assert data.labels is not None
    return TensorDataset(torch.from_numpy(data.pixels).float() / 255, torch.from_numpy(data.labels))


@pytest.mark.parametrize("given", [images, tensors])
@pytest.mark.parametrize(("make", "kind"), [(wide, SharedOutStep), (CONVOLUTIONS, ConvolutionalStep)])
def test_a_training_learns_what_it_learns_by_autocast(
    make: Any, kind: type, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, step = [], kind.step
    monkeypatch.setattr(kind, "step", lambda self, *args, **named: steps.append(1) or step(self, *args, **named))
    begun, own = weights(learner(make, given)), trained(make, given)
    assert len(steps) == 3 * 5
    monkeypatch.setattr(stepper, "write_out", lambda *args: None)
    reference = trained(make, given)
    assert len(steps) == 3 * 5
    learnt = weights(reference) - begun
    assert (weights(own) - weights(reference)).norm() < 0.03 * learnt.norm()
    for row, wanted in zip(own.history, reference.history, strict=True):
        assert row.train_loss == pytest.approx(wanted.train_loss, rel=5e-3)
        assert row.valid_loss == pytest.approx(wanted.valid_loss, rel=5e-3)


@pytest.mark.parametrize("make", [wide, CONVOLUTIONS])
def test_products_are_rounded_and_weights_are_not(make: Any) -> None:
    exact, rounded = (trained(make, precision=precision) for precision in ("float32", "bfloat16"))
    assert exact.history[-1].train_loss != rounded.history[-1].train_loss
    assert all(parameter.dtype == torch.float32 for parameter in rounded.model.parameters())
    assert not torch.equal(weights(rounded), weights(rounded).bfloat16().float())


@pytest.mark.parametrize("make", [wide, CONVOLUTIONS])
def test_updates_too_small_for_bfloat16_add_up(make: Any) -> None:
    begun = weights(learner(make))
    moved = weights(trained(make, epochs=1, lr=1e-5)) - begun
    wanted = weights(trained(make, epochs=1, lr=1e-5, precision="float32")) - begun
    assert (moved - wanted).norm() < 0.1 * wanted.norm()


def test_layers_of_few_weights_are_not_rounded() -> None:
    exact, same = (trained(small, precision=precision) for precision in ("float32", "bfloat16"))
    assert torch.equal(weights(exact), weights(same))
    assert exact.history[-1].valid_loss == same.history[-1].valid_loss


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("make", [wide, CONVOLUTIONS])
def test_outputs_are_those_of_autocast(make: Any, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    model, inputs = make(), torch.randint(0, 256, (130, *SHAPE)).to(dtype)
    quick = quick_forward(model, "bfloat16")
    assert quick is not None
    with torch.no_grad():
        outputs, wanted = quick(inputs, BYTE), forward(model, inputs.float() * BYTE, "bfloat16")
    assert outputs is not None
    assert outputs.dtype == torch.float32
    torch.testing.assert_close(outputs, wanted, rtol=0.02, atol=0.02)


def test_a_processor_that_does_not_multiply_bfloat16_leaves_it_to_autocast(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    for model in (wide(), CONVOLUTIONS()):
        assert write_out(model, F.cross_entropy, SGD(model.parameters(), lr=0.1, momentum=0.0), "bfloat16") is None
        assert quick_forward(model, "bfloat16") is None
        assert quick_forward(model, "float32") is not None


@pytest.mark.parametrize("make", [wide, CONVOLUTIONS])
def test_float64_is_left_to_autocast(make: Any) -> None:
    model = make().double()
    sgd = SGD(model.parameters(), lr=0.1, momentum=0.0)
    assert write_out(model, F.cross_entropy, sgd, "float32") is not None
    assert write_out(model, F.cross_entropy, sgd, "bfloat16") is None
    assert quick_forward(model, "bfloat16") is None


def test_a_linear_step_that_is_not_shared_out_leaves_batches_to_autocast() -> None:
    model = wide()
    before = copy.deepcopy(model.state_dict())
    step = write_out(model, F.cross_entropy, SGD(model.parameters(), lr=0.1, momentum=0.0), "bfloat16")
    assert isinstance(step, LinearStep)
    assert step.step(torch.rand(8, *SHAPE), lambda _: torch.zeros(8, dtype=torch.int64), check_finite=True) is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_seeds_are_not_trained_together_in_bfloat16() -> None:
    assert can_train_together([learner(wide, precision="float32") for _ in range(2)])
    assert not can_train_together([learner(wide) for _ in range(2)])


def test_bfloat16_holds_every_byte() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, *SHAPE)
    batches = Batches(ImageSet(pixels, np.zeros(1, np.int64)), batch_size=1, device=CPU)
    (inputs, _), *_ = batches.in_bytes(dtype=torch.bfloat16)
    assert inputs.dtype == torch.bfloat16
    assert inputs.flatten().tolist() == list(range(256))
