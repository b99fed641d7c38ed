"""Training steps with the gradients written out, for models of a few kinds.

Of stacks of linear layers or small convolutions under plain SGD the whole step is: nothing is recorded for autograd and
the optimiser is not asked; the weights are updated in place. Of nets of blocks with batch normalisation loss and
gradients are, for any optimiser. Models and losses of other kinds go through autograd. Where nothing is learnt, stacks
have a quicker forward pass. In bfloat16 it is the products of stacks that are rounded, on processors that multiply it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn

from inkproof.heads import Loss
from inkproof.optimizers import is_plain_sgd
from inkproof.runtime import Precision
from inkproof.written_out.chain import chain_of, share_memory
from inkproof.written_out.convolutional import ConvolutionalStep
from inkproof.written_out.first_layers import Inked, SharedOut, in_parts, parts_of, takes_ink
from inkproof.written_out.forward import QuickForward, ink_forward, quick_forward
from inkproof.written_out.linear import LinearStep
from inkproof.written_out.losses import LossGradient, known_gradient
from inkproof.written_out.normalised import NormalisedNet, normalised_net
from inkproof.written_out.on_copy import StepOnCopy, can_be_copied, on_copy
from inkproof.written_out.overflow import are_far_from_overflow
from inkproof.written_out.rounding import dtype_of_products, precision_of
from inkproof.written_out.windows import Layer, is_worth_gathering

__all__ = [
    "ConvolutionalStep",
    "Inked",
    "LinearStep",
    "LossGradient",
    "NormalisedNet",
    "QuickForward",
    "SharedOut",
    "StepOnCopy",
    "WrittenOut",
    "are_far_from_overflow",
    "can_be_copied",
    "dtype_of_products",
    "in_parts",
    "in_place",
    "ink_forward",
    "normalised_net",
    "on_copy",
    "parts_of",
    "quick_forward",
    "takes_ink",
    "write_out",
]

WrittenOut = LinearStep | StepOnCopy | ConvolutionalStep


def write_out(
    model: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer, precision: Precision = "float32"
) -> LinearStep | ConvolutionalStep | None:
    """The written-out step of a model, where it has one: without hooks, all of it trained.

    Args:
        model: one linear layer, or an `nn.Sequential` of linear layers, convolutions, ReLU and flattening.
        loss: as a training calls it.
        optimizer: of the model's parameters.
        precision: of the model's computation.

    Returns:
        The step; None for all that autograd must compute.
    """
    chain, gradient = chain_of(model), known_gradient(loss)
    if chain is None or gradient is None or not _are_simple(chain.layers):
        return None
    if not is_plain_sgd(optimizer) or not _trains_exactly(optimizer, chain.layers):
        return None
    taken = precision_of(chain, precision)
    if taken is None:
        return None
    if chain.linear is not None:
        step = LinearStep(chain.linear, optimizer, gradient, flatten=chain.flattens_first, precision=taken)
        return step if taken == "float32" or can_be_copied(step) else None
    if chain.is_convolutional and is_worth_gathering(chain.layers) and not share_memory(chain.layers):
        return ConvolutionalStep(chain.layers, optimizer, gradient, taken)
    return None


@contextmanager
def in_place(step: LinearStep | ConvolutionalStep, *, unit: float = 1.0) -> Iterator[LinearStep | ConvolutionalStep]:
    """The step for a block in which nobody else reads or writes its layers' parameters.

    They have what was learnt when the block ends, however it ends, and whenever the step leaves a batch to autograd.

    Args:
        step: of the layers.
        unit: what inputs are multiplied by, within the products that take them; other than 1 for bytes alone.
    """
    if isinstance(step, ConvolutionalStep):
        with step.on_copy(unit):
            yield step
    elif unit == step.unit:
        yield step
    else:
        yield LinearStep(step.layers, step.optimizer, step.loss_gradient, flatten=step.flatten, unit=unit)


def _are_simple(layers: Sequence[Layer]) -> bool:
    """Whether each layer stands there once, and all its numbers are trained."""
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    known = all(
        parameter.dtype in (torch.float32, torch.float64) and parameter.requires_grad for parameter in parameters
    )
    return known and len(set(map(id, layers))) == len(layers)


def _trains_exactly(optimizer: torch.optim.Optimizer, layers: Sequence[Layer]) -> bool:
    """Whether the optimiser has exactly the layers' parameters, at one learning rate now and by any schedule."""
    parameters = {id(parameter) for layer in layers for parameter in layer.parameters()}
    trained = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    rates = {(group["lr"], group.get("lr_ratio")) for group in optimizer.param_groups}
    return parameters == trained and len(rates) == 1
