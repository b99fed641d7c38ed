"""Convolutions, then perhaps linear layers, with ReLU between, on a copy of their weights.

A layer's weights and bias are one matrix, taps by units: the bias is the weight of a tap that sees ones. Each layer is
a product of it with the windows of all images, images innermost. A window is gathered as rows of as many numbers as
there are images, so that gathering, and adding up the gradients of windows that overlap, copies whole rows. Where
there are kernels for it, windows are read where they lie, and none is gathered.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from inkproof.runtime import Precision
from inkproof.written_out.rounding import MasterWeights
from inkproof.written_out.window_kernels import WindowKernels, can_take
from inkproof.written_out.windows import Layer, Windows, windows_of

_PARTS = 2  # of a batch for each thread: what a thread works on stays in its core's cache through all layers
_IMAGES = 32  # of a part: with fewer the rows that are gathered are short
_SHAPES = 4  # of batches whose memory is kept: full ones and the last, in training and in scoring


@dataclass(frozen=True)
class Memory:
    """A layer, and memory for what it sees and gives of a batch in equal parts, taken by all batches of a shape.

    Args:
        windows: None for a linear layer.
        seen: (parts, features, n), behind ReLU.
        source: what windows are gathered from: all that is seen, (parts times features, n), over a row of ones and one
            of zeros. Not asked for by a linear layer.
        gathered: what is seen by windows, (parts, taps, places), a last tap of ones where the layer adds a bias; empty
            where kernels take it from the source.
        gathered_rows: the same numbers, n a row.
        outputs: (parts, units, places): what the next layer sees, in the same memory.
        matrix: weights and bias, (parts, taps, units), the same numbers for each part.
        weights: those without the bias.
        kernels: of a convolution, where they take parts of so many images.
    """

    windows: Windows | None
    seen: Float[Tensor, "parts features n"]
    source: Float[Tensor, "sources n"]
    gathered: Float[Tensor, "parts all_taps gathered_places"]
    gathered_rows: Float[Tensor, "rows n"]
    outputs: Float[Tensor, "parts units places"]
    matrix: Float[Tensor, "parts taps units"]
    weights: Float[Tensor, "parts taps_that_see units"]
    kernels: WindowKernels | None


class JoinedLayers:
    """The layers on a copy, with the memory of their latest batches.

    Args:
        layers: first to last, such as `windows.is_worth_gathering` is true of.
        precision: of products, and of what they take and give; "float32" stands for the weights' own dtype.

    Attributes:
        all: the numbers of all layers' matrices, one behind the other.
    """

    def __init__(self, layers: Sequence[Layer], precision: Precision = "float32"):
        self._layers = layers
        weights = [_in_memory(layer.weight.detach()).flatten(1) for layer in layers]
        self._taps = [weight.shape[1] + (layer.bias is not None) for weight, layer in zip(weights, layers, strict=True)]
        self._units = [len(weight) for weight in weights]
        self.all = weights[0].new_empty(sum(map(math.prod, zip(self._taps, self._units, strict=True))))
        dtype = torch.bfloat16 if precision == "bfloat16" else self.all.dtype
        self._numbers = MasterWeights.rounded_to(dtype, self.all)
        self._matrices = self.split(self._numbers.working)
        self._weights = [matrix[: weight.shape[1]] for matrix, weight in zip(self._matrices, weights, strict=True)]
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        learnt = self.split(self.all)
        of_ones = [matrix[-1] for matrix, layer in zip(learnt, layers, strict=True) if layer.bias is not None]
        self._copies = [matrix[: weight.shape[1]].T for matrix, weight in zip(learnt, weights, strict=True)] + of_ones
        self._parameters = [*weights, *biases]
        self._memory: dict[tuple[Any, ...], list[Memory] | None] = {}

    def split(self, numbers: Float[Tensor, " numbers"]) -> list[Float[Tensor, "taps units"]]:
        """As many numbers as all layers have, as their matrices."""
        sizes = [taps * units for taps, units in zip(self._taps, self._units, strict=True)]
        return [part.view(taps, -1) for part, taps in zip(numbers.split(sizes), self._taps, strict=True)]

    def read(self) -> None:
        """Take the parameters' numbers."""
        torch._foreach_copy_(self._copies, self._parameters)
        self._numbers.round_again()

    def learn(self, gradient: Float[Tensor, " numbers"], *, rate: float) -> None:
        """Take a step against the gradient for all numbers."""
        self.all.sub_(gradient, alpha=rate)
        self._numbers.round_again()

    def write_back(self) -> None:
        """Give the parameters these numbers, in one call."""
        torch._foreach_copy_(self._parameters, self._copies)

    def forward(self, inputs: Shaped[Tensor, "n ..."], unit: float) -> list[Memory] | None:
        """Each layer with what it sees and gives, until the next call; None for inputs that they do not take.

        Args:
            inputs: images (n, channels, height, width), in the weights' dtype or as bytes, which turn sooner.
            unit: what they are multiplied by, within the first product.
        """
        memory = self._memory_for(inputs, unit)
        if memory is None:
            return None
        first = memory[0]
        parts, _, count = first.seen.shape
        turned = inputs.reshape(parts, count, -1).mT
        first.seen.copy_(turned.contiguous() if inputs.dtype == torch.uint8 else turned)
        for at, layer in enumerate(memory):
            if layer.kernels is not None:
                layer.kernels.forward(unit=1.0 if at else unit, relu=at < len(memory) - 1)
                continue
            if at and memory[at - 1].kernels is None:
                layer.seen.relu_()
            if layer.windows is not None:
                layer.windows.gather(layer.source, layer.gathered_rows)
            if at or unit == 1:
                torch.bmm(layer.matrix.mT, layer.gathered, out=layer.outputs)
            else:
                torch.baddbmm(layer.outputs, layer.matrix.mT, layer.gathered, beta=0, alpha=unit, out=layer.outputs)
        return memory

    def _memory_for(self, inputs: Shaped[Tensor, "n ..."], unit: float) -> list[Memory] | None:
        parts = _parts(inputs.shape[0])
        key = (parts, unit, inputs.dtype, *inputs.shape)
        if key not in self._memory:
            if len(self._memory) == _SHAPES:
                self._memory.clear()
            self._memory[key] = self._new_memory(inputs, unit, parts)
        return self._memory[key]

    def _new_memory(self, inputs: Shaped[Tensor, "n ..."], unit: float, parts: int) -> list[Memory] | None:
        taken = inputs.shape[0] and inputs.dtype in (torch.uint8, self.all.dtype)
        windows = windows_of(self._layers, tuple(inputs.shape[1:]), parts) if taken else None
        if windows is None:
            return None
        count = inputs.shape[0] // parts
        places = [1 if where is None else math.prod(where.counts) for where in windows]
        features = [math.prod(inputs.shape[1:]), *map(math.prod, zip(self._units, places, strict=True))]
        outputs = self._numbers.working.new_empty(parts, self._units[-1], places[-1] * count)
        memory: list[Memory] = []
        for at in range(len(windows) - 1, -1, -1):  # a layer's outputs are what the next one sees
            where, kernels = windows[at], None
            one = 1 if at else 1 / unit  # the first product multiplies biases by the unit too
            gathered = outputs.new_empty(parts, self._taps[at], places[at] * count)
            if where is None:
                source, seen = gathered.view(-1, count), gathered[:, : features[at]]
                gathered[:, features[at] :] = one
            else:
                source = outputs.new_empty(parts * features[at] + 2, count)
                source[-2], source[-1] = one, 0
                seen = source[:-2].view(parts, features[at], count)
                if can_take(count, outputs):
                    kernels = WindowKernels(where, source, seen, self._matrices[at], outputs)
                    gathered = gathered.new_empty(parts, self._taps[at], 0)
            matrix, weights = (each[at].expand(parts, -1, -1) for each in (self._matrices, self._weights))
            rows = gathered.view(-1, count)
            memory.insert(0, Memory(where, seen, source, gathered, rows, outputs, matrix, weights, kernels))
            if at:
                outputs = seen.view(parts, self._units[at - 1], -1)
        return memory


def _parts(images: int) -> int:
    """How many equal parts a batch is computed in."""
    return math.gcd(images, max(1, min(_PARTS * torch.get_num_threads(), images // _IMAGES)))


def _in_memory(weight: Shaped[Tensor, "outputs ..."]) -> Shaped[Tensor, "outputs ..."]:
    """Weights with their dimensions in the order in which they lie in memory, channels first or last."""
    return weight if weight.ndim == 2 or weight.is_contiguous() else weight.permute(0, 2, 3, 1)
