"""Windows of convolutions: what each tap of a kernel sees, gathered row by row, and the sums that lead back."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32, Int64
from torch import Tensor, nn

# Where gathering windows costs less than oneDNN loses, as measured (a step of the ladder's net takes 0.4 of oneDNN's
# time with AVX2, 0.65 with AVX-512; one that gathers 7,000 numbers for an image 0.83, 9,000 from 1.05 to 1.15).
_MEASURED_ON = ("AVX2", "AVX512")
_OVERLAP = 4  # windows that see a pixel
_MOST_NUMBERS = 8_000  # gathered for an image by one layer

Layer = nn.Linear | nn.Conv2d


@dataclass(frozen=True)
class Uses:
    """Which windows hold each pixel, for the kernels: those of the first channel, which are alike for all.

    Args:
        starts: where each pixel's uses start, and the last one's end.
        uses: the tap and the window of each, pixel by pixel.
        channels: of the inputs.
        taps_apart: from a channel's tap to that of the next one.
    """

    starts: Int32[Tensor, " starts"]
    uses: Int32[Tensor, "uses 2"]
    channels: int
    taps_apart: int


@dataclass(frozen=True)
class Windows:
    """Where a convolution's windows lie in its inputs, for the parts of a batch one behind the other.

    Args:
        counts: of windows, down and across.
        rows: for each part, tap and window the row of all parts' inputs over ones and zeros; that of the ones is a
            last tap where the layer adds a bias.
        uses: the places in `rows` that hold each input, input by input.
        starts: where each input's begin in `uses`.
        by_pixel: the same for the kernels.
    """

    counts: tuple[int, int]
    rows: Int64[Tensor, " places"]
    uses: Int64[Tensor, " uses"]
    starts: Int64[Tensor, " inputs"]
    by_pixel: Uses

    def gather(self, source: Float[Tensor, "sources n"], memory: Float[Tensor, "places n"]) -> None:
        """Write what the taps see, at all positions of all images; all parts' inputs stand over ones and zeros."""
        torch.index_select(source, 0, self.rows, out=memory)

    def add_up(self, gradient: Float[Tensor, "places n"]) -> Float[Tensor, "inputs n"]:
        """The gradient for each input: the sum of those for all places that hold it."""
        return torch.embedding_bag(gradient, self.uses, self.starts, False, 0)[0]  # as a sum, and without F's checks


def is_worth_gathering(layers: Sequence[Layer]) -> bool:
    """Whether this processor gains by gathering the windows of these convolutions, where images are small."""
    if torch.backends.cpu.get_cpu_capability() not in _MEASURED_ON:
        return False
    return all(_is_plain(layer) for layer in layers if isinstance(layer, nn.Conv2d))


def _is_plain(layer: nn.Conv2d) -> bool:
    plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.padding_mode == "zeros"
    overlap = math.prod(layer.kernel_size) / math.prod(layer.stride)
    viewed = layer.weight.is_contiguous() or layer.weight.is_contiguous(memory_format=torch.channels_last)
    return plain and viewed and not isinstance(layer.padding, str) and overlap <= _OVERLAP


def windows_of(layers: Sequence[Layer], shape: tuple[int, ...], parts: int) -> list[Windows | None] | None:
    """The windows of each layer, None for a linear one; None in all where the layers do not take such images.

    None too where a layer's windows are so many that gathering them would take longer than it saves.

    Args:
        layers: as `is_worth_gathering` wants them.
        shape: (channels, height, width) of the images.
        parts: of a batch.
    """
    windows: list[Windows | None] = []
    for layer in layers:
        if isinstance(layer, nn.Linear):
            if math.prod(shape) != layer.in_features:
                return None
            windows.append(None)
            shape = (layer.out_features,)
        else:
            if len(shape) != 3 or shape[0] != layer.in_channels:
                return None
            channels_last, adds = not layer.weight.is_contiguous(), layer.bias is not None
            where = _windows(shape, layer.kernel_size, layer.stride, layer.padding, channels_last, adds, parts)
            if where is None:
                return None
            windows.append(where)
            shape = (layer.out_channels, *where.counts)
    return windows


@lru_cache(maxsize=64)
def _windows(
    shape: tuple[int, ...],
    kernel: tuple[int, ...],
    stride: tuple[int, ...],
    padding: tuple[int, ...] | str,
    channels_last: bool,
    adds: bool,
    parts: int,
) -> Windows | None:
    """The windows of a convolution over images of a shape; None where they are smaller than one, or too many."""
    assert not isinstance(padding, str), "`is_worth_gathering` refuses these"
    count = math.prod(shape)
    image = F.pad(torch.arange(count).view(shape), (padding[1], padding[1], padding[0], padding[0]), value=count + 1)
    if image.shape[1] < kernel[0] or image.shape[2] < kernel[1]:
        return None
    windows = image.unfold(1, kernel[0], stride[0]).unfold(2, kernel[1], stride[1])  # channel, row, column, tap
    if windows.numel() > _MOST_NUMBERS:
        return None
    rows = windows.permute((3, 4, 0, 1, 2) if channels_last else (0, 3, 4, 1, 2)).flatten()
    times = rows.bincount(minlength=count + 2)[:count]
    uses = rows.argsort(stable=True)[: times.sum()]  # those of the zeros are last
    taps, pixels = math.prod(kernel), math.prod(shape[1:])
    of_first = rows.view(shape[0] * taps, -1)[:: shape[0] if channels_last else 1][:taps]
    places = of_first.flatten().argsort(stable=True)[: times[:pixels].sum()]  # of each pixel of the first channel
    tap = places.div(of_first.shape[1], rounding_mode="floor") * (shape[0] if channels_last else 1)
    by_pixel = Uses(
        F.pad(times[:pixels].cumsum(0), (1, 0)).int(),
        torch.stack([tap, places % of_first.shape[1]], dim=1).int(),
        shape[0],
        1 if channels_last else taps,
    )
    part = torch.arange(parts).unsqueeze(1)
    with_ones = torch.cat([rows, torch.full((math.prod(windows.shape[1:3]) if adds else 0,), count)])
    return Windows(
        (windows.shape[1], windows.shape[2]),
        (torch.where(with_ones < count, part, parts - 1) * count + with_ones).flatten(),
        (part * len(with_ones) + uses).flatten(),
        (part * len(uses) + times.cumsum(0) - times).flatten(),
        by_pixel,
    )
