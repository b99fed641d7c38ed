"""`mnist` and `fashion-mnist`: downloaded once, checked against known checksums, kept; an unfinished file resumes.

Nothing here runs unless one of these sources is asked for by name.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import Request, urlopen

from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.sources.cache import cache_folder
from inkproof.sources.idx import open_idx

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_TIMEOUT_SECONDS = 30
_CHUNK = 1 << 16


@dataclass(frozen=True)
class RemoteFile:
    """A file that mirrors have: its name, its SHA-256 as hex, its size in bytes."""

    name: str
    sha256: str
    size: int


@dataclass(frozen=True)
class Dataset:
    """A data set that can be downloaded.

    Args:
        name: as given to `open_images`.
        mirrors: addresses to which a file's name is added, tried in order.
        files: all of them.
        classes: names of the classes.
    """

    name: str
    mirrors: tuple[str, ...]
    files: tuple[RemoteFile, ...]
    classes: tuple[str, ...]


def open_download(dataset: Dataset) -> dict[str, ImageSet]:
    """Open the parts of a data set from the cache, downloading what is not there.

    Raises:
        InputError: a file that no mirror gave; the message says how to give the files by hand.
    """
    folder = cache_folder() / dataset.name
    fetch(dataset, folder)
    return {part: _named(images, dataset) for part, images in open_idx(folder).items()}


def _named(images: ImageSet, dataset: Dataset) -> ImageSet:
    labels = images.require_labels("this data set")
    return ImageSet(images.storage, labels, classes=dataset.classes, source=dataset.name)


def fetch(dataset: Dataset, folder: Path) -> None:
    """Bring all files of a data set into a folder; what is there already is left alone."""
    missing = [file for file in dataset.files if not (folder / file.name).exists()]
    if not missing:
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

    columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            for file in missing:
                _fetch_file(file, dataset, folder, progress)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written to: {error.strerror}: set INKPROOF_CACHE to a folder") from None


def _fetch_file(file: RemoteFile, dataset: Dataset, folder: Path, progress: "Progress") -> None:
    reasons = []
    task = progress.add_task(file.name, total=file.size)
    for mirror in dataset.mirrors:
        partial = folder / f"{file.name}.partial"
        try:
            _download(mirror + file.name, file, partial, progress, task)
        except _MirrorFailed as failure:
            reasons.append(f"{mirror}: {failure}")
            continue
        if hashlib.sha256(partial.read_bytes()).hexdigest() == file.sha256:
            partial.replace(folder / file.name)
            return
        partial.unlink()
        reasons.append(f"{mirror}: another file than expected (its checksum differs)")
    names = ", ".join(file.name for file in dataset.files)
    raise InputError(
        f"{dataset.name}: {file.name} could not be downloaded ({'; '.join(reasons)}). To give the files by hand, put "
        f"{names} into a folder and name it: --data FOLDER; or put them into {folder}"
    )


def _download(address: str, file: RemoteFile, partial: Path, progress: "Progress", task: "TaskID") -> None:
    """Fetch the part of a file that is not there yet."""
    have = partial.stat().st_size if partial.exists() else 0
    if have >= file.size:
        have = 0
    with _asking_mirror():
        request = Request(address, headers={"Range": f"bytes={have}-"} if have else {})
        response = urlopen(request, timeout=_TIMEOUT_SECONDS)
    with response:
        if response.status != HTTPStatus.PARTIAL_CONTENT:  # the mirror starts over
            have = 0
        with partial.open("ab" if have else "wb") as target:
            progress.update(task, completed=have)
            while True:
                with _asking_mirror():
                    chunk = response.read(_CHUNK)
                if not chunk:
                    break
                target.write(chunk)
                have += len(chunk)
                progress.update(task, completed=have)
                if have > file.size:
                    return  # the checksum will say so
    if have < file.size:
        raise _MirrorFailed(f"the connection ended after {have:,} of {file.size:,} bytes")


class _MirrorFailed(Exception):
    """A mirror did not give a file; the next is asked."""


@contextmanager
def _asking_mirror() -> Iterator[None]:
    """Whatever a mirror does wrong becomes `_MirrorFailed`; errors of the disk, outside the block, do not."""
    try:
        yield
    except (OSError, HTTPException, ValueError) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise _MirrorFailed(" ".join(str(reason).split())) from None


def _files(*checksums: tuple[str, int]) -> tuple[RemoteFile, ...]:
    parts = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
    return tuple(RemoteFile(name, *known) for name, known in zip(parts, checksums, strict=True))


MNIST = Dataset(
    name="mnist",
    mirrors=("https://ossci-datasets.s3.amazonaws.com/mnist/", "https://storage.googleapis.com/cvdf-datasets/mnist/"),
    files=_files(
        ("440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609", 9_912_422),
        ("3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c", 28_881),
        ("8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6", 1_648_877),
        ("f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6", 4_542),
    ),
    classes=tuple("0123456789"),
)
FASHION_MNIST = Dataset(
    name="fashion-mnist",
    mirrors=(
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    ),
    files=_files(
        ("3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84", 26_421_880),
        ("a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845", 29_515),
        ("346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073", 4_422_102),
        ("67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5", 5_148),
    ),
    classes=(
        "T-shirt/top",
        "Trouser",
        "Pullover",
        "Dress",
        "Coat",
        "Sandal",
        "Shirt",
        "Sneaker",
        "Bag",
        "Ankle boot",
    ),
)
