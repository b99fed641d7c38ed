"""Nets side by side: what they leave to torch, and in how many parts they take their inputs."""

import copy
from typing import Any

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
    assert sorted(each.shape for each in numbers) == [(1, 8, 1), (1, 8, 6), (2, 3), (2, 3, 4)]


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


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("make", [models.linear, models.hidden])
def test_nets_learn_the_same_from_inputs_in_parts_and_from_whole_ones(make: Any) -> None:
    """As their own steps do, to rounding."""
    nets = [make((1, 16, 16), 3) for _ in range(2)]
    whole, alone = copy.deepcopy(nets), copy.deepcopy(nets)
    stacked, same = (StackedNets([step_of(net) for net in each]) for each in (nets, whole))
    assert stacked.parts == 2
    for _ in range(3):
        x = torch.randn(5, 1, 16, 16)
        in_parts = x.view(5, 2, 128).transpose(0, 1).contiguous().transpose(0, 1)
        losses = stacked.step(in_parts, CLASSES, 0.3)
        torch.testing.assert_close(losses, same.step(x, CLASSES, 0.3))
        each = [step_of(net).step(x, lambda _: CLASSES, check_finite=False) for net in alone]
        assert losses is not None
        assert losses.tolist() == pytest.approx([float(loss) for loss in each if loss is not None], rel=1e-5)
    torch.testing.assert_close(stacked.outputs(in_parts), same.outputs(x))
    stacked.write_back()
    for own, wanted in zip(nets, alone, strict=True):
        torch.testing.assert_close(own.state_dict(), wanted.state_dict(), rtol=1e-4, atol=1e-5)


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
