"""The learning-rate finder: ramp the rate up over a mock training, and read a rate off the curve.

The ramp works on copies that the caller makes, so a training after it is bit-identical to one without it.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from inkproof.errors import InputError, NotFinite

_SMOOTHING = 0.98
_DIVERGED = 4.0  # times the best smoothed loss so far
_NOISY_END = 5  # the last losses are those of the divergence itself
_FEWEST_POINTS = 16  # `slide` compares slopes 15 points apart


class SuggestedLRs(NamedTuple):
    """Learning rates read off one curve.

    Attributes:
        valley: a point in the middle of the longest falling stretch: the one to start from.
        steep: where the loss falls fastest.
        minimum: a tenth of the rate with the smallest loss.
        slide: the largest rate before the loss's slope starts to change.
    """

    valley: float
    steep: float
    minimum: float
    slide: float


@dataclass(frozen=True, eq=False)
class LRCurve:
    """Smoothed loss against learning rate, and what it suggests.

    Args:
        lrs: float64 (steps,), rising.
        losses: float64 (steps,), smoothed.
        suggested: the four suggestions.
    """

    lrs: Float[np.ndarray, " steps"]
    losses: Float[np.ndarray, " steps"]
    suggested: SuggestedLRs

    def plot(self, path: Path | None = None) -> None:
        """Draw the curve with its suggestions: into a file, or as the current figure of a notebook."""
        from matplotlib import pyplot
        from matplotlib.figure import Figure

        figure = pyplot.figure(figsize=(7, 4)) if path is None else Figure(figsize=(7, 4), layout="constrained")
        axes = figure.add_subplot()
        axes.plot(self.lrs[:-_NOISY_END], self.losses[:-_NOISY_END], color="#4c566a")
        for name, lr in self.suggested._asdict().items():
            axes.plot(lr, np.interp(lr, self.lrs, self.losses), "o", label=f"{name} {lr:.2g}")
        axes.set(xscale="log", xlabel="learning rate", ylabel="smoothed loss")
        axes.legend()
        if path is not None:
            figure.savefig(path, dpi=120)


def ramp(step: Callable[[float], float], *, start_lr: float = 1e-7, end_lr: float = 10.0, steps: int = 100) -> LRCurve:
    """Train with an exponentially rising learning rate until it ends or diverges.

    Args:
        step: takes one training step at a learning rate and gives its loss; must work on copies.
        start_lr: the first rate.
        end_lr: the rate that the ramp rises towards.
        steps: length of the ramp.

    Raises:
        InputError: the loss diverged before there were enough points to read a rate from.

    Source: Smith 2015; smoothing (0.98, debiased), end (4 × the best) and range as fastai's `LRFinder`.
    """
    lrs, losses = [], []
    average, best = 0.0, math.inf
    for number in range(steps):
        lr = start_lr * (end_lr / start_lr) ** (number / steps)
        try:
            loss = step(lr)
        except NotFinite:
            break
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        smoothed = average / (1 - _SMOOTHING ** (number + 1))
        lrs.append(lr)
        losses.append(smoothed)
        best = min(best, smoothed)
        if smoothed > _DIVERGED * best:
            break
    first = steps // 10
    if len(lrs) - first - _NOISY_END < _FEWEST_POINTS:
        raise InputError(
            f"lr_find: the loss diverged after {len(lrs)} of {steps} steps, at a learning rate of {lrs[-1]:.1e}: "
            "the inputs may not be scaled, or start_lr is too high"
            if lrs
            else "lr_find: the first loss was not finite: check the model and its inputs"
        )
    curve_lrs, curve_losses = np.array(lrs), np.array(losses)
    return LRCurve(curve_lrs, curve_losses, suggest(curve_lrs[first:-_NOISY_END], curve_losses[first:-_NOISY_END]))


def suggest(lrs: Float[np.ndarray, " points"], losses: Float[np.ndarray, " points"]) -> SuggestedLRs:
    """The four suggestions, as fastai 2.8 defines them.

    Args:
        lrs: rising learning rates, at least 16, without the first tenth of the ramp and its last 5 points.
        losses: the smoothed loss at each.
    """
    return SuggestedLRs(valley(lrs, losses), steep(lrs, losses), minimum(lrs, losses), slide(lrs, losses))


def valley(lrs: Float[np.ndarray, " points"], losses: Float[np.ndarray, " points"]) -> float:
    """A rate in the middle third of the longest valley: the longest strictly falling subsequence of losses."""
    length = np.ones(len(losses), dtype=np.int64)
    for here in range(1, len(losses)):
        higher = losses[:here] > losses[here]
        if higher.any():
            length[here] = length[:here][higher].max() + 1
    end = int(length.argmax())
    start = end - int(length[end]) if end else 0  # as in fastai, one before a valley's first point
    third = (end - start) / 3
    return float(lrs[start + int(third) + int(third / 2)])


def steep(lrs: Float[np.ndarray, " points"], losses: Float[np.ndarray, " points"]) -> float:
    """The rate where the loss falls fastest in the logarithm of the rate."""
    return float(lrs[np.argmin(np.diff(losses) / np.diff(np.log(lrs)))])


def minimum(lrs: Float[np.ndarray, " points"], losses: Float[np.ndarray, " points"]) -> float:
    """A tenth of the rate with the smallest loss."""
    return float(lrs[np.argmin(losses)]) / 10


def slide(
    lrs: Float[np.ndarray, " points"],
    losses: Float[np.ndarray, " points"],
    *,
    apart: int = 15,
    threshold: float = 0.005,
) -> float:
    """Slide a window of slopes down from the end until its two ends agree: the rate at its left end."""
    slopes = np.gradient(losses)
    right, left = len(losses) - 1, len(losses) - 1 - apart
    lr = float(lrs[left])
    while left >= 0 and abs(slopes[right] - slopes[left]) > threshold:
        lr = float(lrs[left])
        right, left = right - 1, left - 1
    return lr
