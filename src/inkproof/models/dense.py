"""Networks that see an image as a row of pixels: linear, one hidden layer, deep."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

Initialisation = Literal["torch", "normal", "uniform"]
"""First weights and biases: as PyTorch's layers draw them; from N(0, 1); from U(-0.5, 0.5)."""


def linear(
    shape: tuple[int, int, int],
    outputs: int,
    *,
    initialisation: Initialisation = "torch",
    output_range: tuple[float, float] | None = None,
) -> nn.Sequential:
    """One linear layer from pixels to outputs: logistic or softmax regression, by its loss.

    Args:
        shape: (channels, height, width) of the images.
        outputs: numbers given for each image.
        initialisation: of weights and biases.
        output_range: squeeze each output into this range by a scaled sigmoid.
    """
    return _layers([prod(shape), outputs], initialisation, output_range)


def hidden(
    shape: tuple[int, int, int],
    outputs: int,
    *,
    units: int = 30,
    initialisation: Initialisation = "torch",
    output_range: tuple[float, float] | None = None,
) -> nn.Sequential:
    """One hidden layer with ReLU.

    Args:
        shape: (channels, height, width) of the images.
        outputs: numbers given for each image.
        units: width of the hidden layer.
        initialisation: of weights and biases.
        output_range: squeeze each output into this range by a scaled sigmoid.
    """
    return _layers([prod(shape), units, outputs], initialisation, output_range)


def deep(shape: tuple[int, int, int], outputs: int, *, units: Sequence[int] = (256, 128, 64, 32)) -> nn.Sequential:
    """Several hidden layers with ReLU.

    Args:
        shape: (channels, height, width) of the images.
        outputs: numbers given for each image.
        units: widths of the hidden layers, first to last.
    """
    return _layers([prod(shape), *units, outputs])


class SigmoidRange(nn.Module):
    """Squeezes each number into a range by a scaled sigmoid: see `sigmoid_range`."""

    def __init__(self, low: float, high: float):
        super().__init__()
        self.low, self.high = low, high

    def forward(self, outputs: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The same shape, each number between `low` and `high`."""
        return sigmoid_range(outputs, self.low, self.high)


def sigmoid_range(outputs: Float[Tensor, "..."], low: float, high: float) -> Float[Tensor, "..."]:
    """A sigmoid whose values run from `low` to `high` instead of from 0 to 1."""
    return outputs.sigmoid() * (high - low) + low


def _layers(
    widths: Sequence[int],
    initialisation: Initialisation = "torch",
    output_range: tuple[float, float] | None = None,
) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [_initialised(nn.Linear(inputs, outputs), initialisation), nn.ReLU()]
    layers.pop()
    if output_range is not None:
        layers.append(SigmoidRange(*output_range))
    return nn.Sequential(*layers)


@torch.no_grad()
def _initialised(layer: nn.Linear, initialisation: Initialisation) -> nn.Linear:
    for parameter in (layer.weight, layer.bias):
        if initialisation == "normal":
            parameter.normal_()
        elif initialisation == "uniform":
            parameter.uniform_(-0.5, 0.5)
    return layer
