"""The three products of a convolution by compiled kernels, which gather no windows and add none up."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from inkproof.kernels import library
from inkproof.written_out.windows import Windows

_LANES, _PAIR = 8, 16  # numbers in a vector of the kernels, and in the two that they take at a time


def can_take(count: int, outputs: Float[Tensor, "parts units places"]) -> bool:
    """Whether kernels are there for parts of so many images, and these outputs."""
    fits = outputs.dtype == torch.float32 and count % _PAIR == 0
    return fits and library() is not None


class WindowKernels:
    """A convolution with the memory that it reads and writes for each batch of a shape.

    Args:
        windows: of the convolution.
        source: what windows see, (parts times features, n), over a row of ones and one of zeros.
        seen: the same without these, (parts, features, n).
        matrix: weights over a bias, (taps, units).
        outputs: (parts, units, places).
    """

    def __init__(
        self,
        windows: Windows,
        source: Float[Tensor, "sources n"],
        seen: Float[Tensor, "parts features n"],
        matrix: Float[Tensor, "taps units"],
        outputs: Float[Tensor, "parts units places"],
    ):
        kernels = library()
        assert kernels is not None, "`can_take` was asked"
        assert all(map(Tensor.is_contiguous, (source, seen, matrix, outputs[0]))), "kernels know no strides"
        self._forward, self._learn, self._gradient = (
            kernels.windows_forward,
            kernels.windows_learn,
            kernels.windows_gradient,
        )
        self._memory = windows, source, seen, matrix, outputs  # read and written as long as this is there
        (parts, features, count), (taps, units), places = seen.shape, matrix.shape, math.prod(windows.counts)
        by_pixel = windows.by_pixel
        self._seen = source.data_ptr(), windows.rows.data_ptr(), parts, taps, places, count
        self._units = units
        self._outputs = outputs.data_ptr(), outputs.stride(0)
        self._weights = matrix.data_ptr()
        self._below = parts, units, places, count
        self._uses = by_pixel.taps_apart, by_pixel.starts.data_ptr(), by_pixel.uses.data_ptr()
        self._form = by_pixel.channels, features // by_pixel.channels, seen.data_ptr()
        self._stride = -(-units // _LANES) * _LANES
        self._room = source.new_empty(parts, taps + count, self._stride)

    def forward(self, *, unit: float, relu: bool) -> None:
        """Write the outputs, perhaps behind ReLU."""
        self._forward(*self._seen, self._weights, self._units, unit, relu, *self._outputs)

    def learn(
        self, of_outputs: Float[Tensor, "parts units places"], gradient: Float[Tensor, "taps units"], *, unit: float
    ) -> None:
        """Write the gradient for the matrix, from that for the outputs."""
        assert of_outputs.is_contiguous(), "kernels know no strides"
        assert gradient.is_contiguous(), "kernels know no strides"
        room, to = self._room.data_ptr(), gradient.data_ptr()
        self._learn(*self._seen, of_outputs.data_ptr(), self._units, unit, self._stride, room, to)

    def gradient(self, of_outputs: Float[Tensor, "parts units places"]) -> Float[Tensor, "parts features n"]:
        """The gradient for what ReLU took before it gave what is seen, from that for the outputs."""
        assert of_outputs.is_contiguous(), "kernels know no strides"
        gradient = torch.empty_like(self._memory[2])
        below = of_outputs.data_ptr(), *self._below
        self._gradient(*below, self._weights, *self._uses, *self._form, gradient.data_ptr())
        return gradient
