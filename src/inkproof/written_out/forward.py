"""The forward pass of linear layers and small convolutions where no gradient is wanted."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from inkproof.written_out.chain import chain_of
from inkproof.written_out.joined import JoinedLayers
from inkproof.written_out.products import by_onednn, is_plain, is_sooner, product
from inkproof.written_out.windows import Layer, is_worth_gathering

# Images whose windows are gathered together: a power of two, for rows to begin where vectors do. 500 take 1.2 of the
# time, 256 or 1,024 1.0 to 1.1 (2 cores of an Intel Xeon, November 2026).
_TOGETHER = 512

QuickForward = Callable[[Tensor, float], Tensor | None]
"""Takes inputs (n, ...) and what they are multiplied by, gives outputs (n, k) and records no gradients; None for inputs
that do not fit."""


def quick_forward(model: nn.Module) -> QuickForward | None:
    """What gives a model's outputs for a batch sooner; None for most models.

    Args:
        model: a chain of linear layers, or of convolutions that are worth gathering.
    """
    chain = chain_of(model)
    if chain is None or not all(map(is_plain, (part for layer in chain.layers for part in _numbers(layer)))):
        return None
    if chain.linear is not None:
        return _of_linear(chain.linear, flattens=chain.flattens_first)
    if chain.is_convolutional and is_worth_gathering(chain.layers):
        return _of_convolutions(chain.layers)
    return None


def _of_linear(layers: Sequence[nn.Linear], *, flattens: bool) -> QuickForward:
    width, sooner = layers[0].in_features, [is_sooner(layer.out_features) for layer in layers]

    @torch.no_grad()
    def forward(inputs: Shaped[Tensor, "n ..."], unit: float) -> Float[Tensor, "n units"] | None:
        values = inputs.flatten(1) if flattens and inputs.ndim > 1 else inputs
        if values.shape[1:] != (width,) or not is_plain(values):
            return None
        for at, layer in enumerate(layers):
            seen, scale = (values.relu_(), 1.0) if at else (values, unit)
            values = _layer(seen, layer, scale, by_mkl=not (sooner[at] and by_onednn(seen, layer.weight)))
        return values

    return forward


def _layer(
    values: Float[Tensor, "n inputs"], layer: nn.Linear, unit: float, *, by_mkl: bool
) -> Float[Tensor, "n units"]:
    if by_mkl and layer.bias is not None:
        return torch.addmm(layer.bias, values, layer.weight.T, alpha=unit)
    outputs = values @ layer.weight.T if by_mkl else product(values, layer.weight)
    if unit != 1:
        outputs.mul_(unit)
    return outputs if layer.bias is None else outputs.add_(layer.bias)


def _of_convolutions(layers: Sequence[Layer]) -> QuickForward:
    joined = JoinedLayers(layers)

    @torch.no_grad()
    def forward(inputs: Shaped[Tensor, "n ..."], unit: float) -> Float[Tensor, "n units"] | None:
        joined.read()
        outputs: list[Tensor] = []
        for some in inputs.split(_TOGETHER) if is_plain(inputs) else ():
            memory = joined.forward(some, unit)
            if memory is None:
                return None
            parts, _, count = memory[0].seen.shape
            beside = memory[-1].outputs.view(parts, -1, count)  # the next images' outputs come in their place
            outputs.append(beside.mT.clone(memory_format=torch.contiguous_format).view(parts * count, -1))
        return torch.cat(outputs) if outputs else None

    return forward


def _numbers(layer: Layer) -> tuple[Tensor, Tensor | None]:
    return layer.weight, layer.bias
