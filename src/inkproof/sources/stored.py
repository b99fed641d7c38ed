"""Images stored as arrays that open memory-mapped: what a converted CSV is cached as, and `save_images` writes."""

import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

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
        np.save(temporary / _PIXELS, images.pixels)
        np.save(temporary / _IDS, images.ids)
        if images.labels is not None:
            np.save(temporary / _LABELS, images.labels)
        about = {"format_version": FORMAT_VERSION, "classes": images.classes, "notes": images.notes}
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
        pixels = np.load(folder / _PIXELS, mmap_mode="r", allow_pickle=False)
        ids = np.load(folder / _IDS, allow_pickle=False)
        labels_path = folder / _LABELS
        labels = np.load(labels_path, allow_pickle=False) if labels_path.exists() else None
        return ImageSet(
            pixels,
            labels,
            classes=about["classes"],
            ids=ids,
            source=source or str(folder),
            notes=about["notes"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{folder}: stored images that are damaged: {error}") from None
