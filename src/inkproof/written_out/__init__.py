"""Training steps with the gradients written out: for stacks of linear layers or small convolutions under plain SGD.

Nothing is recorded for autograd and the optimiser is not asked; the weights are updated in place. Models, losses and
optimisers of any other kind go through autograd.
"""

import re
from itertools import pairwise

import torch
from torch import nn

from inkproof.heads import Loss
from inkproof.hooks import has_hooks
from inkproof.optimizers import is_plain_sgd
from inkproof.written_out.convolutional import ConvolutionalStep
from inkproof.written_out.linear import LinearStep
from inkproof.written_out.losses import LossGradient, known_gradient
from inkproof.written_out.windows import Layer, is_worth_gathering

__all__ = ["ConvolutionalStep", "LinearStep", "LossGradient", "WrittenOut", "write_out"]

WrittenOut = LinearStep | ConvolutionalStep

_LETTERS = {nn.Linear: "l", nn.Conv2d: "c", nn.ReLU: "r", nn.Flatten: "f"}
_LINEAR = re.compile("f?l(rl)*")
_CONVOLUTIONAL = re.compile("c(rc)*(f|(rf|fr)l(rl)*)")


def write_out(model: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer) -> WrittenOut | None:
    """The written-out step of a model, where it has one: without hooks, all of it trained.

    Args:
        model: one linear layer, or an `nn.Sequential` of linear layers, convolutions, ReLU and flattening.
        loss: as a training calls it.
        optimizer: of the model's parameters.

    Returns:
        The step; None for all that autograd must compute.
    """
    parts = list(model) if type(model) is nn.Sequential else [model]
    order = "".join(_LETTERS.get(type(part), "?") for part in parts)
    layers = [part for part in parts if isinstance(part, nn.Linear | nn.Conv2d)]
    flattens = all((part.start_dim, part.end_dim) == (1, -1) for part in parts if isinstance(part, nn.Flatten))
    gradient = known_gradient(loss)
    if gradient is None or not flattens or not _are_simple(layers) or any(map(has_hooks, model.modules())):
        return None
    if not is_plain_sgd(optimizer) or not _trains_exactly(optimizer, layers):
        return None
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if _LINEAR.fullmatch(order) and all(a.out_features == b.in_features for a, b in pairwise(linear)):
        return LinearStep(linear, optimizer, gradient, flatten=order.startswith("f"))
    if _CONVOLUTIONAL.fullmatch(order) and is_worth_gathering(layers):
        return ConvolutionalStep(layers, optimizer, gradient)
    return None


def _are_simple(layers: list[Layer]) -> bool:
    """Whether each layer stands there once, and all its numbers are trained."""
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    known = all(
        parameter.dtype in (torch.float32, torch.float64) and parameter.requires_grad for parameter in parameters
    )
    return known and len(set(map(id, layers))) == len(layers)


def _trains_exactly(optimizer: torch.optim.Optimizer, layers: list[Layer]) -> bool:
    """Whether the optimiser has exactly the layers' parameters, at one learning rate."""
    parameters = {id(parameter) for layer in layers for parameter in layer.parameters()}
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    return parameters == trained and len({group["lr"] for group in optimizer.param_groups}) == 1
