"""Convolutions of small images by 3×3 kernels, in a fifth to a third of the multiplications.

The images of the last blocks have five pixels a side. One tile covers such an image, so that the way into Winograd's
domain and back is a product with one matrix, for all images and channels at once, and between the two each of its 25 or
49 places is a product of channels with channels. Nothing is gathered, and nothing overlaps.

Source: Lavin and Gray 2016, with the tile as large as the image; the matrices by Toom and Cook's interpolation.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from inkproof.written_out.blocks import Block, padding_of
from inkproof.written_out.normalisation import Normalisation, take_gradient

# The two last blocks of the recipe `fast` take 0.7 of oneDNN's time with AVX2 (2 cores of an AMD EPYC, November 2026).
_MEASURED_ON = ("AVX2",)
_KERNEL = 3
_LARGEST = 5  # outputs a side: by seven places a side they come within 1e-4 of their spread in float32
_ROWS = 8  # of a batch for each thread: with fewer it gets no part of its own
_POINTS = (0.0, 1.0, -1.0, 0.5, -2.0, 2.0)  # and infinity


@dataclass(frozen=True)
class Transforms:
    """Matrices between images and places, each flattened.

    Args:
        of_images: from pixels to places.
        of_kernels: from taps to places.
        back: from places to the pixels of the outputs.
    """

    of_images: Float[Tensor, "places pixels"]
    of_kernels: Float[Tensor, "places taps"]
    back: Float[Tensor, "outputs places"]


@lru_cache(maxsize=32)
def transforms(side: int, padding: int, dtype: torch.dtype) -> Transforms:
    """Those for square images with a border of zeros."""
    outputs = side + 2 * padding - _KERNEL + 1
    points = np.array(_POINTS[: outputs + _KERNEL - 2])
    back, kernels = _powers(points, outputs).T, _powers(points, _KERNEL)
    images = np.linalg.inv(_powers(points, len(points) + 1)).T[:, padding : padding + side]
    return Transforms(*(_both_ways(matrix).to(dtype) for matrix in (images, kernels, back)))


def _powers(points: Float64[np.ndarray, " points"], count: int) -> Float64[np.ndarray, "places count"]:
    """Each point's powers, and those of infinity, where the highest alone counts."""
    at_infinity = np.eye(count)[-1:]
    return np.concatenate([np.vander(points, count, increasing=True), at_infinity])


def _both_ways(matrix: Float64[np.ndarray, "a b"]) -> Float64[Tensor, "aa bb"]:
    """For rows and for columns at once."""
    return torch.from_numpy(np.kron(matrix, matrix))


def takes_less(block: Block, shape: Sequence[int]) -> bool:
    """Whether a block's convolution takes less time so, on this processor.

    Args:
        block: its parts.
        shape: (height, width) of the images that enter.
    """
    convolution, (height, width) = block.convolution, shape
    padding = padding_of(convolution)[0]
    if torch.backends.cpu.get_cpu_capability() not in _MEASURED_ON:
        return False
    plain = convolution.kernel_size == (_KERNEL, _KERNEL) and convolution.stride == (1, 1) and not block.pools
    outputs = height + 2 * padding - _KERNEL + 1
    return plain and convolution.padding == (padding, padding) and height == width and 1 < outputs <= _LARGEST


class WinogradBlocks:
    """Forward and backward pass of blocks behind each other.

    Images are taken in parts, one a thread: what a core wrote it reads again itself.

    Args:
        blocks: first to last, such as `takes_less` is true of.
    """

    def __init__(self, blocks: Sequence[Block]):
        self._layers = [_Layer(block) for block in blocks]

    def forward(self, values: Float[Tensor, "n channels side side"]) -> Float[Tensor, "n outputs after after"]:
        """Outputs for a batch, channels last; what the backward pass needs is kept until then."""
        threads, count = torch.get_num_threads(), len(values)
        inner = _into_parts(values, threads if count % threads == 0 and count >= threads * _ROWS else 1)
        for layer in self._layers:
            inner = layer.forward(inner)
        return _out_of_parts(inner)

    def backward(
        self, gradient: Float[Tensor, "n outputs after after"], *, goes_on: bool
    ) -> Float[Tensor, "n channels side side"] | None:
        """Leave the parameters' gradients in their `grad`; the gradient for the inputs, where it `goes_on`."""
        inner: Tensor | None = _into_parts(gradient, self._layers[-1].parts)
        for at in range(len(self._layers) - 1, -1, -1):
            assert inner is not None, "it goes on until the first"
            inner = self._layers[at].backward(inner, goes_on=goes_on or at > 0)
        return None if inner is None else _out_of_parts(inner)


