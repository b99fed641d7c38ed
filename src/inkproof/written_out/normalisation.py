"""Batch normalisation and the activation behind it, by the kernels that their modules call."""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from inkproof.written_out.blocks import Block
from inkproof.written_out.linear import relu_backward_

_batch_norm_backward = torch.ops.aten.native_batch_norm_backward
_silu_backward = torch.ops.aten.silu_backward.grad_input

_TAKEN = "`blocks_of` takes no other"


class Normalisation:
    """The second half of a block.

    Args:
        block: its parts.
    """

    def __init__(self, block: Block):
        self._norm = block.norm
        self._is_silu = isinstance(block.activation, nn.SiLU)

    def forward(self, values: Float[Tensor, "n channels ..."]) -> Float[Tensor, "n channels ..."]:
        """Outputs for a batch; running statistics move where they do in training."""
        norm = self._norm
        assert norm.num_batches_tracked is not None, _TAKEN
        assert norm.momentum is not None, _TAKEN
        if norm.training:
            norm.num_batches_tracked.add_(1)
        self._entered = values
        self._normalised, self._mean, self._scale = torch.native_batch_norm(
            values, norm.weight, norm.bias, norm.running_mean, norm.running_var, norm.training, norm.momentum, norm.eps
        )
        return F.silu(self._normalised) if self._is_silu else self._normalised.relu_()

    def backward(self, gradient: Float[Tensor, "n channels ..."]) -> Float[Tensor, "n channels ..."]:
        """The gradient for what entered, in the place of that for the outputs; the parameters' in their `grad`."""
        norm = self._norm
        if self._is_silu:
            _silu_backward(gradient, self._normalised, grad_input=gradient)
        else:
            relu_backward_(gradient, self._normalised)
        of_values: Tensor
        of_values, norm.weight.grad, norm.bias.grad = _batch_norm_backward(
            gradient,
            self._entered,
            norm.weight,
            norm.running_mean,
            norm.running_var,
            self._mean,
            self._scale,
            norm.training,
            norm.eps,
            [True, True, True],
        )
        return of_values

    def activate(self, values: Float[Tensor, "n channels ..."]) -> Float[Tensor, "n channels ..."]:
        """The activation alone, in place."""
        return F.silu(values, inplace=True) if self._is_silu else values.relu_()


def take_gradient(parameter: Tensor, gradient: Tensor) -> None:
    """Let a parameter have a gradient that lies in memory as it does: torch's fused optimisers look no further."""
    fits = gradient.stride() == parameter.stride()
    parameter.grad = gradient if fits else torch.empty_like(parameter).copy_(gradient)


def with_norm(block: Block) -> tuple[Float[Tensor, "outputs inputs rows columns"], Float[Tensor, " outputs"]]:
    """Kernels and offsets of a convolution that normalises too, by statistics that no longer move."""
    norm = block.norm
    assert norm.running_mean is not None, _TAKEN
    assert norm.running_var is not None, _TAKEN
    factor = norm.weight * (norm.running_var + norm.eps).rsqrt()
    return block.convolution.weight * factor.view(-1, 1, 1, 1), norm.bias - norm.running_mean * factor
