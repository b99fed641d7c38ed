"""Networks that see an image as a row of pixels: linear, one hidden layer, deep."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import nn


def linear(shape: tuple[int, int, int], outputs: int) -> nn.Sequential:
    """One linear layer from pixels to outputs: logistic or softmax regression, by its loss.

    Args:
        shape: (channels, height, width) of the images.
        outputs: numbers given for each image.
    """
    return _layers([prod(shape), outputs])


def hidden(shape: tuple[int, int, int], outputs: int, *, units: int = 30) -> nn.Sequential:
    """One hidden layer with ReLU.

    Args:
        shape: (channels, height, width) of the images.
        outputs: numbers given for each image.
        units: width of the hidden layer.
    """
    return _layers([prod(shape), units, outputs])


def deep(shape: tuple[int, int, int], outputs: int, *, units: Sequence[int] = (256, 128, 64, 32)) -> nn.Sequential:
    """Several hidden layers with ReLU.

    Args:
        shape: (channels, height, width) of the images.
        outputs: numbers given for each image.
        units: widths of the hidden layers, first to last.
    """
    return _layers([prod(shape), *units, outputs])


def _layers(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Flatten()]
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])
