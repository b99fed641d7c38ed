"""Outputs without autograd equal the model's own, and come from the model itself where they might not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from inkproof import models
from inkproof.runtime import Precision
from inkproof.steps import collect_outputs
from inkproof.written_out import forward as forward_passes
from inkproof.written_out import products, quick_forward
from inkproof.written_out.products import by_onednn, product

needs_onednn = pytest.mark.skipif(products._ONEDNN is None, reason="this torch has no oneDNN to compare with")


def asked(model: nn.Module) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """The quick forward pass of a model, and the inputs for which the model itself was asked."""
    given: list[Tensor] = []

    quick = quick_forward(model)

    def outputs_of(inputs: Tensor) -> Tensor:
        done = None if quick is None else quick(inputs, 1.0)
        if done is not None:
            return done
        given.append(inputs)
        outputs: Tensor = model(inputs)
        return outputs

    return outputs_of, given


@needs_onednn
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (30, 256, 784), (1000, 10, 784)])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_is_that_of_float64_to_the_rounding_of_float32(m: int, n: int, k: int, transposed: bool) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(m, k), torch.randn(k, n).T if transposed else torch.randn(n, k)
    assert by_onednn(left, right)
    torch.testing.assert_close(product(left, right).double(), left.double() @ right.double().T, rtol=1e-4, atol=1e-4)


class OfAnotherType(Tensor):
    """As quantised weights are."""


@pytest.mark.parametrize(
    "value",
    [
        torch.rand(2, 3, dtype=torch.float64),
        torch.rand(2, 0),
        torch.rand(2, 3).to_sparse(),
        torch.rand(2, 3).as_subclass(OfAnotherType),
        torch.rand(2, 3, device="meta"),
    ],
    ids=["float64", "empty", "sparse", "subclass", "another device"],
)
def test_onednn_is_given_plain_numbers_alone(value: Tensor) -> None:
    assert not by_onednn(torch.rand(2, 3), value)


@pytest.mark.filterwarnings("ignore:TF32 acceleration")  # torch says so where there is no GPU of Intel's
def test_onednn_is_left_alone_where_it_is_switched_off() -> None:
    with torch.backends.mkldnn.flags(enabled=False):
        assert not by_onednn(torch.rand(2, 3))


THREE_LAYERS = nn.Sequential(nn.Linear(16, 5, bias=False), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1))
LINEAR_MODELS = [
    (models.linear((1, 4, 4), 3), torch.rand(7, 1, 4, 4)),
    (models.hidden((1, 4, 4), 3), torch.rand(7, 1, 4, 4)),
    (THREE_LAYERS, torch.rand(7, 16)),
]


@pytest.mark.parametrize(("model", "images"), LINEAR_MODELS)
def test_outputs_of_linear_layers_are_those_of_the_model(model: nn.Module, images: Tensor) -> None:
    before = images.clone()
    forward, given = asked(model)
    outputs = forward(images)
    torch.testing.assert_close(outputs, model(images).detach())
    assert not given
    assert not outputs.requires_grad
    assert torch.equal(images, before)


@pytest.mark.parametrize(("model", "images"), LINEAR_MODELS)
def test_inputs_in_another_unit_are_scaled_within_the_product(model: nn.Module, images: Tensor) -> None:
    quick = quick_forward(model)
    assert quick is not None
    torch.testing.assert_close(quick(images * 255, 1 / 255), model(images).detach())


@pytest.mark.parametrize(("model", "images"), LINEAR_MODELS)
def test_torch_multiplies_where_it_has_no_onednn(
    model: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_ONEDNN", None)
    forward, given = asked(model)
    torch.testing.assert_close(forward(images), model(images).detach())
    assert not given


@needs_onednn
@pytest.mark.parametrize(
    ("name", "units", "vectors", "by_onednn"),
    [
        ("AMD EPYC", 64, "AVX2", True),
        ("AMD EPYC", 65, "AVX2", False),
        ("AMD EPYC", 65, "AVX512", True),
        ("Intel Xeon", 64, "AVX512", False),
    ],
)
def test_many_units_go_by_onednn_where_the_processor_is_not_intels_and_has_long_vectors(
    name: str, units: int, vectors: str, by_onednn: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def counting(left: Tensor, right: Tensor) -> Tensor:
        counted.append(len(right))
        return product(left, right)

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name})
    monkeypatch.setattr(forward_passes, "product", counting)
    model, images = models.hidden((1, 4, 4), 3, units=units), torch.rand(2, 1, 4, 4)
    forward, given = asked(model)
    torch.testing.assert_close(forward(images), model(images).detach())
    assert not given
    assert (units in counted) is by_onednn


def hooked() -> nn.Module:
    model = models.hidden((1, 4, 4), 3)
    model.register_forward_hook(lambda module, inputs, outputs: outputs + 1)
    return model


@pytest.mark.parametrize(
    ("model", "images"),
    [
        (models.hidden((1, 4, 4), 3).double(), torch.rand(2, 1, 4, 4, dtype=torch.float64)),
        (nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Flatten()), torch.rand(2, 1, 8, 8)),
        (nn.Sequential(nn.Linear(4, 3), nn.Tanh()), torch.rand(2, 4)),
        (nn.Linear(4, 3), torch.rand(2, 5, 4)),
        (hooked(), torch.rand(2, 1, 4, 4)),
        (nn.Sequential(parametrizations.weight_norm(nn.Linear(4, 3))), torch.rand(2, 4)),
    ],
    ids=["float64", "convolutions", "another module", "three dimensions", "a hook", "a parametrised weight"],
)
def test_the_model_itself_is_asked_for_all_else(model: nn.Module, images: Tensor) -> None:
    forward, given = asked(model)
    assert torch.equal(forward(images), model(images))
    assert given == [images]


def test_a_bias_of_another_type_has_torchs_error() -> None:
    model = nn.Linear(4, 3)
    model.bias = nn.Parameter(torch.zeros(3, dtype=torch.float64))
    with pytest.raises(RuntimeError, match="dtype"):
        collect_outputs(model, [(torch.rand(2, 4), torch.zeros(2, dtype=torch.int64))], precision="float32")


def test_images_of_another_size_have_torchs_error() -> None:
    batches = [(torch.rand(2, 1, 5, 5), torch.zeros(2, dtype=torch.int64))]
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        collect_outputs(models.linear((1, 4, 4), 3), batches, precision="float32")


@needs_onednn
@pytest.mark.parametrize(("precision", "quick"), [("float32", True), ("bfloat16", False)])
def test_scores_take_the_quick_way_in_float32_alone(
    precision: Precision, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Tensor] = []

    def counting(left: Tensor, right: Tensor) -> Tensor:
        counted.append(left)
        return product(left, right)

    monkeypatch.setattr(forward_passes, "product", counting)
    monkeypatch.setattr(forward_passes, "is_sooner", lambda units: True)
    batches = [(torch.rand(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))]
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = collect_outputs(models.linear((1, 4, 4), 3), batches, precision=precision)
    assert outputs.dtype == torch.float32
    assert bool(counted) == quick
