"""Metrics against references."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from inkproof.errors import ShapeMismatch
from inkproof.metrics import accuracy, wilson_interval


@given(st.data())
def test_the_wilson_interval_is_scipys(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 100_000))
    correct = data.draw(st.integers(0, count))
    expected = binomtest(correct, count).proportion_ci(method="wilson")
    assert wilson_interval(correct, count) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_accuracy_counts_rows() -> None:
    outputs = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    assert accuracy(outputs, torch.tensor([0, 1, 1, 1])) == 0.75
    assert accuracy(torch.tensor([[1.0], [-1], [2], [-3]]), torch.tensor([[1.0], [1], [1], [0]])) == 0.75


def test_accuracy_refuses_a_column_beside_a_row() -> None:
    with pytest.raises(ShapeMismatch, match=r"accuracy got predictions of shape \(4, 1\) and targets of shape \(4,\)"):
        accuracy(torch.zeros(4, 1), torch.zeros(4, dtype=torch.long))
