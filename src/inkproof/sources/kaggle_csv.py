"""Kaggle's CSV: a header `label,pixel0,pixel1,…`, or without label, and one image a row; gzipped or not.

Plain tables of digits take a quick path. All others are numpy.loadtxt's, which refuses what is no whole number in
range. It does not name the column, so when it objects a slow exact reader finds the first bad cell. Spaces around a
number are allowed; quotes are not.
"""

import gzip
import hashlib
import io
import re
import shutil
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import isqrt
from pathlib import Path
from typing import NoReturn

import numpy as np
from jaxtyping import Int64, UInt8

from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.sources.cache import cache_folder
from inkproof.sources.labels import LARGEST_LABEL, name_classes
from inkproof.sources.small_numbers import read_small_numbers
from inkproof.sources.stored import open_stored, save_images

_CONVERTER_VERSION = 1  # a change of what is made from the same bytes counts up
_LARGEST_HEADER = 1 << 24
_ROW_AND_COLUMN = r"[0-9]{1,6}x[0-9]{1,6}"


@dataclass(frozen=True)
class _Header:
    """What the first line says.

    Args:
        columns: the names.
        has_labels: whether the first is the label.
        size: (height, width), where the names are 1x1, 1x2, …
    """

    columns: tuple[str, ...]
    has_labels: bool
    size: tuple[int, int] | None

    @property
    def pixels(self) -> int:
        return len(self.columns) - self.has_labels


def open_csv(
    path: Path,
    *,
    shape: tuple[int, int, int] | None = None,
    classes: Sequence[str] | None = None,
    cache: bool = True,
) -> ImageSet:
    """Open a Kaggle CSV.

    Args:
        path: the file; `.gz` is unpacked.
        shape: (channels, height, width), where the number of pixels is not a square.
        classes: the class names to count in; default: the label numbers that occur.
        cache: keep a converted copy by content, and open that the next time.

    Raises:
        InputError: names the line, row and column, and the rule broken; nothing is half-read.
    """
    try:
        header = _read_header(path)
        real_shape = _image_shape(path, header, shape)
        folder = _cache_entry(path, real_shape) if cache else None
        copy = None if folder is None else _open_copy(folder, path, header, real_shape)
        if copy is not None:
            return _with_declared(copy, classes, path)
        numbers, pixels = _read_rows(path, header)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        damaged = None if isinstance(error, PermissionError) else "file-damaged"
        raise InputError(f"{path}: cannot be read: {reason}", finding=damaged) from None
    labels, names = (None, ()) if numbers is None else name_classes(numbers, None, where=str(path))
    images = ImageSet(pixels.reshape(-1, *real_shape), labels, classes=names, source=str(path))
    if folder is not None:
        with suppress(OSError, InputError):  # a cache that cannot be written, or was written meanwhile
            shutil.rmtree(folder, ignore_errors=True)  # a damaged copy, as it was not opened
            save_images(images, folder)
    return _with_declared(images, classes, path)


def _with_declared(images: ImageSet, classes: Sequence[str] | None, path: Path) -> ImageSet:
    """Labels counted in the declared classes; the message for a label outside them names the row."""
    if classes is None or images.labels is None:
        return images
    numbers = np.array([int(name) for name in images.classes])[images.labels]
    name_classes(numbers, classes, where=str(path))
    return images.with_classes(classes)


# -- header ----------------------------------------------------------------------------------------------------------


def _open_bytes(path: Path) -> io.BufferedIOBase:
    return gzip.open(path) if path.suffix == ".gz" else path.open("rb")


def _open_text(path: Path) -> io.TextIOWrapper:
    """The text of the file without a byte-order mark; lines end with a line feed and nothing else.

    A byte that is no text becomes a sign that is no number, so that the message can name its cell.
    """
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", errors="replace", newline="\n")
    return path.open(encoding="utf-8-sig", errors="replace", newline="\n")


def _read_header(path: Path) -> _Header:
    with _open_text(path) as file:
        line = file.readline(_LARGEST_HEADER)
    if not line.strip():
        blank = "line 1 is blank; it must name the columns"
        raise InputError(f"{path}: {blank if line else 'is empty'}", finding="header-wrong" if line else "file-damaged")
    if "\r" in line.rstrip("\r\n"):
        raise InputError(f"{path}: line 1 holds lone carriage returns: save the file with line feeds as line ends")
    columns = tuple(name.strip().strip('"') for name in line.strip().split(","))
    if all(re.fullmatch(r"-?[\d.]*", name) for name in columns):
        numbers = "line 1 is no header but numbers: it must be label,pixel0,pixel1,…"
        raise InputError(f"{path}: {numbers}", finding="header-wrong")
    has_labels = columns[0].lower() == "label"
    names = columns[has_labels:]
    if len(set(columns)) < len(columns):
        twice = next(name for number, name in enumerate(columns) if name in columns[:number])
        raise InputError(f"{path}: line 1 names the column {twice!r} twice", finding="header-wrong")
    if not names:
        raise InputError(f"{path}: line 1 names no pixel columns", finding="header-wrong")
    return _Header(columns, has_labels, _check_pixel_names(path, names, first_column=1 + has_labels))


