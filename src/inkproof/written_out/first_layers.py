"""A net's first layer on a copy of its weights: all of its inputs, shared out among threads, or images' ink alone.

Of a net for small images it is most of the arithmetic, and what it takes is bytes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from inkproof.ink import Ink, InkLayer
from inkproof.written_out.linear import LinearStep, ones, rows_of
from inkproof.written_out.rounding import MasterWeights, dtype_of_products

_COLUMNS = 128  # for each thread: with fewer its products take longer than adding them up is worth


@dataclass(frozen=True)
class Between:
    """Memory between two layers, of a batch.

    Args:
        seen: what the upper one sees, over a row of ones.
        values: what the lower one gives; the same without the ones.
        gradient: for these.
        whole, whole_gradient: the memory of both, as operations number by number pass it soonest.
    """

    seen: Float[Tensor, "inputs n"]
    values: Float[Tensor, "units n"]
    gradient: Float[Tensor, "units n"]
    whole: Float[Tensor, "..."]
    whole_gradient: Float[Tensor, "..."]

    @classmethod
    def new(cls, units: int, rows: int, like: Tensor) -> "Between":
        """Memory for so many units, in the dtype of a tensor."""
        seen, gradient = like.new_ones(units + 1, rows), like.new_empty(units, rows)
        return cls(seen, seen[:-1], gradient, seen[:-1], gradient)


class FirstLayer(ABC):
    """What `StepOnCopy` begins with. Its copy is the parameters' after `write_back`, and nobody's before."""

    @abstractmethod
    def new_memory(self, rows: int) -> Between:
        """Memory for batches of so many rows, asked for once each."""

    @abstractmethod
    def forward(self, inputs: Tensor, above: Between) -> bool:
        """Put what it gives for a batch into memory for as many rows; False for inputs that it does not take."""

    @abstractmethod
    def learn(self, gradient: Float[Tensor, "units n"], above: Between, *, rate: float) -> None:
        """Take a step against a gradient for the latest batch, summed over its rows."""

    @abstractmethod
    def write_back(self) -> None:
        """Give the parameters what was learnt."""


class Inked(FirstLayer):
    """A first layer on images' ink.

    Args:
        plain: the net's step on the parameters themselves.
        ink: of the images; batches name them by their rows.
        unit: what a pixel's byte is multiplied by.
    """

    def __init__(self, plain: LinearStep, ink: Ink, *, unit: float):
        self._parameters = [each.detach() for each in plain.layers[0].parameters()]
        weight, bias = self._parameters
        self._layer, self._ink = InkLayer(weight, bias, unit=unit), ink
        self._rows: Int64[Tensor, " n"]

    def new_memory(self, rows: int) -> Between:
        """As `FirstLayer` has it: units side by side, an image a row."""
        outputs, gradient = self._layer.new_outputs(rows), self._layer.new_gradient(rows)
        units = self._layer.units
        return Between(outputs.T[: units + 1], outputs.T[:units], gradient.T[:units], outputs, gradient)

    def forward(self, inputs: Int64[Tensor, " n"], above: Between) -> bool:
        """As `FirstLayer` has it."""
        self._rows = inputs
        self._layer.forward(self._ink, inputs, above.whole)
        return True

    def learn(self, gradient: Float[Tensor, "units n"], above: Between, *, rate: float) -> None:
        """As `FirstLayer` has it."""
        if gradient is not above.gradient:
            above.gradient.copy_(gradient)
        self._layer.learn(self._ink, self._rows, above.whole_gradient, rate=rate)

    def write_back(self) -> None:
        """As `FirstLayer` has it."""
        torch._foreach_copy_(self._parameters, [self._layer.weight, self._layer.bias])


class SharedOut(FirstLayer):
    """A first layer whose inputs' columns are shared out among threads.

    Each thread turns its columns of a batch into numbers and multiplies them with its columns of the weights, forward
    and backward: what it reads and writes stays in its core's cache. One product of all columns is shared out in
    another way each time, and what the other core has just read takes three times as long to be written, where the two
    cores are far from each other. A pass over 784-30-10 takes 0.65 to 0.95 of the time for it, over 784-10 0.7 to 0.9
    (2 cores of an AMD EPYC with AVX2, far and near by turns, November 2026).

    Args:
        plain: the net's step on the parameters themselves.
        parts: in which the columns lie in memory.
        unit: what inputs are multiplied by.
    """

    def __init__(self, plain: LinearStep, parts: int, *, unit: float):
        layer = plain.layers[0]
        self._plain, self._parts, self._unit, self._width = plain, parts, unit, layer.in_features
        self.dtype = dtype_of_products(layer, plain.precision)
        weight, bias = layer.weight.detach(), layer.bias.detach()
        by_part = weight.new_empty(parts, layer.out_features, self._width // parts)
        self._weights = MasterWeights.rounded_to(self.dtype, by_part)
        # Beside the products, the bias beside those of the first part.
        self._beside = weight.new_zeros(parts, layer.out_features, 1, dtype=self.dtype)
        working = self._beside[0, :, 0]
        master = working.to(weight.dtype)
        self._bias = MasterWeights(master, None if master is working else working)
        self._copies, self._parameters = [by_part, self._bias.master], [in_parts(weight, parts), bias]
        torch._foreach_copy_(self._copies, self._parameters)
        for numbers in (self._weights, self._bias):
            numbers.round_again()
        self._given: Tensor | None = None  # the latest inputs: those of most batches lie in the same memory
        self._split: Tensor  # these part by part
        self._transposed: Tensor
        self._by_part: dict[int, tuple[Tensor, Tensor, Sequence[Tensor]]] = {}

    def new_memory(self, rows: int) -> Between:
        """As `FirstLayer` has it."""
        units = len(self._bias.master)
        memory = Between.new(units, rows, self._beside)
        by_part = memory.values[None] if self._parts == 1 else self._beside.new_empty(self._parts, units, rows)
        self._by_part[rows] = self._beside.expand(-1, -1, rows), by_part, by_part.unbind()
        return memory

    def forward(self, inputs: Float[Tensor, "n ..."], above: Between) -> bool:
        """As `FirstLayer` has it, of (n, parts, columns), or as the layer takes them."""
        if inputs is not self._given and not self._take(inputs):
            return False
        beside, by_part, parts = self._by_part[inputs.shape[0]]
        torch.baddbmm(beside, self._weights.working, self._transposed, alpha=self._unit, out=by_part)
        total = parts[0]
        with self._plain.threads():
            for part in parts[1:]:
                total = torch.add(total, part, out=above.values)
        return True

    def learn(self, gradient: Float[Tensor, "units n"], above: Between, *, rate: float) -> None:
        """As `FirstLayer` has it."""
        gradient = gradient.to(self.dtype)
        with self._plain.threads():
            self._bias.learn(gradient, ones(gradient.shape[1], gradient.dtype), alpha=-rate)
        self._weights.learn(gradient.expand(self._parts, -1, -1), self._split, alpha=-rate * self._unit)

    def write_back(self) -> None:
        """As `FirstLayer` has it."""
        torch._foreach_copy_(self._parameters, self._copies)

    def _take(self, inputs: Float[Tensor, "n ..."]) -> bool:
        """See inputs part by part; False where they do not fit."""
        parts, flattens = self._parts, self._plain.flatten
        lie_in_parts = flattens and inputs.shape[1:] == (parts, self._width // parts)
        flat = inputs if lie_in_parts else rows_of(inputs, self._width, flatten=flattens)
        if flat is None or flat.dtype not in (self.dtype, self._weights.master.dtype):
            return False
        split = (inputs.transpose(0, 1) if lie_in_parts else in_parts(flat, parts)).to(self.dtype)
        self._given = inputs if split.data_ptr() == inputs.data_ptr() else None  # a copy would not see them change
        self._split, self._transposed = split, split.mT
        return True


def takes_ink(layer: nn.Linear, *, flatten: bool) -> bool:
    """Whether a first layer can be given images' ink: float32 weights and a bias, behind a flattening."""
    numbers = [layer.weight, layer.bias]
    plain = all(isinstance(each, Tensor) and each.dtype == torch.float32 and each.is_cpu for each in numbers)
    return flatten and plain


def parts_of(width: int, device: torch.device) -> int:
    """In how many parts rows of so many inputs are shared out: one a thread of the processor, or one in all."""
    threads = torch.get_num_threads() if device.type == "cpu" else 1
    return threads if width % threads == 0 and width >= threads * _COLUMNS else 1


def in_parts(rows: Shaped[Tensor, "n width"], parts: int) -> Shaped[Tensor, "parts n columns"]:
    """Rows with their columns shared out among parts, the first ones to the first; a view."""
    by_part: Tensor = rows.unflatten(1, (parts, -1))
    return by_part.transpose(0, 1)
