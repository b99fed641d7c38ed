"""Batches: re-iterable batches of an ImageSet that already lies on the device; scaled, augmented, shuffled there.

Whatever trains or evaluates iterates `(inputs, labels)` and asks for their number, that of batches in one pass.
`TensorBatches` gives the same to pairs that lie in memory, `LoaderBatches` to what a torch loader reads.
"""

import copy
import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, Protocol, runtime_checkable
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Float, Int64, Shaped, UInt8
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SequentialSampler, TensorDataset

from inkproof.augment import Augmentation
from inkproof.errors import InputError
from inkproof.hard_examples import Difficulties, HardExamples
from inkproof.images import ImageSet
from inkproof.ink import Ink, ink_of
from inkproof.linear_guess import linear_certainty
from inkproof.pairs import as_tensors, sampled
from inkproof.randomness import derived_seed

Data = ImageSet | Dataset[Any] | DataLoader[Any]
"""What can be trained on or predicted: an ImageSet, or (inputs, targets) pairs as a torch dataset or loader."""

BYTE = 1 / 255
"""What a byte's unit is of a pixel's range, 0 to 1."""

_CHUNK_BATCHES = 64  # batches that travel to the device together when the pixels do not fit there
_TOGETHER = 2**20  # bytes of images gathered by one call, of several small batches
_SHARE_OF_FREE_MEMORY = 0.5
_SAMPLE = 128  # rows that show what a model's outputs are

# One copy of an image store's pixels a device, shared by all subsets and freed with the store.
_resident: WeakKeyDictionary[Any, dict[torch.device, Tensor]] = WeakKeyDictionary()


