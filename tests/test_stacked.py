"""Nets side by side: what they leave to torch, and by which library they multiply."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inkproof import models
from inkproof.stacked import StackedNets
from inkproof.written_out import LinearStep, are_far_from_overflow, write_out

CLASSES = torch.tensor([0, 2, 1, 2, 0])


def step_of(model: nn.Module) -> LinearStep:
    step = write_out(model, F.cross_entropy, torch.optim.SGD(model.parameters(), lr=0.3))
    assert isinstance(step, LinearStep)
    return step


def test_stacked_nets_leave_an_empty_batch_to_torch() -> None:
    step = step_of(models.linear((1, 2, 3), 3))
    assert StackedNets([step, step]).step(torch.randn(0, 6), CLASSES[:0], 0.3) is None


def test_the_numbers_of_stacked_nets_are_all_their_parameters() -> None:
    step = step_of(models.hidden((1, 2, 3), 3, units=4))
    numbers = StackedNets([step, step]).numbers
    assert sorted(each.shape for each in numbers) == [(2, 3), (2, 3, 4), (2, 4), (2, 4, 6)]


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_broke_is_found_after_more_steps(broken: float) -> None:
    step = step_of(models.hidden((1, 2, 3), 3, units=4))
    stacked = StackedNets([step, step])
    x = torch.randn(5, 6)
    stacked.step(x, CLASSES, 0.3)
    assert are_far_from_overflow(stacked.numbers)
    worse = x.clone()
    worse[2, 0] = broken
    for inputs in (worse, x, x):
        stacked.step(inputs, CLASSES, 0.3)
    assert not are_far_from_overflow(stacked.numbers)


@pytest.mark.parametrize(
    ("name", "vectors", "by_onednn"),
    [
        ("AMD EPYC", "AVX512", [True, True]),
        ("AMD EPYC", "AVX2", [True, False]),
        ("Intel Xeon", "AVX512", [False, False]),
    ],
)
def test_many_units_side_by_side_go_by_onednn_where_the_processor_is_not_intels_and_has_long_vectors(
    name: str, vectors: str, by_onednn: list[bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"cpu_name": name})
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: vectors)
    for units, wanted in zip((32, 33), by_onednn, strict=True):
        step = step_of(models.hidden((1, 2, 3), 3, units=units))
        assert StackedNets([step, step])._onednn is wanted


@pytest.mark.parametrize(
    ("model", "of_first"),
    [
        (models.hidden((1, 2, 3), 3, units=4), -torch.ones(4)),
        (models.linear((1, 2, 3), 3), torch.tensor([1.0, 0.5, -1.0])),
    ],
    ids=["hidden by ReLU", "of the right class"],
)
def test_an_infinite_input_that_reaches_neither_loss_nor_gradients_is_found_in_the_weights(
    model: nn.Sequential, of_first: Tensor
) -> None:
    with torch.no_grad():
        model[1].weight[:, 0] = of_first
    x, y = torch.randn(5, 6), torch.zeros(5, dtype=torch.int64)
    x[2, 0] = float("inf")
    step = step_of(model)
    stacked = StackedNets([step, step])
    stacked.step(x, y, 0.3)
    assert not are_far_from_overflow(stacked.numbers)
