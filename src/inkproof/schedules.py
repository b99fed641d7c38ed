"""Schedules: the learning rate (and momentum) of each step of a training.

A schedule is a function of the step, counted from 0, and the number of steps of the whole training. It gives a
`StepValues`, or just the learning rate.
"""

import math
from collections.abc import Callable, Iterator
from itertools import chain, count
from typing import NamedTuple


class StepValues(NamedTuple):
    """What the optimiser takes for one step; momentum None leaves the optimiser's own."""

    lr: float
    momentum: float | None = None


Schedule = Callable[[int, int], StepValues | float]


def values_of_a_pass(schedule: Schedule, first_step: int, steps: int, length: int) -> Iterator[StepValues | float]:
    """What each step of a pass takes, asked for before the first.

    The pass may be one of inference mode, where what a user's function makes could not be trained.

    Args:
        schedule: of the training.
        first_step: of the pass, counted from 0.
        steps: of the training.
        length: steps of the pass; a loader that gives more batches than it says is asked for them one by one.
    """
    values = (schedule(step, steps) for step in count(first_step))
    return chain([next(values) for _ in range(length)], values)


def constant(lr: float) -> Schedule:
    """The same learning rate at every step."""
    return lambda step, steps: StepValues(lr)


def one_cycle(
    lr: float,
    *,
    warm_up: float = 0.25,
    start_div: float = 25.0,
    end_div: float = 1e5,
    momentum: tuple[float, float, float] | None = (0.95, 0.85, 0.95),
) -> Schedule:
    """Up from lr/start_div to lr and down to lr/end_div, both along a cosine; momentum moves the other way.

    Args:
        lr: the peak.
        warm_up: share of the steps that go up.
        start_div: the first learning rate is lr / start_div.
        end_div: the last one approaches lr / end_div.
        momentum: at the start, at the peak, at the end; None leaves the optimiser's own.

    Source: Smith 2018 in the form of fastai's `fit_one_cycle`, whose defaults these are. torch's OneCycleLR
    differs: it warms up over 30 % and divides its end by the start's rate.
    """

    def values(step: int, steps: int) -> StepValues:
        progress = step / steps
        rates = (lr / start_div, lr, lr / end_div)
        return StepValues(
            _two_cosines(progress, warm_up, rates),
            None if momentum is None else _two_cosines(progress, warm_up, momentum),
        )

    return values


def linear(lr: float, *, warm_up: float = 0.2) -> Schedule:
    """Up in a straight line to lr over the first share of the steps, then down to 0 at the end.

    Args:
        lr: the peak.
        warm_up: share of the steps that go up.
    """

    def values(step: int, steps: int) -> StepValues:
        rising = (step + 1) / (warm_up * steps) if warm_up else 1.0
        falling = (steps - step) / ((1 - warm_up) * steps)
        return StepValues(lr * min(rising, falling, 1.0))

    return values


def _two_cosines(progress: float, turn: float, values: tuple[float, float, float]) -> float:
    start, middle, end = values
    if progress < turn:
        return _cosine(start, middle, progress / turn)
    return _cosine(middle, end, (progress - turn) / (1 - turn))


def _cosine(start: float, end: float, progress: float) -> float:
    return start + (1 + math.cos(math.pi * (1 - progress))) * (end - start) / 2