@runtime_checkable
class BatchSource(Protocol):
    """What a training or an evaluation reads: batches, and how many one pass has."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def __len__(self) -> int: ...


class Batches:
    """Batches of an ImageSet on a device; each pass gives every image once, unless hard ones were asked for.

    Args:
        images: the images; without labels every label is given as 0.
        batch_size: images a batch; the last batch may be smaller. A single image left over joins the batch
            before it where `shuffle` is given, since a batch of one cannot pass batch normalisation in training.
        device: where the batches are.
        shuffle: the stream to draw each pass's order from; None keeps the order of the data.
        augment: alters the images of each batch.
        generator: the stream that `augment` draws from.
        hard_examples: which images a pass gives, in batches as even as can be. Needs `shuffle`.

    Attributes:
        difficulties: of the images, where `hard_examples` are given.
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
        hard_examples: HardExamples | None = None,
    ):
        assert hard_examples is None or shuffle is not None, "an order by difficulty is no order of the data"
        self.images = images
        self.batch_size = batch_size
        self.device = device
        self.shuffle = shuffle
        self.augment = augment
        self.generator = generator
        self._shape: tuple[int, ...] = images.shape
        labels = np.zeros(len(images), dtype=np.int64) if images.labels is None else images.labels
        self._labels = torch.from_numpy(labels.copy()).to(device)
        self._pixels = _pixels_on(images, device)
        self._rows = None if images.rows is None else torch.from_numpy(images.rows).to(self._pixels.device)
        self.difficulties = None if hard_examples is None else Difficulties(len(images), hard_examples, device=device)

    def __len__(self) -> int:
        return len(self._bounds(len(self.images)))

    def __iter__(self) -> Iterator[tuple[Float[Tensor, "b ..."], Shaped[Tensor, "b ..."]]]:
        for positions, pixels, labels in self._pixel_batches():
            inputs = pixels.to(torch.float32).mul_(BYTE).view(-1, *self._shape)
            if self.augment is not None:
                assert self.generator is not None, "an augmentation needs a stream to draw from"
                inputs = self.augment(inputs, self.generator)
            if self.difficulties is not None:
                self.difficulties.given = positions
            yield inputs, labels

    def in_bytes(
        self, *, dtype: torch.dtype = torch.float32, parts: int = 1
    ) -> Iterator[tuple[Shaped[Tensor, "b ..."], Shaped[Tensor, "b ..."]]]:
        """One pass whose inputs are bytes, 0 to 255, for who scales by `BYTE` within a product.

        Args:
            dtype: as floats, which lie where those of the batch before lay, in memory that the processor's caches have;
                or as uint8.
            parts: more than one for floats alone: inputs are (b, parts, columns), each part for itself in memory.

        Returns:
            Inputs, and labels or the targets that `with_targets` made of them.
        """
        assert self.augment is None, "an augmentation takes inputs of 0 to 1"
        assert self.difficulties is None, "they are told of each batch"
        if dtype == torch.uint8:
            yield from ((pixels.view(-1, *self._shape), labels) for _, pixels, labels in self._pixel_batches())
            return
        largest = max((stop - start for start, stop in self._bounds(len(self.images))), default=0)
        pixels_each = math.prod(self._shape)
        memory = torch.empty(parts, largest, pixels_each // parts, dtype=dtype, device=self.device)
        inputs = memory[0].view(largest, *self._shape) if parts == 1 else memory.transpose(0, 1)
        for _, pixels, labels in self._pixel_batches():
            count = pixels.shape[0]
            given = pixels.unflatten(1, (parts, -1)).transpose(0, 1)
            if count == largest:  # nearly all: whoever takes them may know the memory again
                memory.copy_(given)
                yield inputs, labels
            else:
                memory[:, :count].copy_(given)
                yield inputs[:count], labels

    @property
    def ink(self) -> Ink | None:
        """The images' ink, for `in_rows`; None where there is much of it, or images are altered or on a GPU."""
        if self.augment is not None or self.difficulties is not None or self.device.type != "cpu":
            return None
        return ink_of(self.images)

    def in_rows(self) -> Iterator[tuple[Int64[Tensor, " b"], Shaped[Tensor, "b ..."]]]:
        """One pass whose inputs are where images stand in the set: the rows of their ink."""
        assert self.augment is None, "an augmentation takes inputs of 0 to 1"
        assert self.difficulties is None, "they are told of each batch"
        yield from zip(*self._pass(), strict=True)

    def with_targets(self, to_targets: Callable[[Int64[Tensor, " n"]], Shaped[Tensor, "n ..."]]) -> "Batches":
        """The same batches, as they are set now, of targets in place of labels.

        Args:
            to_targets: of the labels of all images.
        """
        assert self.difficulties is None, "they go by labels"
        batches = copy.copy(self)
        batches._labels = to_targets(self._labels)
        return batches

    def _bounds(self, rows: int) -> list[tuple[int, int]]:
        if self.difficulties is not None:
            return even_bounds(rows, self.batch_size)
        return batch_bounds(rows, self.batch_size, join_single=self.shuffle is not None)

    def _order(self) -> Int64[Tensor, " n"]:
        """Where in the set the images of a pass stand, on the device."""
        if self.shuffle is None:
            return torch.arange(len(self.images), device=self.device)
        if self.difficulties is not None:
            if self.difficulties.want_a_guess:
                self._leave_out_easy()
            return self.difficulties.order(self.shuffle)
        return torch.randperm(len(self.images), generator=self.shuffle).to(self.device)

    def _leave_out_easy(self) -> None:
        """Choose the images of the first pass, always the same for a seed: no stream moves on."""
        assert self.difficulties is not None, "asked for by them"
        assert self.shuffle is not None, "needed by hard examples"
        generator = torch.Generator().manual_seed(derived_seed(self.shuffle.initial_seed(), "guess"))
        certainty = linear_certainty(self._gathered_here, self._labels, generator)
        self.difficulties.leave_out_easy(certainty, generator)

    def _pixel_batches(
        self,
    ) -> Iterator[tuple[Int64[Tensor, " b"], UInt8[Tensor, "b pixels"], Shaped[Tensor, "b ..."]]]:
        """Positions, flat uint8 images and labels, or targets, of each batch, on the device."""
        places, labels = self._pass()
        sizes = list(map(len, places))
        resident = self._pixels.device == self.device
        if resident and self.shuffle is None and self._rows is None:  # in file order
            yield from zip(places, self._pixels.split(sizes), labels, strict=True)
            return
        together = max(1, _TOGETHER // (self.batch_size * self._pixels.shape[1])) if resident else _CHUNK_BATCHES
        for first in range(0, len(places), together):
            chunk = slice(first, first + together)
            gathered = self._gathered_here(torch.cat(list(places[chunk])))
            yield from zip(places[chunk], gathered.split(sizes[chunk]), labels[chunk], strict=True)

    def _pass(self) -> tuple[Sequence[Int64[Tensor, " b"]], Sequence[Shaped[Tensor, "b ..."]]]:
        """Positions and labels, or targets, of the batches of one pass, in a new order where there is one."""
        order = self._order()
        sizes = [stop - start for start, stop in self._bounds(len(order))]
        return order.split(sizes), self._labels.index_select(0, order).split(sizes)

    def _gathered_here(self, positions: Int64[Tensor, " n"]) -> UInt8[Tensor, "n pixels"]:
        if self._pixels.device == self.device:
            return self._gathered(positions)
        return self._gathered(positions.cpu()).pin_memory().to(self.device, non_blocking=True)

    def _gathered(self, positions: Int64[Tensor, " n"]) -> UInt8[Tensor, "n pixels"]:
        return self._pixels.index_select(0, positions if self._rows is None else self._rows[positions])


def in_own_unit(
    batches: Iterable[tuple[Tensor, Tensor]], *, dtype: torch.dtype = torch.float32, parts: int = 1
) -> tuple[Iterable[tuple[Tensor, Tensor]], float]:
    """One pass as it is made soonest, in bytes where that can be, and what its inputs are to be multiplied by.

    Args:
        dtype: of bytes: floats, all of which hold them, or uint8.
        parts: in how many such floats lie, where bytes become any.
    """
    if isinstance(batches, Batches) and batches.augment is None and batches.difficulties is None:
        return batches.in_bytes(dtype=dtype, parts=parts), BYTE
    return batches, 1.0


def ink_for(batches: Iterable[tuple[Tensor, Tensor]], width: int) -> Ink | None:
    """The ink of images with so many pixels, where batches have it."""
    ink = batches.ink if isinstance(batches, Batches) else None
    return ink if ink is not None and ink.width == width else None


def trial_batches(batches: BatchSource) -> BatchSource:
    """The same batches, for steps that are not to be remembered: what is known of difficulties stays as it is."""
    if not isinstance(batches, Batches) or batches.difficulties is None:
        return batches
    trial = copy.copy(batches)
    trial.difficulties = copy.deepcopy(batches.difficulties)
    return trial


def difficulties_of(batches: BatchSource) -> Difficulties | None:
    """How hard each image was, where batches keep it."""
    return batches.difficulties if isinstance(batches, Batches) else None


def epoch_lengths(batches: BatchSource, epochs: int) -> list[int]:
    """How many batches each of so many next epochs has."""
    if isinstance(batches, Batches) and batches.difficulties is not None:
        sizes = batches.difficulties.epoch_sizes(epochs)
        return [len(even_bounds(size, batches.batch_size)) for size in sizes]
    return [len(batches)] * epochs


def batch_bounds(rows: int, batch_size: int, *, join_single: bool) -> list[tuple[int, int]]:
    """Where each batch starts and stops; with `join_single` a last batch of one row joins the one before it."""
    starts = list(range(0, rows, batch_size))
    if join_single and len(starts) > 1 and rows - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], rows], strict=True))


