"""The forward pass of linear layers where no gradient is wanted."""

from collections.abc import Callable

import torch
from jaxtyping import Shaped
from torch import Tensor, nn

from inkproof.written_out.chain import chain_of
from inkproof.written_out.products import by_onednn, is_sooner, product


def quick_forward(model: nn.Module) -> Callable[[Tensor, float], Tensor | None] | None:
    """What gives a model's outputs for a batch sooner, where it is a chain of linear layers that oneDNN can take.

    Args:
        model: computed in the types that its weights have.

    Returns:
        A function of inputs (n, ...) and what they are multiplied by, which records no gradients; it gives None for
        inputs that do not fit. None for other models.
    """
    chain = chain_of(model)
    layers = None if chain is None else chain.linear
    if chain is None or layers is None or not all(is_sooner(layer.out_features) for layer in layers):
        return None
    if not by_onednn(*(part for layer in layers for part in _numbers(layer))):
        return None
    flattens, width = chain.flattens_first, layers[0].in_features

    @torch.no_grad()
    def forward(inputs: Shaped[Tensor, "n ..."], unit: float) -> Shaped[Tensor, "n ..."] | None:
        values = inputs.flatten(1) if flattens and inputs.ndim > 1 else inputs
        if values.shape[1:] != (width,) or not by_onednn(values):
            return None
        for at, layer in enumerate(layers):
            values = product(values.relu_() if at else values, layer.weight)
            if unit != 1 and not at:
                values.mul_(unit)
            if layer.bias is not None:
                values.add_(layer.bias)
        return values

    return forward


def _numbers(layer: nn.Linear) -> tuple[Tensor, Tensor | None]:
    return layer.weight, layer.bias
