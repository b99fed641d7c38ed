"""Outputs without autograd equal the model's own, and come from the model itself where they might not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from inkproof import models, steps
from inkproof.runtime import Precision
from inkproof.steps import collect_outputs
from inkproof.written_out import quick_forward


def asked(model: nn.Module) -> tuple[Callable[[Tensor], Tensor], list[Tensor]]:
    """The quick forward pass of a model, and the inputs for which the model itself was asked."""
    given: list[Tensor] = []

    quick = quick_forward(model)

    @torch.no_grad()
    def outputs_of(inputs: Tensor) -> Tensor:
        done = None if quick is None else quick(inputs, 1.0)
        if done is not None:
            return done
        given.append(inputs)
        outputs: Tensor = model(inputs)
        return outputs

    return outputs_of, given


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


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize(("rows", "parts"), [(128, 2), (129, 1), (126, 1)])
@pytest.mark.parametrize("model", [models.linear((1, 4, 4), 3), models.hidden((1, 4, 4), 3), THREE_LAYERS])
def test_rows_shared_out_among_threads_give_what_they_give_together(
    model: nn.Module, rows: int, parts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared, baddbmm = set(), torch.baddbmm

    def noted(beside: Tensor, weight: Tensor, *given: Tensor, **named: Any) -> Tensor:
        shared.add(len(weight))
        return baddbmm(beside, weight, *given, **named)

    monkeypatch.setattr(torch, "baddbmm", noted)
    forward, given = asked(model)
    images = torch.rand(rows, 16)
    torch.testing.assert_close(forward(images), model(images).detach())
    assert not given
    assert shared == {parts}


class OfAnotherType(Tensor):
    """As quantised weights are."""


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(2, 16, dtype=torch.float64),
        torch.rand(0, 16),
        torch.rand(2, 16).to_sparse(),
        torch.rand(2, 16).as_subclass(OfAnotherType),
        torch.rand(2, 16, device="meta"),
    ],
    ids=["float64", "empty", "sparse", "subclass", "another device"],
)
def test_images_that_are_no_plain_numbers_are_left_to_the_model(images: Tensor) -> None:
    quick = quick_forward(THREE_LAYERS)
    assert quick is not None
    assert quick(images, 1.0) is None


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


@pytest.mark.parametrize("quick", [True, False])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_scores_take_the_quick_way_where_there_is_one(
    precision: Precision, quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Tensor] = []
    asked: list[Precision] = []

    def noted(inputs: Tensor, unit: float) -> Tensor:
        given.append(inputs)
        return torch.full((2, 3), 7.0)

    monkeypatch.setattr(
        steps, "quick_forward", lambda model, precision: (asked.append(precision), noted if quick else None)[1]
    )
    batches = [(torch.rand(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64))]
    with torch.autocast("cpu", torch.bfloat16):
        outputs, _ = collect_outputs(models.linear((1, 4, 4), 3), batches, precision=precision)
    assert outputs.dtype == torch.float32
    assert asked == [precision]
    assert bool(given) == quick
    assert bool((outputs == 7).all()) == quick
