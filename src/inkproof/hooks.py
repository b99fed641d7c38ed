"""Hooks: whether anybody listens to a module or its parameters, so that no step of another form passes them by."""

from torch import nn

_OF_MODULES = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_OF_PARAMETERS = ("_backward_hooks", "_post_accumulate_grad_hooks")


def has_hooks(module: nn.Module) -> bool:
    """Whether a module, its own parameters, or all modules have hooks, or its forward was replaced."""
    everywhere = nn.modules.module._has_any_global_hook()
    own = any(getattr(module, kind) for kind in _OF_MODULES)
    # Not by `parameters()`, which takes three times as long for so few.
    parameters = module._parameters.values()
    listened = any(getattr(parameter, kind, None) for parameter in parameters for kind in _OF_PARAMETERS)
    return "forward" in vars(module) or everywhere or own or listened
