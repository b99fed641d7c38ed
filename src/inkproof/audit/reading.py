"""Checks of how rows are read: datasets that alter images at random, augmentation, loaders that leave rows out."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from inkproof.audit.catalogue import Seen, check
from inkproof.audit.sides import Side
from inkproof.images import ImageSet
from inkproof.pairs import as_tensors, equal_items, random_states

_ROWS = 8  # items that are read twice
_PROBED = 1000  # images that are augmented to see what that does
_TURNED_SHARE = 0.25  # of images that come out mirrored or turned
_LIKER = 0.1  # in correlation: by so much an image must be liker to its original when that is turned
_READABLE = 0.5  # of a witness' skill that is left on images that are all turned so


@dataclass(frozen=True)
class Reading:
    """How rows are read in training and in validation.

    Args:
        train: what is trained on, as the user gave it.
        valid: what is validated on; None where there is nothing.
        side: the training rows, where they are known.
        augment: alters training images, batch by batch.
    """

    train: object
    valid: object = None
    side: Side | None = None
    augment: Callable[[Tensor, torch.Generator], Tensor] | None = None


@check(
    "held-out-side-random",
    code="D6",
    moment="reading",
    severity="refuse",
    detected="Eight validation items that are read one by one are read twice, and their inputs differ.",
    misfires="Test-time augmentation inside a dataset.",
)
def held_out_side_random(reading: Reading) -> Iterator[Seen]:
    """Validation images are altered at random each time they are read: training's augmentation is active there too."""
    dataset = _read_one_by_one(reading.valid)
    if dataset is None:
        return
    first, second = (_items(dataset, seed=seed) for seed in (1, 2))
    differ = [
        row for row, (one, two) in enumerate(zip(first or [], second or [], strict=True)) if not equal_items(one, two)
    ]
    if differ:
        yield Seen(
            f"{len(differ)} of {len(first or [])} validation images were other images when they were read again.",
            {"differ": len(differ), "read": len(first or [])},
            "Give the validation side a dataset of its own, without random transforms.",
        )


@check(
    "augmentation-repeats",
    code="J2",
    moment="reading",
    severity="warn",
    detected="A dataset that leaves a global random generator (torch, numpy, random) in the same state whatever "
    "state it was in; one that keeps a numpy or torch generator of its own and is read by several workers, each with a "
    "copy of it; an `augment` that alters images and alters them alike when asked again.",
    misfires="Datasets whose alterations are fixed on purpose.",
)
def augmentation_repeats(reading: Reading) -> Iterator[Seen]:
    """Every epoch, or every worker, meets the same alterations: the images are augmented once and not anew."""
    dataset = _read_one_by_one(reading.train)
    if dataset is not None and (reseeded := _reseeded(dataset)):
        yield Seen(
            f"reading an item sets the seed of {reseeded[0]}: every image is altered the same way in every epoch.",
            {"generators": reseeded},
            "Take the call of manual_seed or seed out of __getitem__.",
        )
    if isinstance(reading.train, DataLoader) and dataset is not None and (own := _copied(reading.train)):
        yield Seen(
            f"each of {reading.train.num_workers} workers gets a copy of the dataset's generator {own!r}: they draw "
            "the same numbers, in every epoch again.",
            {"attribute": own, "workers": reading.train.num_workers},
            "Draw from torch's global generator, which is seeded for each worker, or give a worker_init_fn.",
        )
    if (images := _probe(reading)) is not None and reading.augment is not None:
        generator = torch.Generator().manual_seed(0)
        first, second = (reading.augment(images.clone(), generator) for _ in range(2))
        if torch.equal(first, second) and not torch.equal(first, images) and _draws(reading.augment, images):
            yield Seen(
                "the augmentation alters every batch in the same way.",
                {"images": len(images)},
                "Draw from the generator that it is given, and do not seed it.",
            )


@check(
    "augmentation-changes-labels",
    code="D7",
    moment="reading",
    severity="warn",
    detected="Augmented images that are liker to their original mirrored or turned by quarters than to itself, one in "
    "four at least; and a witness of the training images that keeps less than half its skill on images turned so.",
    misfires="Images that mean the same mirrored, as a witness can tell, are let be. Other alterations that change "
    "what an image shows are not seen.",
)
def augmentation_changes_labels(reading: Reading) -> Iterator[Seen]:
    """The augmentation mirrors or turns images into what their labels do not say: a mirrored 2 is no 2."""
    images, side = _probe(reading), reading.side
    if images is None or side is None or reading.augment is None or images.shape[2] != images.shape[3]:
        return
    witness, labels = side.witness, side.sample_labels
    if witness is None or not witness.speaks or labels is None:
        return
    augmented = reading.augment(images.clone(), torch.Generator().manual_seed(0))
    if augmented.shape != images.shape:
        return
    turned = {name: turn(images) for name, turn in _TURNS.items()}
    alike = torch.stack([_correlation(augmented, candidate).abs() for candidate in (images, *turned.values())])
    best = alike.max(dim=0)
    nearest = torch.where(best.values > alike[0] + _LIKER, best.indices, 0)
    right = float((witness.classify(images.flatten(1).numpy()) == labels[: len(images)]).mean())
    shares = {name: float((nearest == number).double().mean()) for number, name in enumerate(turned, start=1)}
    read = {
        name: float((witness.classify(turned[name].flatten(1).numpy()) == labels[: len(images)]).mean())
        for name, share in shares.items()
        if share > 0
    }
    unlike = {name: shares[name] for name in read if read[name] - witness.chance < _READABLE * (right - witness.chance)}
    if sum(unlike.values()) >= _TURNED_SHARE:
        name = max(unlike, key=unlike.__getitem__)
        yield Seen(
            f"the augmentation gives {shares[name]:.0%} of the images {name}, and a plain classifier that reads "
            f"{right:.0%} of the images reads {read[name]:.0%} of them {name}: they do not show what their labels say.",
            {"turned": unlike, "read": read, "read_as_they_are": right},
            "Leave the flip out: digits and letters are not the same mirrored.",
        )


