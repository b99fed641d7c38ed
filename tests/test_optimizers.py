"""Optimisers: a step past torch's wrappers is torch's step; hooks are met; the compiler is not imported for nothing."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from inkproof.optimizers import make_optimizer, take_step

MAKERS: list[Callable[..., torch.optim.Optimizer]] = [
    torch.optim.SGD,
    lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-3),
    lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, momentum=0.9, fused=True),
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.RMSprop,
]


def stepped(make: Any, step: Callable[[torch.optim.Optimizer], Any]) -> list[torch.Tensor]:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    optimizer = make_optimizer(make, model)
    assert optimizer is not None
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.ones(2, 5)).square().sum().backward()
        optimizer.param_groups[0]["lr"] = 0.01
        step(optimizer)
    return [parameter.detach() for parameter in model.parameters()]


@pytest.mark.parametrize("make", MAKERS)
def test_a_step_is_torch_s_step(make: Any) -> None:
    expected = stepped(make, lambda optimizer: optimizer.step())
    for one, other in zip(stepped(make, take_step), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("make", MAKERS[:3])
def test_hooks_and_schedulers_are_met(make: Any) -> None:
    seen = []

    def step(optimizer: torch.optim.Optimizer) -> None:
        handle = optimizer.register_step_post_hook(lambda *_: seen.append(1))
        take_step(optimizer)
        handle.remove()

    stepped(make, step)
    assert len(seen) == 3


def test_training_imports_no_compiler_and_lets_it_work_later() -> None:
    code = """
import sys, torch
from inkproof import Learner, models, open_images
train, valid = open_images("digits").split(valid=0.2)
learner = Learner(lambda: models.hidden(train.shape, 10, units=9), train, valid)
learner.fit(2, lr=0.05, verbose=False)
learner.state_dict()
print("torch._dynamo" in sys.modules)
import torch._dynamo
learner.fit(1, lr=0.05, verbose=False)
learner.load_state_dict(learner.state_dict())
learner.optimizer.zero_grad()
print(learner.history[-1].metrics["accuracy"] > 0.5)
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.split() == ["False", "True"]
