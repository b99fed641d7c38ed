"""The forward pass of linear layers and small convolutions where no gradient is wanted."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from inkproof.ink import Ink, InkLayer
from inkproof.runtime import Precision
from inkproof.written_out.chain import chain_of
from inkproof.written_out.first_layers import takes_ink
from inkproof.written_out.joined import JoinedLayers
from inkproof.written_out.linear import rows_of
from inkproof.written_out.rounding import dtype_of_products, precision_of
from inkproof.written_out.windows import Layer, is_worth_gathering

# Images whose windows are gathered together: a power of two, for rows to begin where vectors do. 500 take 1.2 of the
# time, 256 or 1,024 1.0 to 1.1 (2 cores of an Intel Xeon, November 2026).
_TOGETHER = 512
_ROWS = 64  # of a batch for each thread: with fewer it gets no part of its own

QuickForward = Callable[[Tensor, float], Tensor | None]
"""Takes inputs (n, ...) and what they are multiplied by, gives outputs (n, k); None for inputs that do not fit.
Called where no gradients are recorded, as in `collect_outputs`."""


def quick_forward(model: nn.Module, precision: Precision = "float32") -> QuickForward | None:
    """What gives a model's outputs for a batch sooner; None for most models.

    Args:
        model: a chain of linear layers, or of convolutions that are worth gathering.
        precision: of the model's computation.
    """
    chain = chain_of(model)
    if chain is None or not all(map(_is_plain, (part for layer in chain.layers for part in _numbers(layer)))):
        return None
    taken = precision_of(chain, precision)
    if taken is None:
        return None
    if chain.linear is not None:
        return _of_linear(chain.linear, taken, flattens=chain.flattens_first)
    if chain.is_convolutional and is_worth_gathering(chain.layers):
        return _of_convolutions(JoinedLayers(chain.layers, taken))
    return None


def ink_forward(
    model: nn.Module, ink_for: Callable[[int], Ink | None], *, unit: float, precision: Precision
) -> QuickForward | None:
    """What gives a model's outputs for rows of images' ink, in place of inputs; None for models that do not take these.

    Args:
        model: a chain of linear layers.
        ink_for: gives the ink of images of so many pixels, where it can be had.
        unit: what their bytes are multiplied by.
        precision: of the model's computation, above the first layer.
    """
    chain = chain_of(model)
    if chain is None or chain.linear is None or not takes_ink(chain.linear[0], flatten=chain.flattens_first):
        return None
    if not all(map(_is_plain, (part for layer in chain.layers for part in _numbers(layer)))):
        return None
    taken, (first, *upper) = precision_of(chain, precision), chain.linear
    # What is not finite would not be seen where images are blank.
    if taken is None or not all(bool(each.isfinite().all()) for each in first.parameters()):
        return None
    ink = ink_for(first.in_features)
    if ink is None:
        return None
    layer = InkLayer(first.weight.detach(), first.bias.detach(), unit=unit)
    numbers = _rounded(upper, taken)
    memory: dict[int, Tensor] = {}

    def forward(rows: Int64[Tensor, " n"], _: float) -> Float[Tensor, "n units"]:
        count = len(rows)
        if count not in memory:
            memory[count] = layer.new_outputs(count)
        layer.forward(ink, rows, memory[count])
        outputs = memory[count].T[: layer.units]
        for weight, beside in numbers:
            outputs = torch.addmm(beside[0], weight, outputs.relu_().to(weight.dtype))
        return outputs.T.float().contiguous() if numbers else outputs.T.clone()

    return forward


def _of_linear(layers: Sequence[nn.Linear], precision: Precision, *, flattens: bool) -> QuickForward:
    """Each thread computes with rows of its own, which stay in its core's cache.

    With torch's products, which MKL or oneDNN share out in another way each, scoring 8,400 images takes 1.3 times as
    long with 10 or 30 units, and with 256 1.1 times (2 cores of an AMD EPYC with AVX2, November 2026).
    """
    width, numbers = layers[0].in_features, _rounded(layers, precision)

    def forward(inputs: Shaped[Tensor, "n ..."], unit: float) -> Float[Tensor, "n units"] | None:
        rows = rows_of(inputs, width, flatten=flattens)
        if rows is None or not _is_plain(rows):
            return None
        count, threads = len(rows), torch.get_num_threads()
        parts = 1 if count % threads or count < threads * _ROWS else threads
        values = rows.reshape(parts, count // parts, width).mT
        for at, (weight, beside) in enumerate(numbers):
            seen = values.to(weight.dtype)
            values = torch.baddbmm(
                beside.expand(parts, len(weight), count // parts),
                weight.expand(parts, -1, -1),
                seen.relu_() if at else seen,
                alpha=1.0 if at else unit,
            )
        return values.mT.reshape(count, -1).float()

    return forward


def _rounded(layers: Sequence[nn.Linear], precision: Precision) -> list[tuple[Tensor, Tensor]]:
    """Weights, and biases (1, units, 1), as products take them."""
    dtypes = [dtype_of_products(layer, precision) for layer in layers]
    return [
        (weight.to(dtype), (weight.new_zeros(1) if bias is None else bias).to(dtype).view(1, -1, 1))
        for (weight, bias), dtype in zip(map(_numbers, layers), dtypes, strict=True)
    ]


def _of_convolutions(joined: JoinedLayers) -> QuickForward:
    def forward(inputs: Shaped[Tensor, "n ..."], unit: float) -> Float[Tensor, "n units"] | None:
        joined.read()
        outputs: list[Tensor] = []
        for some in inputs.split(_TOGETHER) if _is_plain(inputs) else ():
            memory = joined.forward(some, unit)
            if memory is None:
                return None
            parts, _, count = memory[0].seen.shape
            beside = memory[-1].outputs.view(parts, -1, count)  # the next images' outputs come in their place
            outputs.append(beside.mT.clone(memory_format=torch.contiguous_format).view(parts * count, -1))
        return torch.cat(outputs).float() if outputs else None

    return forward


def _numbers(layer: Layer) -> tuple[Tensor, Tensor | None]:
    return layer.weight, layer.bias


def _is_plain(value: Tensor | None) -> bool:
    """Whether these are float32 numbers on the CPU and nothing else; None is, as a bias that is not there."""
    if value is None:
        return True
    known = type(value) in (Tensor, nn.Parameter) and value.layout == torch.strided and value.device.type == "cpu"
    return known and value.dtype == torch.float32 and value.numel() > 0
