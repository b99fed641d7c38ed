"""`open_images`: names, parts, digits, stored images."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.sources import open_images, open_one, save_images


def test_the_digits_are_scikit_learns(digits: ImageSet) -> None:
    loaded = load_digits()
    assert np.array_equal(digits.pixels[:, 0], np.round(loaded.images * 255 / 16).astype(np.uint8))
    assert digits.labels.tolist() == loaded.target.tolist()
    assert digits.classes == tuple("0123456789")
    assert digits.notes == ("pixels 0..16 scaled to 0..255",)


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    with pytest.raises(InputError, match=r"minst: did you mean 'mnist'\?.*digits, mnist, fashion-mnist"):
        open_images("minst")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"a.txt: is no source: give a .csv or .npz file"):
        open_images(tmp_path / "a.txt")


def test_stored_images_open_equal_and_memory_mapped(tmp_path: Path, digits: ImageSet) -> None:
    some = digits.subset(np.arange(20, 50))
    save_images(some, tmp_path / "stored")
    opened = open_one(tmp_path / "stored")
    assert opened.fingerprint == some.fingerprint
    assert opened.ids.tolist() == some.ids.tolist()
    assert isinstance(opened.storage.base, np.memmap) or isinstance(opened.storage, np.memmap)
    with pytest.raises(InputError, match="exists already"):
        save_images(some, tmp_path / "stored")


@pytest.mark.parametrize("name", ["images.json", "labels.npy", "pixels.npy"])
def test_damaged_stored_images_are_refused(name: str, tmp_path: Path, digits: ImageSet) -> None:
    save_images(digits.subset(np.arange(5)), tmp_path / "stored")
    (tmp_path / "stored" / name).write_bytes(b"damaged")
    with pytest.raises(InputError, match="stored images that are damaged"):
        open_images(tmp_path / "stored")


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04aaaa", b"\x93NUMPY\x01\x00\x06\x00((((((", None])
@pytest.mark.parametrize("name", ["labels.npy", "pixels.npy", "ids.npy"])
def test_stored_arrays_that_are_none_are_refused(
    name: str, data: bytes | None, tmp_path: Path, digits: ImageSet
) -> None:
    save_images(digits.subset(np.arange(5)), tmp_path / "stored")
    path = tmp_path / "stored" / name
    path.write_bytes(path.read_bytes() + b"more" if data is None else data)
    with pytest.raises(InputError, match="stored images that are damaged"):
        open_images(tmp_path / "stored")


def test_stored_images_that_lost_their_labels_are_refused(tmp_path: Path, digits: ImageSet) -> None:
    save_images(digits.subset(np.arange(5)), tmp_path / "stored")
    (tmp_path / "stored" / "labels.npy").unlink()
    with pytest.raises(InputError, match=r"labels\.npy is missing"):
        open_images(tmp_path / "stored")


@pytest.mark.parametrize("spec", ["", ":train"])
def test_no_name_is_not_the_folder_one_stands_in(spec: str) -> None:
    with pytest.raises(InputError, match="names no source"):
        open_images(spec)


def test_a_name_too_long_for_a_file_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be read: File name too long"):
        open_images("a" * 5000)


def test_what_is_declared_is_never_passed_over(tmp_path: Path, digits: ImageSet) -> None:
    save_images(digits, tmp_path / "stored")
    for spec in ("digits", tmp_path / "stored"):
        assert open_one(spec, classes=list("9876543210")).classes[0] == "9"
        with pytest.raises(InputError, match="has the label '0', which is outside the classes 3, 7"):
            open_images(spec, classes=["3", "7"])
        with pytest.raises(InputError, match="its images are 1×8×8, but the declared shape is 3×8×8"):
            open_images(spec, shape=(3, 8, 8))
    with pytest.raises(InputError, match="name one twice"):
        open_images("digits", classes=["3", "3"])
    with pytest.raises(InputError, match="each at least 1"):
        open_images("digits", shape=(1, -8, -8))


def test_a_source_that_is_not_divided_has_no_parts() -> None:
    with pytest.raises(InputError, match="digits:train: has no part 'train'; it is not divided into parts"):
        open_images("digits:train")
