"""Pairs that people bring: as two tensors, in their order, told apart by content."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset, Subset, TensorDataset

from inkproof.batches import TensorBatches, ordered_batches
from inkproof.pairs import as_tensors, collect, row_hashes

CPU = torch.device("cpu")


class Squares(Dataset[tuple[torch.Tensor, int]]):
    def __len__(self) -> int:
        return 5

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return torch.full((3,), float(row)), row * row


def numbered(count: int) -> TensorDataset:
    return TensorDataset(torch.arange(count).float().unsqueeze(1).repeat(1, 4), torch.arange(count))


def test_subsets_and_loaders_are_seen_through_and_other_datasets_are_not() -> None:
    whole = numbered(6)
    inside = as_tensors(DataLoader(Subset(whole, [4, 0, 2]), batch_size=2))
    assert inside is not None
    assert inside[1].tolist() == [4, 0, 2]
    assert as_tensors(Squares()) is None
    assert collect(Squares())[1].tolist() == [0, 1, 4, 9, 16]


@given(count=st.integers(1, 40), batch_size=st.integers(1, 45), shuffled=st.booleans())
def test_a_pass_over_tensors_gives_every_row_once_with_its_target(count: int, batch_size: int, shuffled: bool) -> None:
    generator = torch.Generator().manual_seed(0) if shuffled else None
    batches = TensorBatches(*numbered(count).tensors, batch_size=batch_size, device=CPU, shuffle=generator)
    inputs, targets = map(torch.cat, zip(*batches, strict=True))
    assert torch.equal(inputs[:, 0].long(), targets)
    assert sorted(targets.tolist()) == list(range(count))
    assert shuffled or targets.tolist() == list(range(count))
    assert len(batches) == len(list(batches))


def test_tensors_are_predicted_in_their_order_from_memory() -> None:
    assert isinstance(ordered_batches(numbered(3), device=CPU), TensorBatches)
    inputs, _ = map(torch.cat, zip(*ordered_batches(numbered(2500), device=CPU), strict=True))
    assert inputs[:, 0].long().tolist() == list(range(2500))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.uint8, torch.int64])
def test_rows_have_equal_hashes_exactly_where_their_numbers_are_equal(dtype: torch.dtype) -> None:
    rows = torch.tensor([[0, 1, 2], [2, 1, 0], [0, 1, 2]], dtype=dtype)
    first, second, third = row_hashes(rows).tolist()
    assert first == third != second


def test_a_hash_is_the_same_for_both_floating_types_and_both_zeros() -> None:
    rows = torch.tensor([[0.5, 0.0]])
    assert row_hashes(rows) == row_hashes(rows.double()) == row_hashes(-rows * -1)
    assert row_hashes(torch.tensor([[0.5, -0.0]])) == row_hashes(rows)
