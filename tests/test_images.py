"""ImageSet: what it refuses, subsets as views, fingerprints, and a split that holds its promises."""

import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inkproof.errors import InputError
from inkproof.images import ImageSet, matching


def numbered(labels: list[int], *, copies: list[int] | None = None) -> ImageSet:
    """One image a label; images with the same number in `copies` are identical."""
    contents = np.arange(len(labels)) if copies is None else np.array(copies)
    pixels = np.zeros((len(labels), 1, 2, 4), np.uint8)
    pixels.reshape(len(labels), 8)[:, :2] = np.column_stack([contents // 256, contents % 256])
    return ImageSet(pixels, np.array(labels))


# -- the split ---------------------------------------------------------------------------------------------------------


@st.composite
def splittable(draw: st.DrawFn) -> tuple[list[int], int, int, int]:
    classes = draw(st.integers(2, 5))
    sizes = draw(st.lists(st.integers(6, 40), min_size=classes, max_size=classes))
    labels = draw(st.permutations([label for label, size in enumerate(sizes) for _ in range(size)]))
    valid, test = draw(st.integers(classes, max(classes, len(labels) // 4))), classes
    return list(labels), valid, test, draw(st.integers(0, 2**31))


@settings(deadline=None)
@given(splittable())
def test_sides_are_disjoint_complete_of_the_size_asked_for_and_stratified(
    case: tuple[list[int], int, int, int],
) -> None:
    labels, valid, test, seed = case
    images = numbered(labels)
    split = images.split(valid=valid, test=test, seed=seed)
    ids = np.concatenate([side.ids for side in split])
    assert sorted(ids.tolist()) == images.ids.tolist()
    assert [len(side) for side in split] == [len(images) - valid - test, valid, test]
    counts = np.bincount(images.labels)
    for side in split:
        assert (np.diff(side.ids) > 0).all()
        inside = np.bincount(side.labels, minlength=len(counts))
        assert (inside > 0).all()
    held = np.bincount(split.valid.labels, minlength=len(counts))
    exact = counts * (valid / len(images))
    assert exact.min() < 1 or (np.abs(held - exact) < 1).all()  # every class is held out, also where its share is less


@settings(deadline=None)
@given(splittable())
def test_a_split_is_decided_by_its_seed_alone(case: tuple[list[int], int, int, int]) -> None:
    labels, valid, test, seed = case
    images = numbered(labels)
    first, again, other = (images.split(valid=valid, test=test, seed=s) for s in (seed, seed, seed + 1))
    assert first.train.ids.tolist() == again.train.ids.tolist()
    assert len(images) < 40 or first.train.ids.tolist() != other.train.ids.tolist()


@settings(deadline=None)
@given(st.data())
def test_identical_images_never_stand_on_two_sides(data: st.DataObject) -> None:
    count = data.draw(st.integers(30, 120))
    copies = data.draw(st.lists(st.integers(0, 25), min_size=count, max_size=count))
    labels = data.draw(st.lists(st.integers(0, 1), min_size=count, max_size=count))
    images = numbered(labels, copies=copies)
    try:
        split = images.split(valid=0.2, test=0.1, seed=data.draw(st.integers(0, 99)))
    except InputError as error:
        assert "different images" in str(error) or "one image" in str(error)  # noqa: PT017
        return
    sides = [set(side.fingerprints.tolist()) for side in split]
    assert sum(len(side) for side in sides) == len(set.union(*sides))


def test_a_share_is_rounded_to_images(digits: ImageSet) -> None:
    train, valid, test = digits.split(valid=0.1, test=0.2)
    assert [len(train), len(valid), len(test)] == [1258, 180, 359]
    assert [len(side) for side in digits.split(valid=0.2)] == [1438, 359]
    assert digits.split().valid is None


def test_images_without_labels_split_too() -> None:
    images = ImageSet(np.arange(40, dtype=np.uint8).reshape(10, 1, 2, 2))
    assert [len(side) for side in images.split(valid=3)] == [7, 3]


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"valid": 0.9, "test": 0.2}, "leaves none to train on"),
        ({"valid": 10}, "leaves none to train on"),
        ({"valid": 1.5}, r"the valid side must be a share below 1 or a whole number of images, not 1.5"),
        ({"test": -1}, "the test side must be a share"),
        ({"test": float("nan")}, "the test side must be a share"),
        ({"test": float("inf")}, "the test side must be a share"),
        ({"test": 2, "seed": -1}, "the seed of a split must not be negative, and it is -1"),
        ({"valid": 1}, "a side of 1 images cannot hold each of 2 classes"),
    ],
)
def test_sizes_that_make_no_split_are_refused(sizes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        numbered([0, 1] * 5).split(**sizes)


def test_a_class_with_one_image_is_refused_by_name_and_row() -> None:
    with pytest.raises(InputError, match=r"class '1' has only one image \(row 4\) and a split into 2 sides needs 2"):
        numbered([0, 0, 0, 1, 0]).split(valid=0.4)


# -- fingerprints ------------------------------------------------------------------------------------------------------


@given(st.data())
def test_fingerprints_are_equal_exactly_for_equal_images(data: st.DataObject) -> None:
    copies = data.draw(st.lists(st.integers(0, 300), min_size=1, max_size=30))
    fingerprints = numbered([0] * len(copies), copies=copies).fingerprints
    equal = fingerprints[:, None] == fingerprints[None]
    assert np.array_equal(equal, np.array(copies)[:, None] == np.array(copies)[None])


def test_images_that_another_process_hashed_are_known_again_in_this(digits: ImageSet) -> None:
    code = """
import pickle, sys
from inkproof import audit, open_images
digits = open_images("digits").subset(range(300))
audit.check_images(digits)
sys.stdout.buffer.write(pickle.dumps(digits))
"""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    theirs = pickle.loads(subprocess.check_output([sys.executable, "-c", code], env=environment))
    assert np.array_equal(theirs.hashes, digits.hashes[:300])


def test_fingerprints_of_subsets_and_of_memory_mapped_images_are_the_same(tmp_path: Path, digits: ImageSet) -> None:
    rows = np.array([5, 3, 900])
    assert np.array_equal(digits.subset(rows).fingerprints, digits.fingerprints[rows])
    np.save(tmp_path / "pixels.npy", digits.pixels)
    mapped = ImageSet(np.load(tmp_path / "pixels.npy", mmap_mode="r"), digits.labels, classes=digits.classes)
    assert mapped.fingerprint == digits.fingerprint


def test_the_fingerprint_of_a_set_sees_pixels_labels_classes_and_order() -> None:
    base = numbered([0, 1, 0])
    others = [
        numbered([0, 1, 1]),
        numbered([0, 1, 0], copies=[0, 1, 3]),
        base.subset(np.array([2, 1, 0])),
        base.subset(np.array([0, 1])),
        base.with_classes(("0", "1", "2")),
    ]
    assert len({base.fingerprint, *(other.fingerprint for other in others)}) == 6
    assert base.fingerprint == numbered([0, 1, 0]).fingerprint


# -- the rest ----------------------------------------------------------------------------------------------------------


def test_a_subset_is_a_view() -> None:
    images = numbered([0, 1, 2, 1])
    subset = images.subset(np.array([3, 1]))
    assert np.shares_memory(subset.storage, images.storage)
    assert (subset.ids.tolist(), subset.labels.tolist()) == ([4, 2], [1, 1])
    assert np.array_equal(subset.pixels, images.pixels[[3, 1]])
    assert subset.subset(np.array([1])).ids.tolist() == [2]


def test_images_cannot_be_changed() -> None:
    images = numbered([0, 1])
    parts = images.subset(np.array([0]))
    derived = images.with_classes(("1", "0"))
    arrays = (images.pixels, images.labels, images.ids, images.storage, parts.labels, parts.ids, derived.labels)
    for array in arrays:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 1


def test_classes_can_be_chosen_and_are_counted_anew(digits: ImageSet) -> None:
    pair = digits.with_classes(("7", "3"), rest="drop")
    assert pair.classes == ("7", "3")
    assert len(pair) == 179 + 183
    assert [digits.labels[identity - 1] for identity in pair.ids[:9]] == [[7, 3][label] for label in pair.labels[:9]]
    with pytest.raises(InputError, match="class names must be different, not 3, 3"):
        digits.with_classes(("3", "3"), rest="drop")
    with pytest.raises(InputError, match="has no class 'x'"):
        digits.with_classes(("3", "x"), rest="drop")
    with pytest.raises(InputError, match="image 1 has the label '0', which is outside the classes 3, 7"):
        digits.with_classes(("3", "7"))


def test_images_of_another_shape_do_not_match(digits: ImageSet) -> None:
    with pytest.raises(InputError, match=r"images of shape \(1, 2, 4\).*trained on \(1, 8, 8\) \(digits\)"):
        matching(numbered([0]), digits)


PIXELS = np.zeros((3, 1, 2, 2), np.uint8)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((PIXELS[:, 0],), r"must be uint8 of shape \(n, channels, height, width\), not uint8 of shape \(3, 2, 2\)"),
        ((PIXELS.astype(float),), "not float64 of shape"),
        ((PIXELS[:0],), "holds no images"),
        ((PIXELS, np.array([0, 1])), r"3 images need labels of shape \(3,\), not \(2,\)"),
        ((PIXELS, np.array([0.0, 1, 2])), "labels must be integers, not float64"),
        ((PIXELS, np.array([0, -100, 2])), "image 2 has the label -100, outside the classes 0..2"),
    ],
)
def test_what_is_no_set_of_images_is_refused(arguments: tuple[np.ndarray, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageSet(*arguments)


def test_a_label_outside_the_given_classes_is_refused() -> None:
    with pytest.raises(InputError, match=r"image 3 has the label 2, outside the classes 0\.\.1"):
        ImageSet(PIXELS, np.array([0, 1, 2]), classes=["a", "b"])
