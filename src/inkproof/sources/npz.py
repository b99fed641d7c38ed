"""`.npz` files: arrays of images and labels under the usual names, in one set or in the parts of keras's mnist.npz."""

import zipfile
import zlib
from collections.abc import Sequence
from math import isqrt, prod
from pathlib import Path
from tokenize import TokenError  # numpy lets it through from a damaged header

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.sources.labels import name_classes

_IMAGES = ("pixels", "images", "x", "X", "data")
_LABELS = ("labels", "y", "target")
_PARTS = ("train", "valid", "test")
_COLOURS = (1, 3)
_DAMAGED = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,  # encrypted, or packed in a way that zipfile does not know
    SyntaxError,
    MemoryError,
    TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_LARGEST_WHOLE_FLOAT = 2**53


def open_npz(
    path: Path, *, shape: tuple[int, int, int] | None = None, classes: Sequence[str] | None = None
) -> dict[str, ImageSet]:
    """Open an .npz file: its parts from `x_train`, `y_train`, `x_test`, …, else one named "" from `pixels`, `labels`.

    Also known: `images`, `x`, `X`, `data` and `y`, `target`, and an array `classes` of names. Images may be (n, h, w),
    (n, c, h, w) or (n, h, w, c) with 1 or 3 channels, or (n, pixels). Whole numbers must lie in 0..255; other numbers
    must lie in 0..1, are scaled to 0..255, and a note says so.

    Raises:
        InputError: a damaged file, unknown names, or values out of range; the message names array and row.
    """
    try:
        _check_members(path)
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except _DAMAGED as error:
        raise InputError(f"{path}: no .npz file that can be read: {error}", finding="file-damaged") from None
    declared = classes
    if declared is None and "classes" in arrays:
        declared = [str(name) for name in arrays["classes"].tolist()]
    parts = {part: arrays[f"x_{part}"] for part in _PARTS if f"x_{part}" in arrays}
    if not parts:
        name = next((name for name in _IMAGES if name in arrays), None)
        if name is None:
            raise InputError(
                f"{path}: holds {', '.join(arrays) or 'nothing'}; images are looked for as pixels or x_train"
            )
        labels_name = next((label for label in _LABELS if label in arrays), None)
        return {"": _image_set(path, name, arrays[name], labels_name, arrays, shape, declared)}
    if "train" not in parts:
        raise InputError(f"{path}: holds {', '.join(arrays)} and no x_train")
    return {
        part: _image_set(path, f"x_{part}", pixels, f"y_{part}", arrays, shape, declared)
        for part, pixels in parts.items()
    }


def _image_set(
    path: Path,
    name: str,
    values: Shaped[np.ndarray, "..."],
    labels_name: str | None,
    arrays: dict[str, Shaped[np.ndarray, "..."]],
    shape: tuple[int, int, int] | None,
    classes: Sequence[str] | None,
) -> ImageSet:
    where = f"{path}: array {name!r}"
    if values.size == 0:
        raise InputError(f"{where} has the shape {values.shape}: it holds no images")
    pixels, notes = _to_bytes(_to_four_dimensions(values, shape, where), where)
    numbers = arrays.get(labels_name) if labels_name is not None else None
    if numbers is None:
        return ImageSet(pixels, classes=classes, source=str(path), notes=notes)
    labels_where = f"{path}: array {labels_name!r}"
    if numbers.shape != (len(pixels),):
        shapes = f"has the shape {numbers.shape}; {len(pixels)} images need ({len(pixels)},)"
        raise InputError(f"{labels_where} {shapes}", finding="images-and-labels-differ")
    if numbers.dtype.kind == "f":
        whole = (np.abs(numbers) < _LARGEST_WHOLE_FLOAT) & (numbers == np.round(numbers))
        _refuse_rows(~whole, "is no whole number", labels_where, finding="label-not-usable")
        numbers = numbers.astype(np.int64)
    if numbers.dtype.kind not in "iu":
        raise InputError(
            f"{labels_where} holds {numbers.dtype}: labels must be whole numbers", finding="label-not-usable"
        )
    if classes is not None and "classes" in arrays:
        labels, names = numbers.astype(np.int64), tuple(classes)  # then labels are indices into those names
    else:
        labels, names = name_classes(numbers, classes, where=labels_where)
    return ImageSet(pixels, labels, classes=names, source=str(path), notes=notes)


