"""Compare two trained recipes from their predictions of the same images: two errors, told apart.

Which seeds were drawn: the difference of mean accuracies over seeds, paired where both runs have the same seeds. Which
images were drawn: for one seed at a time, on how many images one is right and the other wrong. Neither stands for the
other: many seeds say nothing of other images, and many images nothing of other seeds.
"""

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

Right = Bool[np.ndarray, " n"]
_MOST_SEEDS = 1000
_POWER = 0.8


@dataclass(frozen=True)
class OverSeeds:
    """What the seeds tell.

    Args:
        difference: of the mean accuracies, second minus first.
        interval: of it, 95 %, over seeds (Student's t).
        p: of no difference: paired t-test, or Welch's where the seeds are not the same.
        paired: by seed.
        seeds: of the first run and of the second.
        needed: seeds with which a difference like this one would be shown four times out of five; None where no
            thousand would do, or the difference is 0.
    """

    difference: float
    interval: tuple[float, float]
    p: float
    paired: bool
    seeds: tuple[int, int]
    needed: int | None


@dataclass(frozen=True)
class OverImages:
    """What the images tell of one seed of each run.

    Args:
        seeds: of the first run and of the second.
        difference: of the accuracies, second minus first.
        interval: of it, 95 %, over images (Agresti and Min 2005).
        first_alone: images that the first alone is right on.
        second_alone: images that the second alone is right on.
        p: of no difference: McNemar's exact test.
    """

    seeds: tuple[int, int]
    difference: float
    interval: tuple[float, float]
    first_alone: int
    second_alone: int
    p: float


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same images.

    Args:
        images: how many they share.
        accuracies: mean accuracy of each over its seeds, on these images.
        over_seeds: None where a run has one seed.
        over_images: for each pair of seeds.
    """

    images: int
    accuracies: tuple[float, float]
    over_seeds: OverSeeds | None
    over_images: tuple[OverImages, ...]

    @property
    def typical(self) -> OverImages:
        """The pair of seeds with the median p."""
        return sorted(self.over_images, key=lambda one: one.p)[len(self.over_images) // 2]


def compare(first: Mapping[int, Right], second: Mapping[int, Right]) -> Comparison:
    """Compare by which images each seed of each run is right on.

    Args:
        first: for each seed of the first run a boolean (n,), True where it is right.
        second: likewise, of the same images in the same order.
    """
    shared = [seed for seed in first if seed in second]
    pairs = [(seed, seed) for seed in shared] if shared else list(zip(first, second, strict=False))
    means = [statistics.mean(float(right.mean()) for right in run.values()) for run in (first, second)]
    return Comparison(
        images=len(next(iter(first.values()))),
        accuracies=(means[0], means[1]),
        over_seeds=_over_seeds(first, second) if min(len(first), len(second)) > 1 else None,
        over_images=tuple(_over_images(pair, first[pair[0]], second[pair[1]]) for pair in pairs),
    )


def _over_seeds(first: Mapping[int, Right], second: Mapping[int, Right]) -> OverSeeds:
    from scipy import stats

    paired = list(first) == list(second)
    one, two = ([float(right.mean()) for right in run.values()] for run in (first, second))
    if paired:
        differences = [b - a for a, b in zip(one, two, strict=True)]
        spread = statistics.stdev(differences)
        error, degrees = spread / math.sqrt(len(one)), len(one) - 1.0
    else:
        shares = [statistics.variance(run) / len(run) for run in (one, two)]
        error, spread = math.sqrt(sum(shares)), math.sqrt(statistics.variance(one) + statistics.variance(two))
        parts = sum(share**2 / (len(run) - 1) for share, run in zip(shares, (one, two), strict=True))
        degrees = sum(shares) ** 2 / parts if parts else float(len(one) + len(two) - 2)
    difference = statistics.mean(two) - statistics.mean(one)
    half = float(stats.t.ppf(0.975, degrees)) * error
    without_spread = 0.0 if difference else 1.0
    p = float(2 * stats.t.sf(abs(difference) / error, degrees)) if error else without_spread
    return OverSeeds(
        difference,
        (difference - half, difference + half),
        p,
        paired,
        (len(one), len(two)),
        _seeds_needed(abs(difference), spread),
    )


def _seeds_needed(difference: float, spread: float) -> int | None:
    """Seeds of each run with which a paired t-test at 5 % sees the difference with a power of 80 %."""
    from scipy import stats

    if difference == 0:
        return None
    for seeds in range(2, _MOST_SEEDS + 1):
        quantiles = stats.t.ppf(0.975, seeds - 1) + stats.t.ppf(_POWER, seeds - 1)
        if difference >= quantiles * spread / math.sqrt(seeds):
            return seeds
    return None


def _over_images(seeds: tuple[int, int], first: Right, second: Right) -> OverImages:
    from scipy import stats

    first_alone, second_alone = int((first & ~second).sum()), int((second & ~first).sum())
    apart = first_alone + second_alone
    p = float(stats.binomtest(first_alone, apart).pvalue) if apart else 1.0
    count = len(first) + 2  # half an image more in each of the four cells
    middle, sum_apart = (second_alone - first_alone) / count, apart + 1
    half = 1.96 * math.sqrt(max(sum_apart - (second_alone - first_alone) ** 2 / count, 0.0)) / count
    difference = (second_alone - first_alone) / len(first)
    return OverImages(seeds, difference, (middle - half, middle + half), first_alone, second_alone, p)
