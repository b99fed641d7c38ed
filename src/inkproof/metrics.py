"""Numbers for people: each takes raw outputs and targets of all rows at once and gives a scalar.

A metric sees the whole side, never one batch, so no mean of unequal batches is ever taken.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from inkproof.heads import check_pairing

Metric = Callable[[Tensor, Tensor], Tensor | float]
"""A metric takes outputs and targets of all rows and gives one number."""


def accuracy(outputs: Float[Tensor, "n ..."], targets: Shaped[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """Share of rows whose largest output is their class; with one output, whose logit has the right sign.

    For the nearest-label decoding of a `value` head, see `Head.decode`.
    """
    check_pairing(outputs, targets, where="accuracy")
    if outputs.shape == targets.shape:
        return ((outputs > 0) == (targets > 0.5)).double().mean().float()
    return (outputs.argmax(dim=1) == targets).double().mean().float()


def wilson_interval(correct: int, count: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """Interval for a share of which `correct` of `count` independent draws were seen.

    Speaks of which images were drawn, not of which seed. Source: Wilson 1927, without continuity correction,
    as `scipy.stats.binomtest(...).proportion_ci(method="wilson")`.

    Example:
        >>> low, high = wilson_interval(990, 1000)
        >>> round(low, 4), round(high, 4)
        (0.9817, 0.9946)
    """
    z = math.sqrt(2) * float(torch.erfinv(torch.tensor(confidence, dtype=torch.float64)))
    share = correct / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return max(0.0, centre - half), min(1.0, centre + half)
