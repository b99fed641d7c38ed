"""What the ledger, a history and a claimed score tell."""

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from inkproof import models
from inkproof.audit import check_history, check_score, forget
from inkproof.errors import AuditWarning
from inkproof.images import ImageSet, Split
from inkproof.learner import Learner


@pytest.fixture
def sides(digits: ImageSet) -> Split:
    return digits.split(valid=300, test=300)


def trained(sides: Split, valid: ImageSet | None, *, seed: int = 0) -> Learner:
    learner = Learner(lambda: models.linear((1, 8, 8), 10), sides.train, valid, seed=seed, on_finding="record")
    learner.fit(1, lr=0.1, verbose=False)
    return learner


def ids(learner: Learner) -> list[str]:
    return [finding.id for finding in learner.findings]


def test_choosing_on_the_test_side_is_told_when_it_scores(sides: Split) -> None:
    trained(sides, sides.test)
    honest = trained(sides, sides.valid, seed=1)
    assert ids(honest) == []
    honest.get_preds(sides.valid)
    assert ids(honest) == []
    honest.get_preds(sides.test)
    assert ids(honest) == ["test-used-for-choice"]


def test_choosing_on_rows_that_scored_before_is_told(sides: Split) -> None:
    trained(sides, sides.valid).get_preds(sides.test)
    assert ids(trained(sides, sides.test, seed=1)) == ["test-used-for-choice"]


def test_folds_that_take_turns_are_no_mistake(digits: ImageSet) -> None:
    folds = [digits.split(valid=300, test=300, seed=seed) for seed in range(3)]
    for sides in folds:
        learner = trained(sides, sides.valid)
        learner.get_preds(sides.test)
        assert ids(learner) == []


def test_scores_of_one_test_side_are_counted(sides: Split) -> None:
    severities = []
    for seed in range(5):
        learner = trained(sides, None, seed=seed)
        learner.get_preds(sides.test)
        learner.get_preds(sides.test)  # again, by the same weights: no other model
        severities.append([finding.severity for finding in learner.findings])
    assert severities == [[], ["note"], ["note"], ["note"], ["warn"]]


def test_the_best_of_many_is_noted_with_its_optimism(sides: Split) -> None:
    found = [trained(sides, sides.valid, seed=seed).findings for seed in range(3)]
    assert [len(one) for one in found] == [0, 0, 1]
    assert found[-1][0].id == "best-of-many"
    assert found[-1][0].evidence["best_looks_better_by"] == pytest.approx(0.0104, abs=0.001)


def test_a_new_ledger_knows_nothing(sides: Split) -> None:
    first = trained(sides, sides.test)
    forget()
    second = Learner(first.model, sides.train, sides.valid, on_finding="record", pretrained=True)
    second.get_preds(sides.test)
    assert ids(second) == []


# -- histories ---------------------------------------------------------------------------------------------------------


def history(train: list[float], valid: list[float | None]) -> list[str]:
    rows = [{"train_loss": one, "valid_loss": other} for one, other in zip(train, valid, strict=True)]
    return [finding.id for finding in check_history(rows)]


def test_equal_losses_to_the_last_digit_are_named() -> None:
    assert history([0.5123456, 0.4], [0.5123456, 0.45]) == ["train-equals-valid"]
    assert history([0.5123456, 0.4], [0.5123457, 0.45]) == []
    assert history([0.0, 0.0], [0.0, 0.0]) == []


def test_a_loss_that_leaps_back_is_named() -> None:
    assert history([2.0, 0.5, 0.4, 2.3], [None] * 4) == ["loss-leapt"]
    assert history([2.0, 0.5, 0.7, 0.4], [None] * 4) == []
    assert history([2.0, float("nan")], [None] * 2) == []


def test_learning_by_heart_is_noted() -> None:
    assert history([1.0, 0.3, 0.1], [0.9, 0.4, 0.7]) == ["learns-by-heart"]
    assert history([1.0, 0.3, 0.25], [0.9, 0.4, 0.7]) == []


# -- scores ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def scored(sides: Split) -> tuple[nn.Module, ImageSet, torch.Tensor]:
    learner = trained(sides, sides.valid)
    assert sides.valid is not None
    labels = torch.from_numpy(sides.valid.require_labels("here").copy())
    return learner.model, sides.valid, (learner.predict(sides.valid) == labels).double()


def test_a_score_that_follows_from_weights_and_rows_passes(
    scored: tuple[nn.Module, ImageSet, torch.Tensor],
) -> None:
    model, rows, right = scored
    share = float(right.mean())
    x, y = torch.from_numpy(rows.pixels).float() / 255, torch.from_numpy(rows.require_labels("here").copy())
    for data in (rows, (x, y), DataLoader(TensorDataset(x, y), 64)):
        assert check_score(share, model, data) == []
    assert check_score(round(share, 3), model, rows) == []
    assert check_score(round(100 * share, 1), model, rows) == []


def test_a_mean_of_batch_means_is_named(scored: tuple[nn.Module, ImageSet, torch.Tensor]) -> None:
    model, rows, right = scored
    claimed = float(torch.stack([part.mean() for part in right.split(64)]).mean())
    (finding,) = check_score(claimed, model, rows)
    assert (finding.id, finding.severity, finding.evidence["batch_size"]) == ("score-mean-of-batches", "warn", 64)


def test_a_score_without_the_last_batch_is_named(scored: tuple[nn.Module, ImageSet, torch.Tensor]) -> None:
    model, rows, right = scored
    (finding,) = check_score(float(right[:256].mean()), model, rows, batch_size=64)
    assert (finding.id, finding.evidence["left_out"]) == ("score-without-last-rows", 44)


def test_a_score_of_other_weights_is_refused(scored: tuple[nn.Module, ImageSet, torch.Tensor]) -> None:
    _, rows, right = scored
    torch.manual_seed(0)
    (finding,) = check_score(float(right.mean()), models.linear((1, 8, 8), 10), rows)
    assert (finding.id, finding.severity) == ("score-not-reproduced", "refuse")
    assert "strict=False" in finding.remedy


def test_a_metric_of_ones_own_is_computed_again(scored: tuple[nn.Module, ImageSet, torch.Tensor]) -> None:
    model, rows, _ = scored
    (finding,) = check_score(0.123456789, model, rows, metric=nn.functional.cross_entropy)
    assert finding.id == "score-not-reproduced"
    assert check_score(finding.evidence["recomputed"], model, rows, metric=nn.functional.cross_entropy) == []


def test_notes_are_no_warnings(sides: Split, recwarn: pytest.WarningsRecorder) -> None:
    for seed in range(3):
        learner = Learner(lambda: models.linear((1, 8, 8), 10), sides.train, sides.valid, seed=seed)
        learner.fit(1, lr=0.1, verbose=False)
    assert not [one for one in recwarn if issubclass(one.category, AuditWarning)]
