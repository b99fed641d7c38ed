"""The commands `audit` and `findings`, submissions, altered copies and wrong labels."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Result

from inkproof.audit import catalogue, check_copies, check_submission
from inkproof.audit.copies import find_copies
from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.label_errors import find_label_errors, rank

Command = Callable[..., Result]


@pytest.fixture
def glyphs() -> ImageSet:
    """Blobs of 16×16 that are unlike each other: random strokes, softened."""
    random = np.random.default_rng(0)
    pixels = np.zeros((400, 1, 16, 16), np.float32)
    for image in pixels[:, 0]:
        for _ in range(4):
            row, column = random.integers(3, 13, 2)
            image[row - 2 : row + 2, column - 1 : column + 2] += random.uniform(0.3, 1)
    soft = sum(np.roll(pixels, shift, axis) for shift in (-1, 0, 1) for axis in (2, 3)) / 6
    return ImageSet((255 * np.clip(soft, 0, 1)).astype(np.uint8), np.arange(400) % 4)


ALTERED: dict[str, Callable[[Any], Any]] = {
    "shifted by a pixel": lambda pixels: np.roll(pixels, (1, -1), axis=(2, 3)),
    "dimmed": lambda pixels: pixels * 0.7,
    "in 16 steps of grey": lambda pixels: pixels // 16 * 16,
}


@pytest.mark.parametrize("name", ALTERED)
def test_altered_copies_are_found_and_nothing_else(name: str, glyphs: ImageSet) -> None:
    copies = ALTERED[name](glyphs.pixels[:40].astype(np.float32)).astype(np.uint8)
    whole = ImageSet(np.concatenate([glyphs.pixels, copies]), np.zeros(440, np.int64), classes=("0", "1"))
    found = find_copies(whole)
    pairs = {tuple(sorted(pair)) for pair in zip(found.first.tolist(), found.second.tolist(), strict=True)}
    planted = {(row, 400 + row) for row in range(40)}
    assert len(pairs & planted) >= 36
    assert pairs <= planted
    (finding,) = check_copies(glyphs, ImageSet(copies, np.zeros(40, np.int64), classes=("0", "1")))
    assert finding.id == "altered-copies"
    assert finding.evidence["sides"] == ["train", "valid"]


def test_clean_images_have_no_altered_copies(glyphs: ImageSet, digits: ImageSet) -> None:
    assert check_copies(glyphs.subset(np.arange(200)), glyphs.subset(np.arange(200, 400))) == []
    assert check_copies(digits) == [], "images of 8×8 are too alike: nothing is said of them"


# -- labels ------------------------------------------------------------------------------------------------------------


def test_wrong_labels_are_ranked_first(digits: ImageSet) -> None:
    labels = digits.require_labels("here").copy()
    random = np.random.default_rng(0)
    wrong = random.choice(len(labels), 36, replace=False)
    labels[wrong] = (labels[wrong] + random.integers(1, 10, 36)) % 10
    errors = find_label_errors(ImageSet(digits.pixels, labels, classes=digits.classes))
    hits = np.isin(errors.rows, wrong)
    assert hits.mean() >= 0.9
    assert hits.sum() >= 0.9 * 36
    assert (np.diff(errors.confidence) <= 0).all()


def test_a_label_is_suspect_where_another_class_is_far_more_probable() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.9, 0.1], [0.95, 0.05]])
    errors = rank(probabilities, np.array([0, 0, 1, 1]))
    assert errors.rows.tolist() == [3, 2]
    assert errors.suggested.tolist() == [0, 0]
    assert errors.confidence.tolist() == pytest.approx([0.9, 0.8])


# -- submissions -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sides(digits: ImageSet) -> tuple[ImageSet, ImageSet]:
    split = digits.split(test=500)
    assert split.test is not None
    test = ImageSet(split.test.pixels, split.test.labels, classes=digits.classes, ids=np.arange(1, 501))
    return split.train, test


def submitted(path: Path, labels: list[str], ids: list[str] | None = None) -> Path:
    ids = ids or [str(number) for number in range(1, len(labels) + 1)]
    lines = ["ImageId,Label", *(f"{identity},{label}" for identity, label in zip(ids, labels, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def right_labels(test: ImageSet) -> list[str]:
    return [test.classes[label] for label in test.require_labels("here")]


FAULTS: dict[str, tuple[Callable[[list[str], ImageSet], list[str]], str]] = {
    "cut from predictions of training rows": (lambda right, train: right_labels(train)[:500], "submission-misaligned"),
    "shifted by a row": (lambda right, train: right[1:] + right[:1], "submission-misaligned"),
    "reversed": (lambda right, train: right[::-1], "submission-misaligned"),
    "counted from 1": (lambda right, train: [str((int(label) + 1) % 10) for label in right], "submission-misaligned"),
    "with a point": (lambda right, train: [f"{label}.0" for label in right], "submission-labels"),
    "one class": (lambda right, train: ["1"] * 500, "submission-one-class"),
    "too few": (lambda right, train: right[:400], "submission-row-count"),
    "too many": (lambda right, train: right_labels(train), "submission-row-count"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_submission_is_refused(fault: str, sides: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    train, test = sides
    make, name = FAULTS[fault]
    found = check_submission(submitted(tmp_path / "s.csv", make(right_labels(test), train)), test, train=train)
    assert [(one.id, one.severity) for one in found if one.id == name] == [(name, "refuse")]


def test_ids_counted_from_0_are_refused(sides: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    path = submitted(tmp_path / "s.csv", right_labels(sides[1]), [str(number) for number in range(500)])
    assert [one.id for one in check_submission(path, sides[1])] == ["submission-ids"]


def test_a_right_submission_and_one_with_errors_pass(sides: tuple[ImageSet, ImageSet], tmp_path: Path) -> None:
    train, test = sides
    right = right_labels(test)
    assert check_submission(submitted(tmp_path / "s.csv", right), test, train=train) == []
    poor = [str(number % 10) if number % 8 == 0 else label for number, label in enumerate(right)]
    assert check_submission(submitted(tmp_path / "s.csv", poor), test, train=train) == []
    with pytest.raises(InputError, match=r"s\.csv: has 500 rows, and the test images are 100"):
        check_submission(tmp_path / "s.csv", test.subset(np.arange(100)), sample=tmp_path / "s.csv")


# -- commands ----------------------------------------------------------------------------------------------------------


def test_the_command_looks_at_files_and_ends_with_1_where_something_is_refused(inkproof: Command, kaggle: Path) -> None:
    clean = inkproof("audit", kaggle / "train.csv", "--test", kaggle / "test.csv", "--json")
    assert (clean.code, clean.json["findings"], clean.json["refused"]) == (0, [], False)
    leak = inkproof("audit", kaggle / "train.csv", "--valid", kaggle / "train.csv")
    assert leak.code == 1
    assert "refuse: valid-overlaps-train: 300 of 300 valid images (100.0%)" in leak.out
    allowed = inkproof(
        "audit", kaggle / "train.csv", "--valid", kaggle / "train.csv", "--allow", "valid-overlaps-train"
    )
    assert allowed.code == 0
    assert "refuse (allowed): valid-overlaps-train" in allowed.out
    data = ("audit", kaggle / "train.csv", "--test", kaggle / "test.csv")
    assert "submission-one-class" in inkproof(*data, "--submission", kaggle / "sample_submission.csv").out
    assert inkproof("audit", kaggle / "train.csv", "--submission", kaggle / "sample_submission.csv").code == 2


def test_the_command_ranks_labels(inkproof: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inkproof.label_errors._STEPS", 8)
    result = inkproof("audit", "digits", "--classes", "3,7", "--labels")
    assert result.code == 0
    assert "warn: labels-likely-wrong:" in result.out
    assert "contradicted by nets that did not see the image" in result.out


def test_findings_are_listed_and_explained(inkproof: Command) -> None:
    listed = inkproof("findings")
    assert all(one.id in listed.out for one in catalogue())
    one = inkproof("findings", "blank-images")
    assert "Some images show nothing" in one.out
    assert "--allow blank-images" in one.out
    assert re.search(r"Measured: 0 alarms in \d+ clean trainings \(95 % sure to be below .*\); of \d+ faults", one.out)
    assert inkproof("findings", "blank-images", "--json").json["blank-images"]["code"] == "A6"
    unknown = inkproof("findings", "blank")
    assert unknown.code == 2
    assert "no finding has the id 'blank': did you mean blank-images" in unknown.err
