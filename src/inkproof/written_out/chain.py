"""What a model is made of, where it is a chain of layers whose step or forward pass can be written out."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from torch import nn

from inkproof.hooks import has_hooks
from inkproof.written_out.windows import Layer

_LETTERS = {nn.Linear: "l", nn.Conv2d: "c", nn.ReLU: "r", nn.Flatten: "f"}
_LINEAR = re.compile("f?l(rl)*")
_CONVOLUTIONAL = re.compile("c(rc)*(f|(rf|fr)l(rl)*)")


@dataclass(frozen=True)
class Chain:
    """Linear layers, convolutions, ReLU and flattening, one behind the other.

    Args:
        order: a letter for each module: l for linear, c for convolution, r for ReLU, f for flattening.
        layers: those with weights, first to last.
    """

    order: str
    layers: tuple[Layer, ...]

    @property
    def linear(self) -> list[nn.Linear] | None:
        """The layers, where all are linear with ReLU between, and each takes what the one before gives."""
        linear = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        fits = all(a.out_features == b.in_features for a, b in pairwise(linear))
        return linear if fits and _LINEAR.fullmatch(self.order) else None

    @property
    def is_convolutional(self) -> bool:
        """Whether convolutions come first, then perhaps linear layers, with ReLU between."""
        return _CONVOLUTIONAL.fullmatch(self.order) is not None

    @property
    def flattens_first(self) -> bool:
        """Whether the inputs are flattened before all else."""
        return self.order.startswith("f")


def share_memory(layers: Sequence[Layer]) -> bool:
    """Whether any two of the layers' parameters lie in the same memory, where they may come apart on a copy."""
    places = [parameter.untyped_storage().data_ptr() for layer in layers for parameter in layer.parameters()]
    return len(set(places)) < len(places)


def chain_of(model: nn.Module) -> Chain | None:
    """The layers of a model.

    Args:
        model: one layer, or an `nn.Sequential`.

    Returns:
        None where other modules are among them, a flattening that leaves dimensions, or hooks.
    """
    parts = list(model) if type(model) is nn.Sequential else [model]
    order = "".join(_LETTERS.get(type(part), "?") for part in parts)
    flattens = all((part.start_dim, part.end_dim) == (1, -1) for part in parts if isinstance(part, nn.Flatten))
    if "?" in order or not flattens or any(map(has_hooks, model.modules())):
        return None
    return Chain(order, tuple(part for part in parts if isinstance(part, nn.Linear | nn.Conv2d)))
