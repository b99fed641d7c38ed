"""Pairs of (input, target) as people bring them, seen as two tensors; and what identifies a row of them.

A list of pairs, a `TensorDataset` and a `Subset` of one lie in memory already: as two tensors they train without
per-sample Python, and their rows can be told apart by content, as those of an ImageSet.
"""

import pickle
import random
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped, UInt64
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset, default_collate

from inkproof.fingerprints import hashes

_CHUNK = 1000  # rows changed at a time: few enough to stay in cache


class OwnTensors(TensorDataset):
    """Two tensors that were copied together for nobody else: what is known of them is true until they are written to.

    As far as torch sees: it does not see who writes through a numpy array or `.data`.
    """

    @property
    def writes(self) -> tuple[int, ...] | None:
        """How often each was written to; None where torch does not count, for tensors made in inference mode."""
        if any(part.is_inference() for part in self.tensors):
            return None
        return tuple(part._version for part in self.tensors)


def as_tensors(data: object) -> tuple[Tensor, Tensor] | None:
    """Inputs and targets of data that lies in memory as tensors; None for what is read item by item.

    Args:
        data: an (inputs, targets) tuple of tensors, a `TensorDataset` of two tensors, a `Subset` of such, or a
            DataLoader of one of these.
    """
    if isinstance(data, DataLoader):
        data = sampled(data)
    if isinstance(data, Subset):
        whole = as_tensors(data.dataset)
        rows = torch.as_tensor(data.indices)
        return None if whole is None else (whole[0][rows], whole[1][rows])
    if isinstance(data, TensorDataset):
        data = data.tensors
    if isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data):
        return data
    return None


def sampled(loader: DataLoader[Any]) -> Dataset[Any]:
    """The dataset of a loader, cut to the rows that its sampler draws from, in the order of these rows."""
    indices = getattr(loader.sampler, "indices", None)  # of a SubsetRandomSampler
    return loader.dataset if indices is None else Subset(loader.dataset, sorted(int(row) for row in indices))


def collect(data: Dataset[Any]) -> tuple[Tensor, Tensor]:
    """Read a torch dataset of pairs item by item, once."""
    count = len(data)  # type: ignore[arg-type]  # torch types datasets without a length
    inputs, targets = default_collate([data[row] for row in range(count)])
    return inputs, targets


def repeatable(data: Any) -> list[Any] | None:
    """All items of a dataset that gives the same ones at each reading; None where chance has a hand in it.

    Read twice, all of it: a dataset that alters its images at random draws from a random generator or differs.

    Args:
        data: has a length, and gives an item for each row number below it.
    """
    before = random_states()
    items = [data[row] for row in range(len(data))]
    again = (data[row] for row in range(len(data)))
    same = all(equal_items(first, second) for first, second in zip(items, again, strict=True))
    return items if same and random_states() == before else None


def random_states() -> tuple[bytes, bytes, object]:
    """The states of the global generators of torch, numpy and `random`."""
    return torch.get_rng_state().numpy().tobytes(), pickle.dumps(np.random.get_state()), random.getstate()  # noqa: NPY002


def equal_items(first: Any, second: Any) -> bool:
    """Whether two items hold the same numbers, part by part."""
    if isinstance(first, tuple | list):
        return len(first) == len(second) and all(map(equal_items, first, second))
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    return bool(np.array_equal(np.asarray(first), np.asarray(second)))


def row_hashes(inputs: Shaped[Tensor, "n ..."]) -> UInt64[np.ndarray, " n"]:
    """64-bit hash of each row, in this process: equal for equal numbers, whatever floating-point type they came in."""
    rows = inputs.detach().cpu().flatten(1) if inputs.ndim > 1 else inputs.detach().cpu().unsqueeze(1)
    parts = rows.split(_CHUNK) if rows.is_floating_point() else [rows]
    return np.concatenate([hashes(_comparable(part).numpy()) for part in parts])


def _comparable(rows: Shaped[Tensor, "n numbers"]) -> Shaped[Tensor, "n numbers"]:
    """Equal bytes for equal numbers: -0.0 is 0.0."""
    return (rows.float() + 0.0 if rows.is_floating_point() else rows).contiguous()
