"""The step of one narrow hidden layer, whose weights lie in memory as a processor's vectors hold them.

A product whose innermost dimension is no multiple of a vector's numbers, such as 30, ends each row with numbers one by
one. Here rows of a batch go by units, and the layer gets units besides its own, up to the next multiple. All that
belongs to them is zero: their weights, so their outputs, so their gradients, and so it stays. The step of 784-30-10
takes 0.8 of the time that `LinearStep` takes for it (2 cores of an AMD EPYC with AVX2, November 2026).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkproof.runtime import one_thread
from inkproof.written_out.linear import SMALL, LinearStep, ones, relu_backward
from inkproof.written_out.overflow import is_far_from_overflow

_VECTOR = 16  # float32 numbers in the longest vectors there are
_WIDEST = 64  # units: with more the innermost dimension matters less
_WASTE = 1.25  # times a layer's own units: beyond, the zeros take longer than is won


class OneHiddenStep:
    """One training step of a net with one hidden layer, on memory that its parameters are views of until `restore`.

    Args:
        plain: its step on the parameters' own memory.
    """

    def __init__(self, plain: LinearStep):
        hidden, last = plain.layers
        self._optimizer, self._loss_gradient, self._flatten = plain.optimizer, plain.loss_gradient, plain.flatten
        units = _padded(hidden.out_features)
        self._own: list[tuple[Tensor, Tensor]] = []
        self._hidden_weight = self._move(hidden.weight, hidden.weight.new_zeros(hidden.in_features, units).T).T
        self._hidden_bias = self._move(hidden.bias, hidden.bias.new_zeros(units))
        self._weight = self._move(last.weight, last.weight.new_zeros(last.out_features, units))
        self._bias = last.bias.detach()
        self._column = self._bias.unsqueeze(1)
        self._inference = torch.inference_mode()  # one for all steps: to make one takes longer than to enter it

    def _move(self, parameter: Tensor, memory: Tensor) -> Tensor:
        """Make a parameter the first numbers of this memory along each dimension."""
        own = parameter.data
        self._own.append((parameter, own))
        parameter.data = memory[tuple(map(slice, own.shape))].copy_(own)
        return memory

    def restore(self) -> None:
        """Put each parameter back into the memory that it had, with the numbers that it has now."""
        for parameter, own in self._own:
            parameter.data = own.copy_(parameter.data)

    def step(
        self, inputs: Float[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        """As `LinearStep.step`."""
        flat = inputs.flatten(1) if self._flatten else inputs
        if flat.ndim != 2 or not flat.shape[0]:
            return None
        with self._inference:
            hidden = torch.addmm(self._hidden_bias, flat, self._hidden_weight)
            entering = hidden.sum() if check_finite else None
            with one_thread():
                hidden.relu_()
                outputs = torch.addmm(self._column, self._weight, hidden.T)  # units by rows, as losses take them
                targets = to_targets(outputs.T)
                try:
                    loss, gradient = self._loss_gradient(outputs, targets)
                except (RuntimeError, IndexError):  # targets that this loss cannot take, or marks of rows to leave out
                    return None  # autograd's to judge
                of_hidden = relu_backward(gradient.T @ self._weight, hidden, 0)
                if entering is not None and not is_far_from_overflow(entering, loss, (of_hidden, gradient)):
                    return None
                rows = flat.shape[0]
                rate = self._optimizer.param_groups[0]["lr"] / rows  # for gradients that are n times theirs
                of_rows = ones(rows, gradient.dtype)
                self._weight.addmm_(gradient, hidden, alpha=-rate)
                self._bias.addmv_(gradient, of_rows, alpha=-rate)
                self._hidden_bias.addmv_(of_hidden.T, of_rows, alpha=-rate)
            self._hidden_weight.addmm_(flat.T, of_hidden, alpha=-rate)
            return loss


def _padded(units: int) -> int:
    return -(-units // _VECTOR) * _VECTOR


def is_one_narrow_hidden(layers: list[nn.Linear]) -> bool:
    """Whether there is one hidden layer, of few units that nearly fill their vectors, and both layers add a bias."""
    if len(layers) != 2 or any(layer.bias is None for layer in layers):
        return False
    units = layers[0].out_features
    return units <= _WIDEST and _padded(units) <= _WASTE * units and layers[1].weight.numel() <= SMALL
