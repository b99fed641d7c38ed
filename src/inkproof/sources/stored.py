"""Images stored as arrays that open memory-mapped: what a converted CSV is cached as, and `save_images` writes."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from tokenize import TokenError  # numpy lets it through from a damaged header

import numpy as np
from jaxtyping import Shaped

from inkproof.errors import InputError
from inkproof.images import ImageSet

FORMAT_VERSION = 1
_ABOUT, _PIXELS, _LABELS, _IDS = "images.json", "pixels.npy", "labels.npy", "ids.npy"


def holds_stored(folder: Path) -> bool:
    """Whether a folder was written by `save_images`."""
    return (folder / _ABOUT).is_file() and (folder / _PIXELS).is_file()


def save_images(images: ImageSet, folder: Path) -> None:
    """Store images in a new folder, atomically; `open_images(folder)` opens them memory-mapped.

    Raises:
        InputError: the folder exists already.
    """
    if folder.exists():
        raise InputError(f"{folder}: exists already: name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        _write(temporary / _PIXELS, images.pixels)
        _write(temporary / _IDS, images.ids)
        if images.labels is not None:
            _write(temporary / _LABELS, images.labels)
        about = {
            "format_version": FORMAT_VERSION,
            "classes": images.classes,
            "notes": images.notes,
            "has_labels": images.labels is not None,
        }
        (temporary / _ABOUT).write_text(json.dumps(about), encoding="utf-8")
        temporary.chmod(0o755)
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def open_stored(folder: Path, *, source: str | None = None) -> ImageSet:
    """Open a folder that `save_images` wrote; the pixels stay on disk until they are read.

    Raises:
        InputError: damaged, or written by a newer inkproof.
    """
    try:
        about = json.loads((folder / _ABOUT).read_text(encoding="utf-8"))
        version = about["format_version"]
        if version > FORMAT_VERSION:
            raise InputError(f"{folder}: stored by a newer inkproof (format {version}): upgrade to open it")
        pixels = _map(folder / _PIXELS)
        ids = np.array(_map(folder / _IDS))
        labels_path = folder / _LABELS
        labels = np.array(_map(labels_path)) if labels_path.exists() else None
        if about.get("has_labels", labels is not None) != (labels is not None):
            raise ValueError(f"{_LABELS} is {'missing' if labels is None else 'there, and should not be'}")
        return ImageSet(
            pixels,
            labels,
            classes=about["classes"],
            ids=ids,
            source=source or str(folder),
            notes=about["notes"],
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, RecursionError, TokenError) as error:
        raise InputError(f"{folder}: stored images that are damaged: {error}") from None


def _write(path: Path, values: Shaped[np.ndarray, "..."]) -> None:
    """Save an array and wait until it is on the disk: after a crash a file of zeros would pass for images."""
    with path.open("wb") as file:
        np.save(file, values, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())


def _map(path: Path) -> Shaped[np.ndarray, "..."]:
    """An array memory-mapped from a file of exactly the size that its header claims."""
    values = np.lib.format.open_memmap(path, mode="r")
    size, claimed = path.stat().st_size, values.offset + values.nbytes
    if size != claimed:
        raise ValueError(f"{path.name} has {size:,} bytes, its header claims {claimed:,}")
    return values
