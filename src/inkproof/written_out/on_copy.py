"""The step of linear layers on a copy of their weights, in memory that is kept from batch to batch.

Biases above the first layer are weights of an input that is always one, and no operations of their own.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from inkproof.written_out.chain import share_memory
from inkproof.written_out.first_layers import Between, FirstLayer
from inkproof.written_out.linear import LinearStep, relu_backward_
from inkproof.written_out.losses import judge
from inkproof.written_out.rounding import MasterWeights, dtype_of_products


@dataclass(frozen=True)
class _Layer:
    """A layer above the first, and memory for what is computed there with a batch.

    Args:
        weights: with the bias behind them.
        weight_columns: as products take them, without the bias, transposed.
        given: what the layer below gives.
        below: the same memory, or that of the same numbers rounded.
        seen_rows: what this layer sees, row by row.
        outputs: what it gives.
    """

    weights: MasterWeights
    weight_columns: Float[Tensor, "units_below units"]
    given: Float[Tensor, "units_below n"]
    below: Between
    seen_rows: Float[Tensor, "n inputs"]
    outputs: Float[Tensor, "units n"]


@dataclass(frozen=True)
class _Memory:
    """What a step computes in, for all batches of a size.

    Args:
        lowest: what the first layer gives.
        layers: above it.
        given: what the last layer gives.
        outputs: of the net; the same memory where the last layer's is not rounded.
        output_rows: the same, row by row.
    """

    lowest: Between
    layers: Sequence[_Layer]
    given: Float[Tensor, "outputs n"]
    outputs: Float[Tensor, "outputs n"]
    output_rows: Float[Tensor, "n outputs"]


class StepOnCopy:
    """One training step of linear layers with ReLU between, such as `can_be_copied` is true of.

    Its parameters have what was learnt after `write_back`, which must be called before anyone reads them.

    Args:
        plain: its step on the parameters themselves.
        first: its first layer on a copy.
    """

    def __init__(self, plain: LinearStep, first: FirstLayer):
        upper = plain.layers[1:]
        self._plain, self._first = plain, first
        new = plain.layers[0].weight.detach().new_empty
        self._upper = [
            MasterWeights.rounded_to(
                dtype_of_products(layer, plain.precision), new(layer.out_features, layer.in_features + 1)
            )
            for layer in upper
        ]
        matrices = [weights.master for weights in self._upper]
        self._copies = [*(matrix[:, -1] for matrix in matrices), *(matrix[:, :-1] for matrix in matrices)]
        self._parameters = [layer.bias.detach() for layer in upper] + [layer.weight.detach() for layer in upper]
        if upper:
            torch._foreach_copy_(self._copies, self._parameters)
        for weights in self._upper:
            weights.round_again()
        self._memory: dict[int, _Memory] = {}  # by rows; an epoch's batches are of two sizes

    def write_back(self) -> None:
        """Give the parameters what was learnt; whoever interrupts it must put them back to what they were."""
        self._first.write_back()
        if self._copies:
            torch._foreach_copy_(self._parameters, self._copies)

    def step(
        self, inputs: Tensor, to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        """As `LinearStep.step`, for a pass whose steps look at no numbers; None for data of another form.

        Args:
            inputs: of a batch, as the first layer takes them.
            to_targets: as there.
            check_finite: false; numbers may be looked at when the pass ends.
        """
        assert not check_finite, "numbers may be looked at when the pass ends"
        rows = inputs.shape[0]
        if rows not in self._memory:
            self._memory[rows] = self._new_memory(rows)
        memory = self._memory[rows]
        if not self._first.forward(inputs, memory.lowest):
            return None
        with self._plain.threads():
            for layer in memory.layers:
                if layer.below.values is not layer.given:
                    layer.below.values.copy_(layer.given)
                layer.below.whole.relu_()
                torch.mm(layer.weights.working, layer.below.seen, out=layer.outputs)
            if memory.outputs is not memory.given:
                memory.outputs.copy_(memory.given)
            judged = judge(self._plain.loss_gradient, memory.outputs, to_targets(memory.output_rows))
            if judged is None:
                return None
            loss, gradient = judged
            rate = self._plain.optimizer.param_groups[0]["lr"] / rows  # for gradients that are n times theirs
            for layer in reversed(memory.layers):
                gradient = gradient.to(layer.outputs.dtype)
                torch.mm(layer.weight_columns, gradient, out=layer.below.gradient)
                layer.weights.learn(gradient, layer.seen_rows, alpha=-rate)
                relu_backward_(layer.below.whole_gradient, layer.below.whole)
                gradient = layer.below.gradient
        self._first.learn(gradient, memory.lowest, rate=rate)
        return loss

    def _new_memory(self, rows: int) -> _Memory:
        lowest = above = self._first.new_memory(rows)
        layers: list[_Layer] = []
        for weights in self._upper:
            matrix, given = weights.working, above.values
            below = above if given.dtype == matrix.dtype else Between.new(len(given), rows, matrix)
            above = Between.new(len(matrix), rows, matrix)
            layers.append(_Layer(weights, matrix[:, :-1].T, given, below, below.seen.T, above.values))
        given, dtype = above.values, self._plain.layers[-1].weight.dtype
        outputs = given if given.dtype == dtype else torch.empty_like(given, dtype=dtype)
        return _Memory(lowest, layers, given, outputs, outputs.T)


@contextmanager
def on_copy(step: LinearStep, first: FirstLayer) -> Iterator[StepOnCopy]:
    """The step on a copy, for a block in which nobody else reads or writes its parameters.

    They have what was learnt when the block ends, however it ends.
    """
    copied = StepOnCopy(step, first)
    try:
        yield copied
    finally:
        copied.write_back()


def can_be_copied(step: LinearStep) -> bool:
    """Whether each layer adds a bias, numbers are float32, and no two layers' lie in the same memory."""
    known = all(layer.bias is not None and layer.weight.dtype == torch.float32 for layer in step.layers)
    return known and not share_memory(step.layers)
