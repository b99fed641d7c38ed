"""What is not finite is caught before the weights: at once on a processor, masked on a device."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inkproof.finite import DeviceGuard, keeps_weights
from inkproof.heads import Head
from inkproof.objective import Objective
from inkproof.steps import PLAIN, StepPlan, train_step

OPTIMIZERS = [
    partial(torch.optim.SGD, lr=0.1, momentum=0.9, fused=True),
    partial(torch.optim.SGD, lr=0.1, fused=True),
    partial(torch.optim.Adam, lr=0.1, fused=True),
    partial(torch.optim.SGD, lr=0.1),
]
GOOD, BAD = torch.ones(4, 3), torch.tensor([[1.0, 2.0, torch.inf]]).expand(4, 3)
LABELS = torch.tensor([0, 1, 1, 0])

OBJECTIVE = Objective(Head("classes", 2), F.cross_entropy)


def trained(make: Callable[..., Any], batches: list[Tensor], plan: StepPlan) -> tuple[nn.Module, list[float]]:
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    optimizer = make(model.parameters())
    losses = [
        train_step(
            model, OBJECTIVE, optimizer, batch, LABELS,
            precision="float32", plan=plan,
        )
        for batch in batches
    ]  # fmt: skip
    return model, [float(loss) for loss in losses]


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_guard_changes_nothing_where_all_is_finite(make: Callable[..., Any]) -> None:
    guarded, losses = trained(make, [GOOD, GOOD * 2], StepPlan(guard=DeviceGuard(torch.device("cpu"))))
    plain, expected = trained(make, [GOOD, GOOD * 2], PLAIN)
    assert losses == expected
    assert all(map(torch.equal, guarded.parameters(), plain.parameters()))


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_a_guard_masks_the_step_that_is_not_finite(make: Callable[..., Any]) -> None:
    guard = StepPlan(guard=DeviceGuard(torch.device("cpu")))
    model, losses = trained(make, [GOOD, GOOD * 2, BAD, GOOD], guard)
    assert [math.isnan(loss) for loss in losses] == [False, False, True, True], "NaN from the masked step on"
    assert all(torch.isfinite(parameter).all() for parameter in model.parameters())


@pytest.mark.parametrize("make", OPTIMIZERS[:3])
def test_a_fused_optimiser_leaves_the_weights_as_they_were_before_that_step(make: Callable[..., Any]) -> None:
    model, _ = trained(make, [GOOD, GOOD * 2, BAD, GOOD], StepPlan(guard=DeviceGuard(torch.device("cpu"))))
    before, _ = trained(make, [GOOD, GOOD * 2], PLAIN)
    assert all(map(torch.equal, model.parameters(), before.parameters()))


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_whether_weights_stay_is_known_beforehand(make: Callable[..., Any]) -> None:
    assert keeps_weights(make(nn.Linear(3, 2).parameters())) == ("fused" in make.keywords)


def test_large_gradients_are_finite() -> None:
    model = nn.Linear(3, 2)
    model(GOOD).sum().backward()
    assert model.weight.grad is not None
    model.weight.grad.fill_(1e25)  # whose square is not
    guard = DeviceGuard(torch.device("cpu"))
    assert guard.mask(torch.optim.SGD(model.parameters()), torch.tensor(1.0), list(model.parameters())) == 1.0


def test_nothing_of_a_guard_stays_with_the_optimiser() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    kept = set(vars(optimizer))
    guard = DeviceGuard(torch.device("cpu"))
    model(GOOD).sum().backward()
    guard.mask(optimizer, torch.tensor(torch.nan), list(model.parameters()))
    assert "found_inf" in vars(optimizer)
    guard.release(optimizer)
    assert set(vars(optimizer)) == kept
