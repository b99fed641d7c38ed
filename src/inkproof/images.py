"""ImageSet: an immutable set of images, its subsets, its split and its fingerprints."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped, UInt8, UInt64

from inkproof.errors import InputError
from inkproof.fingerprints import fingerprints, hashes

_MAX_CLASSES = 1000


class _Store:
    """The pixels that several ImageSets look into: subsets share one, and what was computed from it."""

    def __init__(self, pixels: UInt8[np.ndarray, "m channels height width"]):
        self.pixels = _read_only(pixels)

    @cached_property
    def fingerprints(self) -> UInt64[np.ndarray, " m"]:
        """Of each image's bytes and its shape."""
        count, *shape = self.pixels.shape
        return fingerprints(self.pixels.reshape(count, -1), of=repr(shape))

    @cached_property
    def hashes(self) -> UInt64[np.ndarray, " m"]:
        """Of each image's bytes."""
        return hashes(self.pixels)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled: hashes would mean nothing to the process that reads it."""
        return {name: value for name, value in vars(self).items() if name != "hashes"}


class ImageSet:
    """An immutable set of images with their labels and where they came from.

    A subset or one side of a split is a view: it holds row numbers, not copies of pixels. The pixels may be
    memory-mapped and larger than memory.

    Args:
        pixels: uint8 (n, channels, height, width), 0 is background. Taken over, not copied: do not write to
            the array afterwards.
        labels: int64 (n,), each the index of a class in `classes`; None where the images have no labels.
        classes: the names of the classes. Default: the label numbers 0..largest as text.
        ids: one a row: the row number in its file counted from 1, or a path. Default: 1..n.
        source: where the images came from, as given to `open_images`.
        notes: what was done to the images on opening that a user should know (rescaled, resized).

    Raises:
        InputError: where dtypes, lengths or labels do not fit together.

    Example:
        >>> images = ImageSet(np.zeros((3, 1, 8, 8), np.uint8), np.array([0, 1, 1]))
        >>> len(images), images.shape, images.classes
        (3, (1, 8, 8), ('0', '1'))
    """

    def __init__(
        self,
        pixels: Shaped[np.ndarray, "..."],
        labels: Shaped[np.ndarray, "..."] | None = None,
        *,
        classes: Sequence[str] | None = None,
        ids: Shaped[np.ndarray, "..."] | None = None,
        source: str = "memory",
        notes: Sequence[str] = (),
    ):
        if pixels.ndim != 4 or pixels.dtype != np.uint8:
            raise InputError(
                f"{source}: images must be uint8 of shape (n, channels, height, width), "
                f"not {pixels.dtype} of shape {tuple(pixels.shape)}"
            )
        count = len(pixels)
        if count == 0 or pixels.size == 0:
            raise InputError(f"{source}: holds no images")
        if ids is None:
            ids = np.arange(1, count + 1, dtype=np.int64)
        if len(ids) != count:
            raise InputError(f"{source}: {count} images but {len(ids)} ids")
        if labels is None:
            names: tuple[str, ...] = tuple(classes or ())
        else:
            labels, names = _check_labels(labels, count, classes, ids, source)
        self.labels: Int64[np.ndarray, " n"] | None = None if labels is None else _read_only(labels)
        self.classes = names
        self.ids = _read_only(ids)
        self.source = source
        self.notes = tuple(notes)
        # As they lie in memory is how they are hashed, sliced and moved; a transposed view is copied once.
        self._store = _Store(pixels if pixels.flags.c_contiguous else np.ascontiguousarray(pixels))
        self._rows: Int64[np.ndarray, " n"] | None = None

    # -- the images ------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        channels, height, width = self.shape
        labels = f"{len(self.classes)} classes" if self.labels is not None else "no labels"
        return f"ImageSet({self.source!r}: {len(self):,} images of {channels}×{height}×{width}, {labels})"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of each image."""
        _, channels, height, width = self._store.pixels.shape
        return channels, height, width

    @property
    def pixels(self) -> UInt8[np.ndarray, "n channels height width"]:
        """The images, read-only; of a subset, a copy of its rows."""
        return self._store.pixels if self._rows is None else self._store.pixels[self._rows]

    @property
    def storage(self) -> UInt8[np.ndarray, "m channels height width"]:
        """All pixels that this set looks into, read-only: shared with the set it was taken from."""
        return self._store.pixels

    @property
    def store(self) -> object:
        """What subsets of one set share; a key for what is kept once for all of them."""
        return self._store

    @property
    def rows(self) -> Int64[np.ndarray, " n"] | None:
        """The rows of `storage` that are this set's images, in order; None when they are all of them."""
        return self._rows

    @property
    def fingerprints(self) -> UInt64[np.ndarray, " n"]:
        """64-bit content hash of each image: equal for identical images, whatever their label."""
        return self._store.fingerprints if self._rows is None else self._store.fingerprints[self._rows]

    @property
    def hashes(self) -> UInt64[np.ndarray, " n"]:
        """64-bit hash of each image's bytes, sooner had: to compare images of one shape within this process."""
        return self._store.hashes if self._rows is None else self._store.hashes[self._rows]

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of the whole set as hex: shape, images in order, labels, class names."""
        digest = hashlib.blake2b(repr((self.shape, self.classes)).encode(), digest_size=16)
        digest.update(self.fingerprints.tobytes())
        if self.labels is not None:
            digest.update(self.labels.tobytes())
        return digest.hexdigest()

    def require_labels(self, purpose: str) -> Int64[np.ndarray, " n"]:
        """The labels, or an InputError that says what they were needed for."""
        if self.labels is None:
            raise InputError(f"{self.source}: has no labels, and {purpose} needs them")
        return self.labels

    # -- subsets ---------------------------------------------------------------------------------------------

    def subset(self, rows: Int64[np.ndarray, " k"]) -> "ImageSet":
        """These rows of the set, in the order given, as a view.

        Args:
            rows: int64 (k,), positions 0..n-1 in this set.
        """
        if len(rows) == 0:
            raise InputError(f"{self.source}: a subset must hold at least one image")
        rows = np.ascontiguousarray(rows)
        return self._derive(
            rows=rows if self._rows is None else self._rows[rows],
            labels=None if self.labels is None else self.labels[rows],
            ids=self.ids[rows],
            classes=self.classes,
        )

    def with_classes(self, classes: Sequence[str], *, rest: str = "refuse") -> "ImageSet":
        """The same images with labels counted in the given class names.

        Args:
            classes: the names that labels are to mean, in order.
            rest: what to do with images of any other class: "refuse" them or "drop" them.

        Raises:
            InputError: a label outside `classes` (the message names the image), an unknown class name, or one
                named twice.
        """
        wanted = tuple(classes)
        if len(set(wanted)) < len(wanted):
            raise InputError(f"{self.source}: class names must be different, not {', '.join(wanted)}")
        if self.labels is None or self.classes == wanted:
            return self if self.classes == wanted else self._derive(classes=wanted)
        if rest == "drop" and (unknown := [name for name in wanted if name not in self.classes]):
            raise InputError(f"{self.source}: has no class {unknown[0]!r}; its classes are {', '.join(self.classes)}")
        index = {name: number for number, name in enumerate(wanted)}
        translation = np.array([index.get(name, -1) for name in self.classes], dtype=np.int64)
        labels = translation[self.labels]
        outside = np.flatnonzero(labels < 0)
        if len(outside) and rest == "refuse":
            first = outside[0]
            raise InputError(
                f"{self.source}: image {self.ids[first]} has the label {self.classes[self.labels[first]]!r}, "
                f"which is outside the classes {', '.join(wanted)}"
            )
        kept = self._derive(labels=labels, classes=wanted)
        return kept if len(outside) == 0 else kept.subset(np.flatnonzero(labels >= 0))

    def _derive(self, **changes: Any) -> "ImageSet":
        derived = object.__new__(ImageSet)
        labels = changes.get("labels", self.labels)
        derived.labels = None if labels is None else _read_only(labels)
        derived.classes = changes.get("classes", self.classes)
        derived.ids = _read_only(changes.get("ids", self.ids))
        derived.source = self.source
        derived.notes = self.notes
        derived._store = self._store
        derived._rows = changes.get("rows", self._rows)
        return derived

    # -- split -----------------------------------------------------------------------------------------------

    def split(self, *, valid: float = 0.0, test: float = 0.0, seed: int = 0) -> "Split":
        """Cut the set into disjoint, stratified sides; the same seed gives the same sides.

        Identical images always fall on one side. Each side keeps the shares of the classes and the order of
        the rows. Where identical images come in groups, a side can be a few images smaller than asked.

        Args:
            valid: the validation side: a share below 1, or a number of images.
            test: the test side, likewise.
            seed: of the split alone, so that trainings of several seeds share their held-out images.

        Returns:
            A `Split`, which unpacks into the sides that were asked for: `train, valid = s.split(valid=0.2)`.

        Raises:
            InputError: sizes that leave no training images, or a class with too few different images.
        """
        if seed < 0:
            raise InputError(f"the seed of a split must not be negative, and it is {seed}")
        sizes = {name: _side_size(name, size, len(self)) for name, size in (("test", test), ("valid", valid)) if size}
        if sum(sizes.values()) >= len(self):
            raise InputError(f"{self.source}: holding out {sizes} of {len(self)} images leaves none to train on")
        sides = _assign_sides(self, list(sizes.values()), seed)
        parts = {name: self.subset(np.flatnonzero(sides == number)) for number, name in enumerate(sizes, start=1)}
        return Split(self.subset(np.flatnonzero(sides == 0)), parts.get("valid"), parts.get("test"))


@dataclass(frozen=True, eq=False)
class Split:
    """Disjoint ImageSets; iterating gives those that are there, in the order train, valid, test."""

    train: ImageSet
    valid: ImageSet | None = None
    test: ImageSet | None = None

    def __iter__(self) -> Iterator[ImageSet]:
        return (side for side in (self.train, self.valid, self.test) if side is not None)


def _read_only(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """The same values, seen through an array that refuses to be written to."""
    view = array.view()
    view.flags.writeable = False
    return view


def matching(images: ImageSet, trained: ImageSet) -> ImageSet:
    """The images with labels counted in the classes of those a model was trained on.

    Raises:
        InputError: another shape, or a label outside those classes.
    """
    if images.shape != trained.shape:
        raise InputError(
            f"{images.source}: images of shape {images.shape} (channels, height, width), but the model was trained on "
            f"{trained.shape} ({trained.source})"
        )
    return images.with_classes(trained.classes)


def _check_labels(
    labels: Shaped[np.ndarray, "..."],
    count: int,
    classes: Sequence[str] | None,
    ids: Shaped[np.ndarray, "..."],
    source: str,
) -> tuple[Int64[np.ndarray, " n"], tuple[str, ...]]:
    if labels.shape != (count,):
        raise InputError(f"{source}: {count} images need labels of shape ({count},), not {tuple(labels.shape)}")
    if labels.dtype.kind not in "iu":
        raise InputError(f"{source}: labels must be integers, not {labels.dtype}")
    labels = labels.astype(np.int64)
    names = tuple(classes) if classes is not None else tuple(str(number) for number in range(labels.max() + 1))
    wrong = np.flatnonzero((labels < 0) | (labels >= len(names)))
    if len(wrong):
        first = wrong[0]
        raise InputError(
            f"{source}: image {ids[first]} has the label {labels[first]}, outside the classes 0..{len(names) - 1}"
        )
    if len(names) > _MAX_CLASSES or len(set(names)) != len(names):
        raise InputError(f"{source}: class names must be different and at most {_MAX_CLASSES}, not {len(names)}")
    return labels, names


def _side_size(name: str, size: float, count: int) -> int:
    """A share below 1, or a number of images, as a number of images."""
    if not math.isfinite(size) or size < 0 or (size >= 1 and size != int(size)):
        raise InputError(f"the {name} side must be a share below 1 or a whole number of images, not {size}")
    return max(1, round(size * count)) if size < 1 else int(size)


def _assign_sides(images: ImageSet, sizes: list[int], seed: int) -> Int64[np.ndarray, " n"]:
    """For each row 0 (train) or the number, from 1, of the held-out side it falls on."""
    sides = np.zeros(len(images), dtype=np.int64)
    if not sizes:
        return sides
    labels = np.zeros(len(images), dtype=np.int64) if images.labels is None else images.labels
    _, first, group = np.unique(images.fingerprints, return_index=True, return_inverse=True)
    group_class = labels[first]  # an image that carries two labels stays together, with its first label's class
    group_size = np.bincount(group)
    class_sizes = np.bincount(group_class, weights=group_size, minlength=labels.max() + 1).astype(np.int64)
    _check_class_sizes(images, group_class, parts=len(sizes) + 1)
    quotas = [_class_quotas(class_sizes, size, images.source) for size in sizes]
    group_side = np.zeros(len(first), dtype=np.int64)
    for label in np.flatnonzero(class_sizes):
        # In order of first appearance, so that the sides depend on the images and not on their hash values.
        members = np.flatnonzero(group_class == label)
        members = members[np.argsort(first[members])]
        members = np.random.default_rng([seed, int(label)]).permutation(members)
        room = [int(quota[label]) for quota in quotas]
        for member in members:
            for number, left in enumerate(room):
                if group_size[member] <= left:
                    group_side[member] = number + 1
                    room[number] -= int(group_size[member])
                    break
            if not any(room):
                break
    return group_side[group]


def _check_class_sizes(images: ImageSet, group_class: Int64[np.ndarray, " groups"], *, parts: int) -> None:
    different = np.bincount(group_class)
    for label in np.flatnonzero((different > 0) & (different < parts)):
        name = images.classes[label] if images.classes else "without labels"
        row = images.ids[0 if images.labels is None else np.flatnonzero(images.labels == label)[0]]
        count = "one image" if different[label] == 1 else f"{different[label]} different images"
        raise InputError(
            f"{images.source}: class {name!r} has only {count} (row {row}) and a split into {parts} sides needs "
            f"{parts}: add images, or leave the class out with --classes"
        )


def _class_quotas(class_sizes: Int64[np.ndarray, " k"], size: int, source: str) -> Int64[np.ndarray, " k"]:
    """Share `size` rows among the classes by largest remainder, at least one each."""
    present = class_sizes > 0
    if size < present.sum():
        raise InputError(f"{source}: a side of {size} images cannot hold each of {present.sum()} classes")
    exact = class_sizes * (size / class_sizes.sum())
    quotas = np.where(present, np.maximum(np.floor(exact), 1), 0).astype(np.int64)
    while (short := size - int(quotas.sum())) != 0:
        remainder = np.where(present, exact - quotas, -math.inf if short > 0 else math.inf)
        if short > 0:
            quotas[np.argsort(-remainder, kind="stable")[:short]] += 1
        else:  # the at-least-one rule gave out too many: take from those furthest above their share
            above = np.where(quotas > 1, remainder, math.inf)
            quotas[int(np.argmin(above))] -= 1
    return quotas
