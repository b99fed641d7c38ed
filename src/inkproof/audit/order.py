"""Checks of the order in which training rows are shown, before the first step."""

from collections.abc import Iterator

import numpy as np

from inkproof.audit.catalogue import Seen, check
from inkproof.audit.model import Trainee


@check(
    "not-shuffled",
    code="G5",
    moment="model",
    severity="warn",
    detected="Rows are trained in the order of the data in every epoch, and nobody said that they should be.",
    misfires="Data whose order is chance already: shuffle=False says that it is meant.",
)
def not_shuffled(trainee: Trainee) -> Iterator[Seen]:
    """Every epoch shows the same batches in the same order: the net learns the order too."""
    if trainee.shuffled is None:
        yield Seen(
            "the training rows are never shuffled: every epoch shows the same batches in the order of the file.",
            {"batch_size": trainee.batch_size},
            "Give the training loader shuffle=True; shuffle=False says that the order is meant.",
        )


@check(
    "batches-of-one-class",
    code="G5",
    moment="model",
    severity="warn",
    detected="Unshuffled, the most frequent class of a batch has more than half of it (nine tenths, for two classes) "
    "in most batches of 8 rows or more, and far more than it has of all rows.",
    misfires="An order that is taught on purpose.",
)
def batches_of_one_class(trainee: Trainee) -> Iterator[Seen]:
    """The training rows are sorted by class and not shuffled: each step unlearns what the last has learnt."""
    labels, size = trainee.in_order, trainee.batch_size
    if trainee.shuffled or labels is None or size < 8 or len(labels) < 3 * size or labels.min() < 0:
        return
    whole = labels[: len(labels) // size * size].reshape(-1, size)
    share = float(np.median([np.bincount(batch).max() / size for batch in whole]))
    common = float(np.bincount(labels).max() / len(labels))
    if share > (0.9 if trainee.kinds <= 2 else 0.5) and share > 1.5 * common:
        yield Seen(
            f"most batches are to {share:.0%} of one class: the rows are sorted, and not shuffled.",
            {"median_share": share, "share_of_all": common},
            "Shuffle the training rows: shuffle=True.",
        )
