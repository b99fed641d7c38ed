"""Faults of evaluation, scores and submissions: H and I of the catalogue; and what is not planted."""

import csv
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from clean import as_tensors, dense, prepared
from fault import SGD, Plant, fault, learner, own_loop, tensors
from nets import as_column, column_accuracy, evaluated_in_training, one_output, rmse
from sources import rate
from torch import Tensor, nn
from torch.utils.data import DataLoader

from inkproof import ImageSet, Learner, audit, models
from inkproof.images import Split

# -- H: evaluation -----------------------------------------------------------------------------------------------------


def learnt(images: ImageSet, seed: int) -> tuple[Learner, Split]:
    sides = prepared(images, None, seed)
    first = Learner(
        partial(models.hidden, images.shape, len(images.classes), units=30), *_two(sides), on_finding="record"
    )
    first.fit(3, lr=rate(images), verbose=False)
    return first, sides


def _two(sides: Split) -> tuple[ImageSet, ImageSet]:
    assert sides.valid is not None
    return sides.train, sides.valid


def around_a_trained_model(*, known: bool) -> Plant:
    def run(images: ImageSet, seed: int) -> list[Any]:
        first, sides = learnt(images, seed)
        if not known:
            audit.forget()
        return Learner(first.model, *_two(sides), on_finding="record").findings

    return run


def after_a_ramp(images: ImageSet, seed: int) -> list[Any]:
    """A learning-rate ramp of one's own that leaves its weights, inside a watch; then the training."""
    sides = prepared(images, None, seed)
    train, valid = as_tensors(sides)
    model = dense(images.shape, len(images.classes), nn.ReLU)
    optimizer = SGD(model.parameters(), lr=1e-6)
    loader = DataLoader(train, 32, shuffle=True)
    with audit.watch(model, optimizer, loss=F.cross_entropy, loader=loader, on_finding="record"):
        for x, y in loader:
            optimizer.param_groups[0]["lr"] *= 1.2
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return Learner(model, train, valid, on_finding="record").findings


def claimed(score: Callable[[Tensor, int], float]) -> Plant:
    """A score of a trained model on validation rows that is computed wrongly; rows that hide it give no plant."""

    def run(images: ImageSet, seed: int) -> list[Any] | None:
        first, sides = learnt(images, seed)
        valid = sides.valid
        assert valid is not None
        right = (first.predict(valid) == torch.from_numpy(valid.require_labels("here").copy())).double()
        batch_size = next(size for size in (64, 50, 32, 100) if len(valid) % size > 3)
        wrong = score(right, batch_size)
        if wrong == float(right.mean()):
            return None
        return audit.check_score(wrong, first.model, valid, batch_size=batch_size)

    return run


def mean_of_means(right: Tensor, size: int) -> float:
    return float(torch.stack([part.mean() for part in right.split(size)]).mean())


def without_the_last(right: Tensor, size: int) -> float:
    return float(right[: len(right) // size * size].mean())


def other_weights(images: ImageSet, seed: int) -> list[Any]:
    """A state dict whose names have a prefix, loaded with strict=False: nothing is loaded."""
    first, sides = learnt(images, seed)
    score = first.history[-1].metrics["accuracy"]
    fresh = models.hidden(images.shape, len(images.classes), units=30)
    fresh.load_state_dict({f"module.{name}": one for name, one in first.model.state_dict().items()}, strict=False)
    return audit.check_score(score, fresh, _two(sides)[1])


def three_trainings(images: ImageSet, seed: int) -> list[Any]:
    sides = prepared(images, None, seed)
    for number in range(3):
        make = partial(models.linear, images.shape, len(images.classes))
        last = Learner(make, *_two(sides), on_finding="record", seed=number)
        last.fit(1, lr=rate(images), verbose=False)
    return last.findings


fault("H1", "model.eval() is missing", "evaluated-in-training-mode", own_loop(evaluated_in_training))
fault("H2", "(n, 1) in the metric", "metric-broadcasts", learner(metrics=[column_accuracy]))
fault("H3", "rmse without its root", "misnamed", tensors(as_column, model=one_output, loss=F.mse_loss, metrics=[rmse]))
fault("H4", "mean of batch means", "score-mean-of-batches", claimed(mean_of_means))
fault("H5", "last batch dropped", "score-without-last-rows", claimed(without_the_last))
fault("H5", "validation loader with drop_last", "rows-left-out", own_loop(drop_last=True))
fault("H6", "a trained model in a new Learner, known", "model-already-trained", around_a_trained_model(known=True))
fault("H6", "a trained model from elsewhere", "model-already-trained", around_a_trained_model(known=False))
fault("H7", "a ramp that leaves its weights", "model-already-trained", after_a_ramp)
fault("H8", "best of three trainings", "best-of-many", three_trainings)

# -- I: submissions ----------------------------------------------------------------------------------------------------


def submission(change: Callable[[list[str], list[str], ImageSet], tuple[list[str], list[str]]]) -> Plant:
    """Right labels for test images, changed, and checked as a file."""

    def run(images: ImageSet, seed: int) -> list[Any]:
        sides = prepared(images, None, seed)
        train, test = _two(sides)
        names = [train.classes[label] for label in test.require_labels("here")]
        ids, labels = change([str(one) for one in test.ids], names, train)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "submission.csv"
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([("ImageId", "Label"), *zip(ids, labels, strict=True)])
            unlabelled = ImageSet(test.pixels, None, ids=test.ids, source=test.source)
            return audit.check_submission(path, unlabelled, train=train)

    return run


def of_training(ids: list[str], labels: list[str], train: ImageSet) -> tuple[list[str], list[str]]:
    return ids, [train.classes[label] for label in train.require_labels("here")[: len(ids)]]


fault("I1", "a row too few", "submission-row-count", submission(lambda ids, labels, train: (ids[:-1], labels[:-1])))
fault(
    "I2", "ids counted otherwise", "submission-ids", submission(lambda ids, labels, train: ([*ids[1:], ids[0]], labels))
)
fault(
    "I2", "an id twice", "submission-ids", submission(lambda ids, labels, train: ([ids[0], ids[0], *ids[2:]], labels))
)
fault("I3", "predictions of training rows, cut", "submission-misaligned", submission(of_training))
fault(
    "I3",
    "shifted by a row",
    "submission-misaligned",
    submission(lambda ids, labels, train: (ids, [*labels[1:], labels[0]])),
)
fault("I3", "reversed", "submission-misaligned", submission(lambda ids, labels, train: (ids, labels[::-1])))
fault(
    "I4",
    "labels as 3.0",
    "submission-labels",
    submission(lambda ids, labels, train: (ids, [f"{label}.0" for label in labels])),
)
fault(
    "I4",
    "labels counted from 1",
    "submission-misaligned | submission-labels",
    submission(
        lambda ids, labels, train: (
            ids,
            [train.classes[(train.classes.index(label) + 1) % len(train.classes)] for label in labels],
        )
    ),
)
fault("I5", "a checkpoint that was not loaded", "score-not-reproduced", other_weights)
fault(
    "I6",
    "one class predicted",
    "submission-one-class",
    submission(lambda ids, labels, train: (ids, [labels[0]] * len(ids))),
)

NOT_PLANTED = {
    "C3": "a class map that is wrong everywhere alike: nothing inside the data shows it",
    "H9": "a claim within noise: `inkproof compare` tests it, which is no finding",
    "J1": "seeds: inkproof draws everything from one seed, and `verify --retrain` trains again",
    "J3": "a run without its record: `inkproof verify` fails; tests/test_verify.py changes each file",
}
