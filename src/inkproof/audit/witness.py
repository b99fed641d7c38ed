"""The witness: a plain classifier fitted in a fraction of a second, to see whether labels and images belong together.

It need not be good. It must be far above chance where images and labels belong together, and near chance where they do
not; and it must know when it is too weak to speak. The nearest class mean is tried first, then ridge regression to
one-hot targets, then the nearest neighbour.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64

from inkproof.audit.linear_algebra import matmul, solve

Rows = Float[np.ndarray, "n numbers"]
Labels = Int64[np.ndarray, " n"]
Classifier = Callable[[Rows], Labels]

FEWEST = 100  # rows to fit on and to score on: below it a witness has seen too little
_WELL_ABOVE = 0.2  # of the way from chance to perfect: a witness of less is too weak to speak
_FEW, _FOLDS = 2000, 5
_MOST_NUMBERS = 4096  # a row; larger images are read at every second number, or every third


@dataclass(frozen=True)
class Witness:
    """A fitted classifier and how well it does on rows that it was not fitted on.

    Args:
        classify: gives a label for each row.
        accuracy: on rows of the same side that were held out.
        chance: of the most frequent label among these.
        scored: how many there were.
        recall: by label, its accuracy on the held-out rows of this label, and their number.
    """

    classify: Classifier
    accuracy: float
    chance: float
    scored: int
    recall: dict[int, tuple[float, int]]

    @property
    def skill(self) -> float:
        """0 at chance, 1 where every row is right."""
        return (self.accuracy - self.chance) / max(1 - self.chance, 1e-9)

    @property
    def knows(self) -> bool:
        """Whether it is surely above chance, however little."""
        return self.deviations(self.accuracy, self.scored) > 6

    @property
    def speaks(self) -> bool:
        """Whether it is good enough for its disagreement to mean something."""
        return self.skill > _WELL_ABOVE and self.deviations(self.accuracy, self.scored) > 8

    def deviations(self, accuracy: float, scored: int) -> float:
        """By how many standard deviations an accuracy on so many rows lies above chance."""
        return (accuracy - self.chance) / math.sqrt(max(self.chance * (1 - self.chance), 1e-4) / scored)


def fit_witness(rows: Rows, labels: Labels) -> Witness | None:
    """The first classifier that speaks, else the best; None where there are too few rows or classes.

    Args:
        rows: float32 (n, numbers).
        labels: of these rows.
    """
    if len(rows) < 2 * FEWEST or len(np.unique(labels)) < 2:
        return None
    rows = _thinned(rows)
    order = np.random.default_rng(0).permutation(len(rows))
    # Few rows are all scored, each by a classifier fitted on the others; of many, a part is enough.
    folds = np.array_split(order, _FOLDS) if len(rows) < _FEW else [order[int(0.7 * len(rows)) :]]
    best: Witness | None = None
    for fit in (_nearest_mean, _ridge, _nearest_neighbour):
        witness = _scored(fit, rows, labels, folds)
        if best is None or witness.accuracy > best.accuracy:
            best = witness
        if best.speaks:
            break
    return best


def _scored(fit: Callable[[Rows, Labels], Classifier], rows: Rows, labels: Labels, folds: list[np.ndarray]) -> Witness:
    """Fitted on what the last fold leaves, and scored on the rows of each fold by a fit on all others."""
    said = []
    for held_out in folds:
        fitted = np.delete(np.arange(len(rows)), held_out)
        classify = fit(rows[fitted], labels[fitted])
        said.append(classify(rows[held_out]))
    labels = labels[np.concatenate(folds)]
    right = np.concatenate(said) == labels
    recall = {
        int(label): (float(right[labels == label].mean()), int((labels == label).sum())) for label in np.unique(labels)
    }
    chance = float(np.unique(labels, return_counts=True)[1].max() / len(labels))
    return Witness(lambda rows: classify(_thinned(rows)), float(right.mean()), chance, len(labels), recall)


def _thinned(rows: Rows) -> Rows:
    return rows[:, :: -(-rows.shape[1] // _MOST_NUMBERS)]


def _nearest_mean(rows: Rows, labels: Labels) -> Classifier:
    kinds = np.unique(labels)
    means = np.stack([rows[labels == kind].mean(axis=0) for kind in kinds])
    offsets = (means**2).sum(axis=1)
    return lambda rows: kinds[(offsets - 2 * matmul(rows, means.T)).argmin(axis=1)]


def _ridge(rows: Rows, labels: Labels) -> Classifier:
    kinds, columns = np.unique(labels, return_inverse=True)
    mean = rows.mean(axis=0)
    centred = rows - mean
    targets = np.eye(len(kinds), dtype=np.float32)[columns]
    penalty = max(0.1 * float((centred**2).sum()) / rows.shape[1], 1e-6)
    share = targets.mean(axis=0)
    if rows.shape[1] <= len(rows):
        gram = matmul(centred.T, centred)
        gram[np.diag_indices_from(gram)] += penalty
        weights = solve(gram, matmul(centred.T, targets - share))
    else:
        gram = matmul(centred, centred.T)
        gram[np.diag_indices_from(gram)] += penalty
        weights = matmul(centred.T, solve(gram, targets - share))
    return lambda rows: kinds[(matmul(rows - mean, weights) + share).argmax(axis=1)]


def _nearest_neighbour(rows: Rows, labels: Labels) -> Classifier:
    offsets = (rows**2).sum(axis=1)
    return lambda asked: labels[(offsets - 2 * matmul(asked, rows.T)).argmin(axis=1)]
