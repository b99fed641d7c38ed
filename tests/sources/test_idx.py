"""IDX directories: round trips, and headers that lie."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
from conftest import MNIST, needs_mnist
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inkproof.errors import InputError
from inkproof.images import Split
from inkproof.sources import open_images, open_one

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


def encode(values: np.ndarray, shape: tuple[int, ...] | None = None) -> bytes:
    claimed = shape or values.shape
    return struct.pack(f">BBBB{len(claimed)}I", 0, 0, 8, len(claimed), *claimed) + values.tobytes()


def write(folder: Path, name: str, data: bytes) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


PIXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_written_is_read(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("idx")
    shape = data.draw(st.tuples(*[st.integers(1, 6)] * 3))
    pixels = data.draw(hnp.arrays(np.uint8, shape))
    labels = data.draw(hnp.arrays(np.uint8, shape[0]))
    separator, ending = data.draw(st.sampled_from("-.")), data.draw(st.sampled_from(["", ".gz"]))
    write(folder, f"train-images{separator}idx3-ubyte{ending}", encode(pixels))
    write(folder, f"train-labels{separator}idx1-ubyte{ending}", encode(labels))
    images = open_one(folder)
    assert np.array_equal(images.pixels[:, 0], pixels)
    assert [int(images.classes[label]) for label in images.labels] == labels.tolist()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 16 + 24 - 1), packed=st.booleans())
def test_a_file_cut_off_anywhere_is_refused(cut: int, packed: bool, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("idx")
    name = IMAGES + ".gz" * packed
    write(folder, name, encode(PIXELS)[:cut])
    with pytest.raises(InputError, match=name):
        open_images(folder)


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "is no IDX file: it begins with b'version https://"),
        (b"<!DOCTYPE html><html></html>", "is no IDX file: it begins with b'<!DOCTYPE html>"),
        (encode(PIXELS)[:-1], "the header claims 2×3×4 values, 40 bytes in all, but the file has 39: it is cut off"),
        (encode(PIXELS) + b"x", "but the file has 41: it is longer than it says"),
        (encode(PIXELS, (4_000_000_000, 28, 28)), "the header claims 4000000000×28×28 values"),
        (encode(PIXELS, (0, 3, 4)), "it holds nothing"),
        (encode(PIXELS.ravel()), "holds type 0x08 in 1 dimensions; images are unsigned bytes"),
        (b"\0\0\x0d\x03" + encode(PIXELS)[4:], "holds type 0x0d in 3 dimensions"),
    ],
)
def test_a_lying_file_is_refused(data: bytes, message: str, ending: str, tmp_path: Path) -> None:
    write(tmp_path, IMAGES + ending, data)
    with pytest.raises(InputError, match=message) as caught:
        open_images(tmp_path)
    assert str(tmp_path / IMAGES) in str(caught.value)


def test_a_lying_header_allocates_nothing(tmp_path: Path) -> None:
    import tracemalloc

    write(tmp_path, IMAGES + ".gz", encode(PIXELS, (1_000_000, 28, 28)))
    tracemalloc.start()
    with pytest.raises(InputError):
        open_images(tmp_path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def test_a_file_called_gz_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / (IMAGES + ".gz")).write_bytes(encode(PIXELS))
    with pytest.raises(InputError, match="is no gzip file"):
        open_images(tmp_path)


def test_labels_of_another_number_are_refused(tmp_path: Path) -> None:
    write(tmp_path, IMAGES, encode(PIXELS))
    write(tmp_path, LABELS, encode(np.zeros(3, np.uint8)))
    with pytest.raises(InputError, match="3 labels, but train-images-idx3-ubyte holds 2 images"):
        open_images(tmp_path)


def test_images_without_a_label_file_have_no_labels_and_are_memory_mapped(tmp_path: Path) -> None:
    write(tmp_path, IMAGES, encode(PIXELS))
    images = open_one(tmp_path)
    assert images.labels is None
    base = images.storage
    while base is not None and not isinstance(base, np.memmap):
        base = base.base
    assert base is not None


def test_train_and_t10k_files_open_as_a_split_and_parts_can_be_named(tmp_path: Path) -> None:
    for part, labels in (("train", [3, 7]), ("t10k", [7, 7])):
        write(tmp_path, f"{part}-images-idx3-ubyte", encode(PIXELS))
        write(tmp_path, f"{part}-labels-idx1-ubyte", encode(np.array(labels, np.uint8)))
    opened = open_images(tmp_path)
    assert isinstance(opened, Split)
    train, test = opened
    assert train.classes == test.classes == ("3", "7")
    assert open_one(f"{tmp_path}:test").labels.tolist() == [1, 1]
    with pytest.raises(InputError, match="has the parts train, test: name one"):
        open_one(tmp_path)
    with pytest.raises(InputError, match="has no part 'valid'; it has train, test"):
        open_one(f"{tmp_path}:valid")


@needs_mnist
def test_mnist_opens_whole() -> None:
    images = open_one(f"{MNIST}:train")
    assert (len(images), images.shape, len(images.classes)) == (60_000, (1, 28, 28), 10)
    assert np.bincount(images.labels).tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert len(np.unique(images.fingerprints)) == 60_000


def test_a_lone_test_part_is_not_taken_for_training_images(tmp_path: Path) -> None:
    write(tmp_path, "t10k-images-idx3-ubyte", encode(PIXELS))
    assert len(open_one(tmp_path)) == len(open_one(f"{tmp_path}:test")) == 2
    with pytest.raises(InputError, match="has no part 'train'; it has test"):
        open_images(f"{tmp_path}:train")


def test_a_declared_shape_must_be_that_of_the_images(tmp_path: Path) -> None:
    write(tmp_path, IMAGES, encode(PIXELS))
    assert open_one(tmp_path, shape=(1, 3, 4)).shape == (1, 3, 4)
    with pytest.raises(InputError, match="its images are 1×3×4, but the declared shape is 1×4×3"):
        open_images(f"{tmp_path}:train", shape=(1, 4, 3))
