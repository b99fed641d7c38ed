"""Loaders of (x, y) pairs: whatever lies in memory, or can be read into it, is trained from two tensors there."""

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import Dataset, RandomSampler, SequentialSampler, TensorDataset, default_collate

from inkproof.audit import Finding, Side, act_on, check_sides, side_of
from inkproof.batches import TensorBatches
from inkproof.errors import InputError
from inkproof.pairs import OwnTensors, as_tensors, repeatable

_CPU = torch.device("cpu")


class DataLoader:
    """Batches of a list of (x, y) pairs or of a dataset; iterating gives `(xb, yb)`.

    A dataset of one's own is read twice at the start: where both readings give the same items and no random numbers
    were drawn, it is kept in memory; otherwise its items are read anew in every epoch.

    Args:
        dataset: a list of (x, y) pairs, anything with a length that gives such a pair for each row number, a torch
            DataLoader; or, to predict, inputs alone: a tensor or array (n, ...) or a list of such rows.
        bs: rows a batch; the last batch may be smaller.
        shuffle: a new order at every pass, drawn from torch's global generator; None is False, and is warned of where
            the loader is trained on.
        batch_size: another name for `bs`.
        drop_last: leave out a last batch that is smaller.
        num_workers: processes that read a dataset which is not kept in memory.

    Attributes:
        dataset, bs, shuffle; n, the number of rows.

    Raises:
        InputError: items that are not pairs of tensors, arrays or numbers of one shape.
    """

    def __init__(
        self,
        dataset: Any,
        bs: int | None = None,
        shuffle: bool | None = None,
        *,
        batch_size: int | None = None,
        drop_last: bool = False,
        num_workers: int = 0,
    ):
        if isinstance(dataset, DataLoader | TorchLoader):
            raise InputError("a DataLoader takes a dataset, and this is a loader already: use it as it is")
        self.dataset: Any = dataset if isinstance(dataset, Sized) else list(dataset)
        self.bs = _batch_size(bs, batch_size)
        self.shuffle = shuffle
        self._drop_last = drop_last
        self._workers = num_workers
        self._torch_loader: TorchLoader[Any] | None = None
        if len(self.dataset) == 0:
            raise InputError("the DataLoader's dataset is empty: check how its rows were chosen")
        self._tensors, self.labelled = _read(self.dataset)

    @classmethod
    def around(cls, loader: "DataLoader | TorchLoader[Any]") -> "DataLoader":
        """A loader of torch's as one of these: rows in memory are trained from there, others as torch reads."""
        if isinstance(loader, DataLoader):
            return loader
        plain = type(loader.sampler) in (RandomSampler, SequentialSampler) and loader.collate_fn is default_collate
        made = cls(
            loader.dataset, loader.batch_size, isinstance(loader.sampler, RandomSampler), drop_last=loader.drop_last
        )
        if not plain or made._tensors is None:
            made._torch_loader = loader
        return made

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.dataset)

    @property
    def batch_size(self) -> int:
        """Rows a batch."""
        return self.bs

    def new(self, dataset: Any, *, bs: int | None = None, shuffle: bool = False) -> "DataLoader":
        """A loader of other rows with the same settings."""
        return DataLoader(dataset, bs or self.bs, shuffle, num_workers=self._workers)

    def one_batch(self) -> Any:
        """The first batch of a pass."""
        return next(iter(self))

    def __len__(self) -> int:
        return self.n // self.bs if self._drop_last else -(-self.n // self.bs)

    def __iter__(self) -> Iterator[Any]:
        batches: Any = self.to_train()
        if isinstance(batches, TensorDataset):
            generator = torch.default_generator if self.shuffle else None
            batches = TensorBatches(*batches.tensors, batch_size=self.bs, device=_CPU, shuffle=generator)
        for batch in batches:
            yield batch if self.labelled else batch[0]

    def to_train(self) -> "TensorDataset | TorchLoader[Any]":
        """The rows as the core's Learner takes them: two tensors in memory, or a loader of torch's."""
        if self._torch_loader is not None:
            return self._torch_loader
        if self._tensors is not None and not self._drop_last:
            return self._tensors
        rows = self.dataset if self._tensors is None else self._tensors
        return TorchLoader(
            rows, batch_size=self.bs, shuffle=bool(self.shuffle), drop_last=self._drop_last, num_workers=self._workers
        )

    def to_predict(self) -> "TensorDataset | TorchLoader[Any]":
        """All rows, in the order of the data."""
        if self._tensors is not None:
            return self._tensors
        return TorchLoader(self.dataset, batch_size=self.bs, num_workers=self._workers)

    @property
    def side(self) -> Side | None:
        """What identifies the rows; None where they are not in memory or are no images."""
        side = None if self._tensors is None else side_of(self._tensors)
        return side if side is None or self.labelled else side.unlabelled()


