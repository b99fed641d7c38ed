"""Checks of how rows are read: random datasets, augmentation that mirrors or repeats, loaders that leave rows out."""

import pickle
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, SubsetRandomSampler, TensorDataset

from inkproof import audit, models
from inkproof.audit import Finding, Reading
from inkproof.augment import Deformation
from inkproof.errors import Refused
from inkproof.images import ImageSet, Split
from inkproof.learner import Learner


class Items(Dataset[Any]):
    """Pairs that are read one by one, as transforms do; `draw` alters each."""

    def __init__(self, count: int = 40, draw: Any = lambda x: x):
        self.x, self.y = torch.arange(count * 64.0).reshape(count, 1, 8, 8) / 999, torch.arange(count) % 4
        self.draw = draw

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        return self.draw(self.x[row]), self.y[row]


def look(*arguments: Any, **options: Any) -> dict[str, Finding]:
    return {finding.id: finding for finding in audit.look("reading", Reading(*arguments, **options))}


def global_numpy_state() -> bytes:
    return pickle.dumps(np.random.get_state())  # noqa: NPY002  # the global generator is what users' datasets draw from


def seeded(x: Tensor) -> Tensor:
    torch.manual_seed(0)
    return x + torch.rand(x.shape)


@pytest.mark.parametrize(
    "draw",
    [
        lambda x: x + torch.rand(x.shape),
        lambda x: x + float(np.random.random()),  # noqa: NPY002  # as users' transforms draw
        lambda x: x + random.random(),
    ],
)
def test_random_alterations_are_meant_for_training_and_refused_in_validation(draw: Any) -> None:
    assert look(Items(draw=draw), Items()) == {}
    found = look(Items(draw=draw), Items(draw=draw))
    assert set(found) == {"held-out-side-random"}
    assert (
        "8 of 8 validation images were other images when they were read again" in found["held-out-side-random"].message
    )
    assert set(look(Items(), DataLoader(Items(draw=draw), 10))) == {"held-out-side-random"}


def test_what_is_read_leaves_the_generators_as_they_were() -> None:
    torch_state, numpy_state = torch.get_rng_state(), global_numpy_state()
    look(Items(draw=seeded), DataLoader(Items(draw=lambda x: x + torch.rand(1)), 10, shuffle=True))
    assert torch.equal(torch_state, torch.get_rng_state())
    assert numpy_state == global_numpy_state()


def test_a_dataset_that_sets_the_seed_is_named() -> None:
    found = look(Items(draw=seeded))
    assert set(found) == {"augmentation-repeats"}
    assert found["augmentation-repeats"].evidence == {"generators": ["torch"]}


def test_workers_that_copy_a_generator_are_named() -> None:
    data = Items()
    data.generator = np.random.default_rng(0)
    assert set(look(DataLoader(data, 10, num_workers=2))) == {"augmentation-repeats"}
    assert look(DataLoader(data, 10)) == {}
    assert look(DataLoader(data, 10, num_workers=2, worker_init_fn=lambda worker: None)) == {}


def test_data_that_cannot_be_read_is_left_to_the_training() -> None:
    def broken(x: Tensor) -> Tensor:
        raise OSError("no such file")

    assert look(Items(draw=broken), Items(draw=broken)) == {}


def mirrored(images: Tensor, generator: torch.Generator) -> Tensor:
    some = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(some[:, None, None, None], images.flip(2), images)


def always_the_same(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + 0.1 * torch.rand(images.shape, generator=torch.Generator().manual_seed(0))


def test_augmentation_that_turns_digits_over_is_named(digits: ImageSet) -> None:
    side = audit.side_of(digits)
    found = look(digits, side=side, augment=mirrored)
    assert set(found) == {"augmentation-changes-labels"}
    assert "upside down" in found["augmentation-changes-labels"].message


@pytest.mark.parametrize(
    "augment",
    [
        Deformation(10, 0.1, 0.1, 0.05, 0.02),
        Deformation(20, 0.2, 0.2, 0.1, 0.03),
        lambda images, generator: images.flip(3).flip(3),
        lambda images, generator: (images + 0.2 * torch.randn(images.shape, generator=generator)).clamp(0, 1),
        lambda images, generator: 1 - images,
    ],
)
def test_augmentation_that_keeps_labels_is_let_be(augment: Any, digits: ImageSet) -> None:
    assert look(digits, side=audit.side_of(digits), augment=augment) == {}


def test_images_that_mean_the_same_mirrored_may_be_mirrored() -> None:
    pixels = np.random.default_rng(0).integers(0, 60, (600, 1, 12, 12)).astype(np.uint8)
    labels = np.arange(600) % 3
    for image, label in zip(pixels[:, 0], labels, strict=True):
        image[6 - 2 * label : 6 + 2 * label + 1] += 150  # bands that are thin or wide
    side = audit.side_of(ImageSet(pixels, labels))
    assert look(None, side=side, augment=lambda images, generator: mirrored(images.mT, generator).mT) == {}


def test_augmentation_that_repeats_itself_is_named(digits: ImageSet) -> None:
    assert set(look(digits, side=audit.side_of(digits), augment=always_the_same)) == {"augmentation-repeats"}


def test_the_learner_looks_before_it_trains(few_digits: Split) -> None:
    train = TensorDataset(torch.rand(40, 1, 8, 8), torch.arange(40) % 4)
    with pytest.raises(Refused, match="held-out-side-random"):
        Learner(models.linear((1, 8, 8), 4), train, Items(draw=lambda x: x + torch.rand(x.shape)))


# -- loaders -----------------------------------------------------------------------------------------------------------


def test_rows_that_a_loader_drops_are_named() -> None:
    found = look(Items(), DataLoader(Items(42), 10, drop_last=True))
    assert found["rows-left-out"].message == "the validation loader leaves out 2 of 42 rows."
    assert look(Items(), DataLoader(Items(40), 10, drop_last=True)) == {}
    assert look(Items(), DataLoader(Items(42), 10)) == {}


def test_rows_that_a_sampler_gives_twice_are_named() -> None:
    padded = DataLoader(Items(10), 4, sampler=[*range(10), 0, 1])
    assert "counts 2 twice of 12 rows" in look(Items(), padded)["rows-left-out"].message


def test_two_loaders_of_one_dataset_share_no_row_where_their_samplers_do_not(digits: ImageSet) -> None:
    x = torch.from_numpy(digits.pixels.copy()).float() / 255
    data = TensorDataset(x, torch.from_numpy(digits.require_labels("here").copy()))
    rows = torch.randperm(len(x), generator=torch.Generator().manual_seed(0)).tolist()
    train = DataLoader(data, 64, sampler=SubsetRandomSampler(rows[:1400]))
    valid = DataLoader(data, 64, sampler=SubsetRandomSampler(rows[1400:]))
    learner = Learner(models.linear((1, 8, 8), 10), train, valid)
    assert learner.findings == []
    assert len(learner.get_preds()[0]) == 397
    assert torch.equal(learner.get_preds()[1], data.tensors[1][sorted(rows[1400:])])
