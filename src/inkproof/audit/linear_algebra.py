"""Linear algebra of numpy's arrays by torch.

numpy's own wakes OpenBLAS's threads, which then spin for a while in the way of torch's: after an audit the first epoch
of 784-10 took 0.10 to 0.12 in place of 0.05 to 0.07 s (2 cores of an AMD EPYC, six runs each, November 2026). And for
arrays of 4 MB and more numpy asks Linux for huge pages, for which a young process may wait: what made two of them took
17 to 64 ms, and 10 to 24 without (2 cores of an Intel Xeon, three processes each, November 2026).
"""

import numpy as np
import torch
from jaxtyping import Float


def matmul(left: Float[np.ndarray, "*m k"], right: Float[np.ndarray, "k n"]) -> Float[np.ndarray, "*m n"]:
    """`left @ right`, of arrays of one dtype that can be written to, in that dtype whatever autocast is on."""
    with torch.autocast("cpu", enabled=False):
        return np.asarray(torch.from_numpy(left) @ torch.from_numpy(right))


def centred(rows: Float[np.ndarray, "n columns"]) -> Float[np.ndarray, "n columns"]:
    """Each number less the mean of its column, of an array that can be written to."""
    values = torch.from_numpy(rows)
    return np.asarray(values - values.mean(dim=0))


def solve(matrix: Float[np.ndarray, "n n"], right: Float[np.ndarray, "n columns"]) -> Float[np.ndarray, "n columns"]:
    """x of `matrix @ x = right`, of arrays of one dtype that can be written to.

    Raises:
        torch.linalg.LinAlgError: the matrix is singular.
    """
    return np.asarray(torch.linalg.solve(torch.from_numpy(matrix), torch.from_numpy(right)))
