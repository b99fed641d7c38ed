"""The audit's products are numpy's, whatever torch is told to compute in."""

import numpy as np
import pytest
import torch

from inkproof.audit.linear_algebra import matmul, solve

random = np.random.default_rng(0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("left", "right"), [((5, 7), (7, 3)), ((7,), (7, 3)), ((0, 7), (7, 3)), ((5, 7), (7, 5))])
def test_products_are_numpys(left: tuple[int, ...], right: tuple[int, int], dtype: type) -> None:
    a, b = random.normal(size=left).astype(dtype), random.normal(size=right).astype(dtype)
    found = matmul(a, b)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, a @ b, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(matmul(b.T, np.ascontiguousarray(b)), b.T @ b, rtol=1e-4, atol=1e-5)


def test_solutions_are_numpys() -> None:
    matrix, right = random.normal(size=(6, 6)), random.normal(size=(6, 2))
    np.testing.assert_allclose(solve(matrix, right), np.linalg.solve(matrix, right))


def test_a_singular_matrix_has_none() -> None:
    with pytest.raises(torch.linalg.LinAlgError):
        solve(np.zeros((3, 3)), np.ones((3, 1)))


def test_autocast_does_not_reach_the_audit() -> None:
    a, b = random.normal(size=(5, 7)).astype(np.float32), random.normal(size=(7, 3)).astype(np.float32)
    with torch.autocast("cpu", torch.bfloat16):
        found = matmul(a, b)
    np.testing.assert_array_equal(found, matmul(a, b))
