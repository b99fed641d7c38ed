"""Outputs without autograd equal the model's own, and come from the model itself where they might not."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from inkproof import models
from inkproof.steps import collect_outputs
from inkproof.written_out import products, quick_forward
from inkproof.written_out.products import product


def asked(model: nn.Module) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """The quick forward pass of a model, and the inputs for which the model itself was asked."""
    given: list[Tensor] = []

    def otherwise(inputs: Tensor) -> Tensor:
        given.append(inputs)
        outputs: Tensor = model(inputs)
        return outputs

    return quick_forward(model, otherwise), given


@pytest.fixture(params=["oneDNN", "torch"])
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "torch":
        monkeypatch.setattr(products, "_ONEDNN", None)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (30, 256, 784), (1000, 10, 784), (0, 3, 5), (3, 0, 5)])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_product_is_that_of_float64_to_the_rounding_of_float32(m: int, n: int, k: int, transposed: bool) -> None:
    torch.manual_seed(0)
    left, right = torch.randn(m, k), torch.randn(k, n).T if transposed else torch.randn(n, k)
    torch.testing.assert_close(product(left, right).double(), left.double() @ right.double().T, rtol=1e-4, atol=1e-4)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize(
    "model",
    [
        models.linear((1, 4, 4), 3),
        models.hidden((1, 4, 4), 3),
        nn.Sequential(
            nn.Flatten(), nn.Linear(16, 5, bias=False), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 1)
        ),
    ],
)
@torch.no_grad()
def test_outputs_of_linear_layers_are_those_of_the_model(model: nn.Module) -> None:
    images = torch.rand(7, 1, 4, 4)
    before = images.clone()
    forward, given = asked(model)
    torch.testing.assert_close(forward(images), model(images))
    assert not given
    assert torch.equal(images, before)


def hooked() -> nn.Module:
    model = models.hidden((1, 4, 4), 3)
    model.register_forward_hook(lambda module, inputs, outputs: outputs + 1)
    return model


@pytest.mark.parametrize(
    ("model", "images"),
    [
        (models.hidden((1, 4, 4), 3).double(), torch.rand(2, 1, 4, 4, dtype=torch.float64)),
        (models.conv((1, 8, 8), 3).eval(), torch.rand(2, 1, 8, 8)),
        (nn.Sequential(nn.Linear(4, 3), nn.Tanh()), torch.rand(2, 4)),
        (nn.Linear(4, 3), torch.rand(2, 5, 4)),
        (hooked(), torch.rand(2, 1, 4, 4)),
    ],
    ids=["float64", "convolutions", "another module", "three dimensions", "a hook"],
)
@torch.no_grad()
def test_the_model_itself_is_asked_for_all_else(model: nn.Module, images: Tensor) -> None:
    forward, given = asked(model)
    assert torch.equal(forward(images), model(images))
    assert given == [images]


def test_images_of_another_size_have_torchs_error() -> None:
    batches = [(torch.rand(2, 1, 5, 5), torch.zeros(2, dtype=torch.int64))]
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        collect_outputs(models.linear((1, 4, 4), 3), batches, precision="float32")
