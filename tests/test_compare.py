"""Comparing two runs: parity with scipy, two errors told apart, through the command line."""

import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Result
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from inkproof.compare import compare

Command = Callable[..., Result]


def right(count: int, wrong: int, *, seed: int = 0) -> np.ndarray:
    found = np.ones(count, bool)
    found[np.random.default_rng(seed).permutation(count)[:wrong]] = False
    return found


def test_images_are_compared_by_mcnemar_s_exact_test() -> None:
    first, second = right(1000, 30), right(1000, 12, seed=1)
    one = compare({0: first}, {0: second}).typical
    alone = int((first & ~second).sum()), int((second & ~first).sum())
    assert (one.first_alone, one.second_alone) == alone
    assert one.p == pytest.approx(stats.binomtest(alone[0], sum(alone)).pvalue)
    assert one.difference == pytest.approx(0.018)
    assert one.interval[0] < 0.018 < one.interval[1]


def test_seeds_are_compared_in_pairs_where_both_runs_have_them() -> None:
    first = {seed: right(1000, 30 + seed, seed=seed) for seed in range(5)}
    second = {seed: right(1000, 20 + 2 * seed, seed=seed + 9) for seed in range(5)}
    found = compare(first, second).over_seeds
    assert found is not None
    means = [[run[seed].mean() for seed in range(5)] for run in (second, first)]
    expected = stats.ttest_rel(*means)
    interval = expected.confidence_interval()
    assert found.paired
    assert found.p == pytest.approx(expected.pvalue)
    assert found.interval == pytest.approx((interval.low, interval.high))


def test_other_seeds_are_compared_by_welch_s_test() -> None:
    first = {seed: right(1000, 30 + seed, seed=seed) for seed in range(5)}
    second = {seed: right(1000, 20 + 3 * seed, seed=seed) for seed in range(5, 8)}
    found = compare(first, second).over_seeds
    assert found is not None
    expected = stats.ttest_ind([r.mean() for r in second.values()], [r.mean() for r in first.values()], equal_var=False)
    assert not found.paired
    assert found.p == pytest.approx(expected.pvalue)


def test_the_seeds_it_would_take_have_a_power_of_four_fifths() -> None:
    random = np.random.default_rng(0)
    first = {seed: right(4000, int(wrong)) for seed, wrong in enumerate(40 + random.integers(-4, 5, 6))}
    second = {seed: right(4000, int(wrong)) for seed, wrong in enumerate(38 + random.integers(-4, 5, 6))}
    found = compare(first, second).over_seeds
    assert found is not None
    assert found.needed is not None
    spread = np.std([second[s].mean() - first[s].mean() for s in range(6)], ddof=1)
    draws = random.normal(abs(found.difference), spread, (4000, found.needed))
    shown = stats.ttest_1samp(draws, 0, axis=1).pvalue < 0.05
    assert shown.mean() == pytest.approx(0.8, abs=0.04)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 200), st.integers(0, 2**20), st.integers(0, 2**20))
def test_a_run_does_not_differ_from_itself_and_order_turns_the_sign(count: int, one: int, two: int) -> None:
    first = np.random.default_rng(one).random(count) < 0.9
    second = np.random.default_rng(two).random(count) < 0.8
    same = compare({0: first}, {0: first}).typical
    assert (same.difference, same.p) == (0.0, 1.0)
    there, back = compare({0: first}, {0: second}).typical, compare({0: second}, {0: first}).typical
    assert there.difference == -back.difference
    assert math.isclose(there.p, back.p)
    assert there.interval[0] <= there.interval[1]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    from inkproof.cli import main

    folder = tmp_path_factory.mktemp("runs")
    for name, recipe, seeds in (("linear", "linear-cross-entropy", 3), ("hidden", "deep", 3), ("one", "deep", 1)):
        options = ["--recipe", recipe, "--epochs", "2", "--seeds", str(seeds), "--out", str(folder / name)]
        assert main(["train", *options]) == 0
    return folder / "linear", folder / "hidden", folder / "one"


def test_the_command_tells_both_errors(runs: tuple[Path, Path, Path], inkproof: Command) -> None:
    result = inkproof("compare", runs[0], runs[1])
    assert result.code == 0
    assert "359 shared test images" in result.out
    assert "paired t-test p = " in result.out
    assert "McNemar's exact test p = " in result.out
    found = inkproof("compare", runs[0], runs[1], "--json").json
    assert found["side"] == "test"
    assert len(found["over_images"]) == 3
    alone = inkproof("compare", runs[0], runs[2])
    assert "nothing is known of other seeds: train both with --seeds 5" in alone.out


def test_runs_that_share_no_images_are_not_compared(
    runs: tuple[Path, Path, Path], inkproof: Command, tmp_path: Path
) -> None:
    assert inkproof(
        "train", "--recipe", "linear", "--epochs", "1", "--classes", "3,7", "--out", tmp_path / "r"
    ).code in (0, 2)
    missing = inkproof("compare", runs[0], tmp_path / "nothing")
    assert missing.code == 2
    assert "no run directory of that name" in missing.err
