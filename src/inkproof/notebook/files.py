"""Files of a notebook: paths that list, the sample data of the write-ups, the files of a competition."""

import os
import pathlib
import re
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.sources import open_one
from inkproof.sources.cache import cache_folder

iskaggle = os.environ.get("KAGGLE_KERNEL_RUN_TYPE", "")
_SAMPLE_CLASSES = ("3", "7")


class L(list[Any]):
    """A list that shows its length, and does in one call what a notebook does with lists of files."""

    def __repr__(self) -> str:
        shown = ",".join(repr(item) for item in self[:10])
        return f"(#{len(self)}) [{shown}{'...' if len(self) > 10 else ''}]"

    def __getitem__(self, key: Any) -> Any:
        got = super().__getitem__(key)
        return L(got) if isinstance(key, slice) else got

    def sorted(self, key: Callable[[Any], Any] | None = None, reverse: bool = False) -> "L":
        """The items in order."""
        return L(sorted(self, key=key, reverse=reverse))

    def map(self, function: Callable[[Any], Any]) -> "L":
        """The function of each item."""
        return L(function(item) for item in self)

    def filter(self, function: Callable[[Any], Any]) -> "L":
        """The items for which the function is true."""
        return L(item for item in self if function(item))

    def itemgot(self, number: int) -> "L":
        """The part of each item at a position."""
        return L(item[number] for item in self)

    def attrgot(self, name: str) -> "L":
        """The attribute of each item by its name."""
        return L(getattr(item, name) for item in self)


# Before Python 3.12 pathlib.Path cannot be subclassed, only the class that it makes on this system.
class Path(type(pathlib.Path())):  # type: ignore[misc]  # which class that is, no type checker knows
    """A path that lists what is in it."""

    def ls(self, n_max: int | None = None) -> L:
        """What is in the folder, by name.

        Args:
            n_max: at most so many.
        """
        return L(sorted(self.iterdir())[:n_max])


def get_image_files(path: Any) -> L:
    """All image files in a folder and the folders below it, by name."""
    endings = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp"}
    return L(sorted(file for file in Path(path).rglob("*") if file.suffix.lower() in endings))


# -- sample data -------------------------------------------------------------------------------------------------------


class URLs:
    """Names of the data that `untar_data` knows."""

    MNIST_SAMPLE = "mnist_sample"
    MNIST = "mnist_png"


def untar_data(url: str) -> Path:
    """The folder of a data set as PNG files, made once from the source `mnist`.

    `URLs.MNIST_SAMPLE` holds the threes and sevens as train/3, train/7, valid/3, valid/7; `URLs.MNIST` all ten classes
    as training/0 … testing/9. MNIST is downloaded where it is not in the cache. Where only its training files are there
    and the others cannot be had, a sixth of the training images is held out in their place, and a line says so.

    Raises:
        InputError: another name, or a download that failed.
    """
    if url not in (URLs.MNIST_SAMPLE, URLs.MNIST):
        raise InputError(f"untar_data knows URLs.MNIST_SAMPLE and URLs.MNIST, not {url!r}: use open_images for others")
    folder = Path(cache_folder() / url)
    if folder.exists():
        return folder
    parts = _mnist_parts()
    names = ("train", "valid") if url == URLs.MNIST_SAMPLE else ("training", "testing")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = pathlib.Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{url}-"))  # a crash leaves no half of it
    try:
        for name, images in zip(names, parts, strict=True):
            chosen = images.with_classes(_SAMPLE_CLASSES, rest="drop") if url == URLs.MNIST_SAMPLE else images
            _write_pngs(chosen, partial / name)
        partial.chmod(0o755)
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return folder


def _mnist_parts() -> tuple[ImageSet, ImageSet]:
    try:
        return open_one("mnist:train"), open_one("mnist:test")
    except InputError:
        cached = cache_folder() / "mnist"
        if not list(cached.glob("train-images*")) or not list(cached.glob("train-labels*")):
            raise
    images = open_one(cached)
    print(f"MNIST's test images are not in {cached}: a sixth of its training images is held out in their place")
    split = images.split(test=1 / 6)
    assert split.test is not None, "asked for above"
    return split.train, split.test


def _write_pngs(images: ImageSet, folder: pathlib.Path) -> None:
    """One file an image, named by its id, in a folder a class."""
    labels = images.require_labels("the sample")
    for name in images.classes:
        (folder / name).mkdir(parents=True)
    for pixels, label, row in zip(images.pixels, labels, np.asarray(images.ids), strict=True):
        Image.fromarray(pixels[0]).save(folder / images.classes[label] / f"{row}.png")


# -- competitions ------------------------------------------------------------------------------------------------------


def setup_comp(competition: str, install: str = "") -> Path:
    """The folder with a competition's files: in the working folder, on Kaggle, or fetched by the Kaggle client.

    Args:
        competition: its name on Kaggle, such as "digit-recognizer".
        install: as in fastkaggle; nothing is installed here.

    Raises:
        InputError: the files are nowhere and cannot be fetched; the message says what to do.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", competition):
        raise InputError(f"{competition!r} is no name of a competition: take the last part of its address on Kaggle")
    places = [Path(competition), Path("..") / "input" / competition, Path("/kaggle/input") / competition]
    if there := [place for place in places if place.is_dir()]:
        return Path(there[0])
    client = shutil.which("kaggle")
    if client is None:
        looked = ", ".join(map(str, places))
        raise InputError(
            f"no files of {competition} (looked in {looked}): put its train.csv and test.csv into ./{competition}, or "
            "install Kaggle's client (pip install kaggle) and its token, and run this again"
        )
    return _fetch(competition, client)


def _fetch(competition: str, client: str) -> Path:
    command = [client, "competitions", "download", "-c", competition]
    with tempfile.TemporaryDirectory(dir=".", prefix=f".{competition}-") as folder:
        done = subprocess.run([*command, "-p", folder], capture_output=True, text=True, check=False)
        archives = list(pathlib.Path(folder).glob("*.zip"))
        if done.returncode or not archives:
            said = " ".join((done.stderr or done.stdout).split()[-40:])
            raise InputError(
                f"{' '.join(command[1:])} gave no files ({said}): accept the rules on the competition's page"
            )
        unpacked = pathlib.Path(folder) / "unpacked"
        with zipfile.ZipFile(archives[0]) as archive:
            archive.extractall(unpacked)  # leaves out absolute paths and `..`
        unpacked.replace(competition)
    return Path(competition)
