"""Directories of IDX files, the form MNIST was published in; gzipped or not, in either spelling of the names.

An IDX file is a header (two zero bytes, a type, the number of dimensions, each dimension as a 32-bit number) and
the values. What the header claims is checked against the size of the file before anything is allocated.
"""

import gzip
import struct
import zlib
from collections.abc import Sequence
from math import prod
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.sources.labels import name_classes

_PREFIXES = {"train": "train", "test": "t10k"}
_UNSIGNED_BYTE = 8
_IMAGE_DIMENSIONS, _LABEL_DIMENSIONS = 3, 1
_MOST_DEFLATION = 1032  # zlib's largest ratio of unpacked to packed size
_GZIP_OVERHEAD = 18


def find_part(folder: Path, part: str) -> Path | None:
    """The image file of a part, "train" or "test", in any spelling; None where there is none."""
    return _find(folder, _PREFIXES[part], "images", _IMAGE_DIMENSIONS)


def holds_idx(folder: Path) -> bool:
    """Whether a folder holds IDX images."""
    return any(find_part(folder, part) for part in _PREFIXES)


def open_idx(folder: Path, *, classes: Sequence[str] | None = None) -> dict[str, ImageSet]:
    """Open the IDX files of a directory: the parts it holds, "train" and "test" (the t10k files).

    Raises:
        InputError: files that are no IDX files, or whose sizes do not fit together.
    """
    return {part: _open_part(folder, part, classes) for part in _PREFIXES if find_part(folder, part)}


def _open_part(folder: Path, part: str, classes: Sequence[str] | None) -> ImageSet:
    path = find_part(folder, part)
    assert path is not None, "only parts that were found are opened"
    pixels = read_idx(path, dimensions=_IMAGE_DIMENSIONS)
    labels_path = _find(folder, _PREFIXES[part], "labels", _LABEL_DIMENSIONS)
    labels, names = None, classes
    if labels_path is not None:
        numbers = read_idx(labels_path, dimensions=_LABEL_DIMENSIONS)
        if len(numbers) != len(pixels):
            counts = f"{len(numbers)} labels, but {path.name} holds {len(pixels)} images"
            raise InputError(f"{labels_path}: {counts}", finding="images-and-labels-differ")
        labels, names = name_classes(numbers.astype(np.int64), classes, where=str(labels_path))
    count, height, width = pixels.shape
    return ImageSet(pixels.reshape(count, 1, height, width), labels, classes=names, source=str(folder))


def read_idx(path: Path, *, dimensions: int) -> UInt8[np.ndarray, "..."]:
    """The values of an IDX file of unsigned bytes; memory-mapped where it is not compressed.

    Args:
        path: the file; `.gz` is unpacked.
        dimensions: 3 for images, 1 for labels.

    Raises:
        InputError: not such a file, or a header that claims another size than the file has.
    """
    try:
        if path.suffix == ".gz":
            return _read_packed(path, dimensions)
        size = path.stat().st_size
        with path.open("rb") as file:
            shape = _check_header(path, file.read(4 + 4 * dimensions), dimensions)
        _check_size(path, shape, size)
        return np.memmap(path, np.uint8, mode="r", offset=4 + 4 * dimensions, shape=shape)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        damaged = None if isinstance(error, PermissionError) else "file-damaged"
        raise InputError(f"{path}: cannot be read: {reason}", finding=damaged) from None


def _read_packed(path: Path, dimensions: int) -> UInt8[np.ndarray, "..."]:
    packed = path.stat().st_size
    if packed <= _GZIP_OVERHEAD:
        raise InputError(f"{path}: is empty or cut off ({packed} bytes)", finding="file-damaged")
    with path.open("rb") as file:
        start = file.read(16)
        if start[:2] != b"\x1f\x8b":
            raise InputError(f"{path}: is no gzip file: it begins with {start!r}", finding="file-damaged")
        file.seek(-4, 2)
        claimed = struct.unpack("<I", file.read(4))[0]  # gzip's own note of the unpacked size, modulo 2^32
    with gzip.open(path) as file:
        shape = _check_header(path, file.read(4 + 4 * dimensions), dimensions)
        size = prod(shape)
        if size > packed * _MOST_DEFLATION or (size + 4 + 4 * dimensions) % 2**32 != claimed:
            _check_size(path, shape, claimed)
            claim = f"the header claims {_text(shape)} values, more than the file can hold"
            raise InputError(f"{path}: {claim}", finding="file-damaged")
        values = file.read(size + 1)
    _check_size(path, shape, len(values) + 4 + 4 * dimensions)
    return np.frombuffer(values, np.uint8).reshape(shape)


def _check_header(path: Path, header: bytes, dimensions: int) -> tuple[int, ...]:
    """The shape that the header claims."""
    if not header:
        raise InputError(f"{path}: is empty", finding="file-damaged")
    if len(header) < 4 + 4 * dimensions or header[:2] != b"\0\0":
        raise InputError(f"{path}: is no IDX file: it begins with {header[:16]!r}", finding="file-damaged")
    if header[2] != _UNSIGNED_BYTE or header[3] != dimensions:
        what = "images" if dimensions == _IMAGE_DIMENSIONS else "labels"
        raise InputError(
            f"{path}: holds type {header[2]:#04x} in {header[3]} dimensions; {what} are unsigned bytes (0x08) in "
            f"{dimensions}",
            finding="file-damaged",
        )
    shape = struct.unpack(f">{dimensions}I", header[4:])
    if 0 in shape:
        claim = f"the header claims {_text(shape)} values: it holds nothing"
        raise InputError(f"{path}: {claim}", finding="file-damaged")
    return shape


def _check_size(path: Path, shape: tuple[int, ...], size: int) -> None:
    expected = prod(shape) + 4 + 4 * len(shape)
    if size != expected:
        raise InputError(
            f"{path}: the header claims {_text(shape)} values, {expected:,} bytes in all, but the file has {size:,}: "
            f"it is {'cut off' if size < expected else 'longer than it says'}; get it anew",
            finding="file-damaged",
        )


def _text(shape: tuple[int, ...]) -> str:
    return "×".join(str(length) for length in shape)


def _find(folder: Path, prefix: str, kind: str, dimensions: int) -> Path | None:
    names = [f"{prefix}-{kind}{separator}idx{dimensions}-ubyte" for separator in "-."]
    found = [folder / f"{name}{ending}" for name in names for ending in ("", ".gz")]
    return next((path for path in found if path.exists()), None)
