"""What a net of convolutional blocks, such as `models.strong` builds, is made of, to write its gradients out."""

import re
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import nn

from inkproof.hooks import has_hooks

_LETTERS = {nn.Conv2d: "c", nn.MaxPool2d: "p", nn.BatchNorm2d: "n", nn.SiLU: "a", nn.ReLU: "a", nn.Flatten: "f"}
_BLOCK = re.compile("cp?na")
_NET = re.compile("(cp?na)+cf")


@dataclass(frozen=True)
class Block:
    """Convolution without bias, perhaps a 2×2 max-pool, batch normalisation, activation.

    Args:
        convolution, norm, activation: the modules.
        pools: whether a pool stands behind the convolution.
    """

    convolution: nn.Conv2d
    pools: bool
    norm: nn.BatchNorm2d
    activation: nn.SiLU | nn.ReLU

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Kernels, and the normalisation's scale and offset."""
        return [*self.convolution.parameters(), *self.norm.parameters()]

    @property
    def learns(self) -> bool:
        """Whether its numbers are trained: all of them are, or none."""
        return self.convolution.weight.requires_grad

    def shape_after(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(height, width) of its outputs for images of this one."""
        convolution = self.convolution
        each = zip(shape, convolution.kernel_size, convolution.stride, padding_of(convolution), strict=True)
        after = [(size + 2 * padding - kernel) // stride + 1 for size, kernel, stride, padding in each]
        return tuple(size // 2 if self.pools else size for size in after)


@dataclass(frozen=True)
class Blocks:
    """A net of blocks and, behind them, a convolution over all that is left of an image.

    Args:
        blocks: first to last; those that are not trained come first.
        last: the convolution, with a bias.
    """

    blocks: tuple[Block, ...]
    last: nn.Conv2d

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters."""
        return [*(each for block in self.blocks for each in block.parameters), *self.last.parameters()]


def padding_of(convolution: nn.Conv2d) -> tuple[int, ...]:
    """Rows and columns of zeros around the images; of one whose padding has no name."""
    assert not isinstance(convolution.padding, str), "`blocks_of` takes no padding by name"
    return convolution.padding


def blocks_of(model: nn.Module) -> Blocks | None:
    """The blocks of a net of plain numbers on the CPU; None for all other models, and those with hooks."""
    if type(model) is not nn.Sequential or any(map(has_hooks, model.modules())):
        return None
    parts = list(model)
    order = "".join(_LETTERS.get(type(part), "?") for part in parts)
    if not _NET.fullmatch(order) or not all(map(_is_usual, parts)):
        return None
    blocks = tuple(_block(parts[found.start() : found.end()]) for found in _BLOCK.finditer(order))
    last = parts[-2]
    assert isinstance(last, nn.Conv2d), "the order says so"
    if any(block.convolution.bias is not None for block in blocks) or last.bias is None or last.padding != (0, 0):
        return None
    net = Blocks(blocks, last)
    return net if _fits_together(net) and _are_plain_numbers(net) and _train_from_one_on(net) else None


def _block(parts: list[nn.Module]) -> Block:
    convolution, norm, activation = parts[0], parts[-2], parts[-1]
    assert isinstance(convolution, nn.Conv2d), "the order says so"
    assert isinstance(norm, nn.BatchNorm2d), "the order says so"
    assert isinstance(activation, nn.SiLU | nn.ReLU), "the order says so"
    return Block(convolution, any(isinstance(part, nn.MaxPool2d) for part in parts), norm, activation)


def _is_usual(part: nn.Module) -> bool:
    """Whether a part does what nearly all of its kind do."""
    match part:
        case nn.Conv2d():
            plain = part.groups == 1 and part.dilation == (1, 1) and part.padding_mode == "zeros"
            return plain and not isinstance(part.padding, str)
        case nn.MaxPool2d():
            halves = part.kernel_size in (2, (2, 2)) and part.stride in (2, (2, 2)) and part.padding in (0, (0, 0))
            return halves and part.dilation in (1, (1, 1)) and not part.return_indices and not part.ceil_mode
        case nn.BatchNorm2d():
            keeps = part.track_running_stats and part.running_mean is not None and part.num_batches_tracked is not None
            return part.affine and keeps and part.momentum is not None
        case nn.Flatten():
            return (part.start_dim, part.end_dim) == (1, -1)
        case _:
            return True


def _fits_together(net: Blocks) -> bool:
    """Whether each part takes as many channels as the one before gives: the kernels themselves do not look."""
    convolutions = [*(block.convolution for block in net.blocks), net.last]
    chained = all(one.out_channels == next_one.in_channels for one, next_one in pairwise(convolutions))
    return chained and all(block.norm.num_features == block.convolution.out_channels for block in net.blocks)


def _are_plain_numbers(net: Blocks) -> bool:
    """Whether all parameters are of one float type on the CPU, and none stands there twice."""
    parameters = net.parameters
    plain = all(type(each) is nn.Parameter and each.is_cpu for each in parameters)
    known = {each.dtype for each in parameters} in ({torch.float32}, {torch.float64})
    return plain and known and len(set(map(id, parameters))) == len(parameters)


def _train_from_one_on(net: Blocks) -> bool:
    """Whether from some block on all is trained, and nothing before."""
    groups = [*(block.parameters for block in net.blocks), list(net.last.parameters())]
    whole = all(len({each.requires_grad for each in group}) == 1 for group in groups)
    learn = [group[0].requires_grad for group in groups]
    return whole and learn == sorted(learn) and learn[-1]
