"""The step of one narrow hidden layer, on a copy of its weights that lies in memory as a processor's vectors hold it.

A product whose innermost dimension is no multiple of a vector's numbers, such as 30, ends each row with numbers one by
one. Here rows of a batch go by units, and the layer gets units besides its own, up to the next multiple. All that
belongs to them is zero: their weights, so their outputs, so their gradients, and so it stays. Forward, each thread
computes with rows of its own, which MKL gives to one thread else. The step of 784-30-10 takes 0.89 of the time that
`LinearStep` takes for batches of 256 that were just made from bytes, 0.95 for float32 rows that lie in memory (2 cores
of an Intel Xeon with AVX-512, November 2026).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkproof.runtime import one_thread, to_whole_vectors
from inkproof.written_out.chain import share_memory
from inkproof.written_out.linear import SMALL, LinearStep, ones, relu_backward_
from inkproof.written_out.losses import judge
from inkproof.written_out.one_layer import ROWS
from inkproof.written_out.overflow import is_far_from_overflow

_WIDEST = 64  # units: with more the innermost dimension matters less
_WASTE = 1.25  # times a layer's own units: beyond, the zeros take longer than is won


@dataclass(frozen=True)
class _Memory:
    """What a step computes in, and views of it and of weights, for all batches of a size.

    To make them anew for each batch takes a tenth of a step.

    Args:
        bias: of the hidden layer, for each part of the rows, one a thread.
        weight: of the hidden layer, likewise.
        parts: what the hidden layer gives for each part.
        hidden: the same numbers, row by row.
        hidden_columns: the same, unit by unit.
        outputs: units by rows, as losses take them.
        output_rows: the same numbers, row by row.
        of_hidden: the gradient for what the hidden layer gives.
        of_hidden_columns: the same, unit by unit.
        ones: as many as there are rows.
    """

    bias: Float[Tensor, "parts n units"]
    weight: Float[Tensor, "parts inputs units"]
    parts: Float[Tensor, "parts n units"]
    hidden: Float[Tensor, "rows units"]
    hidden_columns: Float[Tensor, "units rows"]
    outputs: Float[Tensor, "outputs rows"]
    output_rows: Float[Tensor, "rows outputs"]
    of_hidden: Float[Tensor, "rows units"]
    of_hidden_columns: Float[Tensor, "units rows"]
    ones: Float[Tensor, " rows"]


class OneHiddenStep:
    """One training step of a net with one hidden layer, on a copy of its weights.

    Its parameters have what was learnt after `write_back`, which must be called before anyone reads them.

    Args:
        plain: its step on the parameters themselves.
    """

    def __init__(self, plain: LinearStep):
        hidden, last = plain.layers
        self._plain = plain
        self._optimizer, self._loss_gradient = plain.optimizer, plain.loss_gradient
        inputs, own, units, outputs = hidden.in_features, hidden.out_features, _padded(hidden), last.out_features
        self._hidden_weight = hidden.weight.new_zeros(units, inputs)
        self._hidden_bias = hidden.weight.new_zeros(units)
        self._weight = hidden.weight.new_zeros(outputs, units)
        self._bias = hidden.weight.new_zeros(outputs)
        self._column = self._bias.unsqueeze(1)
        self._parameters = [part.detach() for part in (hidden.weight, hidden.bias, last.weight, last.bias)]
        self._copies = [
            self._hidden_weight[:own],
            self._hidden_bias[:own],
            self._weight[:, :own],
            self._bias,
        ]
        self._is_ahead = False  # the copy of the parameters
        self._memory: dict[tuple[int, int], _Memory] = {}  # by rows and parts; an epoch's batches are of two sizes
        self._given: Tensor | None = None  # the latest inputs: those of most batches lie in the same memory
        self._rows: tuple[Tensor, Tensor, _Memory]  # these, flat and in parts

    def write_back(self) -> None:
        """Give the parameters what was learnt; one call, all of it or, where Ctrl-C comes first, nothing."""
        if self._is_ahead:
            torch._foreach_copy_(self._parameters, self._copies)
            self._is_ahead = False

    def step(
        self, inputs: Float[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        """As `LinearStep.step`; where it gives None, the parameters have what was learnt until then."""
        if not self._is_ahead:
            torch._foreach_copy_(self._copies, self._parameters)
        loss = self._step(inputs, to_targets, check_finite=check_finite)
        if loss is None:
            self.write_back()
        else:
            self._is_ahead = True
        return loss

    def _step(
        self, inputs: Float[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        if inputs is not self._given and not self._take(inputs):
            return None
        flat, split, memory = self._rows
        unit, hidden = self._plain.unit, memory.hidden
        torch.baddbmm(memory.bias, split, memory.weight, alpha=unit, out=memory.parts)
        with one_thread():
            entering = [hidden.sum()] if check_finite and unit == 1 else []
            hidden.relu_()
            torch.addmm(self._column, self._weight, memory.hidden_columns, out=memory.outputs)
            judged = judge(self._loss_gradient, memory.outputs, to_targets(memory.output_rows))
            if judged is None:
                return None
            loss, gradient = judged
            torch.mm(gradient.T, self._weight, out=memory.of_hidden)
            of_hidden = relu_backward_(memory.of_hidden, hidden)
            if check_finite and not is_far_from_overflow(loss, gradient, of_hidden, *entering):
                return None
            rate = self._optimizer.param_groups[0]["lr"] / hidden.shape[0]  # for gradients that are n times theirs
            self._weight.addmm_(gradient, hidden, alpha=-rate)
            self._bias.addmv_(gradient, memory.ones, alpha=-rate)
            self._hidden_bias.addmv_(memory.of_hidden_columns, memory.ones, alpha=-rate)
        self._hidden_weight.addmm_(memory.of_hidden_columns, flat, alpha=-rate * unit)
        return loss

    def _take(self, inputs: Float[Tensor, "n ..."]) -> bool:
        """Find the memory for a batch and see its inputs as rows; False where they do not fit."""
        flat = self._plain.rows_of(inputs)
        if flat is None:
            return False
        rows, threads = flat.shape[0], torch.get_num_threads()
        parts = 1 if rows % threads or rows < threads * ROWS else threads
        if (rows, parts) not in self._memory:
            self._memory[rows, parts] = self._new_memory(rows, parts)
        split = flat.reshape(parts, rows // parts, -1)
        self._given = inputs if split.data_ptr() == inputs.data_ptr() else None  # a copy would not see them change
        self._rows = flat, split, self._memory[rows, parts]
        return True

    def _new_memory(self, rows: int, parts: int) -> _Memory:
        units, outputs = len(self._hidden_bias), self._bias.new_empty(len(self._bias), rows)
        hidden, of_hidden = (self._bias.new_empty(rows, units) for _ in range(2))
        return _Memory(
            bias=self._hidden_bias.expand(parts, rows // parts, -1),
            weight=self._hidden_weight.T.expand(parts, -1, -1),
            parts=hidden.view(parts, rows // parts, units),
            hidden=hidden,
            hidden_columns=hidden.T,
            outputs=outputs,
            output_rows=outputs.T,
            of_hidden=of_hidden,
            of_hidden_columns=of_hidden.T,
            ones=ones(rows, self._bias.dtype),
        )


def _padded(layer: nn.Linear) -> int:
    return to_whole_vectors(layer.out_features)


def is_one_narrow_hidden(layers: list[nn.Linear]) -> bool:
    """Whether there is one hidden layer, of few units that nearly fill their vectors, and both layers add a bias.

    Weights that share memory are not such a net.
    """
    if len(layers) != 2 or any(layer.bias is None for layer in layers):
        return False
    if share_memory(layers):
        return False
    units = layers[0].out_features
    return units <= _WIDEST and _padded(layers[0]) <= _WASTE * units and layers[1].weight.numel() <= SMALL
