"""The step of several linear layers, in memory that is kept from batch to batch.

Those above the first are copied, weights and bias as one matrix: the bias is the weight of an input that is always one,
and takes no operations of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkproof.written_out.chain import share_memory
from inkproof.written_out.linear import LinearStep, ones, relu_backward_
from inkproof.written_out.losses import judge


@dataclass(frozen=True)
class _Layer:
    """A layer above the first, and memory for what is computed there with a batch.

    Args:
        matrix: weights, then the bias.
        weights: the same without the bias.
        seen: what it sees, behind ReLU, over a row of ones.
        below: the same without the ones: what the layer below gives.
        of_below: the gradient for that.
        outputs: what it gives: `below` of the next layer, of the last one the net's outputs.
    """

    matrix: Float[Tensor, "units inputs"]
    weights: Float[Tensor, "units units_below"]
    seen: Float[Tensor, "inputs n"]
    below: Float[Tensor, "units_below n"]
    of_below: Float[Tensor, "units_below n"]
    outputs: Float[Tensor, "units n"]


class DeepStep:
    """One training step of several linear layers, such as `is_deep` is true of.

    Parameters above the first layer have what was learnt after `write_back`, which must be called before anyone reads
    them.

    Args:
        plain: its step on the parameters themselves.
    """

    def __init__(self, plain: LinearStep):
        first, *upper = plain.layers
        self._plain = plain
        self._optimizer, self._loss_gradient = plain.optimizer, plain.loss_gradient
        self._weight = first.weight.detach()
        self._bias: Tensor | None = None if first.bias is None else first.bias.detach()
        self._column: Tensor | None = None if self._bias is None else self._bias.unsqueeze(1)
        self._matrices = [self._weight.new_empty(layer.out_features, layer.in_features + 1) for layer in upper]
        self._parameters = [part.detach() for layer in upper for part in (layer.weight, layer.bias)]
        self._copies = [part for matrix in self._matrices for part in (matrix[:, :-1], matrix[:, -1])]
        self._is_ahead = False  # the copy of the parameters
        self._memory: dict[int, list[_Layer]] = {}  # by rows; an epoch's batches are of two sizes
        self._inference = torch.inference_mode()  # one for all steps: to make one takes longer than to enter it

    def write_back(self) -> None:
        """Give the parameters what was learnt; one call, all of it or, where Ctrl-C comes first, nothing."""
        if self._is_ahead:
            torch._foreach_copy_(self._parameters, self._copies)
            self._is_ahead = False

    def step(
        self, inputs: Float[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        """As `LinearStep.step`; where it gives None, the parameters have what was learnt until then."""
        if check_finite:  # before any layer's update, which here come one after the other
            self.write_back()
            return self._plain.step(inputs, to_targets, check_finite=True)
        if not self._is_ahead:
            torch._foreach_copy_(self._copies, self._parameters)
        loss = self._step(inputs, to_targets)
        if loss is None:
            self.write_back()
        else:
            self._is_ahead = True
        return loss

    def _step(self, inputs: Float[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor]) -> Float[Tensor, ""] | None:
        flat = self._plain.rows_of(inputs)
        if flat is None:
            return None
        rows, unit = flat.shape[0], self._plain.unit
        if rows not in self._memory:
            self._memory[rows] = self._new_memory(rows)
        layers = self._memory[rows]
        lowest, outputs = layers[0].below, layers[-1].outputs
        with self._inference:
            if self._column is None:
                torch.addmm(lowest, self._weight, flat.T, beta=0, alpha=unit, out=lowest)
            else:
                torch.addmm(self._column, self._weight, flat.T, alpha=unit, out=lowest)
            with self._plain.threads():
                for layer in layers:
                    layer.below.relu_()
                    torch.mm(layer.matrix, layer.seen, out=layer.outputs)
                judged = judge(self._loss_gradient, outputs, to_targets(outputs.T))
                if judged is None:
                    return None
                loss, gradient = judged
                rate = self._optimizer.param_groups[0]["lr"] / rows  # for gradients that are n times theirs
                for layer in reversed(layers):  # while what it works on is in the caches
                    torch.mm(layer.weights.T, gradient, out=layer.of_below)
                    layer.matrix.addmm_(gradient, layer.seen.T, alpha=-rate)
                    gradient = relu_backward_(layer.of_below, layer.below)
                if self._bias is not None:
                    self._bias.addmv_(gradient, ones(rows, gradient.dtype), alpha=-rate)
            self._weight.addmm_(gradient, flat, alpha=-rate * unit)
            return loss

    def _new_memory(self, rows: int) -> list[_Layer]:
        layers: list[_Layer] = []
        outputs = self._weight.new_empty(len(self._matrices[-1]), rows)
        for matrix in reversed(self._matrices):  # a layer's outputs are what the next one sees
            seen = matrix.new_ones(matrix.shape[1], rows)
            below = seen[:-1]
            layers.insert(0, _Layer(matrix, matrix[:, :-1], seen, below, torch.empty_like(below), outputs))
            outputs = below
        return layers


def is_deep(layers: list[nn.Linear]) -> bool:
    """Whether there are several layers, those above the first with a bias, and no two of the same numbers."""
    return len(layers) > 1 and all(layer.bias is not None for layer in layers[1:]) and not share_memory(layers)
