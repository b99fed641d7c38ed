"""Kaggle CSV files: what opens, what is refused and how the message names the place."""

import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.sources import open_images, open_one

HEADER = "label,pixel0,pixel1,pixel2,pixel3"
GOOD = f"{HEADER}\n3,0,1,2,3\n7,255,0,9,10\n"


def write(folder: Path, text: str | bytes, name: str = "train.csv") -> Path:
    path = folder / name
    data = text.encode() if isinstance(text, str) else text
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_written_is_read(data: st.DataObject, tmp_path: Path) -> None:
    rows, side = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    pixels = data.draw(hnp.arrays(np.uint8, (rows, side * side)))
    labels = data.draw(st.none() | hnp.arrays(np.int64, rows, elements=st.integers(0, 999)))
    newline = data.draw(st.sampled_from(["\n", "\r\n"]))
    table = pixels.astype(np.int64) if labels is None else np.column_stack([labels, pixels])
    names = [f"pixel{number}" for number in range(side * side)]
    lines = [",".join(names if labels is None else ["label", *names])]
    lines += [",".join(map(str, row)) for row in table.tolist()]
    text = newline.join(lines) + newline * data.draw(st.integers(0, 3))
    mark = data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    name = data.draw(st.sampled_from(["a.csv", "a.csv.gz"]))
    images = open_one(write(tmp_path, mark + text.encode(), name), cache=data.draw(st.booleans()))
    assert np.array_equal(images.pixels.reshape(rows, -1), pixels)
    assert images.shape == (1, side, side)
    assert images.ids.tolist() == list(range(1, rows + 1))
    if labels is None:
        assert images.labels is None
    else:
        assert [int(images.classes[label]) for label in images.labels] == labels.tolist()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n1,2\n", "line 1 is blank"),
        (HEADER + "\n", "has a header and no rows"),
        ("3,0,1,2,3\n", "line 1 is no header but numbers"),
        ("label,pixel0,pixel1,pixel1,pixel3\n3,0,1,2,3\n", "line 1 names the column 'pixel1' twice"),
        ("label,pixel0,pixel2,pixel1,pixel3\n3,0,1,2,3\n", "line 1, column 3 is 'pixel2' and should be 'pixel1'"),
        ("pixel0,pixel1,pixel2,pixel3,label\n0,1,2,3,3\n", "line 1, column 5 is 'label'"),
        ("label\n3\n", "line 1 names no pixel columns"),
        ("label,pixel0,pixel1\n3,0,1\n", "2 pixels a row are no square image: declare the shape"),
        (GOOD + "1,2,3\n", r"line 4 \(row 3\) has 3 columns, the header has 5"),
        (GOOD + "1,2,3,4,5,6\n", r"line 4 \(row 3\) has 6 columns, the header has 5"),
        (GOOD + "1,2,,4,5\n", r"line 4 \(row 3\), column 'pixel1': the cell is empty"),
        (GOOD + ",2,3,4,5\n", r"line 4 \(row 3\), column 'label': the cell is empty"),
        (GOOD + "1,2,x,4,5\n", r"line 4 \(row 3\), column 'pixel1': 'x' is no number"),
        (GOOD + "1,2,nan,4,5\n", r"line 4 \(row 3\), column 'pixel1': 'nan' is not a whole number"),
        (GOOD + "1,2,3,256,5\n", r"line 4 \(row 3\), column 'pixel2': '256' is outside 0..255"),
        (GOOD + "1,2,3,4,-1\n", r"line 4 \(row 3\), column 'pixel3': '-1' is outside 0..255"),
        (GOOD + "1,2,3,4,0.5\n", r"line 4 \(row 3\), column 'pixel3': '0.5' is not a whole number"),
        (GOOD + "3.5,2,3,4,5\n", r"line 4 \(row 3\), column 'label': '3.5' is not a whole number"),
        (GOOD + "-1,2,3,4,5\n", r"line 4 \(row 3\), column 'label': '-1' is outside 0..999"),
        (GOOD + "1000,2,3,4,5\n", r"line 4 \(row 3\), column 'label': '1000' is outside 0..999"),
        (GOOD + "\n1,2,3,4,5\n", r"line 4 \(row 3\) is blank"),
        (GOOD + '1,"2",3,4,5\n', r"line 4 \(row 3\), column 'pixel0': '\"2\"' is no number"),
        (GOOD.encode() + b"1,2,3,4,\xff\n", r"line 4 \(row 3\), column 'pixel3': '.' is no number"),
    ],
)
@pytest.mark.parametrize("ending", [".csv", ".csv.gz"])
def test_a_bad_file_is_refused_with_its_place(text: str | bytes, message: str, ending: str, tmp_path: Path) -> None:
    path = write(tmp_path, text, "bad" + ending)
    with pytest.raises(InputError, match=message) as caught:
        open_images(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_the_first_bad_cell_is_named_and_not_the_worst(tmp_path: Path) -> None:
    rows = "".join(f"1,{number},0,0,0\n" for number in range(200, 300))
    with pytest.raises(InputError, match=r"line 58 \(row 57\), column 'pixel0': '256'"):
        open_images(write(tmp_path, f"{HEADER}\n{rows}"))


def test_a_damaged_gzip_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD * 100, "a.csv.gz")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"a\.csv\.gz: cannot be read"):
        open_images(path)