def _to_four_dimensions(
    values: Shaped[np.ndarray, "..."], declared: tuple[int, int, int] | None, where: str
) -> Shaped[np.ndarray, "n channels height width"]:
    if declared is not None:
        if values.ndim == 2 and values.shape[1] == prod(declared):
            return values.reshape(-1, *declared)
        channels, height, width = declared
        if values.shape[1:] == declared or (channels == 1 and values.shape[1:] == (height, width)):
            return values.reshape(-1, *declared)
        if values.shape[1:] == (height, width, channels):
            return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
        raise InputError(f"{where} has the shape {values.shape}, which does not fit the declared shape {declared}")
    if values.ndim == 2 and isqrt(values.shape[1]) ** 2 == values.shape[1]:
        side = isqrt(values.shape[1])
        return values.reshape(-1, 1, side, side)
    if values.ndim == 3:
        return values[:, None]
    if values.ndim == 4 and values.shape[1] in _COLOURS:
        return values
    if values.ndim == 4 and values.shape[3] in _COLOURS:
        return np.ascontiguousarray(values.transpose(0, 3, 1, 2))
    raise InputError(
        f"{where} has the shape {values.shape}: images are (n, h, w), with 1 or 3 channels, or (n, pixels)"
    )


def _to_bytes(
    values: Shaped[np.ndarray, "n channels height width"], where: str
) -> tuple[UInt8[np.ndarray, "n channels height width"], list[str]]:
    """The values as 0..255, and what was done to them."""
    if values.dtype == np.uint8:
        return values, []
    if values.dtype.kind not in "iufb":
        raise InputError(f"{where} holds {values.dtype}: images are numbers")
    by_row = values.reshape(len(values), -1)
    if values.dtype.kind == "f":
        _refuse_rows(~np.isfinite(by_row).all(axis=1), "holds NaN or infinite numbers", where)
    largest = float(values.max(initial=0))
    scaled = values.dtype.kind == "b" or (values.dtype.kind == "f" and largest <= 1)
    limit = 1 if scaled else 255
    _refuse_rows(np.any((by_row < 0) | (by_row > limit), axis=1), f"has values outside 0..{limit}", where)
    if scaled:
        return np.round(values * 255.0).astype(np.uint8), ["pixels 0..1 scaled to 0..255"]
    if values.dtype.kind == "f":
        _refuse_rows(
            np.any(by_row != np.round(by_row), axis=1), "has fractions above 1: scale to 0..1 or 0..255", where
        )
    return values.astype(np.uint8), []


def _refuse_rows(wrong: Bool[np.ndarray, " n"], problem: str, where: str, *, finding: str = "pixel-not-usable") -> None:
    rows = np.flatnonzero(wrong)
    if len(rows):
        raise InputError(f"{where}: row {int(rows[0]) + 1} {problem} ({len(rows)} such rows)", finding=finding)


def _check_members(path: Path) -> None:
    """Compare the size that each array claims with the size of its entry, before anything is allocated."""
    with zipfile.ZipFile(path) as archive:
        for entry in archive.infolist():
            with archive.open(entry) as file:
                version = np.lib.format.read_magic(file)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, dtype = read(file)
                if dtype.hasobject:
                    raise ValueError(f"{entry.filename} holds Python objects, which are never loaded")
                if file.tell() + prod(shape) * dtype.itemsize != entry.file_size:
                    raise ValueError(f"{entry.filename} claims the shape {shape}, which its size does not bear out")