def even_bounds(rows: int, batch_size: int) -> list[tuple[int, int]]:
    """Where each batch starts and stops, all of a size but for one row.

    Epochs of hard examples are short and many, and a few rows left over in each would set batch normalisation's
    statistics: three of 259 took `fast` from 99 % to 95 % on the embedded digits.
    """
    parts = -(-rows // batch_size)
    if batch_size > 1:  # a batch of one cannot pass batch normalisation
        parts = max(1, min(parts, rows // 2))
    edges = [rows * part // parts for part in range(parts + 1)]
    return list(pairwise(edges))


class TensorBatches:
    """Batches of inputs and targets that lie in memory: on the device once, gathered there.

    Args:
        inputs: (n, ...).
        targets: (n, ...).
        batch_size: rows a batch; the last may be smaller, a single row left over joins the batch before it where
            `shuffle` is given.
        device: where the batches are.
        shuffle: the stream to draw each pass's order from; None keeps the order of the data.
    """

    def __init__(
        self,
        inputs: Shaped[Tensor, "n ..."],
        targets: Shaped[Tensor, "n ..."],
        *,
        batch_size: int,
        device: torch.device,
        shuffle: torch.Generator | None = None,
    ):
        self.batch_size = batch_size
        self.device = device
        self.shuffle = shuffle
        self._inputs = inputs.to(device) if _fits(inputs, device) else inputs
        self._targets = targets.to(self._inputs.device)

    def __len__(self) -> int:
        return len(self._bounds())

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if self.shuffle is None:
            for start, stop in self._bounds():
                yield self._inputs[start:stop].to(self.device), self._targets[start:stop].to(self.device)
            return
        order = torch.randperm(len(self._inputs), generator=self.shuffle).to(self._inputs.device)
        for start, stop in self._bounds():
            rows = order[start:stop]
            inputs, targets = self._inputs.index_select(0, rows), self._targets.index_select(0, rows)
            yield inputs.to(self.device), targets.to(self.device)

    def _bounds(self) -> list[tuple[int, int]]:
        return batch_bounds(len(self._inputs), self.batch_size, join_single=self.shuffle is not None)


class LoaderBatches:
    """Batches of a torch DataLoader, moved to the device.

    Args:
        loader: gives (inputs, targets) pairs.
        device: where the batches are.
    """

    def __init__(self, loader: DataLoader[Any], *, device: torch.device):
        self.loader = loader
        self.device = device

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
    hard_examples: HardExamples | None = None,
) -> BatchSource:
    """Batches to train on, as `Batches` takes them; a loader gives its own batches in its own order.

    Raises:
        InputError: a batch size below 1; an augmentation or hard examples for data that is no ImageSet; hard examples
            in file order.
    """
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, not {batch_size}")
    if hard_examples is not None and (shuffle is None or not isinstance(data, ImageSet)):
        raise InputError(
            "hard_examples choose and shuffle rows of ImageSets alone: take shuffle=True, or leave them out"
        )
    if isinstance(data, ImageSet):
        return Batches(
            data,
            batch_size=batch_size,
            device=device,
            shuffle=shuffle,
            augment=augment,
            generator=generator,
            hard_examples=hard_examples,
        )
    if augment is not None:
        raise InputError("augment works on ImageSets alone: alter the images in the dataset itself")
    if isinstance(data, DataLoader):
        return LoaderBatches(data, device=device)
    if (tensors := as_tensors(data)) is not None:
        return TensorBatches(*tensors, batch_size=batch_size, device=device, shuffle=shuffle)
    loader = DataLoader(data, batch_size=batch_size, shuffle=shuffle is not None, generator=shuffle)
    return LoaderBatches(loader, device=device)


def ordered_batches(data: Data, *, device: torch.device, batch_size: int = 1024) -> BatchSource:
    """Batches in the order of the data, every row once, nothing altered; a shuffling loader is read in order."""
    if isinstance(data, ImageSet):
        return Batches(data, batch_size=batch_size, device=device)
    if not isinstance(data, DataLoader):
        if (tensors := as_tensors(data)) is not None:
            return TensorBatches(*tensors, batch_size=batch_size, device=device)
        return LoaderBatches(DataLoader(data, batch_size=batch_size), device=device)
    if not isinstance(data.sampler, SequentialSampler) or data.drop_last:
        data = DataLoader(
            sampled(data),
            batch_size=data.batch_size or batch_size,
            collate_fn=data.collate_fn,
            num_workers=data.num_workers,
        )
    return LoaderBatches(data, device=device)


def is_shuffled(data: Data, asked: bool | None) -> bool | None:
    """Whether rows get a new order every epoch: as was asked, or as a loader has it."""
    return not isinstance(data.sampler, SequentialSampler) if isinstance(data, DataLoader) else asked


def sample_rows(data: Data, *, device: torch.device) -> tuple[Shaped[Tensor, "n ..."], Shaped[Tensor, "n ..."]]:
    """Inputs and labels of up to 128 rows, spread over data that lies in memory; the first ones of other data."""
    with torch.random.fork_rng():
        inputs, labels = next(iter(ordered_batches(_few_rows(data, _SAMPLE), device=device)))
    return inputs[:_SAMPLE], labels[:_SAMPLE]


def spread_rows(images: ImageSet, count: int) -> ImageSet:
    """Up to so many of the images, spread evenly over the set."""
    return images.subset(np.unique(np.linspace(0, len(images) - 1, min(len(images), count)).astype(np.int64)))


def _few_rows(data: Data, count: int) -> Data:
    """Up to so many rows spread evenly over data that lies in memory; other data as it is."""
    if isinstance(data, ImageSet):
        return spread_rows(data, count)
    if isinstance(data, DataLoader) or (tensors := as_tensors(data)) is None:
        return data
    rows = torch.linspace(0, len(tensors[0]) - 1, min(len(tensors[0]), count)).long()
    return TensorDataset(tensors[0][rows], tensors[1][rows])


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
        if not _fits(in_place, device):
            return in_place
        copies[device] = in_place.to(device)
    return copies[device]


def _fits(tensor: Tensor, device: torch.device) -> bool:
    """Whether the tensor may lie on the device as a whole, with room left for training."""
    if device.type == "cpu":
        return True
    free, _ = torch.cuda.mem_get_info(device)
    return tensor.numel() * tensor.element_size() <= free * _SHARE_OF_FREE_MEMORY
