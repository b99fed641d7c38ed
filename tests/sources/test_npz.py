"""`.npz` files: names, shapes, ranges."""

import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from inkproof.errors import InputError
from inkproof.images import Split
from inkproof.sources import open_images, open_one

PIXELS = np.arange(3 * 4 * 4, dtype=np.uint8).reshape(3, 4, 4)


def save(folder: Path, **arrays: np.ndarray) -> Path:
    np.savez(folder / "a.npz", **arrays)
    return folder / "a.npz"


@pytest.mark.parametrize("names", [("pixels", "labels"), ("images", "target"), ("x", "y"), ("X", "y"), ("data", "y")])
def test_the_usual_names_are_known(names: tuple[str, str], tmp_path: Path) -> None:
    images = open_one(save(tmp_path, **{names[0]: PIXELS, names[1]: np.array([5, 2, 5])}))
    assert np.array_equal(images.pixels[:, 0], PIXELS)
    assert (images.labels.tolist(), images.classes) == ([1, 0, 1], ("2", "5"))


@pytest.mark.parametrize(
    ("given", "shape"),
    [
        ((3, 4, 5), (1, 4, 5)),
        ((3, 3, 4, 5), (3, 4, 5)),
        ((3, 4, 5, 3), (3, 4, 5)),
        ((3, 4, 5, 1), (1, 4, 5)),
        ((3, 16), (1, 4, 4)),
    ],
)
def test_the_usual_shapes_are_known(given: tuple[int, ...], shape: tuple[int, ...], tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, given).astype(np.uint8)
    images = open_one(save(tmp_path, x=values))
    assert images.shape == shape
    expected = values.transpose(0, 3, 1, 2) if given[-1] in (1, 3) and len(given) == 4 else values.reshape(3, *shape)
    assert np.array_equal(images.pixels, expected)


def test_floats_of_0_to_1_are_scaled_and_said_so(tmp_path: Path) -> None:
    images = open_one(save(tmp_path, x=PIXELS / 255.0))
    assert np.array_equal(images.pixels[:, 0], PIXELS)
    assert images.notes == ("pixels 0..1 scaled to 0..255",)
    assert np.array_equal(open_one(save(tmp_path, x=PIXELS.astype(np.float32))).pixels[:, 0], PIXELS)


def test_kerass_mnist_opens_as_a_split(tmp_path: Path) -> None:
    labels = np.array([1, 2, 1])
    opened = open_images(save(tmp_path, x_train=PIXELS, y_train=labels, x_test=PIXELS[:2] + 1, y_test=labels[:2]))
    assert isinstance(opened, Split)
    assert [len(side) for side in opened] == [3, 2]


def with_value(value: float) -> np.ndarray:
    values = PIXELS / 255.0
    values[1, 2, 3] = value
    return values


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": with_value(np.nan)}, "array 'x': row 2 holds NaN or infinite numbers"),
        ({"x": with_value(-0.5)}, r"array 'x': row 2 has values outside 0\.\.1"),
        ({"x": with_value(2.5)}, "array 'x': row 1 has fractions above 1: scale"),
        ({"x": PIXELS.astype(np.int64) * 10}, r"array 'x': row 2 has values outside 0\.\.255"),
        ({"x": PIXELS, "y": np.array([2, 1.5, 3])}, "array 'y': row 2 is no whole number"),
        ({"x": PIXELS, "y": np.array([2, 1, np.inf])}, "array 'y': row 3 is no whole number"),
        ({"x": PIXELS, "y": np.array([np.nan, 1, 2])}, "array 'y': row 1 is no whole number"),
        ({"x": PIXELS, "y": np.array([1, 2**63, 1], np.uint64)}, "row 2: the label 9223372036854775808 is outside"),
        ({"x": PIXELS, "y": np.array([1, 2])}, r"array 'y' has the shape \(2,\); 3 images need \(3,\)"),
        ({"x": PIXELS, "y": np.array([1, -2, 1])}, r"array 'y': row 2: the label -2 is outside 0..999"),
        ({"x": np.zeros((3, 7), np.uint8)}, r"array 'x' has the shape \(3, 7\)"),
        ({"x": np.array(["a"] * 3)}, r"array 'x'"),
        ({"something": PIXELS}, "holds something; images are looked for as pixels or x_train"),
        ({"x_test": PIXELS}, "holds x_test and no x_train"),
    ],
)
def test_a_bad_array_is_refused_by_name_and_row(arrays: dict[str, np.ndarray], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message) as caught:
        open_images(save(tmp_path, **arrays))
    assert str(tmp_path / "a.npz") in str(caught.value)


def test_objects_are_never_loaded(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Python objects"):
        open_images(save(tmp_path, x=np.array([{"a": 1}], dtype=object)))


@pytest.mark.parametrize("cut", [0, 10, 100, 300])
def test_a_damaged_file_is_refused(cut: int, tmp_path: Path) -> None:
    path = save(tmp_path, x=PIXELS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"no \.npz file that can be read"):
        open_images(path)


def test_an_array_that_claims_another_size_is_refused_before_it_is_read(tmp_path: Path) -> None:
    entry = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        entry, {"descr": "|u1", "fortran_order": False, "shape": (1_000_000_000, 28, 28)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", entry.getvalue() + b"few")
    with pytest.raises(InputError, match="claims the shape"):
        open_images(tmp_path / "a.npz")


@pytest.mark.parametrize("channels", [1, 3])
def test_a_declared_shape_never_scrambles_channels(channels: int, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (2, 4, 6, channels)).astype(np.uint8)
    expected = values.transpose(0, 3, 1, 2)
    for arrangement in (values, expected, expected.reshape(2, -1)):
        images = open_one(save(tmp_path, x=arrangement), shape=(channels, 4, 6))
        assert np.array_equal(images.pixels, expected)
    with pytest.raises(InputError, match="does not fit the declared shape"):
        open_images(save(tmp_path, x=values), shape=(channels, 6, 4))


@pytest.mark.parametrize("shape", [(0, 4, 4), (0, 16), (3, 0)])
@pytest.mark.parametrize("kind", [np.uint8, np.int64, np.float32])
def test_an_array_without_images_is_refused(shape: tuple[int, ...], kind: type, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"array 'x' has the shape .*: it holds no images"):
        open_images(save(tmp_path, x=np.zeros(shape, kind)))


@pytest.mark.parametrize("offset", [6, 8])  # flags: encrypted; method: one that nobody knows
def test_an_entry_that_cannot_be_unpacked_is_refused(offset: int, tmp_path: Path) -> None:
    path = save(tmp_path, x=PIXELS)
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\x01\x02")
    for place in (offset, directory + offset + 2):
        data[place] = 1 if offset == 6 else 99
    path.write_bytes(data)
    with pytest.raises(InputError, match="that can be read"):
        open_images(path)


def test_parts_of_two_shapes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"npz:test: its images are 1×2×2, but the train part is 1×4×4"):
        open_images(save(tmp_path, x_train=PIXELS, x_test=PIXELS[:, :2, :2]))


def test_labelled_tests_open_beside_training_images_without_labels(tmp_path: Path) -> None:
    opened = open_images(save(tmp_path, x_train=PIXELS, x_test=PIXELS, y_test=np.array([1, 2, 1])))
    assert isinstance(opened, Split)
    assert opened.test is not None
    assert opened.test.classes == ("1", "2")
