"""The step of linear layers on a copy of their weights, with the inputs' columns shared out among threads.

Each thread turns its columns of a batch into numbers and multiplies them with its columns of the first layer's weights,
forward and backward: what it reads and writes stays in its core's cache. One product of all columns is shared out in
another way each time, and what the other core has just read takes three times as long to be written, where the two
cores are far from each other. A pass over 784-30-10 takes 0.65 to 0.95 of the time for it, over 784-10 0.7 to 0.9 (2
cores of an AMD EPYC with AVX2, far and near by turns, November 2026).

Inputs that are blank in all rows may be left out: a product with zeros adds nothing, and the gradient for their weights
is zero. The first layer of a wide net for threes and sevens does without a fifth of its work.

Biases of upper layers are weights of an input that is always one, and no operations of their own. What a step computes
in is kept for the next.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from inkproof.written_out.chain import share_memory
from inkproof.written_out.linear import LinearStep, ones, relu_backward_, rows_of
from inkproof.written_out.losses import judge
from inkproof.written_out.rounding import MasterWeights, dtype_of_products

_COLUMNS = 128  # for each thread: with fewer its products take longer than adding them up is worth
_WIDE = 64  # units of the first layer: with fewer, a few epochs win less than a copy of the inputs takes


@dataclass(frozen=True)
class Columns:
    """Which inputs a batch's rows hold, and in how many parts they lie in memory.

    Args:
        width: of a row, all parts together.
        parts: as many as there are threads, or one.
        places: which of the layer's inputs come first in a row, where others were left out; behind them are zeros,
            and a last one that is always 1 / `unit`. None for all inputs, and nothing else.
        unit: what inputs are multiplied by.
    """

    width: int
    parts: int
    places: Int64[Tensor, " places"] | None = None
    unit: float = 1.0


@dataclass(frozen=True)
class _Layer:
    """A layer above the first, and memory for what is computed there with a batch.

    Args:
        weights: with the bias behind them.
        weight_columns: as products take them, without the bias, transposed.
        seen: what it sees, behind ReLU, over a row of ones.
        seen_rows: the same, row by row.
        below: the same without the ones.
        of_below: the gradient for that.
        outputs: what it gives.
        handed_on: the same in the dtype of the layer above, or of the loss; the same memory where that is its own.
    """

    weights: MasterWeights
    weight_columns: Float[Tensor, "units_below units"]
    seen: Float[Tensor, "inputs n"]
    seen_rows: Float[Tensor, "n inputs"]
    below: Float[Tensor, "units_below n"]
    of_below: Float[Tensor, "units_below n"]
    outputs: Float[Tensor, "units n"]
    handed_on: Float[Tensor, "units n"]


@dataclass(frozen=True)
class _Memory:
    """What a step computes in, for all batches of a size.

    Args:
        bias: of the first layer for the first part, zeros for the others.
        by_part: what the first layer gives for each part of the inputs.
        parts: these.
        lowest: their sum.
        handed_on: the same, as a layer's outputs are.
        layers: above the first.
        outputs: of the net.
        output_rows: the same, row by row.
    """

    bias: Float[Tensor, "parts units n"]
    by_part: Float[Tensor, "parts units n"]
    parts: Sequence[Float[Tensor, "units n"]]
    lowest: Float[Tensor, "units n"]
    handed_on: Float[Tensor, "units n"]
    layers: Sequence[_Layer]
    outputs: Float[Tensor, "outputs n"]
    output_rows: Float[Tensor, "n outputs"]


class SharedOutStep:
    """One training step of linear layers with ReLU between, such as `can_be_shared_out` is true of.

    Its parameters have what was learnt after `write_back`, which must be called before anyone reads them.

    Args:
        plain: its step on the parameters themselves.
        columns: of the batches that it will be given.
    """

    def __init__(self, plain: LinearStep, columns: Columns):
        first, *upper = plain.layers
        self._plain, self._columns = plain, columns
        self._weight = first.weight.detach()
        of_first, *of_upper = (dtype_of_products(layer, plain.precision) for layer in plain.layers)
        new = self._weight.new_zeros
        first_weights = new(columns.parts, first.out_features, columns.width // columns.parts)
        self._first = MasterWeights.rounded_to(of_first, first_weights)
        # Beside the first layer's products, its bias beside those of the first part.
        self._beside = new(columns.parts, first.out_features, 1, dtype=of_first)
        working = self._beside[0, :, 0]
        master = working.to(self._weight.dtype)
        self._bias = MasterWeights(master, None if master is working else working)
        self._upper = [
            MasterWeights.rounded_to(dtype, new(layer.out_features, layer.in_features + 1))
            for layer, dtype in zip(upper, of_upper, strict=True)
        ]
        lowest = self._bias.master if columns.places is None else self._first.master[-1, :, -1]
        matrices = [weights.master for weights in self._upper]
        self._copies = [lowest, *(matrix[:, -1] for matrix in matrices), *(matrix[:, :-1] for matrix in matrices)]
        self._parameters = [layer.bias.detach() for layer in plain.layers] + [layer.weight.detach() for layer in upper]
        if columns.places is None:
            self._copies.append(self._first.master)
            self._parameters.append(in_parts(self._weight, columns.parts))
        else:
            rows = self._weight.new_zeros(first.out_features, columns.width)
            rows[:, : len(columns.places)] = self._weight.index_select(1, columns.places)
            self._first.master.copy_(in_parts(rows, columns.parts))
        torch._foreach_copy_(self._copies, self._parameters)
        for weights in (self._first, self._bias, *self._upper):
            weights.round_again()
        self._memory: dict[int, _Memory] = {}  # by rows; an epoch's batches are of two sizes
        self._given: Tensor | None = None  # the latest inputs: those of most batches lie in the same memory
        self._taken: tuple[Tensor, Tensor, _Memory]  # these part by part, the same transposed, and where to compute

    def write_back(self) -> None:
        """Give the parameters what was learnt; whoever interrupts it must put them back to what they were."""
        torch._foreach_copy_(self._parameters, self._copies)
        if (places := self._columns.places) is not None:
            rows = self._first.master.transpose(0, 1).flatten(1)
            self._weight.index_copy_(1, places, rows[:, : len(places)])

    def step(
        self, inputs: Float[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        """As `LinearStep.step`, for a pass whose steps look at no numbers; None for data of another form.

        Args:
            inputs: (n, parts, columns), or as the layers take them.
            to_targets: as there.
            check_finite: false; numbers may be looked at when the pass ends.
        """
        assert not check_finite, "numbers may be looked at when the pass ends"
        if inputs is not self._given and not self._take(inputs):
            return None
        split, transposed, memory = self._taken
        rows, unit, has_bias = inputs.shape[0], self._columns.unit, self._columns.places is None
        beta = 1.0 if has_bias else 0.0
        torch.baddbmm(memory.bias, self._first.working, transposed, beta=beta, alpha=unit, out=memory.by_part)
        with self._plain.threads():
            total = memory.parts[0]
            for part in memory.parts[1:]:
                total = torch.add(total, part, out=memory.lowest)
            if memory.handed_on is not memory.lowest:
                memory.handed_on.copy_(memory.lowest)
            for layer in memory.layers:
                layer.below.relu_()
                torch.mm(layer.weights.working, layer.seen, out=layer.outputs)
                if layer.handed_on is not layer.outputs:
                    layer.handed_on.copy_(layer.outputs)
            judged = judge(self._plain.loss_gradient, memory.outputs, to_targets(memory.output_rows))
            if judged is None:
                return None
            loss, gradient = judged
            rate = self._plain.optimizer.param_groups[0]["lr"] / rows  # for gradients that are n times theirs
            for layer in reversed(memory.layers):
                gradient = gradient.to(layer.outputs.dtype)
                torch.mm(layer.weight_columns, gradient, out=layer.of_below)
                layer.weights.learn(gradient, layer.seen_rows, alpha=-rate)
                gradient = relu_backward_(layer.of_below, layer.below)
            gradient = gradient.to(split.dtype)
            if has_bias:
                self._bias.learn(gradient, ones(rows, gradient.dtype), alpha=-rate)
        self._first.learn(gradient.expand(len(split), -1, -1), split, alpha=-rate * unit)
        return loss

    def _take(self, inputs: Float[Tensor, "n ..."]) -> bool:
        """See inputs part by part, and find memory for their size; False where they do not fit."""
        parts, width, flattens = self._columns.parts, self._columns.width, self._plain.flatten
        lie_in_parts = flattens and inputs.shape[1:] == (parts, width // parts)
        flat = inputs if lie_in_parts else rows_of(inputs, width, flatten=flattens)
        dtype = self._first.working.dtype
        if flat is None or flat.dtype not in (dtype, self._weight.dtype):
            return False
        rows = inputs.shape[0]
        if rows not in self._memory:
            self._memory[rows] = self._new_memory(rows)
        memory = self._memory[rows]
        split = (inputs.transpose(0, 1) if lie_in_parts else in_parts(flat, parts)).to(dtype)
        self._given = inputs if split.data_ptr() == inputs.data_ptr() else None  # a copy would not see them change
        self._taken = split, split.mT, memory
        return True

    def _new_memory(self, rows: int) -> _Memory:
        parts, units, _ = self._first.master.shape
        layers: list[_Layer] = []
        outputs = handed_on = self._weight.new_empty(self._plain.layers[-1].out_features, rows)
        for weights in reversed(self._upper):  # a layer's outputs are what the next one sees
            matrix = weights.working
            seen, gives = matrix.new_ones(matrix.shape[1], rows), _in_dtype(handed_on, matrix.dtype)
            below, columns = seen[:-1], matrix[:, :-1].T
            layers.insert(0, _Layer(weights, columns, seen, seen.T, below, torch.empty_like(below), gives, handed_on))
            handed_on = below
        lowest = _in_dtype(handed_on, self._first.working.dtype)
        by_part = lowest[None] if parts == 1 else lowest.new_empty(parts, units, rows)
        return _Memory(
            bias=self._beside.expand(-1, -1, rows),
            by_part=by_part,
            parts=by_part.unbind(),
            lowest=lowest,
            handed_on=handed_on,
            layers=layers,
            outputs=outputs,
            output_rows=outputs.T,
        )


def _in_dtype(values: Float[Tensor, "..."], dtype: torch.dtype) -> Float[Tensor, "..."]:
    """The same memory where that is its dtype, else memory of its shape."""
    return values if values.dtype == dtype else torch.empty_like(values, dtype=dtype)


@contextmanager
def shared_out(step: LinearStep, columns: Columns) -> Iterator[SharedOutStep]:
    """The step on a copy, for a block in which nobody else reads or writes its parameters.

    They have what was learnt when the block ends, however it ends.
    """
    on_copy = SharedOutStep(step, columns)
    try:
        yield on_copy
    finally:
        on_copy.write_back()


def can_be_shared_out(step: LinearStep) -> bool:
    """Whether each layer adds a bias, numbers are float32, and no two layers' lie in the same memory."""
    known = all(layer.bias is not None and layer.weight.dtype == torch.float32 for layer in step.layers)
    return known and not share_memory(step.layers)


def gains_without_blanks(step: LinearStep, pixels: int) -> bool:
    """Whether a step takes images of so many pixels, with a first layer that is worth a copy, and layers above it."""
    first, *upper = step.layers
    takes = step.flatten and first.in_features == pixels
    return takes and first.out_features > _WIDE and len(upper) > 0


def parts_of(width: int, device: torch.device) -> int:
    """In how many parts rows of so many inputs are shared out: one a thread of the processor, or one in all."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return threads if width % threads == 0 and width >= threads * _COLUMNS else 1


def in_parts(rows: Shaped[Tensor, "n width"], parts: int) -> Shaped[Tensor, "parts n columns"]:
    """Rows with their columns shared out among parts, the first ones to the first; a view."""
    by_part: Tensor = rows.unflatten(1, (parts, -1))
    return by_part.transpose(0, 1)
