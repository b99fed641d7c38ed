"""Batches: re-iterable batches of an ImageSet that already lies on the device; scaled, augmented, shuffled there.

Whatever trains or evaluates iterates `(inputs, labels)` and asks for `rows`, the number of images of one pass.
`LoaderBatches` gives the same to data that comes as a torch dataset or loader.
"""

import warnings
from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler

from inkproof.augment import Augmentation
from inkproof.errors import InputError
from inkproof.images import ImageSet

Data = ImageSet | Dataset[Any] | DataLoader[Any]
"""What can be trained on or predicted: an ImageSet, or (inputs, targets) pairs as a torch dataset or loader."""

_CHUNK_BATCHES = 64  # batches that travel to the device together when the pixels do not fit there
_SHARE_OF_FREE_MEMORY = 0.5

# One copy of an image store's pixels a device, shared by all subsets and freed with the store.
_resident: WeakKeyDictionary[Any, dict[torch.device, Tensor]] = WeakKeyDictionary()


@runtime_checkable
class BatchSource(Protocol):
    """What a training or an evaluation reads: batches, and how many rows one pass has."""

    @property
    def rows(self) -> int:
        """Number of images in one pass."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def __len__(self) -> int: ...


class Batches:
    """Batches of an ImageSet on a device; each pass gives every image once.

    Args:
        images: the images; without labels every label is given as 0.
        batch_size: images a batch; the last batch may be smaller. A single image left over joins the batch
            before it where `shuffle` is given, since a batch of one cannot pass batch normalisation in training.
        device: where the batches are.
        shuffle: the stream to draw each pass's order from; None keeps the order of the data.
        augment: alters the images of each batch.
        generator: the stream that `augment` draws from.
    """

    def __init__(
        self,
        images: ImageSet,
        *,
        batch_size: int,
        device: torch.device,
        shuffle: torch.Generator | None = None,
        augment: Augmentation | None = None,
        generator: torch.Generator | None = None,
    ):
        self.images = images
        self.batch_size = batch_size
        self.device = device
        self.shuffle = shuffle
        self.augment = augment
        self.generator = generator
        labels = np.zeros(len(images), dtype=np.int64) if images.labels is None else images.labels
        self._labels = torch.from_numpy(labels.copy()).to(device)
        self._rows = torch.arange(len(images)) if images.rows is None else torch.from_numpy(images.rows)
        self._pixels = _pixels_on(images, device)

    @property
    def rows(self) -> int:
        """Number of images in one pass."""
        return len(self.images)

    def __len__(self) -> int:
        return len(self._bounds())

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "b channels height width"], Int64[Tensor, " b"]]]:
        if self.shuffle is None:
            order = torch.arange(self.rows)
            rows = self._rows
        else:
            order = torch.randperm(self.rows, generator=self.shuffle)
            rows = self._rows[order]
        labels = self._labels if self.shuffle is None else self._labels[order.to(self.device)]
        for pixels, (start, stop) in self._pixel_batches(rows):
            inputs = pixels.to(torch.float32).mul_(1 / 255).view(-1, *self.images.shape)
            if self.augment is not None:
                assert self.generator is not None, "an augmentation needs a stream to draw from"
                inputs = self.augment(inputs, self.generator)
            yield inputs, labels[start:stop]

    def _bounds(self) -> list[tuple[int, int]]:
        starts = list(range(0, self.rows, self.batch_size))
        if self.shuffle is not None and len(starts) > 1 and self.rows - starts[-1] == 1:
            starts.pop()
        return list(zip(starts, [*starts[1:], self.rows], strict=True))

    def _pixel_batches(self, rows: Int64[Tensor, " n"]) -> Iterator[tuple[UInt8[Tensor, "b pixels"], tuple[int, int]]]:
        """The flat uint8 images of each batch on the device, and where in the pass they stand."""
        bounds = self._bounds()
        if self._pixels.device == self.device:
            in_file_order = self.shuffle is None and self.images.rows is None
            rows = rows.to(self.device)
            for start, stop in bounds:
                if in_file_order:
                    yield self._pixels[start:stop], (start, stop)
                else:
                    yield self._pixels.index_select(0, rows[start:stop]), (start, stop)
            return
        for first in range(0, len(bounds), _CHUNK_BATCHES):
            chunk = bounds[first : first + _CHUNK_BATCHES]
            offset = chunk[0][0]
            gathered = self._pixels.index_select(0, rows[offset : chunk[-1][1]]).pin_memory()
            moved = gathered.to(self.device, non_blocking=True)
            for start, stop in chunk:
                yield moved[start - offset : stop - offset], (start, stop)


class LoaderBatches:
    """Batches of a torch DataLoader, moved to the device.

    Args:
        loader: gives (inputs, targets) pairs.
        device: where the batches are.
    """

    def __init__(self, loader: DataLoader[Any], *, device: torch.device):
        self.loader = loader
        self.device = device

    @property
    def rows(self) -> int:
        """Number of rows of the loader's dataset."""
        return len(self.loader.dataset)  # type: ignore[arg-type]  # torch types datasets without a length

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for inputs, targets in self.loader:
            yield inputs.to(self.device), targets.to(self.device)


def training_batches(
    data: Data,
    *,
    batch_size: int,
    device: torch.device,
    shuffle: torch.Generator | None,
    augment: Augmentation | None,
    generator: torch.Generator,
) -> BatchSource:
    """Batches to train on, as `Batches` takes them; a loader gives its own batches in its own order.

    Raises:
        InputError: an augmentation for data that is no ImageSet.
    """
    if isinstance(data, ImageSet):
        return Batches(
            data, batch_size=batch_size, device=device, shuffle=shuffle, augment=augment, generator=generator
        )
    if augment is not None:
        raise InputError("augment works on ImageSets alone: alter the images in the dataset itself")
    if not isinstance(data, DataLoader):
        data = DataLoader(data, batch_size=batch_size, shuffle=shuffle is not None, generator=shuffle)
    return LoaderBatches(data, device=device)


def ordered_batches(data: Data, *, device: torch.device, batch_size: int = 1000) -> BatchSource:
    """Batches in the order of the data, every row once, nothing altered; a shuffling loader is read in order."""
    if isinstance(data, ImageSet):
        return Batches(data, batch_size=batch_size, device=device)
    if not isinstance(data, DataLoader):
        return LoaderBatches(DataLoader(data, batch_size=batch_size), device=device)
    if not isinstance(data.sampler, SequentialSampler) or data.drop_last:
        data = DataLoader(
            data.dataset,
            batch_size=data.batch_size or batch_size,
            collate_fn=data.collate_fn,
            num_workers=data.num_workers,
        )
    return LoaderBatches(data, device=device)


def _pixels_on(images: ImageSet, device: torch.device) -> UInt8[Tensor, "m pixels"]:
    """The pixels of the set's store, one row an image: on the device if they fit there, else in place."""
    with warnings.catch_warnings():
        # The pixels are read-only; torch warns that it cannot promise that, and nothing here writes to them.
        warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
        in_place = torch.from_numpy(images.storage).view(len(images.storage), -1)
    if device.type == "cpu":
        return in_place
    copies = _resident.setdefault(images.store, {})
    if device not in copies:
        free, _ = torch.cuda.mem_get_info(device)
        if in_place.numel() > free * _SHARE_OF_FREE_MEMORY:
            return in_place
        copies[device] = in_place.to(device)
    return copies[device]
