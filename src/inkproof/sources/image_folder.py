"""Folders of images: class folders (`3/a.png`) or flat; PNG, JPEG, BMP and WebP of any size and mode.

The rules, by which any image becomes bytes of one size:
- orientation as the camera noted it; transparency on black; 16 bits a channel cut to 8;
- one channel where no image has colour, else three;
- the size declared, else the most frequent in the folder; others are resized (bilinear, antialiased).
The notes of the ImageSet say to how many images each rule was applied.
"""

import os
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt8

from inkproof.errors import InputError
from inkproof.images import ImageSet

if TYPE_CHECKING:
    from PIL.Image import Image

_ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".webp"}
_FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_MOST_PIXELS = 50_000_000
_PARTS = {
    "train": ("train", "training"),
    "valid": ("valid", "validation", "val"),
    "test": ("test", "testing"),
}


def open_folder(
    folder: Path, *, shape: tuple[int, int, int] | None = None, classes: Sequence[str] | None = None
) -> dict[str, ImageSet]:
    """Open a folder of images: the parts train/, valid/ and test/ that it holds, else one named "".

    A folder is divided where it has no other folders than those, or where it has train/ and another of them;
    so `train` beside `car` is a class. The other parts are brought to the size and channels of train.

    Args:
        folder: class folders, whose names are the classes, or images without labels.
        shape: (channels, height, width) to bring all images to.
        classes: names of the classes to count in; default: the class folders.

    Raises:
        InputError: no images, an image that cannot be read or is a bomb; the message names the path.
    """
    if shape is not None and shape[0] not in (1, 3):
        raise InputError(f"{folder}: images have 1 or 3 channels, and the declared shape has {shape[0]}")
    parts = {part: path for part, names in _PARTS.items() if (path := _subfolder(folder, names)) is not None}
    others = {path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")}
    if not parts or not (("train" in parts and len(parts) > 1) or others <= set(parts.values())):
        return {"": _open_part(folder, folder, shape, classes)}
    opened: dict[str, ImageSet] = {}
    for part, path in parts.items():
        opened[part] = _open_part(path, folder, shape, classes)
        shape = opened[part].shape
    return opened


def _subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _open_part(folder: Path, root: Path, shape: tuple[int, int, int] | None, classes: Sequence[str] | None) -> ImageSet:
    found, ignored = _list_images(folder, root)
    if not found:
        raise InputError(f"{folder}: holds no images ({', '.join(sorted(_ENDINGS))})")
    labels, names = _class_labels(folder, found, classes)
    declared = shape is not None
    with _pillow_quiet(), ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
        headers = list(pool.map(_read_header, found))
        coloured = 0
        if shape is None or shape[0] == 1:
            coloured = sum(pool.map(_has_colour, found, [header.maybe_coloured for header in headers]))
        if shape is None:
            shape = 3 if coloured else 1, *_commonest([header.size for header in headers])
        pixels = np.empty((len(found), *shape), np.uint8)

        def fill(row: int) -> None:
            pixels[row] = _read_pixels(found[row], shape)

        list(pool.map(fill, range(len(found))))
    applied = {
        f"images resized to {shape[1]}×{shape[2]}": sum(header.size != shape[1:] for header in headers),
        "images turned as their camera noted": sum(header.turned for header in headers),
        "images with transparency laid on black": sum(header.transparent for header in headers),
        "images of 16 bits cut to 8": sum(header.deep for header in headers),
        "images in colour made grey": coloured if declared else 0,
    }
    notes = [f"{count} of {len(found)} {rule}" for rule, count in applied.items() if count]
    notes += [f"{ignored} files that are no images ignored"] if ignored else []
    ids = np.array([path.relative_to(folder).as_posix() for path in found])
    return ImageSet(pixels, labels, classes=names, ids=ids, source=str(folder), notes=notes)


# -- files and classes -------------------------------------------------------------------------------------------------


def _list_images(folder: Path, root: Path) -> tuple[list[Path], int]:
    """Images in the folder or one level below, in order of name, and how many other files there are."""
    found, ignored = [], 0
    for path in sorted([*folder.iterdir(), *folder.glob("*/*")], key=lambda path: _natural(path.relative_to(folder))):
        if path.name.startswith(".") or (path.parent != folder and path.parent.name.startswith(".")):
            continue
        if path.is_dir():
            if path.parent != folder:
                raise InputError(f"{path}: a folder inside a class folder: put its images into {path.parent.name}/")
            continue
        if path.suffix.lower() not in _ENDINGS:
            ignored += 1
        else:
            _check_link(path, root)
            found.append(path)
    return found, ignored


def _check_link(path: Path, root: Path) -> None:
    try:
        inside = path.resolve(strict=True).is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # RuntimeError: a loop, until Python 3.12
        raise InputError(f"{path}: a link that leads nowhere: remove it") from None
    if not inside:
        raise InputError(f"{path}: a link that leads out of {root}: copy the image into the folder")


def _class_labels(
    folder: Path, found: Sequence[Path], classes: Sequence[str] | None
) -> tuple[Int64[np.ndarray, " n"] | None, Sequence[str] | None]:
    flat = [path for path in found if path.parent == folder]
    if len(flat) == len(found):
        return None, classes
    if flat:
        raise InputError(f"{flat[0]}: lies beside class folders: put it into one of them")
    present = sorted({path.parent.name for path in found}, key=lambda name: _natural(Path(name)))
    for empty in (path for path in folder.iterdir() if path.is_dir() and path.name not in present):
        if not empty.name.startswith("."):
            raise InputError(f"{empty}: a class folder without images: add some or remove it")
    names = list(classes) if classes is not None else present
    index = {name: number for number, name in enumerate(names)}
    for path in found:
        if path.parent.name not in index:
            raise InputError(f"{path}: its class {path.parent.name!r} is outside the classes {', '.join(names)}")
    return np.array([index[path.parent.name] for path in found], dtype=np.int64), names


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sorts 2 before 10, and numbers before words."""
    parts = re.findall(r"\d+|\D+", path.as_posix())
    return [(0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts]


# -- one image ---------------------------------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> "Iterator[Image]":
    """An image whose header was read; whatever is wrong with the file becomes an InputError that names it."""
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise InputError(
                    f"{path}: claims {image.width}×{image.height} pixels, more than {_MOST_PIXELS:,}: not opened"
                )
            yield image
    except InputError:
        raise
    except Exception as error:  # Pillow's readers raise struct.error, IndexError and more on damaged files
        size = path.stat().st_size if path.exists() else 0
        reason = "is empty" if size == 0 else f"no image that can be read ({error})"
        raise InputError(f"{path}: {reason}", finding="file-damaged") from None


@contextmanager
def _pillow_quiet() -> Iterator[None]:
    """Pillow's warnings of damaged camera notes are kept from the user; that of a bomb refuses the image."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield


@dataclass(frozen=True)
class _ImageHeader:
    """What is known of an image before it is decoded; `size` is (height, width) as seen."""

    size: tuple[int, int]
    maybe_coloured: bool
    turned: bool
    transparent: bool
    deep: bool


def _read_header(path: Path) -> _ImageHeader:
    with _opened(path) as image:
        orientation = image.getexif().get(0x0112, 1)
        return _ImageHeader(
            size=(image.width, image.height) if orientation in (5, 6, 7, 8) else (image.height, image.width),
            maybe_coloured=image.mode not in ("1", "L", "LA", "I", "I;16", "I;16B", "F"),
            turned=orientation in range(2, 9),
            transparent=image.has_transparency_data,
            deep=image.mode.startswith("I"),
        )


def _has_colour(path: Path, maybe: bool) -> bool:
    """Whether any pixel's red, green and blue differ."""
    if not maybe:
        return False
    values = _read_pixels(path, None)
    return bool((values[0] != values[1]).any() or (values[1] != values[2]).any())


def _read_pixels(path: Path, shape: tuple[int, int, int] | None) -> UInt8[np.ndarray, "channels height width"]:
    """The image's bytes by the rules of this file; shape None keeps its size, in three channels."""
    with _opened(path) as image:
        values = np.asarray(_converted(image, channels=3 if shape is None else shape[0], size=shape and shape[1:]))
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))


def _converted(image: "Image", *, channels: int, size: tuple[int, int] | None) -> "Image":
    """The image by the rules of this file: mode L or RGB, of (height, width) `size`."""
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits a pixel, in Pillow's several words for it
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    image = image.convert("L" if channels == 1 else "RGB")
    if size is not None and image.size != size[::-1]:
        image = image.resize(size[::-1], Image.Resampling.BILINEAR)
    return image


def _commonest(sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """The most frequent size; of several, the smallest."""
    counts = Counter(sizes)
    return min(counts, key=lambda size: (-counts[size], size[0] * size[1], size))
