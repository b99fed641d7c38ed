"""Steps without autograd whose products are in bfloat16: they learn what autocast learns, on weights in float32."""

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from inkproof import ImageSet, Learner, models, schedules, stepper
from inkproof.batches import BYTE, Batches
from inkproof.optimizers import SGD
from inkproof.seeds import can_train_together
from inkproof.steps import forward
from inkproof.written_out import ConvolutionalStep, StepOnCopy, quick_forward, write_out

CPU = torch.device("cpu")
EPOCHS = 4
SHAPE = (1, 16, 16)
CONVOLUTIONS = partial(models.conv, SHAPE, 3, channels=(4, 16, 8))


def wide() -> nn.Sequential:
    """Its first two layers have enough weights to be rounded, its last has not."""
    sizes = (256, 256, 128, 3)
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def wide_without_bias() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(256, 200, bias=False), nn.ReLU(), nn.Linear(200, 3))


def not_worth_gathering() -> nn.Sequential:
    """Its windows are too many."""
    return nn.Sequential(
        nn.Conv2d(1, 140, 4, stride=2),
        nn.ReLU(),
        nn.Conv2d(140, 8, 4, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32, 3),
    )


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
    pixels = random.integers(0, 160, (count, *SHAPE))
    for label in range(3):
        pixels[labels == label, :, :, 4 * label : 4 * label + 4] += 90
    return ImageSet(pixels.astype(np.uint8), labels)


def mostly_blank(seed: int) -> ImageSet:
    """Whose ink the first layer of a net of linear layers takes, in float32."""
    data = images(seed)
    return ImageSet(np.where(data.pixels < 165, 0, np.uint8(255)), data.labels)


def learner(make: Any, given: Any = images, *, precision: Any = "bfloat16") -> Learner:
    sgd = partial(SGD, momentum=0.0)
    return Learner(make, given(0), given(1), optimizer=sgd, batch_size=64, seed=0, precision=precision, device="cpu")


def trained(
    make: Any, given: Any = images, *, epochs: int = EPOCHS, lr: float = 0.1, precision: Any = "bfloat16"
) -> Learner:
    one = learner(make, given, precision=precision)
    for _ in one.epochs(epochs, schedules.constant(lr)):
        pass
    return one


def loader(seed: int) -> DataLoader[Any]:
    generator = torch.Generator().manual_seed(seed)
    return DataLoader(tensors(seed), batch_size=64, shuffle=seed == 0, generator=generator)


def weights(one: Learner) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in one.model.parameters()])


def tensors(seed: int) -> TensorDataset:
    data = images(seed)
    assert data.labels is not None
    return TensorDataset(torch.from_numpy(data.pixels).float() / 255, torch.from_numpy(data.labels))


def learns_what_autocast_learns(make: Any, given: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A training of some epochs, beside the same with autograd alone; how far convolutions stray by chance is more."""
    within = 0.06 if make is CONVOLUTIONS else 0.015
    begun, own = weights(learner(make, given)), trained(make, given)
    monkeypatch.setattr(stepper, "write_out", lambda *args: None)
    reference = trained(make, given)
    learnt = weights(reference) - begun
    assert reference.history[-1].train_loss < 0.8
    assert (weights(own) - weights(reference)).norm() < within * learnt.norm()
    for row, wanted in zip(own.history, reference.history, strict=True):
        assert row.train_loss == pytest.approx(wanted.train_loss, rel=within)
        assert row.valid_loss == pytest.approx(wanted.valid_loss, rel=within)


@pytest.mark.parametrize("given", [images, mostly_blank, tensors])
@pytest.mark.parametrize(("make", "kind"), [(wide, StepOnCopy), (CONVOLUTIONS, ConvolutionalStep)])
def test_a_training_learns_what_it_learns_by_autocast(
    make: Any, kind: type, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, step = [], kind.step
    monkeypatch.setattr(kind, "step", lambda self, *args, **named: steps.append(1) or step(self, *args, **named))
    learns_what_autocast_learns(make, given, monkeypatch)
    assert len(steps) == EPOCHS * 5


@pytest.mark.parametrize(
    ("make", "given"),
    [(wide, loader), (CONVOLUTIONS, loader), (wide_without_bias, images), (not_worth_gathering, images)],
)
def test_what_is_not_computed_on_a_copy_learns_what_it_learns_by_autocast(
    make: Any, given: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    learns_what_autocast_learns(make, given, monkeypatch)


@pytest.mark.parametrize("kind", [StepOnCopy, ConvolutionalStep])
def test_a_pass_that_breaks_is_taken_again_by_autocast(kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kind, "step", lambda self, *args, **named: None)
    learns_what_autocast_learns(wide if kind is StepOnCopy else CONVOLUTIONS, images, monkeypatch)


@pytest.mark.parametrize("make", [wide, CONVOLUTIONS, wide_without_bias])
def test_a_users_autocast_changes_nothing(make: Any) -> None:
    own = trained(make)
    with torch.autocast("cpu", torch.bfloat16):
        inside = trained(make)
    assert torch.equal(weights(own), weights(inside))


def test_an_interrupted_pass_leaves_weights_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    one, step = learner(wide), StepOnCopy.step
    begun = weights(one)
    left = iter(range(3))

    def interrupted(self: StepOnCopy, *args: Any, **named: Any) -> Tensor | None:
        if next(left, None) is None:
            raise KeyboardInterrupt
        return step(self, *args, **named)

    monkeypatch.setattr(StepOnCopy, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(one.epochs(1, schedules.constant(0.1)))
    assert torch.equal(weights(one), begun)


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


@pytest.mark.parametrize("given", [images, loader])
def test_layers_of_few_weights_are_not_rounded(given: Any) -> None:
    exact, same = (trained(small, given, precision=precision) for precision in ("float32", "bfloat16"))
    assert torch.equal(weights(exact), weights(same))
    assert exact.history[-1].valid_loss == same.history[-1].valid_loss


@pytest.mark.parametrize("rows", [1, 7, 130])
@pytest.mark.parametrize("make", [wide, wide_without_bias, CONVOLUTIONS])
def test_outputs_are_those_of_autocast(make: Any, rows: int) -> None:
    torch.manual_seed(0)
    model, inputs = make(), torch.randint(0, 256, (rows, *SHAPE)).float()
    quick, exact = quick_forward(model, "bfloat16"), quick_forward(model, "float32")
    assert quick is not None
    assert exact is not None
    with torch.no_grad():
        outputs, wanted = quick(inputs, BYTE), forward(model, inputs * BYTE, "bfloat16")
        assert not torch.equal(outputs, exact(inputs, BYTE))
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


def test_seeds_are_trained_together_where_nothing_is_rounded() -> None:
    assert can_train_together([learner(wide, precision="float32") for _ in range(2)])
    assert can_train_together([learner(small) for _ in range(2)])
    assert not can_train_together([learner(wide) for _ in range(2)])


def test_bfloat16_holds_every_byte() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(1, *SHAPE)
    batches = Batches(ImageSet(pixels, np.zeros(1, np.int64)), batch_size=1, device=CPU)
    (inputs, _), *_ = batches.in_bytes(dtype=torch.bfloat16)
    assert inputs.dtype == torch.bfloat16
    assert inputs.flatten().tolist() == list(range(256))
