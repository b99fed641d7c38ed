"""Optimisers: made over a model's parameters, and set anew before every step."""

import inspect
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from inkproof.schedules import StepValues

OptimizerFactory = Callable[..., torch.optim.Optimizer]
"""Makes an optimiser: called with the model's parameters and `lr=`; a class such as `torch.optim.Adam` is one."""

_DISABLED = "__dynamo_disable"  # where torch keeps a method without the compiler

SGD = partial(torch.optim.SGD, momentum=0.9, fused=True)


def make_optimizer(factory: OptimizerFactory, model: nn.Module) -> torch.optim.Optimizer | None:
    """An optimiser over the parameters that can be trained; None where there are none.

    Groups that the factory makes with rates of their own keep the ratio to the others under any schedule.
    """
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    if not trainable:
        return None
    _leave_compiler_alone()
    optimizer = factory(trainable, lr=1.0)  # a placeholder: every step sets its own rate
    for group in optimizer.param_groups:
        group["lr_ratio"] = group["lr"]
    return optimizer


def is_plain_sgd(optimizer: torch.optim.Optimizer) -> bool:
    """Whether a step is `parameter -= lr * gradient` and nothing else, seen by nobody."""
    if type(optimizer) is not torch.optim.SGD or _is_watched(optimizer):
        return False
    extras = ("momentum", "weight_decay", "maximize", "differentiable")
    return not any(group[name] for group in optimizer.param_groups for name in extras)


@torch.no_grad()
def take_step(optimizer: torch.optim.Optimizer) -> None:
    """`optimizer.step()`, without bookkeeping that nobody asked for: a sixth of a small net's step.

    Of torch's own optimisers the step itself is called, past the wrapper that looks for hooks, and the one that imports
    torch's compiler.
    """
    if is_plain_sgd(optimizer) and not hasattr(optimizer, "found_inf"):
        for group in optimizer.param_groups:
            trained = [parameter for parameter in group["params"] if parameter.grad is not None]
            if trained:
                torch._foreach_add_(trained, [parameter.grad for parameter in trained], alpha=-group["lr"])
        return
    own = type(optimizer).__module__.startswith("torch.optim.") and not optimizer.defaults.get("differentiable")
    if own and not _is_watched(optimizer):
        inspect.unwrap(type(optimizer).step)(optimizer)
    else:
        optimizer.step()


def _is_watched(optimizer: torch.optim.Optimizer) -> bool:
    """Whether anybody hooked into its steps, or replaced them, as schedulers do."""
    hooks = [
        *optimizer._optimizer_step_pre_hooks,
        *optimizer._optimizer_step_post_hooks,
        *_global_optimizer_pre_hooks,
        *_global_optimizer_post_hooks,
    ]
    return bool(hooks) or "step" in vars(optimizer)


def _leave_compiler_alone() -> None:
    """Let optimisers do their bookkeeping without importing torch's compiler, which takes 2 seconds.

    Their methods ask the compiler, at the first call, to be left out of compiled graphs. Until something else has
    imported it there are none. A torch that does this in another way is left as it is.
    """
    for name in ("state_dict", "load_state_dict", "zero_grad", "add_param_group"):
        method = getattr(torch.optim.Optimizer, name)
        function = getattr(method, "__wrapped__", None)
        if function is not None and not hasattr(function, _DISABLED):
            setattr(function, _DISABLED, partial(_without_compiler, method, function))


def _without_compiler(method: Callable[..., Any], function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    if "torch._dynamo" in sys.modules:  # now it is there: as torch would have done it
        delattr(function, _DISABLED)
        return method(*args, **kwargs)
    return function(*args, **kwargs)


def set_step_values(optimizer: torch.optim.Optimizer, values: StepValues | float) -> None:
    """Set learning rate and, where the optimiser has one, momentum (Adam's first beta) for the next step."""
    lr, momentum = values if isinstance(values, tuple) else (values, None)
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_ratio"]
        if momentum is not None and group.get("momentum"):
            group["momentum"] = momentum
        elif momentum is not None and "betas" in group:
            group["betas"] = (momentum, group["betas"][1])
