"""The first layers of several nets as one: a wide product in place of many narrow ones, of all inputs or of ink."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inkproof.ink import Ink, InkLayer
from inkproof.written_out import in_parts, parts_of
from inkproof.written_out.linear import relu_backward_


@dataclass(frozen=True)
class InkRows:
    """A batch of images by the rows of their ink, in place of inputs."""

    ink: Ink
    rows: Int64[Tensor, " n"]

    def __len__(self) -> int:
        return len(self.rows)


Inputs = Float[Tensor, "n ..."] | InkRows
"""Of a batch: (n, parts, columns), or as layers take them, or rows of ink: what a wide layer was made for."""


class WideLayer:
    """Weights on a copy, for inputs whose columns are shared out among threads, as `written_out.SharedOut` has it.

    Args:
        weight: of the nets, one behind the other.
        bias: the same; None for layers without.
        flatten: inputs are flattened first.

    Attributes:
        parts: in which the inputs' columns are shared out.
    """

    def __init__(self, weight: Float[Tensor, "units inputs"], bias: Float[Tensor, " units"] | None, *, flatten: bool):
        self._flatten, self._has_bias = flatten, bias is not None
        self.parts = parts_of(weight.shape[1], weight.device) if flatten else 1
        self._weights = in_parts(weight, self.parts).contiguous()
        # Beside the products, the bias beside those of the first part.
        self._beside = weight.new_zeros(self.parts, len(weight), 1)
        if bias is not None:
            self._beside[0, :, 0] = bias
        self._given: Tensor  # by the latest forward pass

    @property
    def weight(self) -> Float[Tensor, "units inputs"]:
        """The weights as they are now."""
        return self._weights.transpose(0, 1).flatten(1)

    @property
    def bias(self) -> Float[Tensor, " units"]:
        """The biases as they are now; zeros for layers without."""
        return self._beside[0, :, 0]

    def forward(self, inputs: Inputs, unit: float) -> Float[Tensor, "units n"]:
        """What the layers give for inputs multiplied by a unit."""
        split = self._split(inputs)
        beside = self._beside.expand(-1, -1, split.shape[1])
        total, *others = torch.baddbmm(beside, self._weights, split.mT, alpha=unit).unbind()
        for part in others:
            total.add_(part)
        self._given = total
        return total

    def learn(
        self, inputs: Inputs, unit: float, gradient: Float[Tensor, "units n"], rate: float, *, behind_relu: bool
    ) -> None:
        """Take a step against a gradient, summed over the rows.

        Args:
            inputs, unit: of the latest forward pass.
            gradient: for what it gave, or for what ReLU, in its place, made of that.
            rate: learning rate.
            behind_relu: the gradient is of the second kind.
        """
        if behind_relu:
            relu_backward_(gradient, self._given)
        if self._has_bias:
            self.bias.sub_(gradient.sum(dim=1), alpha=rate)
        self._weights.baddbmm_(gradient.expand(self.parts, -1, -1), self._split(inputs), alpha=-rate * unit)

    @property
    def numbers(self) -> list[Tensor]:
        """All weights and biases."""
        return [self._weights, self._beside]

    def _split(self, inputs: Inputs) -> Float[Tensor, "parts n columns"]:
        assert isinstance(inputs, Tensor), "rows of ink are a WideInkLayer's"
        if self._flatten and inputs.shape[1:] == (self.parts, self._weights.shape[2]):
            return inputs.transpose(0, 1)
        return in_parts(inputs.flatten(1) if self._flatten else inputs, self.parts)


class WideInkLayer:
    """Weights on a copy, for images' ink; what it gives lies where it lay for the batch before.

    Args:
        weight: of the nets, one behind the other.
        bias: the same.
        unit: what a pixel's byte is multiplied by.
    """

    parts = 1

    def __init__(self, weight: Float[Tensor, "units pixels"], bias: Float[Tensor, " units"], *, unit: float):
        self._layer = InkLayer(weight, bias, unit=unit)
        self._memory: dict[int, tuple[Tensor, Tensor]] = {}  # by images: what they give, and a gradient for that

    @property
    def weight(self) -> Float[Tensor, "units pixels"]:
        """The weights as they are now."""
        return self._layer.weight

    @property
    def bias(self) -> Float[Tensor, " units"]:
        """The biases as they are now."""
        return self._layer.bias

    @property
    def numbers(self) -> list[Tensor]:
        """All weights and biases."""
        return self._layer.numbers

    def forward(self, inputs: Inputs, unit: float) -> Float[Tensor, "units n"]:
        """What the layers give for images, in their own unit."""
        assert isinstance(inputs, InkRows), "inputs are a WideLayer's"
        count = len(inputs)
        if count not in self._memory:
            with torch.inference_mode(False):  # scores are computed outside of it, in the same memory
                self._memory[count] = self._layer.new_outputs(count), self._layer.new_gradient(count)
        outputs, _ = self._memory[count]
        self._layer.forward(inputs.ink, inputs.rows, outputs)
        return outputs.T[: self._layer.units]

    def learn(
        self, inputs: Inputs, unit: float, gradient: Float[Tensor, "units n"], rate: float, *, behind_relu: bool
    ) -> None:
        """As `WideLayer.learn`."""
        assert isinstance(inputs, InkRows), "inputs are a WideLayer's"
        outputs, whole = self._memory[len(inputs)]
        whole.T[: self._layer.units].copy_(gradient)
        if behind_relu:
            relu_backward_(whole, outputs)
        self._layer.learn(inputs.ink, inputs.rows, whole, rate=rate)
