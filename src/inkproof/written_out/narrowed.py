"""Linear layers on some of their inputs, where all others are zero in every row.

Zeros add nothing to what the first layer gives, and the gradient for their weights is zero. Its bias is the weight of
an input that is always one, and takes no operations of its own.
"""

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager

from jaxtyping import Int64
from torch import Tensor, nn

from inkproof.written_out.chain import share_memory
from inkproof.written_out.linear import LinearStep


@contextmanager
def narrowed(step: LinearStep, places: Int64[Tensor, " places"], width: int) -> Iterator[LinearStep]:
    """The step on a copy of its first layer that takes some inputs alone.

    The layer has what was learnt when the block ends, however it ends.

    Args:
        step: on all inputs, as `can_be_narrowed` is true of.
        places: of the inputs that rows hold.
        width: of rows: these inputs, then zeros, and a last number that is one in the unit of inputs.
    """
    first, *others = step.layers
    weight, bias = first.weight.detach(), first.bias.detach()
    narrow = copy.deepcopy(first)  # a new layer would draw its weights
    narrow.in_features = width
    narrow.register_parameter("bias", None)
    matrix = weight.new_zeros(first.out_features, width)
    narrow.weight = nn.Parameter(matrix)
    matrix[:, : len(places)], matrix[:, -1] = weight.index_select(1, places), bias
    try:
        yield LinearStep([narrow, *others], step.optimizer, step.loss_gradient, flatten=step.flatten, unit=step.unit)
    finally:
        weight.index_copy_(1, places, matrix[:, : len(places)])
        bias.copy_(matrix[:, -1])


def can_be_narrowed(step: LinearStep, shape: tuple[int, ...]) -> bool:
    """Whether a step takes images of a shape as rows of all their pixels, and adds a bias to what it makes of them.

    No two layers may be the same numbers.
    """
    first = step.layers[0]
    takes = step.flatten and first.in_features == math.prod(shape) and first.bias is not None
    return takes and not share_memory(step.layers)