def _check_pixel_names(path: Path, names: Sequence[str], *, first_column: int) -> tuple[int, int] | None:
    """Pixel columns must be pixel0, pixel1, … (from 0 or 1), or 1x1, 1x2, …, without gaps and in order.

    Returns:
        (height, width) where the names say it.
    """
    width = 0
    if re.fullmatch(_ROW_AND_COLUMN, names[0]):
        width = int(names[-1].split("x")[1]) if re.fullmatch(_ROW_AND_COLUMN, names[-1]) else 0
        expected = [f"{number // width + 1}x{number % width + 1}" for number in range(len(names))] if width else []
    else:
        start = 1 if names[0] == "pixel1" else 0
        expected = [f"pixel{number}" for number in range(start, start + len(names))]
    for number, name in enumerate(names):
        wanted = expected[number] if number < len(expected) else "a pixel"
        if name != wanted:
            raise InputError(
                f"{path}: line 1, column {number + first_column} is {name!r} and should be {wanted!r}: the columns are "
                "label (or none), then pixel0, pixel1, … in order",
                finding="header-wrong",
            )
    return (len(names) // width, width) if width else None


def _image_shape(path: Path, header: _Header, declared: tuple[int, int, int] | None) -> tuple[int, int, int]:
    pixels = header.pixels
    if declared is not None:
        channels, height, width = declared
        if channels * height * width != pixels:
            raise InputError(
                f"{path}: has {pixels} pixels a row, but the declared shape {channels}×{height}×{width} has "
                f"{channels * height * width}"
            )
        return declared
    if header.size is not None:
        return 1, *header.size
    side = isqrt(pixels)
    if side * side != pixels:
        raise InputError(f"{path}: {pixels} pixels a row are no square image: declare the shape, for instance 14x28")
    return 1, side, side


# -- rows --------------------------------------------------------------------------------------------------------------


def _read_rows(path: Path, header: _Header) -> tuple[Int64[np.ndarray, " n"] | None, UInt8[np.ndarray, "n pixels"]]:
    """Label numbers, where there are labels, and pixels of all rows."""
    plain = _read_plain_rows(path, header)
    if plain is not None:
        return plain
    fields: list[tuple[str, type] | tuple[str, type, tuple[int]]] = [("pixels", np.uint8, (header.pixels,))]
    if header.has_labels:
        fields.insert(0, ("label", np.int64))
    with _open_text(path) as file, warnings.catch_warnings():
        warnings.simplefilter("error")
        file.readline()
        try:
            table = np.loadtxt(_rows(file), dtype=np.dtype(fields), delimiter=",", comments=None, ndmin=1)
        except (ValueError, OverflowError, UserWarning, DeprecationWarning) as error:
            _explain(path, header, str(error))
    numbers = np.ascontiguousarray(table["label"]) if header.has_labels else None
    if numbers is not None and (numbers.min() < 0 or numbers.max() > LARGEST_LABEL):
        _explain(path, header, "a label is out of range")
    return numbers, np.ascontiguousarray(table["pixels"])


def _read_plain_rows(
    path: Path, header: _Header
) -> tuple[Int64[np.ndarray, " n"] | None, UInt8[np.ndarray, "n pixels"]] | None:
    """As `_read_rows`, of a table of plain digits; None for any other."""
    labels, pixels = [], []
    with _open_bytes(path) as file:
        file.readline()
        for rows in read_small_numbers(file, len(header.columns)):
            if rows is None:
                return None
            labels.append(rows[:, : header.has_labels].astype(np.int64))
            pixels.append(np.ascontiguousarray(rows[:, header.has_labels :]))
    if not pixels:
        return None
    return np.concatenate(labels).ravel() if header.has_labels else None, np.concatenate(pixels)


def _rows(lines: Iterable[str]) -> Iterator[str]:
    """The lines without blank ones at the end; loadtxt alone would pass over any blank line without a word."""
    blank = False
    for line in lines:
        if line.isspace():
            blank = True
        elif blank:
            raise ValueError("a blank line")
        else:
            yield line


def _explain(path: Path, header: _Header, objection: str) -> NoReturn:
    """Read line by line to the first thing that is wrong, and name it; else repeat the fast reader's objection."""
    with _open_text(path) as file:
        file.readline()
        lines = [line.rstrip("\n") for line in file]
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise InputError(f"{path}: has a header and no rows", finding="file-damaged")
    for row, line in enumerate(lines, start=1):
        place = f"{path}: line {row + 1} (row {row})"
        if not line.strip():
            raise InputError(f"{place} is blank", finding="file-damaged")
        cells = line.split(",")
        if len(cells) != len(header.columns):
            counts = f"has {len(cells)} columns, the header has {len(header.columns)}"
            raise InputError(f"{place} {counts}", finding="file-damaged")
        for name, cell in zip(header.columns, cells, strict=True):
            is_label = header.has_labels and name == header.columns[0]
            if problem := _cell_problem(cell.strip(), LARGEST_LABEL if is_label else 255):
                what = "label-not-usable" if is_label else "pixel-not-usable"
                raise InputError(f"{place}, column {name!r}: {problem}", finding=what)
    raise InputError(f"{path}: its rows cannot be read: {objection}")


def _cell_problem(cell: str, largest: int) -> str | None:
    if not cell:
        return "the cell is empty"
    try:
        value = int(cell) if re.fullmatch(r"[+-]?[0-9]+", cell) else float(cell)
    except ValueError:
        return f"{cell!r} is no number"
    if isinstance(value, float):
        return f"{cell!r} is not a whole number"
    return None if 0 <= value <= largest else f"{cell!r} is outside 0..{largest}"


# -- cache -------------------------------------------------------------------------------------------------------------


def _open_copy(folder: Path, path: Path, header: _Header, shape: tuple[int, int, int]) -> ImageSet | None:
    """The converted copy; None where there is none that is whole."""
    with suppress(OSError, InputError):
        if folder.is_dir():
            images = open_stored(folder, source=str(path))
            if images.shape == shape and (images.labels is not None) == header.has_labels:
                return images
    return None


def _cache_entry(path: Path, shape: tuple[int, int, int]) -> Path:
    with path.open("rb") as file:
        content = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=20)).hexdigest()
    size = "x".join(str(length) for length in shape)
    return cache_folder() / "csv" / f"v{_CONVERTER_VERSION}-{size}-{content}"
