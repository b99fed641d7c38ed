"""Folders of images: class folders (`3/a.png`) or flat; PNG, JPEG, BMP and WebP of any size and mode.

The rules, by which any image becomes bytes of one size:
- orientation as the camera noted it; transparency on black; 16 bits a channel cut to 8;
- one channel where no image has colour, else three;
- the size declared, else the most frequent in the folder; others are resized (bilinear, antialiased).
"""

import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int64, UInt8

from inkproof.errors import InputError
from inkproof.images import ImageSet, Split

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
) -> ImageSet | Split:
    """Open a folder of images; one that holds train/ and valid/ or test/ opens as those sides.

    Args:
        folder: class folders, whose names are the classes, or images without labels.
        shape: (channels, height, width) to bring all images to.
        classes: names of the classes to count in; default: the class folders.

    Raises:
        InputError: no images, an image that cannot be read or is a bomb; the message names the path.
    """
    parts = {part: path for part, names in _PARTS.items() if (path := _subfolder(folder, names)) is not None}
    if "train" not in parts or len(parts) == 1:
        return _open_part(folder, shape, classes)
    train = _open_part(parts["train"], shape, classes)
    others = {
        part: _open_part(path, train.shape, None).with_classes(train.classes)
        for part, path in parts.items()
        if part != "train"
    }
    return Split(train, others.get("valid"), others.get("test"))


def _subfolder(folder: Path, names: Sequence[str]) -> Path | None:
    return next((folder / name for name in names if (folder / name).is_dir()), None)


def _open_part(folder: Path, shape: tuple[int, int, int] | None, classes: Sequence[str] | None) -> ImageSet:
    found, ignored = _list_images(folder)
    if not found:
        raise InputError(f"{folder}: holds no images ({', '.join(sorted(_ENDINGS))})")
    labels, names = _class_labels(folder, found, classes)
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # Pillow decodes outside Python's lock
        headers = list(pool.map(_read_header, found))
        if shape is None:
            height, width = _commonest([size for size, _ in headers])
            channels = 3 if any(pool.map(_has_colour, found, [maybe for _, maybe in headers])) else 1
            shape = channels, height, width
        pixels = np.empty((len(found), *shape), np.uint8)

        def fill(row: int) -> None:
            pixels[row] = _read_pixels(found[row], shape)

        list(pool.map(fill, range(len(found))))
    resized = sum(size != shape[1:] for size, _ in headers)
    notes = [f"{resized} of {len(found)} images resized to {shape[1]}×{shape[2]}"] if resized else []
    notes += [f"{ignored} files that are no images ignored"] if ignored else []
    ids = np.array([path.relative_to(folder).as_posix() for path in found])
    return ImageSet(pixels, labels, classes=names, ids=ids, source=str(folder), notes=notes)


# -- files and classes -------------------------------------------------------------------------------------------------


def _list_images(folder: Path) -> tuple[list[Path], int]:
    """Images in the folder or one level below, in order of name, and how many other files there are."""
    root = folder.resolve()
    found, ignored = [], 0
    for path in sorted([*folder.iterdir(), *folder.glob("*/*")], key=lambda path: _natural(path.relative_to(folder))):
        if path.name.startswith(".") or path.parent.name.startswith(".") or path.is_dir():
            continue
        if path.suffix.lower() not in _ENDINGS:
            ignored += 1
        elif not path.resolve().is_relative_to(root):
            raise InputError(f"{path}: a link that leads out of {folder}: copy the image into the folder")
        else:
            found.append(path)
    return found, ignored


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
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]


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
    except (
        OSError,
        SyntaxError,
        ValueError,
        EOFError,
        Image.DecompressionBombError,
        Image.DecompressionBombWarning,
    ) as error:
        size = path.stat().st_size if path.exists() else 0
        reason = "is empty" if size == 0 else f"no image that can be read ({error})"
        raise InputError(f"{path}: {reason}") from None


def _read_header(path: Path) -> tuple[tuple[int, int], bool]:
    """(height, width) as seen, and whether the image may have colour."""
    with _opened(path) as image:
        turned = image.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        size = (image.width, image.height) if turned else (image.height, image.width)
        return size, image.mode not in ("1", "L", "LA", "I", "I;16", "I;16B", "F")


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