_TURNS: dict[str, Callable[[Tensor], Tensor]] = {
    "mirrored": lambda images: images.flip(3),
    "upside down": lambda images: images.flip(2),
    "turned by 180 degrees": lambda images: images.flip((2, 3)),
    "turned by 90 degrees": lambda images: images.rot90(1, (2, 3)),
    "turned by 270 degrees": lambda images: images.rot90(3, (2, 3)),
    "with rows and columns exchanged": lambda images: images.transpose(2, 3),
}


@check(
    "rows-left-out",
    code="H5",
    moment="reading",
    severity="warn",
    detected="A validation loader with drop_last whose batches do not take up all rows, or a sampler that gives a row "
    "twice.",
    misfires="Validation on a random part of the rows, on purpose.",
)
def rows_left_out(reading: Reading) -> Iterator[Seen]:
    """Validation leaves rows out or counts some twice: the score is not that of the validation side."""
    loader = reading.valid
    if not isinstance(loader, DataLoader) or loader.batch_size is None or isinstance(loader.dataset, IterableDataset):
        return
    with _states_restored():
        rows = list(loader.sampler)
    left = len(rows) % loader.batch_size if loader.drop_last else 0
    twice = len(rows) - len(set(rows))
    if left or twice:
        what = f"leaves out {left:,}" if left else f"counts {twice:,} twice"
        yield Seen(
            f"the validation loader {what} of {len(rows):,} rows.",
            {"left_out": left, "twice": twice, "rows": len(rows)},
            "Read the validation side with drop_last=False and without a sampler.",
        )


def _read_one_by_one(data: object) -> Any:
    """The dataset behind data that is read item by item; None for images and tensors in memory, and for streams."""
    dataset = data.dataset if isinstance(data, DataLoader) else data
    in_memory = dataset is None or isinstance(dataset, ImageSet | list | tuple) or as_tensors(dataset) is not None
    if in_memory or isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
        return None
    return dataset


def _items(dataset: Any, *, seed: int) -> list[Any] | None:
    """A few items spread over the dataset, read with the global generators at a seed; None where reading fails."""
    try:
        with _states_restored():
            _seed_all(seed)
            return [dataset[int(row)] for row in np.linspace(0, len(dataset) - 1, min(len(dataset), _ROWS))]
    except Exception:  # a user's dataset may raise anything: the training will say why
        return None


def _reseeded(dataset: Any) -> list[str]:
    """The global generators that are in one state after reading an item, whatever state they were in before."""
    states = []
    try:
        with _states_restored():
            for seed in (1, 2):
                _seed_all(seed)
                dataset[0]
                states.append(random_states())
    except Exception:  # a user's dataset may raise anything
        return []
    names = ("torch", "numpy", "random")
    return [name for name, one, two in zip(names, *states, strict=True) if one == two]


def _copied(loader: DataLoader[Any]) -> str | None:
    """Name of a generator that the dataset keeps and that each worker would get a copy of."""
    if loader.num_workers < 2 or loader.worker_init_fn is not None:
        return None
    kinds = (np.random.Generator, np.random.RandomState, torch.Generator, random.Random)
    held = vars(loader.dataset) if hasattr(loader.dataset, "__dict__") else {}
    return next((name for name, value in held.items() if isinstance(value, kinds)), None)


def _probe(reading: Reading) -> Float[Tensor, "n channels height width"] | None:
    """Training images to try the augmentation on."""
    if reading.augment is None or reading.side is None or reading.side.kind != "images":
        return None
    return torch.from_numpy(reading.side.sample[:_PROBED]).reshape(-1, *reading.side.shape)


def _draws(augment: Callable[[Tensor, torch.Generator], Tensor], images: Tensor) -> bool:
    """Whether an augmentation alters like images differently, as one that has a random part does."""
    alike = images[:1].expand(min(len(images), 32), *images.shape[1:]).clone()
    altered = augment(alike, torch.Generator().manual_seed(0))
    return bool((altered != altered[:1]).any())


def _correlation(first: Tensor, second: Tensor) -> Float[Tensor, " n"]:
    one, other = (part.flatten(1) - part.flatten(1).mean(dim=1, keepdim=True) for part in (first, second))
    return torch.nn.functional.cosine_similarity(one, other, dim=1)


def _seed_all(seed: int) -> None:
    torch.manual_seed(seed)
    np.random.seed(seed)  # noqa: NPY002  # the global generator that users' datasets draw from
    random.seed(seed)


@contextmanager
def _states_restored() -> Iterator[None]:
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng():
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
