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
        InputError: an unknown name, or a source that cannot be opened; the message names the place and the rule.

    Example:
        >>> open_images("digits")
        ImageSet('digits': 1,797 images of 1×8×8, 10 classes)
    """
    name, part = _split_spec(str(spec))
    opened = _open(name, shape, classes, cache)
    if part is None:
        return opened
    sides = opened if isinstance(opened, Split) else Split(opened)
    chosen = {"train": sides.train, "valid": sides.valid, "test": sides.test}
    side = chosen[part]
    if side is None:
        raise InputError(f"{spec}: has no part {part!r}; it has {_part_names(sides)}")
    return side


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
        raise InputError(f"{spec}: has the parts {_part_names(opened)}: name one, for instance {spec}:train")
    return opened


def _open(
    name: str, shape: tuple[int, int, int] | None, classes: Sequence[str] | None, cache: bool
) -> ImageSet | Split:
    if name == "digits":
        return open_digits()
    if name in _DOWNLOADS:
        return open_download(_DOWNLOADS[name])
    path = Path(name)
    try:
        if path.is_dir():
            if holds_stored(path):
                return open_stored(path)
            return (
                open_idx(path, classes=classes) if holds_idx(path) else open_folder(path, shape=shape, classes=classes)
            )
        if path.is_file() and path.name.lower().endswith((".csv", ".csv.gz")):
            return open_csv(path, shape=shape, classes=classes, cache=cache)
        if path.is_file() and path.suffix.lower() == ".npz":
            return open_npz(path, shape=shape, classes=classes)
    except PermissionError as error:
        raise InputError(f"{error.filename or path}: may not be read: {error.strerror}") from None
    if path.exists():
        raise InputError(f"{name}: is no source: give a .csv or .npz file, a folder of images, or one of IDX files")
    close = difflib.get_close_matches(name, NAMED, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    raise InputError(f"{name}: {hint}there is no such file or folder, and the named sources are {', '.join(NAMED)}")


def _split_spec(spec: str) -> tuple[str, str | None]:
    name, colon, part = spec.rpartition(":")
    return (name, part) if colon and part in _PARTS else (spec, None)


def _part_names(sides: Split) -> str:
    named = {"train": sides.train, "valid": sides.valid, "test": sides.test}
    return ", ".join(name for name, side in named.items() if side is not None)