def _into_parts(values: Float[Tensor, "n channels side side"], parts: int) -> Float[Tensor, "parts pixels b channels"]:
    count, channels, side, _ = values.shape
    by_part = values.permute(0, 2, 3, 1).reshape(parts, count // parts, side * side, channels)
    return by_part.transpose(1, 2).contiguous()


def _out_of_parts(inner: Float[Tensor, "parts pixels b channels"]) -> Float[Tensor, "n channels side side"]:
    parts, pixels, count, channels = inner.shape
    side = math.isqrt(pixels)
    return inner.transpose(1, 2).reshape(parts * count, side, side, channels).permute(0, 3, 1, 2)


class _Layer:
    """One of the blocks."""

    def __init__(self, block: Block):
        self._convolution, self._normalisation = block.convolution, Normalisation(block)
        self.parts = 1

    def forward(self, inner: Float[Tensor, "parts pixels b inputs"]) -> Float[Tensor, "parts after b outputs"]:
        self.parts, pixels, count, inputs = inner.shape
        kernels = self._convolution.weight
        self._transforms = transforms(math.isqrt(pixels), padding_of(self._convolution)[0], inner.dtype)
        into, places = self._for_parts(self._transforms.of_images), len(self._transforms.of_images)
        self._images = torch.bmm(into, inner.view(self.parts, pixels, -1)).view(-1, count, inputs)
        taps = kernels.permute(2, 3, 0, 1).reshape(_KERNEL * _KERNEL, -1)
        of_kernels = self._for_parts(self._transforms.of_kernels)
        self._kernels = torch.bmm(of_kernels, self._for_parts(taps)).view(self.parts * places, -1, inputs)
        outputs = torch.bmm(self._images, self._kernels.mT).view(self.parts, places, -1)
        convolved = torch.bmm(self._for_parts(self._transforms.back), outputs)
        activated = self._normalisation.forward(convolved.view(-1, len(kernels)))
        return activated.view(self.parts, -1, count, len(kernels))

    def backward(self, gradient: Float[Tensor, "parts pixels b outputs"], *, goes_on: bool) -> Tensor | None:
        """As `WinogradBlocks.backward`, for images in parts."""
        count, outputs = gradient.shape[2:]
        kernels, matrices = self._convolution.weight, self._transforms
        of_convolved = self._normalisation.backward(gradient.view(-1, outputs)).view(self.parts, -1, count * outputs)
        of_outputs = torch.bmm(self._for_parts(matrices.back.T), of_convolved).view(-1, count, outputs)
        of_kernels = torch.bmm(of_outputs.mT, self._images)
        of_taps = torch.bmm(
            self._for_parts(matrices.of_kernels.T), of_kernels.view(self.parts, len(matrices.back.T), -1)
        )
        take_gradient(kernels, of_taps.sum(dim=0).view(_KERNEL, _KERNEL, outputs, -1).permute(2, 3, 0, 1))
        if not goes_on:
            return None
        of_images = torch.bmm(of_outputs, self._kernels).view(self.parts, len(matrices.of_images), -1)
        of_inner = torch.bmm(self._for_parts(matrices.of_images.T), of_images)
        return of_inner.view(self.parts, -1, count, kernels.shape[1])

    def _for_parts(self, matrix: Float[Tensor, "a b"]) -> Float[Tensor, "parts a b"]:
        return matrix.expand(self.parts, -1, -1)
