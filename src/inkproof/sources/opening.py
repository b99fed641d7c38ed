"""`open_images`: from what a user names to images. One file a source; this one picks it."""

import difflib
from collections.abc import Sequence
from pathlib import Path

from inkproof.errors import InputError
from inkproof.images import ImageSet, Split
from inkproof.sources.digits import open_digits
from inkproof.sources.download import FASHION_MNIST, MNIST, open_download
from inkproof.sources.idx import holds_idx, open_idx
from inkproof.sources.image_folder import open_folder
from inkproof.sources.kaggle_csv import open_csv
from inkproof.sources.npz import open_npz
from inkproof.sources.stored import holds_stored, open_stored

_DOWNLOADS = {dataset.name: dataset for dataset in (MNIST, FASHION_MNIST)}
NAMED = ("digits", *_DOWNLOADS)
_PARTS = ("train", "valid", "test")


def open_images(
    spec: str | Path,
    *,
    shape: tuple[int, int, int] | None = None,
    classes: Sequence[str] | None = None,
    cache: bool = True,
) -> ImageSet | Split:
    """Open a source of images.

    Args:
        spec: `digits`, `mnist`, `fashion-mnist`, or a path: a Kaggle CSV (`.csv`, `.csv.gz`), a directory of IDX
            files, a folder of images, an `.npz` file, a folder of `save_images`. A part of a source that has
            several is named by a suffix: `mnist:test`, `folder:train`.
        shape: (channels, height, width), where the source does not say or another size is wanted.
        classes: the class names that labels must be among; default: those that occur.
        cache: keep a converted copy of a CSV file, and open that the next time.

    Returns:
        An ImageSet; a Split where the source holds several parts and none was named.

    Raises:
        InputError: an unknown name, a source that cannot be opened, or one that is not of the declared shape and
            classes; the message names the place and the rule.

    Example:
        >>> open_images("digits")
        ImageSet('digits': 1,797 images of 1×8×8, 10 classes)
    """
    name, part = _split_spec(str(spec))
    if not name:
        raise InputError(f"{str(spec)!r} names no source: give a path, or one of {', '.join(NAMED)}")
    _check_declared(shape, classes)
    parts = _fit(name, _open(name, shape, classes, cache), shape, classes)
    if part is not None:
        if part not in parts:
            has = "is not divided into parts" if "" in parts else f"has {', '.join(parts)}"
            raise InputError(f"{spec}: has no part {part!r}; it {has}")
        return parts[part]
    if len(parts) == 1:
        return next(iter(parts.values()))
    if "train" not in parts:
        raise InputError(f"{name}: has the parts {', '.join(parts)} and no train: name one, for instance {name}:test")
    return Split(parts["train"], parts.get("valid"), parts.get("test"))


def open_one(
    spec: str | Path,
    *,
    shape: tuple[int, int, int] | None = None,
    classes: Sequence[str] | None = None,
    cache: bool = True,
) -> ImageSet:
    """Open a source of one part; of a source with several, one must be named. Otherwise as `open_images`."""
    opened = open_images(spec, shape=shape, classes=classes, cache=cache)
    if isinstance(opened, Split):
        there = [part for part in _PARTS if getattr(opened, part) is not None]
        named = " or ".join(f"{spec}:{part}" for part in there)
        raise InputError(f"{spec}: has the parts {', '.join(there)}: name one, {named}")
    return opened


def _open(
    name: str, shape: tuple[int, int, int] | None, classes: Sequence[str] | None, cache: bool
) -> dict[str, ImageSet]:
    """The parts of a source by name; the name of the only part of an undivided source is empty."""
    if name == "digits":
        return {"": open_digits()}
    if name in _DOWNLOADS:
        return open_download(_DOWNLOADS[name])
    path = Path(name)
    try:
        if path.is_dir():
            if holds_stored(path):
                return {"": open_stored(path)}
            return (
                open_idx(path, classes=classes) if holds_idx(path) else open_folder(path, shape=shape, classes=classes)
            )
        if path.is_file() and path.name.lower().endswith((".csv", ".csv.gz")):
            return {"": open_csv(path, shape=shape, classes=classes, cache=cache)}
        if path.is_file() and path.suffix.lower() == ".npz":
            return open_npz(path, shape=shape, classes=classes)
        there = path.exists()
    except OSError as error:
        raise InputError(f"{error.filename or path}: cannot be read: {error.strerror or error}") from None
    if there:
        raise InputError(f"{name}: is no source: give a .csv or .npz file, a folder of images, or one of IDX files")
    close = difflib.get_close_matches(name, NAMED, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(f"{name}: {hint}there is no such file or folder, and the named sources are {', '.join(NAMED)}")


def _split_spec(spec: str) -> tuple[str, str | None]:
    name, colon, part = spec.rpartition(":")
    return (name, part) if colon and part in _PARTS else (spec, None)


def _check_declared(shape: tuple[int, int, int] | None, classes: Sequence[str] | None) -> None:
    if shape is not None and (len(shape) != 3 or min(shape) < 1):
        raise InputError(f"the shape {shape} is not (channels, height, width), each at least 1")
    if classes is not None and len(set(classes)) != len(classes):
        raise InputError(f"the classes {', '.join(classes)} name one twice")


def _fit(
    name: str, parts: dict[str, ImageSet], shape: tuple[int, int, int] | None, classes: Sequence[str] | None
) -> dict[str, ImageSet]:
    """The parts with labels counted in the declared classes, else in those of the train part, and of one shape."""
    train = parts.get("train")
    wanted = shape if shape is not None or train is None else train.shape
    known = classes if classes is not None or train is None or train.labels is None else train.classes
    for part, images in parts.items():
        if wanted is not None and images.shape != wanted:
            which = f"{name}:{part}" if part else name
            rule = "the declared shape" if shape is not None else "the train part"
            raise InputError(f"{which}: its images are {_sizes(images.shape)}, but {rule} is {_sizes(wanted)}")
    if known is None:
        return parts
    return {part: images.with_classes(known) for part, images in parts.items()}


def _sizes(shape: tuple[int, int, int]) -> str:
    return "×".join(str(length) for length in shape)