class DataLoaders:
    """A training loader and a validation loader; rows that stand in both are warned of.

    Args:
        loaders: training, then validation; loaders of this module or of torch.
        path: where a Learner keeps its models.

    Attributes:
        train, valid: the loaders.
        findings: what the audit saw of the data.
    """

    def __init__(self, *loaders: "DataLoader | TorchLoader[Any]", path: Any = ".", device: Any = None):
        if not loaders:
            raise InputError("DataLoaders needs a training loader, and one to validate on: DataLoaders(train, valid)")
        self.loaders = [DataLoader.around(loader) for loader in loaders]
        self.path = path
        self.device = device
        self.findings: list[Finding] = []
        self._checked: list[DataLoader] = []
        if len(self.loaders) > 1:
            self._tell(check_sides(self.train.side, self.valid.side))

    @classmethod
    def from_dsets(cls, *datasets: Any, bs: int = 64, path: Any = ".", device: Any = None) -> "DataLoaders":
        """Loaders of datasets, the first of them shuffled.

        Args:
            datasets: as `DataLoader` takes them: training, then validation.
            bs: rows a batch.
            path: as for `DataLoaders`.
            device: as for `DataLoaders`.
        """
        loaders = [DataLoader(data, bs=bs, shuffle=number == 0) for number, data in enumerate(datasets)]
        return cls(*loaders, path=path, device=device)

    @property
    def train(self) -> DataLoader:
        """The loader that is trained on."""
        return self.loaders[0]

    @property
    def valid(self) -> DataLoader:
        """The loader that is validated on."""
        if len(self.loaders) == 1:
            raise InputError("these DataLoaders have no validation loader: DataLoaders(train, valid)")
        return self.loaders[1]

    @property
    def train_ds(self) -> Any:
        """What the training loader was made of."""
        return self.train.dataset

    @property
    def valid_ds(self) -> Any:
        """What the validation loader was made of."""
        return self.valid.dataset

    @property
    def bs(self) -> int:
        """Rows of a training batch."""
        return self.train.bs

    def __getitem__(self, number: int) -> DataLoader:
        return self.loaders[number]

    def __len__(self) -> int:
        return len(self.loaders)

    def one_batch(self) -> Any:
        """The first batch of a pass over the training rows."""
        return self.train.one_batch()

    def test_dl(self, test_items: Any, bs: int | None = None, with_labels: bool = False) -> DataLoader:
        """A loader of test rows, in their order; rows that were trained on are warned of.

        Args:
            test_items: (x, y) pairs, or inputs alone.
            bs: rows a batch; None takes that of training.
            with_labels: as in fastai; labels that are there are kept either way.
        """
        loader = self.train.new(test_items, bs=bs)
        self.check_test(loader)
        return loader

    def check_test(self, loader: DataLoader) -> None:
        """Warn, once a loader, of test rows that are training rows; a loader of these DataLoaders is meant to be."""
        if loader.dataset is self.train.dataset or any(loader is known for known in [*self.loaders, *self._checked]):
            return
        self._checked.append(loader)
        self._tell(check_sides(self.train.side, test=loader.side))

    def _tell(self, findings: list[Finding]) -> None:
        self.findings += act_on(findings, on_finding="warn")


def _batch_size(bs: int | None, batch_size: int | None) -> int:
    if bs is not None and batch_size is not None and bs != batch_size:
        raise InputError(f"bs={bs} and batch_size={batch_size} say two things: give one of them")
    chosen = bs or batch_size or 64
    if chosen < 1:
        raise InputError(f"a batch needs at least 1 row, not {chosen}")
    return chosen


def _read(dataset: Any) -> tuple[TensorDataset | None, bool]:
    """The rows as two tensors, or None where they must be read anew each time; and whether they have targets."""
    if (tensors := as_tensors(dataset)) is not None and isinstance(dataset, Dataset):
        return TensorDataset(*_single(*tensors)), True
    if isinstance(dataset, Tensor | np.ndarray):
        inputs = torch.as_tensor(dataset)
        return TensorDataset(*_single(inputs, torch.zeros(len(inputs)))), False
    items = dataset if isinstance(dataset, Sequence) else repeatable(dataset)
    if items is None:
        return None, True
    labelled = isinstance(items[0], tuple | list) and len(items[0]) == 2
    try:
        if labelled:
            inputs, targets = default_collate(list(items))
        else:
            inputs = default_collate([item[0] if isinstance(item, tuple) else item for item in items])
            targets = torch.zeros(len(items))
    except (TypeError, RuntimeError, ValueError) as error:
        raise InputError(
            f"a DataLoader takes (x, y) pairs of tensors, arrays or numbers, all of one shape; item 0 here is "
            f"{_kind(items[0])} ({error}): turn images into tensors first, such as tensor(image) / 255"
        ) from None
    return OwnTensors(*_single(inputs, targets)), labelled


def _single(*parts: Tensor) -> list[Tensor]:
    """With 64-bit floats, as Python and numpy make them, turned into the 32-bit ones of models."""
    return [part.float() if part.dtype == torch.float64 else part for part in parts]


def _kind(item: Any) -> str:
    if isinstance(item, tuple | list):
        return f"({', '.join(type(part).__name__ for part in item)})"
    return type(item).__name__
