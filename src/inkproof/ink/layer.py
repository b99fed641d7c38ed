"""A linear layer, or one of each of several nets, on a copy of its weights as the kernels take them."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inkproof.ink.lists import Ink
from inkproof.kernels import library
from inkproof.runtime import to_whole_vectors

_NARROW, _WIDE = 16, 32  # units of a block, as the kernels have them


class InkLayer:
    """Weights and bias on a copy, what they give for images, and the step against a gradient for that.

    Args:
        weight, bias: float32, to begin with; they are copied.
        unit: what a pixel's byte is multiplied by.

    Attributes:
        units: as the weights have them.
        columns: of outputs and gradients, an image a row: the units, one more, and others to the end of a vector.
    """

    def __init__(self, weight: Float[Tensor, "units pixels"], bias: Float[Tensor, " units"], *, unit: float):
        kernels = library()
        assert kernels is not None, "there is no ink without kernels"
        self._forward, self._learn = kernels.ink_forward, kernels.ink_learn
        self.units, pixels = weight.shape
        # Each thread computes whole blocks: wide ones where there are enough of these for all.
        width = _WIDE if self.units > _NARROW * torch.get_num_threads() else _NARROW
        blocks = -(-self.units // width)
        self.columns = to_whole_vectors(max(blocks * width, self.units + 1))
        padded = torch.zeros(blocks * width, pixels)
        padded[: self.units] = weight
        self._weights = padded.view(blocks, width, pixels).transpose(1, 2).contiguous()
        self._bias = torch.zeros(self.columns)
        self._bias[: self.units] = bias
        self._bias[self.units] = 1
        self._form = pixels, unit, blocks, width
        self._places = self._weights.data_ptr(), self._bias.data_ptr()

    @property
    def weight(self) -> Float[Tensor, "units pixels"]:
        """The weights as they are now."""
        return self._weights.transpose(1, 2).flatten(0, 1)[: self.units]

    @property
    def bias(self) -> Float[Tensor, " units"]:
        """The biases as they are now."""
        return self._bias[: self.units]

    @property
    def numbers(self) -> list[Tensor]:
        """All weights and biases, in the order in which they lie."""
        return [self._weights, self._bias]

    def new_outputs(self, images: int) -> Float[Tensor, "images columns"]:
        """Memory for what so many images give: behind the units a column of ones, then zeros."""
        return self._bias.new_zeros(images, self.columns).index_fill_(1, torch.tensor([self.units]), 1)

    def new_gradient(self, images: int) -> Float[Tensor, "images columns"]:
        """Memory for a gradient for outputs: zeros, as they must stay behind the units."""
        return self._bias.new_zeros(images, self.columns)

    def forward(self, ink: Ink, rows: Int64[Tensor, " images"], outputs: Float[Tensor, "images columns"]) -> None:
        """Put what the images of these rows of `ink` give, ReLU not yet taken, into memory of `new_outputs`."""
        self._forward(
            rows.data_ptr(), len(rows), *ink.lists, *self._form, *self._places, outputs.data_ptr(), self.columns
        )

    def learn(
        self, ink: Ink, rows: Int64[Tensor, " images"], gradient: Float[Tensor, "images columns"], *, rate: float
    ) -> None:
        """Take `rate` times a gradient from weights and bias.

        Args:
            ink, rows: of the images, as `forward` was given them.
            gradient: for what it gave, in memory of `new_gradient`, zero behind the units; it is summed over images.
            rate: learning rate.
        """
        self._learn(
            rows.data_ptr(), len(rows), *ink.lists, *self._form, gradient.data_ptr(), self.columns, rate, *self._places
        )
