"""Looking at the numbers of a written-out step before its update."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

LARGE = 1e15  # float32 ends at 3e38: the product of two norms below this is finite


def sum_of_step(
    entering: Float[Tensor, "..."], loss: Float[Tensor, "..."], gradient_sums: Sequence[Float[Tensor, "..."]]
) -> Float[Tensor, ""]:
    """One sum that is beyond `LARGE`, or no number, where the update might write what is not finite.

    Args:
        entering: the inputs, or the first layer's outputs before its ReLU, which are fewer. Infinite inputs may
            reach neither loss nor gradients, where ReLU makes 0 of minus infinity; the weights still become NaN by 0
            times infinity.
        loss: of one net, or of several.
        gradient_sums: over the batch, of each layer's outputs.
    """
    return torch.cat([entering.sum().view(1), loss.view(-1), *(each.view(-1) for each in gradient_sums)]).sum()


def is_far_from_overflow(
    entering: Float[Tensor, ""], loss: Float[Tensor, ""], gradients: Sequence[Float[Tensor, "..."]]
) -> bool:
    """Whether the sum that `sum_of_step` gives is below `LARGE` either way; for numbers on the CPU.

    Read one by one and added up in Python: to put a few numbers into one tensor takes 3 to 4 % of a small net's step
    more (2 cores of an AMD EPYC, November 2026).

    Args:
        entering: the sum of what `sum_of_step` takes.
        loss: of one net.
        gradients: of each layer's outputs, or their sums.
    """
    total = entering.item() + loss.item()
    for each in gradients:
        total += each.sum().item()
    return abs(total) < LARGE
