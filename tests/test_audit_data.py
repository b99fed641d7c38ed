"""Checks of images, labels and sides: each fault by its own name, clean work without a word."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import inkproof
from inkproof.audit import Seen, catalogue, check, check_images, explain
from inkproof.audit.catalogue import _CHECKS
from inkproof.audit.sides import side_of
from inkproof.audit.witness import fit_witness
from inkproof.errors import InputError
from inkproof.images import ImageSet

Pair = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def pairs(digits: ImageSet) -> tuple[Pair, Pair]:
    order = torch.randperm(1797, generator=torch.Generator().manual_seed(0))
    x, y = torch.from_numpy(digits.pixels.copy())[order].float() / 255, torch.from_numpy(digits.labels.copy())[order]
    return (x[:1300], y[:1300]), (x[1300:], y[1300:])


def ids(train: Pair, valid: Pair) -> dict[str, str]:
    return {finding.id: finding.severity for finding in check_images(train, valid)}


def swapped(labels: Tensor, first: int, second: int) -> Tensor:
    return torch.where(labels == first, second, torch.where(labels == second, first, labels))


def cut_when_sorted(train: Pair, valid: Pair) -> tuple[Pair, Pair]:
    x, y = torch.cat([train[0], valid[0]]), torch.cat([train[1], valid[1]])
    order = y.argsort(stable=True)
    return (x[order][:1300], y[order][:1300]), (x[order][1300:], y[order][1300:])


def with_noise(x: Tensor) -> Tensor:
    return (x + 0.02 * torch.randn(x.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)


def as_signed_bytes(x: Tensor) -> Tensor:
    return (255 * x).round().to(torch.uint8).view(torch.int8).float()


def standardised_by_all(train: Pair, valid: Pair) -> tuple[Pair, Pair]:
    both = torch.cat([train[0], valid[0]])
    mean, spread = both.mean(), both.std()
    return ((train[0] - mean) / spread, train[1]), ((valid[0] - mean) / spread, valid[1])


FAULTS: dict[str, tuple[Callable[[Pair, Pair], tuple[Pair, Pair]], str, str]] = {
    "validation rows are training rows": (lambda t, v: (t, (t[0][:300], t[1][:300])), "valid-overlaps-train", "refuse"),
    "labels shifted by a row": (lambda t, v: ((t[0], t[1].roll(1)), v), "labels-unrelated-to-images", "refuse"),
    "labels shuffled": (
        lambda t, v: ((t[0], t[1][torch.randperm(1300)]), v),
        "labels-unrelated-to-images",
        "refuse",
    ),
    "validation labels shifted by a row": (lambda t, v: (t, (v[0], v[1].roll(1))), "sides-do-not-match", "refuse"),
    "validation labels counted from 1": (lambda t, v: (t, (v[0], (v[1] + 1) % 10)), "sides-do-not-match", "refuse"),
    "two classes swapped on one side": (lambda t, v: (t, (v[0], swapped(v[1], 3, 5))), "classes-swapped", "warn"),
    "validation images transposed": (lambda t, v: (t, (v[0].transpose(2, 3), v[1])), "sides-do-not-match", "refuse"),
    "validation images inverted": (lambda t, v: (t, (1 - v[0], v[1])), "sides-do-not-match", "refuse"),
    "validation images not divided by 255": (lambda t, v: (t, (255 * v[0], v[1])), "inputs-rescaled", "refuse"),
    "validation images divided twice": (lambda t, v: (t, (v[0] / 255, v[1])), "inputs-rescaled", "refuse"),
    "training images standardised alone": (lambda t, v: (((t[0] - 0.3) / 0.4, t[1]), v), "inputs-rescaled", "warn"),
    "pixels of 0 to 255": (lambda t, v: ((255 * t[0], t[1]), (255 * v[0], v[1])), "inputs-not-scaled", "warn"),
    "pixels divided twice": (lambda t, v: ((t[0] / 255, t[1]), (v[0] / 255, v[1])), "inputs-scaled-twice", "warn"),
    "one pixel is NaN": (
        lambda t, v: ((torch.where(t[0] == t[0][3, 0, 2, 3], torch.nan, t[0]), t[1]), v),
        "inputs-not-finite",
        "refuse",
    ),
    "a part is blank": (lambda t, v: ((torch.cat([t[0][:1200], 0 * t[0][:100]]), t[1]), v), "blank-images", "refuse"),
    "one image is blank": (lambda t, v: ((torch.cat([t[0][:1299], 0 * t[0][:1]]), t[1]), v), "blank-images", "warn"),
    "pixels as int8": (
        lambda t, v: ((as_signed_bytes(t[0]), t[1]), (as_signed_bytes(v[0]), v[1])),
        "values-wrapped",
        "refuse",
    ),
    "a fifth joined twice": (
        lambda t, v: ((torch.cat([t[0], t[0][:300]]), torch.cat([t[1], t[1][:300]])), v),
        "duplicate-images",
        "warn",
    ),
    "standardised by all rows": (standardised_by_all, "statistics-of-all-rows", "note"),
    "most of a class cut off": (
        lambda t, v: (t, (v[0][v[1] != 1], v[1][v[1] != 1])),
        "class-shares-differ",
        "warn",
    ),
    "a sorted file is cut": (cut_when_sorted, "class-missing", "refuse"),
    "a class is merged in training": (
        lambda t, v: ((t[0], torch.where(t[1] == 4, 9, t[1])), v),
        "class-missing",
        "refuse",
    ),
    "labels of -100": (lambda t, v: ((t[0], torch.where(t[1] == 4, -100, t[1])), v), "labels-ignored", "refuse"),
    "one row twice with two labels": (
        lambda t, v: ((torch.cat([t[0], t[0][:5]]), torch.cat([t[1], (t[1][:5] + 1) % 10])), v),
        "conflicting-labels",
        "warn",
    ),
    "a class is rare": (
        lambda t, v: ((t[0][_rare(t[1])], t[1][_rare(t[1])]), (v[0][v[1] != 7], v[1][v[1] != 7])),
        "class-imbalance",
        "warn",
    ),
    "the label is a column": (
        lambda t, v: (
            (torch.cat([t[1][:, None].float(), t[0].flatten(1)], 1), t[1]),
            (torch.cat([v[1][:, None].float(), v[0].flatten(1)], 1), v[1]),
        ),
        "label-among-inputs",
        "refuse",
    ),
}


def _rare(labels: Tensor) -> Tensor:
    return (labels != 7) | (torch.arange(len(labels)) < 30)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_named(fault: str, pairs: tuple[Pair, Pair]) -> None:
    plant, name, severity = FAULTS[fault]
    found = ids(*plant(*pairs))
    assert found.get(name) == severity, found


@pytest.mark.parametrize("count", [100, 1300], ids=["few images", "many images"])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 5, 4)])
def test_blank_images_of_any_grey_are_found(count: int, shape: tuple[int, int, int]) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (count, *shape)).astype(np.uint8)
    greys = {2: 0, 50: 7, 99: 255}
    for row, grey in greys.items():
        pixels[row] = grey
    pixels[3:9] = 9
    pixels[3:9, 0, 1, 2] = 10  # nearly blank
    found = check_images(ImageSet(pixels, random.integers(0, 3, count)))
    (blank,) = (finding for finding in found if finding.id == "blank-images")
    assert blank.evidence["examples"] == ["3", "51", "100"]


CLEAN: dict[str, Callable[[Pair, Pair], tuple[Pair, Pair]]] = {
    "centred by subtracting 128": lambda t, v: (
        ((255 * t[0]).round().sub(128).div(128), t[1]),
        ((255 * v[0]).round().sub(128).div(128), v[1]),
    ),
    "as they are": lambda t, v: (t, v),
    "standardised by training": lambda t, v: (((t[0] - 0.3) / 0.4, t[1]), ((v[0] - 0.3) / 0.4, v[1])),
    "two classes": lambda t, v: tuple((x[y < 2], y[y < 2]) for x, y in (t, v)),
    "two classes as a column of floats": lambda t, v: tuple((x[y < 2], y[y < 2].float()[:, None]) for x, y in (t, v)),
    "noisier validation images": lambda t, v: (t, (with_noise(v[0]), v[1])),
    "augmented training images": lambda t, v: ((torch.cat([t[0], t[0].roll(1, dims=3)]), t[1].repeat(2)), v),
    "inverted everywhere": lambda t, v: ((1 - t[0], t[1]), (1 - v[0], v[1])),
    "few rows": lambda t, v: ((t[0][:120], t[1][:120]), (v[0][:60], v[1][:60])),
    "a fifth of the labels wrong": lambda t, v: (
        (t[0], torch.where(torch.arange(1300) % 5 == 0, torch.arange(1300) // 5 % 10, t[1])),
        v,
    ),
    "real numbers to predict": lambda t, v: ((t[0], t[0].mean(dim=(1, 2, 3))), (v[0], v[0].mean(dim=(1, 2, 3)))),
    "a few natural duplicates": lambda t, v: (
        t,
        (torch.cat([v[0][:490], v[0][:7]]), torch.cat([v[1][:490], v[1][:7]])),
    ),
}


@pytest.mark.parametrize("work", CLEAN)
def test_clean_work_passes_without_a_word(work: str, pairs: tuple[Pair, Pair]) -> None:
    assert ids(*CLEAN[work](*pairs)) == {}


def test_random_splits_of_the_digits_give_no_finding(digits: ImageSet) -> None:
    for seed in range(20):
        split = digits.split(valid=0.2, test=0.2, seed=seed)
        assert check_images(split.train, split.valid, split.test) == []


def test_a_witness_speaks_only_where_it_has_skill(digits: ImageSet) -> None:
    side = side_of(digits)
    assert side is not None
    assert side.witness is not None
    assert side.witness.speaks
    assert side.witness.accuracy > 0.8
    assert digits.labels is not None
    shuffled = fit_witness(side.sample, np.random.default_rng(0).permutation(digits.labels))
    assert shuffled is not None
    assert not shuffled.speaks
    assert fit_witness(side.sample[:100], digits.labels[:100]) is None


def test_altered_copies_that_keep_their_ids_are_seen(digits: ImageSet) -> None:
    split = digits.split(valid=300)
    assert split.valid is not None
    dimmed = (digits.subset(np.arange(60)).pixels // 2).astype(np.uint8)
    mixed = ImageSet(
        np.concatenate([split.valid.pixels, dimmed]),
        np.concatenate([split.valid.require_labels("here"), digits.require_labels("here")[:60]]),
        ids=np.concatenate([split.valid.ids, digits.ids[:60]]),
        source=digits.source,
    )
    found = {finding.id for finding in check_images(split.train, mixed)}
    assert found == {"sides-share-sources"}


def test_errors_of_opening_name_findings_that_are_explained() -> None:
    folder = Path(inkproof.__file__).parent / "sources"
    kind = r'"((?:file|header|pixel|label|images)-[a-z]+(?:-[a-z]+)+|file-damaged|header-wrong)"'
    named = {name for path in folder.glob("*.py") for name in re.findall(kind, path.read_text(encoding="utf-8"))}
    assert named <= {one.id for one in catalogue() if one.moment == "opening"}
    assert len(named) == 5


def test_rows_that_are_counted_from_1_on_both_sides_share_no_source(digits: ImageSet) -> None:
    labels = digits.require_labels("here")
    sides = [ImageSet(digits.pixels[part], labels[part]) for part in (slice(0, 1200), slice(1200, None))]
    assert check_images(*sides) == []


def test_every_check_explains_itself() -> None:
    for one in catalogue():
        assert one.means.endswith("."), one.id
        assert one.detected.endswith("."), one.id
        assert one.id == one.id.lower().replace("_", "-"), one.id


def test_a_check_of_ones_own_is_ten_lines(pairs: tuple[Pair, Pair]) -> None:
    @check("many-sevens", moment="data", severity="warn", detected="The share of the label 7.")
    def many_sevens(sides):
        """More than a twentieth of the training images are sevens."""
        share = (sides.train.labels == 7).mean()
        if share > 0.05:
            yield Seen(f"{share:.0%} of the training images are sevens.", {"share": share}, "Collect other digits.")

    try:
        assert ids(*pairs) == {"many-sevens": "warn"}
        assert explain("many-sevens").means == "More than a twentieth of the training images are sevens."
        with pytest.raises(InputError, match="'many-sevens' is declared already"):
            check("many-sevens", moment="data", severity="warn", detected="x")(many_sevens)
    finally:
        del _CHECKS["many-sevens"]
    with pytest.raises(InputError, match="did you mean blank-images"):
        explain("blank-image")


def test_made_up_noise_with_made_up_labels_is_warned_of_and_not_refused() -> None:
    random = np.random.default_rng(0)
    noise = ImageSet(random.integers(0, 256, (2000, 1, 12, 12), dtype=np.uint8), random.integers(0, 10, 2000))
    assert [(one.id, one.severity) for one in check_images(noise)] == [("labels-unrelated-to-images", "warn")]


def test_examples_are_the_first_rows_whatever_the_process_hashes_them_to(digits: ImageSet) -> None:
    assert digits.labels is not None
    labels = np.r_[digits.labels[:220], (digits.labels[20:40] + 1) % 10]
    images = ImageSet(digits.pixels[np.r_[0:200, 0:40]], labels[np.r_[0:200, 0:20, 220:240]])
    found = {finding.id: finding.evidence["examples"] for finding in check_images(images)}
    assert found["duplicate-images"] == ["1", "2", "3", "4", "5"]
    assert found["conflicting-labels"] == [[str(row), str(row + 200)] for row in range(21, 26)]


def test_a_number_that_is_not_finite_is_found_in_any_row() -> None:
    inputs, labels = torch.rand(2500, 16), torch.randint(0, 3, (2500,))
    for row, number in ((0, torch.nan), (1500, torch.inf), (2499, -torch.inf)):
        inputs[row, 7] = number
    (broken,) = (one for one in check_images((inputs, labels)) if one.id == "inputs-not-finite")
    assert broken.evidence["examples"] == ["0", "1500", "2499"]


def test_statistics_of_all_rows_are_seen_where_a_sample_would_only_show_that_they_are_near() -> None:
    torch.manual_seed(0)
    train, valid = torch.rand(9000, 16, dtype=torch.float64), torch.rand(3000, 16, dtype=torch.float64) + 0.1
    together = torch.cat([train, valid])
    mean, deviation = together.mean(), together.std(correction=0)
    labels = torch.randint(0, 3, (9000,))
    sides = [(((each - mean) / deviation).float(), labels[: len(each)]) for each in (train, valid)]
    assert "statistics-of-all-rows" in {one.id for one in check_images(*sides)}
