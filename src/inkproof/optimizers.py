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


def is_plain_sgd(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step is `parameter -= lr * gradient` and nothing else, seen by nobody."""
    hooks = [*optimizer._optimizer_step_pre_hooks, *optimizer._optimizer_step_post_hooks]
    if type(optimizer) is not torch.optim.SGD or hooks or "step" in vars(optimizer):
        return False
    extras = ("momentum", "weight_decay", "maximize", "differentiable")
    return not any(group[name] for group in optimizer.param_groups for name in extras)


@torch.no_grad()
def take_step(optimizer: torch.optim.Optimizer) -> None:
    """`optimizer.step()`; where that is plain SGD, without its bookkeeping, a sixth of a small net's step."""
    if not is_plain_sgd(optimizer):
        optimizer.step()
        return
    for group in optimizer.param_groups:
        trained = [parameter for parameter in group["params"] if parameter.grad is not None]
        if trained:
            torch._foreach_add_(trained, [parameter.grad for parameter in trained], alpha=-group["lr"])


def set_step_values(optimizer: torch.optim.Optimizer, values: StepValues | float) -> None:
    """Set learning rate and, where the optimiser has one, momentum (Adam's first beta) for the next step."""
    lr, momentum = values if isinstance(values, tuple) else (values, None)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_ratio"]
        if momentum is not None and group.get("momentum"):
            group["momentum"] = momentum
        elif momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
