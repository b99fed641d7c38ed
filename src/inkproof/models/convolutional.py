"""Convolutional networks: the small one of the ladder and the strong one."""

from collections.abc import Sequence
from typing import Literal

from torch import nn

_SMALLEST_POOLED_SIDE = 8
_SMALLEST_SIDE_POOLED_SECOND = 10  # 8×8 digits lost 0.1 points by a pool so early
_LARGEST_FINAL_SIDE = 4


def conv(
    shape: tuple[int, int, int],
    outputs: int,
    *,
    channels: Sequence[int] = (4, 16, 32, 64),
    initialisation: Literal["he", "torch"] = "he",
) -> nn.Sequential:
    """3×3 convolutions of stride 2, ReLU between, the last with one channel an output.

    28×28 shrinks to 14, 7, 4, 2 and 1. What is larger than 32×32 does not reach 1×1; its outputs are averaged.

    Args:
        shape: (channels, height, width) of the images.
        outputs: numbers given for each image.
        channels: of all convolutions but the last.
        initialisation: "he" keeps the signal's size through the ReLUs (He et al. 2015). "torch" is the default of
            `nn.Conv2d`, which shrinks it at every layer: the outputs of five layers hardly depend on the image,
            and training often never leaves a constant.
    """
    depth, height, width = shape
    layers: list[nn.Module] = []
    for next_depth in (*channels, outputs):
        layers += [nn.Conv2d(depth, next_depth, 3, stride=2, padding=1), nn.ReLU()]
        depth, height, width = next_depth, (height + 1) // 2, (width + 1) // 2
    layers.pop()
    if (height, width) != (1, 1):
        layers.append(nn.AvgPool2d((height, width)))
    if initialisation == "he":
        for layer in layers:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
                nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers, nn.Flatten())


def strong(
    shape: tuple[int, int, int],
    outputs: int,
    *,
    widths: Sequence[int] = (16, 32, 48, 64),
    activation: Literal["relu", "silu"] = "relu",
    stem: Literal["stride", "pool"] = "stride",
    pools: Literal["early", "late"] = "early",
) -> nn.Sequential:
    """A small net with batch normalisation that is near the best known for its cost.

    Blocks of convolution (no bias) → max-pool → batch normalisation → activation, then one linear layer. Images of 16
    pixels and more start with a 5×5 convolution that halves them, smaller ones with a 3×3 that does not; later blocks
    pool while their convolution leaves 8 pixels a side, the second if it gets 10. With four blocks and 28×28 images it
    has 53,000 parameters. Pooling before normalisation costs a quarter of the other order and is equal, since both are
    monotone.

    Args:
        shape: (channels, height, width) of the images.
        outputs: numbers given for each image.
        widths: channels of the blocks, first to last.
        activation: "silu" (x times its sigmoid; Elfwing et al. 2017) takes 5 % longer than "relu" and ends higher.
        stem: how the first block halves images of 16 pixels and more: by "stride", or by a "pool" after it, at more
            than twice the cost: for long trainings.
        pools: from the second block on, "early", or from the third on, "late", which costs a sixth more: for longer
            trainings.
    """
    depth, height, width = shape
    layers: list[nn.Module] = []
    for number, next_depth in enumerate(widths):
        side = min(height, width)
        is_first, is_second, is_last = number == 0, number == 1, number == len(widths) - 1
        halves = is_first and side >= 16
        keeps_size = is_second and (pools == "late" or side < _SMALLEST_SIDE_POOLED_SECOND)
        kernel, stride = 5 if halves else 3, 2 if halves and stem == "stride" else 1
        # The edges of digits are empty: blocks leave them out where there is room.
        leaves_out = halves or (is_second and stem == "stride" and side >= 12) or (is_last and number > 1 and side >= 5)
        padding = 0 if leaves_out else 1
        layers.append(nn.Conv2d(depth, next_depth, kernel, stride=stride, padding=padding, bias=False))
        depth = next_depth
        height, width = ((size + 2 * padding - kernel) // stride + 1 for size in (height, width))
        has_room = min(height, width) >= _SMALLEST_POOLED_SIDE
        if (has_room and not is_first and not keeps_size) or (halves and stem == "pool"):
            layers.append(nn.MaxPool2d(2))
            height, width = height // 2, width // 2
        # Short trainings: the running statistics must follow within tens of steps.
        layers += [nn.BatchNorm2d(depth, momentum=0.3), nn.SiLU() if activation == "silu" else nn.ReLU()]
    if max(height, width) > _LARGEST_FINAL_SIDE:
        rows, columns = -(-height // _LARGEST_FINAL_SIDE), -(-width // _LARGEST_FINAL_SIDE)
        layers.append(nn.AvgPool2d((rows, columns)))
        height, width = height // rows, width // columns
    # The linear layer as a convolution over all that is left. Flattening first would hand gradients on with channels
    # first: a twentieth of the step goes into putting them last again.
    return nn.Sequential(*layers, nn.Conv2d(depth, outputs, (height, width)), nn.Flatten())
