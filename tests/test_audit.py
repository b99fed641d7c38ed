"""The audit's first checks: overlap of sides, broadcasting functions, submissions; and what is done about findings."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

from inkproof.audit import Functions, act_on, check_images, check_rows, ideal_outputs, look
from inkproof.audit.findings import Finding
from inkproof.errors import AuditWarning, Refused
from inkproof.heads import Head, rmse_softmax
from inkproof.images import ImageSet, Split
from inkproof.metrics import accuracy
from inkproof.submission import Sample


def with_copies(split: Split, count: int) -> ImageSet:
    """The validation side with its last images replaced by training images."""
    assert split.valid is not None
    pixels = split.valid.pixels.copy()
    if count:
        pixels[-count:] = split.train.pixels[:count]
    return ImageSet(pixels, split.valid.labels.copy(), classes=split.valid.classes)


@pytest.mark.parametrize(("copies", "severity"), [(0, None), (1, "warn"), (3, "warn"), (4, "refuse"), (50, "refuse")])
def test_overlap_is_warned_of_and_from_one_per_cent_on_refused(
    copies: int, severity: str | None, digits: ImageSet
) -> None:
    split = digits.split(valid=359)
    findings = check_images(split.train, with_copies(split, copies))
    assert [finding.severity for finding in findings] == ([] if severity is None else [severity])
    if findings:
        assert findings[0].evidence["images"] == copies
        example = findings[0].evidence["examples"][0]
        assert split.train.ids[0] == int(example["seen"])
        assert int(example["held_out"]) == 359 - copies + 1


def test_every_pair_of_sides_is_compared(digits: ImageSet) -> None:
    part = digits.subset(np.arange(100))
    ids = [finding.id for finding in check_images(part, part, part)]
    assert ids == ["valid-overlaps-train", "test-overlaps-train", "test-overlaps-valid"]


def test_overlap_is_seen_whatever_the_order_labels_and_names(digits: ImageSet) -> None:
    disguised = ImageSet(digits.pixels[::-1].copy(), (digits.labels[::-1] + 1) % 10, ids=np.arange(1797).astype(str))
    assert check_images(digits, disguised)[0].severity == "refuse"


def test_a_clean_split_gives_no_finding(few_digits: Split) -> None:
    assert check_images(few_digits.train, few_digits.valid, few_digits.test) == []


def test_tensors_and_torch_datasets_are_compared_as_images_are() -> None:
    rows = torch.rand(100, 28 * 28)
    train, copies = (rows[:80], torch.arange(80) % 2), (rows[70:90], torch.arange(20) % 2)
    assert check_images(train, copies)[0].evidence["images"] == 10
    assert check_images(TensorDataset(*train), Subset(TensorDataset(*copies), range(5)))[0].evidence["images"] == 5
    assert [found.id for found in check_images(train, (rows[80:], torch.arange(20) % 2))] == ["held-out-side-small"]


def test_rows_of_a_few_numbers_are_no_images_and_may_repeat() -> None:
    assert check_images((torch.zeros(9, 4), torch.zeros(9)), (torch.zeros(3, 4), torch.zeros(3))) == []


# -- losses and metrics ------------------------------------------------------------------------------------------------

TEN, TWO, VALUE = Head("classes", 10), Head("binary", 2), Head("value", 10)

BROADCASTING = [
    (lambda p, y: (p.argmax(1, keepdim=True) == y).float().mean(), TEN),
    (lambda p, y: ((p - y.squeeze(1)) ** 2).mean(), TWO),
    (lambda p, y: (p.squeeze(1) - y).abs().mean(), VALUE),
    (lambda p, y: torch.where(y.squeeze(1) == 1, 1 - p.sigmoid(), p.sigmoid()).mean(), TWO),
    (lambda p, y: ((p.sigmoid() > 0.5) == y.flatten()).float().mean(), TWO),
]
SOUND = [
    (F.cross_entropy, TEN),
    (rmse_softmax, TEN),
    (accuracy, TEN),
    (F.binary_cross_entropy_with_logits, TWO),
    (F.mse_loss, VALUE),
    (lambda p, y: (p.argmax(1) == y).float().mean(), TEN),
    (lambda p, y: (p.argmax(1, keepdim=True) == y[:, None]).float().mean(), TEN),
    (lambda p, y: torch.tensor(0.0), TEN),
    (lambda p, y: p.softmax(1).max(1).values.mean(), TEN),  # confidence: knows no targets, broadcasts nothing
    (lambda p, y: ((y[:, None] == y[None]) * (p @ p.T)).mean(), TEN),  # contrastive: pairs rows on purpose
    (lambda p, y: p.unsound, TEN),  # cannot be run at all: the first real batch will say why
]


@pytest.mark.parametrize(("function", "head"), BROADCASTING)
def test_a_function_that_broadcasts_is_found(function: object, head: Head) -> None:
    facts = Functions(lambda p, y: F.mse_loss(p, p), "loss", {"mine": function}, *ideal_outputs(head))
    (finding,) = [found for found in look("functions", facts) if found.id != "loss-ignores-targets"]
    assert (finding.id, finding.severity, finding.code) == ("metric-broadcasts", "refuse", "H2")
    assert "(n, 1) and (n,) into (n, n)" in finding.message


@pytest.mark.parametrize(("function", "head"), SOUND)
def test_a_sound_function_gives_no_finding(function: object, head: Head) -> None:
    found = [one.id for one in look("functions", Functions(function, "mine", {}, *ideal_outputs(head)))]
    assert [one for one in found if one != "loss-ignores-targets"] == []


def test_the_check_of_a_function_leaves_the_random_state(digits: ImageSet) -> None:
    def noisy(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(F.dropout(outputs), targets)

    before = torch.get_rng_state()
    look("functions", Functions(noisy, "noisy", {}, *ideal_outputs(TEN)))
    assert torch.equal(before, torch.get_rng_state())


# -- submissions -------------------------------------------------------------------------------------------------------


def test_a_submission_needs_one_prediction_a_row_of_the_sample() -> None:
    sample = Sample(("ImageId", "Label"), tuple(map(str, range(1, 29))))
    (finding,) = check_rows(33, [str(number) for number in range(1, 34)], sample)
    assert (finding.id, finding.severity) == ("submission-row-count", "refuse")
    assert finding.message == "33 predictions for the 28 rows of the sample submission."


def test_ids_must_be_the_samples_in_its_order() -> None:
    sample = Sample(("ImageId", "Label"), ("1", "2", "3"))
    (finding,) = check_rows(3, ["1", "3", "2"], sample)
    assert finding.id == "submission-ids"
    assert "2 of 3 ids differ from the sample submission: row 2 is the image '3' and should be '2'" in finding.message
    assert check_rows(3, ["1", "2", "3"], sample) == check_rows(3, ["1", "2", "3"], None) == []
    assert check_rows(3, ["0", "1", "2"], None)[0].id == "submission-ids"


# -- acting ------------------------------------------------------------------------------------------------------------

REFUSED = Finding("a-fault", "A1", "refuse", "It is wrong.", remedy="Mend it.")
WARNED = Finding("a-doubt", None, "warn", "It may be wrong.")


def test_a_refusal_names_message_remedy_and_the_way_past() -> None:
    with pytest.raises(Refused, match=r"It is wrong\. Mend it\. \(to go on all the same: allow 'a-fault'\)") as caught:
        act_on([REFUSED, WARNED])
    assert caught.value.findings == (REFUSED,)
    assert caught.value.exit_code == 1


def test_what_is_allowed_passes_and_is_marked() -> None:
    (passed,) = act_on([REFUSED], allow=["a-fault"])
    assert passed.allowed
    assert passed.as_dict()["allowed"] is True


def test_warnings_warn_and_records_are_silent() -> None:
    with pytest.warns(AuditWarning, match=r"warn: a-doubt: It may be wrong\."):
        assert act_on([WARNED]) == [WARNED]
    with pytest.warns(AuditWarning, match="refuse: a-fault"):
        act_on([REFUSED], on_finding="warn")
    assert act_on([REFUSED, WARNED], on_finding="record") == [REFUSED, WARNED]
