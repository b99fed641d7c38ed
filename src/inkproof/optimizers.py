"""Optimisers: made over a model's parameters, and set anew before every step."""

from collections.abc import Callable
from functools import partial

import torch
from torch import nn

from inkproof.schedules import StepValues

OptimizerFactory = Callable[..., torch.optim.Optimizer]
"""Makes an optimiser: called with the model's parameters and `lr=`; a class such as `torch.optim.Adam` is one."""

SGD = partial(torch.optim.SGD, momentum=0.9, fused=True)


def make_optimizer(factory: OptimizerFactory, model: nn.Module) -> torch.optim.Optimizer | None:
    """An optimiser over the parameters that can be trained; None where there are none.

    Groups that the factory makes with rates of their own keep the ratio to the others under any schedule.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        return None
    optimizer = factory(trainable, lr=1.0)  # a placeholder: every step sets its own rate
    for group in optimizer.param_groups:
        group["lr_ratio"] = group["lr"]
    return optimizer


def set_step_values(optimizer: torch.optim.Optimizer, values: StepValues | float) -> None:
    """Set learning rate and, where the optimiser has one, momentum (Adam's first beta) for the next step."""
    lr, momentum = values if isinstance(values, tuple) else (values, None)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_ratio"]
        if momentum is not None and group.get("momentum"):
            group["momentum"] = momentum
        elif momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
