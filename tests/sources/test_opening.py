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
