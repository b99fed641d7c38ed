"""The learning-rate finder: suggestions against independent readings of the same curves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inkproof.errors import InputError, NotFinite
from inkproof.lr_find import minimum, ramp, slide, steep, suggest, valley

LRS = 1e-7 * (1e8) ** (np.arange(10, 95) / 100)
curves = st.lists(st.floats(0.01, 10), min_size=85, max_size=85).map(np.array)


def longest_valley_by_definition(losses: np.ndarray) -> tuple[int, int]:
    """The quadratic table of longest falling subsequences, written the long way round."""
    lengths = [1] * len(losses)
    for i in range(1, len(losses)):
        for j in range(i):
            if losses[i] < losses[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
    end = lengths.index(max(lengths))
    return (end - lengths[end], end) if max(lengths) > 1 else (0, 0)


@given(curves)
def test_valley_is_in_the_middle_third_of_the_longest_valley(losses: np.ndarray) -> None:
    start, end = longest_valley_by_definition(losses)
    third = (end - start) / 3
    assert valley(LRS, losses) == LRS[start + int(third) + int(third / 2)]


@given(curves)
def test_steep_and_minimum_are_where_they_say(losses: np.ndarray) -> None:
    slopes = (losses[1:] - losses[:-1]) / (np.log(LRS[1:]) - np.log(LRS[:-1]))
    assert steep(LRS, losses) == LRS[slopes.argmin()]
    assert minimum(LRS, losses) == LRS[losses.argmin()] / 10


def test_slide_stops_where_the_slopes_at_its_ends_agree() -> None:
    losses = np.concatenate([np.full(60, 2.3), 2.3 - 0.05 * np.arange(25)])
    slopes = np.gradient(losses)
    left = max(i for i in range(len(losses) - 15) if abs(slopes[i + 15] - slopes[i]) <= 0.005)
    assert slide(LRS, losses) in (LRS[left], LRS[left + 1], LRS[len(losses) - 16])
    assert slide(LRS, np.full(85, 2.3)) == LRS[-16]


def test_the_ramp_rises_by_a_constant_factor_and_smooths() -> None:
    asked: list[float] = []

    def step(lr: float) -> float:
        asked.append(lr)
        return 2.0

    curve = ramp(step)
    assert len(asked) == 100
    assert asked[0] == pytest.approx(1e-7)
    assert np.diff(np.log(asked)) == pytest.approx(np.full(99, np.log(1e8) / 100))
    assert curve.losses == pytest.approx(np.full(100, 2.0))
    assert curve.suggested == suggest(curve.lrs[10:-5], curve.losses[10:-5])


def test_the_ramp_stops_when_the_loss_diverges_or_is_not_finite() -> None:
    assert len(ramp(lambda lr: 1.0 if lr < 0.09 else 1e4).lrs) == 76

    def explode(lr: float) -> float:
        if lr > 1:
            raise NotFinite("inf")
        return 1.0

    assert ramp(explode).lrs[-1] == pytest.approx(10 ** (-7 + 8 * 87 / 100))


def test_a_ramp_that_diverges_at_once_says_so() -> None:
    with pytest.raises(InputError, match=r"the loss diverged after 6 of 100 steps, at a learning rate of 2\.5e-07"):
        ramp(lambda lr: 1.0 if lr < 2.4e-7 else 1e6)

    def never(lr: float) -> float:
        raise NotFinite("nan")

    with pytest.raises(InputError, match="the first loss was not finite"):
        ramp(never)


RECORDED = json.loads((Path(__file__).parent / "fixtures" / "lr_find.json").read_text())


@pytest.mark.parametrize("curve", RECORDED["curves"], ids=lambda curve: curve["name"])
def test_suggestions_are_those_of_fastai_on_recorded_curves(curve: dict[str, Any]) -> None:
    first = RECORDED["steps"] // 10
    lrs, losses = (np.array(curve[part][first:-5]) for part in ("lrs", "losses"))
    assert suggest(lrs, losses)._asdict() == pytest.approx(curve["suggested"], rel=1e-6)


def test_the_recorded_curves_differ_in_what_they_suggest() -> None:
    for name in ("valley", "steep", "minimum", "slide"):
        assert len({round(curve["suggested"][name], 9) for curve in RECORDED["curves"]}) >= 8, name
