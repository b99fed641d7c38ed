"""Batches: every image once, in the promised order, scaled; from memory or memory-mapped."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from inkproof.augment import Deformation, one_pixel_views
from inkproof.batches import BYTE, Batches, in_own_unit
from inkproof.hard_examples import HardExamples
from inkproof.images import ImageSet

CPU = torch.device("cpu")


def numbered(count: int) -> ImageSet:
    pixels = np.arange(count, dtype=np.uint8).repeat(4).reshape(count, 1, 2, 2)
    return ImageSet(pixels, np.arange(count) % 7)


@settings(deadline=None)
@given(count=st.integers(1, 60), batch_size=st.integers(1, 70), shuffled=st.booleans(), subset=st.booleans())
def test_a_pass_gives_every_image_once_with_its_label(
    count: int, batch_size: int, shuffled: bool, subset: bool
) -> None:
    images = numbered(count + 5).subset(np.arange(5, count + 5)) if subset else numbered(count)
    generator = torch.Generator().manual_seed(0) if shuffled else None
    batches = Batches(images, batch_size=batch_size, device=CPU, shuffle=generator)
    inputs, labels = map(torch.cat, zip(*batches, strict=True))
    seen = (inputs[:, 0, 0, 0] * 255).round().long()
    assert sorted(seen.tolist()) == (images.ids - 1).tolist()
    assert labels.tolist() == (seen % 7).tolist()
    assert shuffled or seen.tolist() == (images.ids - 1).tolist()
    assert len(batches) == len(list(batches))


def test_each_pass_has_an_order_of_its_own_and_the_seed_decides_them() -> None:
    def orders(seed: int) -> list[list[int]]:
        batches = Batches(numbered(50), batch_size=50, device=CPU, shuffle=torch.Generator().manual_seed(seed))
        return [next(iter(batches))[0][:, 0, 0, 0].tolist() for _ in range(2)]

    assert orders(1) == orders(1) != orders(2)
    assert orders(1)[0] != orders(1)[1]


@pytest.mark.parametrize(("count", "batch_size"), [(30, 7), (29, 7), (5, 10**9)])
@pytest.mark.parametrize("shuffled", [True, False])
def test_batches_in_bytes_are_the_batches_each_in_the_memory_of_the_one_before(
    count: int, batch_size: int, shuffled: bool
) -> None:
    images = numbered(count)

    def batches() -> Batches:
        generator = torch.Generator().manual_seed(0) if shuffled else None
        return Batches(images, batch_size=batch_size, device=CPU, shuffle=generator)

    places = set()
    for (inputs, labels), (in_bytes, same) in zip(batches(), batches().in_bytes(), strict=True):
        torch.testing.assert_close(inputs, in_bytes * BYTE)
        assert torch.equal(in_bytes, in_bytes.round())
        assert torch.equal(labels, same)
        places.add(in_bytes.data_ptr())
    assert len(places) == 1
    for (in_bytes, labels), (smallest, same) in zip(
        batches().in_bytes(), batches().in_bytes(dtype=torch.uint8), strict=True
    ):
        assert smallest.dtype == torch.uint8
        assert torch.equal(in_bytes, smallest)
        assert torch.equal(labels, same)


def test_batches_that_are_altered_are_not_given_in_bytes() -> None:
    generator = torch.Generator()
    plain = Batches(numbered(9), batch_size=4, device=CPU)
    altered = Batches(numbered(9), batch_size=4, device=CPU, augment=Deformation(), generator=generator)
    hard = Batches(numbered(9), batch_size=4, device=CPU, shuffle=generator, hard_examples=HardExamples(0.3))
    assert in_own_unit(plain)[1] == BYTE
    assert in_own_unit(altered) == (altered, 1)
    assert in_own_unit(hard) == (hard, 1)


def test_a_single_image_left_over_is_never_a_training_batch() -> None:
    shuffled = Batches(numbered(21), batch_size=10, device=CPU, shuffle=torch.Generator())
    assert [len(labels) for _, labels in shuffled] == [10, 11]
    assert [len(labels) for _, labels in Batches(numbered(21), batch_size=10, device=CPU)] == [10, 10, 1]


def test_memory_mapped_images_give_the_same_batches(tmp_path: Path, digits: ImageSet) -> None:
    np.save(tmp_path / "pixels.npy", digits.pixels)
    mapped = ImageSet(np.load(tmp_path / "pixels.npy", mmap_mode="r"), digits.labels, classes=digits.classes)
    for images in (digits, digits.split(valid=0.2).train):
        rows = images.rows
        twin = mapped if rows is None else mapped.subset(rows)
        for (first, _), (second, _) in zip(
            Batches(images, batch_size=100, device=CPU), Batches(twin, batch_size=100, device=CPU), strict=True
        ):
            assert torch.equal(first, second)


def test_pixels_are_not_copied_for_the_cpu() -> None:
    images = numbered(50)
    batches = Batches(images, batch_size=10, device=CPU)
    assert batches._pixels.data_ptr() == images.storage.ctypes.data


@pytest.mark.parametrize("shuffled", [True, False])
def test_what_is_written_into_a_batch_is_gone_in_the_next_pass(shuffled: bool) -> None:
    generator = torch.Generator().manual_seed(0) if shuffled else None
    batches = Batches(numbered(30), batch_size=7, device=CPU, shuffle=generator)
    sums = []
    for _ in range(2):
        sums.append(sum(float(inputs.sum()) for inputs, _ in batches))
        for inputs, _ in batches:
            inputs.add_(1)
    assert sums[0] == pytest.approx(sums[1])


# -- augmentation ------------------------------------------------------------------------------------------------------


def test_a_deformation_of_nothing_changes_nothing(digits: ImageSet) -> None:
    inputs, _ = next(iter(Batches(digits, batch_size=20, device=CPU)))
    torch.testing.assert_close(Deformation()(inputs, torch.Generator()), inputs, rtol=0, atol=1e-5)


def test_a_deformation_stays_in_its_bounds_and_alters_each_image_on_its_own(digits: ImageSet) -> None:
    inputs, _ = next(iter(Batches(digits, batch_size=20, device=CPU)))
    twins = inputs[:1].repeat(20, 1, 1, 1)
    altered = Deformation(rotate=10, scale=0.1, shear=0.1, shift=0.1, elastic=0.02)(twins, torch.Generator())
    assert altered.min() >= 0
    assert altered.max() <= 1
    assert len({tuple(image.flatten().tolist()) for image in altered}) == 20


def test_a_shift_moves_by_its_share_of_the_side_at_most() -> None:
    image = torch.zeros(200, 1, 21, 21)
    image[:, :, 10, 10] = 1
    shifted = Deformation(shift=2 / 21)(image, torch.Generator().manual_seed(0))
    assert (shifted[:, :, :7].abs().max(), shifted[:, :, 14:].abs().max()) == (0, 0)
    assert shifted[:, :, 8].max() > 0


def test_the_views_of_test_time_augmentation_are_one_pixel_shifts() -> None:
    images = torch.arange(9.0).view(1, 1, 3, 3)
    views = one_pixel_views(images)
    assert torch.equal(views[0], images)
    assert views[1][0, 0].tolist() == [[0, 0, 0], [0, 1, 2], [3, 4, 5]]
    assert views[4][0, 0].tolist() == [[1, 2, 0], [4, 5, 0], [7, 8, 0]]
