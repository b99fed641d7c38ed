"""Folders of images: classes, parts, the rules of conversion, what is refused."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from inkproof.errors import InputError
from inkproof.images import Split
from inkproof.sources import open_images, open_one

GREY = np.arange(30, dtype=np.uint8).reshape(5, 6) * 8


def save(path: Path, values: np.ndarray = GREY, mode: str | None = None, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(values)
    (image if mode is None else image.convert(mode)).save(path, **options)


def test_class_folders_are_the_classes_in_natural_order(tmp_path: Path) -> None:
    for name in ("10", "2", "1"):
        save(tmp_path / name / "a.png")
    images = open_one(tmp_path)
    assert images.classes == ("1", "2", "10")
    assert images.ids.tolist() == ["1/a.png", "2/a.png", "10/a.png"]
    assert images.labels.tolist() == [0, 1, 2]
    assert all(np.array_equal(pixels[0], GREY) for pixels in images.pixels)


def test_a_flat_folder_has_no_labels_and_reads_2_before_10(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        save(tmp_path / f"{number}.png", np.full((4, 4), number, np.uint8))
    images = open_one(tmp_path)
    assert images.labels is None
    assert images.pixels[:, 0, 0, 0].tolist() == [1, 2, 10]


@pytest.mark.parametrize("ending", ["png", "bmp", "jpg", "JPEG", "webp"])
def test_every_format_opens(ending: str, tmp_path: Path) -> None:
    save(tmp_path / f"a.{ending}", np.full((8, 8), 200, np.uint8))
    images = open_one(tmp_path)
    assert images.shape == (1, 8, 8)
    assert np.abs(images.pixels.astype(int) - 200).max() <= 2


@pytest.mark.parametrize("parts", [("train", "valid"), ("train", "test"), ("train", "valid", "test")])
def test_a_folder_of_parts_opens_as_those_sides(parts: tuple[str, ...], tmp_path: Path) -> None:
    for part in parts:
        for name in "37":
            save(tmp_path / part / name / "a.png")
    opened = open_images(tmp_path)
    assert isinstance(opened, Split)
    assert len(list(opened)) == len(parts)
    assert open_one(f"{tmp_path}:train").classes == ("3", "7")


def test_a_class_that_training_does_not_know_is_refused_by_path(tmp_path: Path) -> None:
    for path in ("train/3/a.png", "train/7/a.png", "valid/8/b.png"):
        save(tmp_path / path)
    with pytest.raises(InputError, match=r"8/b.png has the label '8', which is outside the classes 3, 7"):
        open_images(tmp_path)


def test_grey_stays_one_channel_and_any_colour_makes_three(tmp_path: Path) -> None:
    save(tmp_path / "a.png", GREY, "RGB")
    save(tmp_path / "b.png", GREY, "P")
    assert open_one(tmp_path).shape == (1, 5, 6)
    colour = np.zeros((5, 6, 3), np.uint8)
    colour[..., 0] = 255
    save(tmp_path / "c.png", colour)
    images = open_one(tmp_path)
    assert images.shape == (3, 5, 6)
    assert images.pixels[2, :, 0, 0].tolist() == [255, 0, 0]
    assert np.array_equal(images.pixels[0, 2], GREY)


def test_transparency_lies_on_black_and_16_bits_are_cut_to_8(tmp_path: Path) -> None:
    transparent = np.full((4, 4, 4), 255, np.uint8)
    transparent[:2, :, 3] = 0
    save(tmp_path / "a" / "a.png", transparent)
    assert open_one(tmp_path / "a").pixels[0, 0, :, 0].tolist() == [0, 0, 255, 255]
    save(tmp_path / "b" / "b.png", np.full((4, 4), 0x7F80, np.uint16))
    assert open_one(tmp_path / "b").pixels.max() == 0x7F


def test_images_of_other_sizes_are_resized_to_the_commonest_and_a_note_says_so(tmp_path: Path) -> None:
    for name in "ab":
        save(tmp_path / f"{name}.png")
    save(tmp_path / "c.png", np.full((50, 60), 90, np.uint8))
    images = open_one(tmp_path)
    assert images.shape == (1, 5, 6)
    assert images.notes == ("1 of 3 images resized to 5×6",)
    assert (images.pixels[2] == 90).all()
    assert open_one(tmp_path, shape=(3, 8, 8)).shape == (3, 8, 8)


def test_the_cameras_orientation_is_followed(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a.png", GREY, exif=exif)
    images = open_one(tmp_path)
    assert images.shape == (1, 6, 5)
    assert np.array_equal(images.pixels[0, 0], np.rot90(GREY, -1))


def test_other_files_are_counted_and_hidden_ones_passed_over(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / ".DS_Store").write_text("x")
    assert open_one(tmp_path).notes == ("1 files that are no images ignored",)


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "is empty"), (b"no image", "no image that can be read"), (None, "no image that can be read")],
)
def test_an_image_that_cannot_be_read_is_refused_by_path(data: bytes | None, message: str, tmp_path: Path) -> None:
    save(tmp_path / "3" / "a.png", np.random.default_rng(0).integers(0, 255, (40, 40)).astype(np.uint8))
    path = tmp_path / "3" / "b.png"
    path.write_bytes((tmp_path / "3" / "a.png").read_bytes()[:500] if data is None else data)
    with pytest.raises(InputError, match=message) as caught:
        open_images(tmp_path)
    assert str(path) in str(caught.value)


def test_a_bomb_is_refused_from_its_header(tmp_path: Path) -> None:
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 1_000, 8, 0, 0, 0, 0)
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b""))
    with pytest.raises(InputError, match=r"bomb.png: claims 60000×1000 pixels, more than 50,000,000: not opened"):
        open_images(tmp_path)


def test_folders_that_say_nothing_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        open_images(tmp_path)
    save(tmp_path / "3" / "a.png")
    (tmp_path / "7").mkdir()
    with pytest.raises(InputError, match="7: a class folder without images"):
        open_images(tmp_path)
    (tmp_path / "7").rmdir()
    save(tmp_path / "b.png")
    with pytest.raises(InputError, match=r"b\.png: lies beside class folders"):
        open_images(tmp_path)


def test_a_link_that_leads_outside_is_refused(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere.png")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.png").symlink_to(tmp_path / "elsewhere.png")
    with pytest.raises(InputError, match="a link that leads out of"):
        open_images(tmp_path / "folder")


@pytest.mark.parametrize("parts", [("train",), ("valid", "test"), ("test",)])
def test_parts_are_known_without_each_other(parts: tuple[str, ...], tmp_path: Path) -> None:
    for part in parts:
        save(tmp_path / part / "3" / "a.png")
    for part in parts:
        assert open_one(f"{tmp_path}:{part}").classes == ("3",)
    if len(parts) == 1:
        assert open_one(tmp_path).ids.tolist() == ["3/a.png"]
    else:
        with pytest.raises(InputError, match="has the parts valid, test and no train: name one"):
            open_images(tmp_path)


def test_train_beside_another_class_is_a_class(tmp_path: Path) -> None:
    save(tmp_path / "train" / "a.png")
    save(tmp_path / "car" / "a.png")
    assert open_one(tmp_path).classes == ("car", "train")


def test_a_folder_inside_a_class_folder_is_refused_and_not_left_out(tmp_path: Path) -> None:
    save(tmp_path / "3" / "a.png")
    save(tmp_path / "3" / "more" / "b.png")
    with pytest.raises(InputError, match=r"3/more: a folder inside a class folder: put its images into 3/"):
        open_images(tmp_path)


@pytest.mark.parametrize("target", ["b.png", "nowhere.png"])
def test_a_link_that_leads_nowhere_is_refused(target: str, tmp_path: Path) -> None:
    save(tmp_path / "3" / "a.png")
    (tmp_path / "3" / "b.png").symlink_to(target)
    with pytest.raises(InputError, match=r"b.png: a link that leads nowhere"):
        open_images(tmp_path)


def test_a_class_may_be_called_by_a_digit_that_is_no_number(tmp_path: Path) -> None:
    save(tmp_path / "²" / "a.png")
    assert open_one(tmp_path).classes == ("²",)


def test_images_have_1_or_3_channels(tmp_path: Path) -> None:
    save(tmp_path / "a.png")
    with pytest.raises(InputError, match="1 or 3 channels, and the declared shape has 2"):
        open_images(tmp_path, shape=(2, 5, 6))


def test_the_notes_say_which_rules_were_applied(tmp_path: Path) -> None:
    red = np.zeros((5, 6, 4), np.uint8)
    red[..., [0, 3]] = 200
    save(tmp_path / "train" / "3" / "a.png")
    save(tmp_path / "test" / "3" / "a.png", red)
    save(tmp_path / "test" / "3" / "b.png", np.full((5, 6), 65535, np.uint16))
    assert open_one(f"{tmp_path}:train").notes == ()
    assert open_one(f"{tmp_path}:test").notes == (
        "1 of 2 images with transparency laid on black",
        "1 of 2 images of 16 bits cut to 8",
        "1 of 2 images in colour made grey",
    )


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(ending=st.sampled_from(["png", "jpg", "bmp", "webp"]), place=st.floats(0, 1), byte=st.integers(0, 255))
def test_a_damaged_image_opens_or_is_refused_by_path(ending: str, place: float, byte: int, tmp_path: Path) -> None:
    path = tmp_path / f"a.{ending}"
    notes = Image.Exif()
    notes[0x0112], notes[0x010E] = 6, "a description"
    save(path, GREY, **({} if ending == "bmp" else {"exif": notes}))
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] = byte
    path.write_bytes(data)
    opened, message = 0, ""
    try:
        opened = len(open_one(tmp_path))
    except InputError as error:
        message = str(error)
    path.unlink()
    assert opened == 1 or path.name in message