def test_spaces_around_numbers_are_allowed(tmp_path: Path) -> None:
    images = open_one(write(tmp_path, f"{HEADER}\n3, 0,1 ,2,3\n"))
    assert images.pixels.ravel().tolist() == [0, 1, 2, 3]


def test_a_declared_shape_is_taken_and_must_fit(tmp_path: Path) -> None:
    path = write(tmp_path, "pixel0,pixel1,pixel2,pixel3,pixel4,pixel5\n1,2,3,4,5,6\n")
    assert open_one(path, shape=(1, 2, 3)).shape == (1, 2, 3)
    assert open_one(path, shape=(3, 1, 2)).shape == (3, 1, 2)
    with pytest.raises(InputError, match="has 6 pixels a row, but the declared shape 1×28×28 has 784"):
        open_images(path, shape=(1, 28, 28))


def test_columns_named_by_row_and_column_open_too(tmp_path: Path) -> None:
    assert open_one(write(tmp_path, "label,1x1,1x2,2x1,2x2\n3,1,2,3,4\n")).shape == (1, 2, 2)


def test_a_label_outside_declared_classes_is_refused_with_its_row(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert open_one(path, classes=["3", "5", "7"]).labels.tolist() == [0, 2]
    for _ in range(2):  # from the file, then from the cached copy
        with pytest.raises(InputError, match="row 2: the label 7 is outside the classes 3, 5"):
            open_images(path, classes=["3", "5"])


# -- cache -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("INKPROOF_CACHE", str(folder))
    return folder


def same(first: ImageSet, second: ImageSet) -> bool:
    return first.fingerprint == second.fingerprint and first.ids.tolist() == second.ids.tolist()


def test_a_converted_copy_opens_memory_mapped_and_equal(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path, GOOD)
    first, second = open_one(path), open_one(path)
    assert same(first, second)
    assert isinstance(second.storage.base, np.memmap) or isinstance(second.storage, np.memmap)
    assert second.source == str(path)


def test_changed_content_is_never_served_from_the_cache(tmp_path: Path, cache: Path) -> None:
    open_one(write(tmp_path, GOOD))
    assert open_one(write(tmp_path, GOOD.replace("255", "254"))).pixels.max() == 254


def test_without_cache_nothing_is_kept(tmp_path: Path, cache: Path) -> None:
    open_one(write(tmp_path, GOOD), cache=False)
    assert not cache.exists()


def test_a_damaged_copy_is_not_used(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path, GOOD)
    first = open_one(path)
    for stored in cache.rglob("pixels.npy"):
        stored.write_bytes(b"damaged")
    assert same(first, open_one(path))


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("INKPROOF_CACHE", str(tmp_path / "file"))
    assert len(open_one(write(tmp_path, GOOD))) == 2


def test_a_damaged_copy_is_made_anew(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path, GOOD)
    open_one(path)
    (stored,) = cache.rglob("pixels.npy")
    whole = stored.read_bytes()
    for damaged in (b"", b"PK\x03\x04", whole[:-1], whole + b"x"):
        stored.write_bytes(damaged)
        open_one(path)
        assert stored.read_bytes() == whole


def test_a_copy_that_lost_its_labels_is_not_used(tmp_path: Path, cache: Path) -> None:
    path = write(tmp_path, GOOD)
    open_one(path)
    next(cache.rglob("labels.npy")).unlink()
    assert open_one(path).classes == ("3", "7")


# -- lines and columns -------------------------------------------------------------------------------------------------


def test_columns_named_by_row_and_column_say_the_size(tmp_path: Path) -> None:
    names = ",".join(f"{row}x{column}" for row in range(1, 9) for column in (1, 2))
    path = write(tmp_path, f"{names}\n{','.join(map(str, range(16)))}\n")
    assert open_one(path).shape == (1, 8, 2)  # 16 pixels are a square too, and would be another image


@pytest.mark.parametrize("end", ["\n" * 9000, "  \n", "\r\n \r\n", ""])
def test_blank_lines_at_the_end_are_passed_over(end: str, tmp_path: Path) -> None:
    assert len(open_one(write(tmp_path, GOOD + end))) == 2


def test_a_lone_carriage_return_does_not_make_up_for_a_blank_line(tmp_path: Path) -> None:
    path = write(tmp_path, f"{HEADER}\n3,0,1,2,3\r3,0,1,2,3\n\n3,0,1,2,3\n")
    with pytest.raises(InputError, match=r"line 2 \(row 1\) has 9 columns, the header has 5"):
        open_images(path)
    with pytest.raises(InputError, match="line 1 holds lone carriage returns"):
        open_images(write(tmp_path, GOOD.replace("\n", "\r")))


def test_a_byte_that_is_no_text_is_refused_with_its_place(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD.encode() + b"1,2,\xff,4,5\n")
    with pytest.raises(InputError, match=r"line 4 \(row 3\), column 'pixel1': .* is no number"):
        open_images(path)


def test_a_column_number_of_5000_digits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="line 1, column 1 is"):
        open_images(write(tmp_path, f"1x1,1x{'9' * 5000}\n1,2\n"))
