"""Checks of a history: what its rows tell by themselves, whatever trained them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from inkproof.audit.catalogue import Seen, check, look
from inkproof.audit.findings import Finding

_RISEN, _FALLEN = 1.5, 0.5
_LEAPT = 3.0


@dataclass(frozen=True)
class Progress:
    """The rows of a training, oldest first.

    Args:
        train: mean training loss of each epoch.
        valid: validation loss of each epoch; NaN where there is none.
    """

    train: Sequence[float]
    valid: Sequence[float]


def check_history(rows: Sequence[Mapping[str, Any]]) -> list[Finding]:
    """Look at the table of a training, of any library's.

    Args:
        rows: one an epoch, with `train_loss` and, where there is one, `valid_loss`.
    """
    numbers = {
        name: [math.nan if row.get(name) is None else float(row[name]) for row in rows]
        for name in ("train_loss", "valid_loss")
    }
    return look("history", Progress(numbers["train_loss"], numbers["valid_loss"]))


@check(
    "train-equals-valid",
    code="B1",
    moment="history",
    severity="warn",
    detected="Training and validation loss of an epoch are equal to the last digit, and no whole numbers.",
    misfires="One batch that is trained and validated on, to see whether a net can learn it by heart.",
)
def train_equals_valid(progress: Progress) -> Iterator[Seen]:
    """Training and validation loss are the same number: both were computed from the same rows, or from one variable."""
    epochs = [
        number
        for number, (train, valid) in enumerate(zip(progress.train, progress.valid, strict=True), start=1)
        if train == valid and math.isfinite(train) and train != round(train, 3)
    ]
    if epochs:
        loss = progress.train[epochs[0] - 1]
        yield Seen(
            f"in epoch {epochs[0]} training and validation loss are both {loss!r}, to the last digit.",
            {"epochs": epochs, "loss": loss},
            "Look which rows and which variables each of them is computed from.",
        )


@check(
    "loss-leapt",
    code="F5",
    moment="history",
    severity="warn",
    detected="After it had fallen to half its first value or less, the training loss of an epoch is three times its "
    "smallest and above its first value.",
    misfires="A learning rate that restarts high on purpose.",
)
def loss_leapt(progress: Progress) -> Iterator[Seen]:
    """The training had learnt something and lost it again: the learning rate is too high."""
    losses = [loss for loss in progress.train if math.isfinite(loss)]
    for epoch in range(2, len(losses)):
        lowest = min(losses[:epoch])
        if 0 < lowest < _FALLEN * losses[0] < losses[0] < losses[epoch] and losses[epoch] > _LEAPT * lowest:
            yield Seen(
                f"the training loss had fallen to {lowest:.3g} and was {losses[epoch]:.3g} in epoch {epoch + 1}.",
                {"lowest": lowest, "epoch": epoch + 1, "loss": losses[epoch]},
                "Take a smaller learning rate, or a schedule that ends low.",
            )
            return


@check(
    "learns-by-heart",
    moment="history",
    severity="note",
    detected="The last validation loss is more than 1.5 times the smallest one, while the training loss fell to less "
    "than half of what it was then.",
    misfires="Validation loss can rise while accuracy still does.",
)
def learns_by_heart(progress: Progress) -> Iterator[Seen]:
    """The training loss falls on while the validation loss rises: the net learns its training images by heart."""
    if len(progress.valid) < 3 or not all(map(math.isfinite, progress.valid)):
        return
    best = min(range(len(progress.valid)), key=lambda epoch: progress.valid[epoch])
    rose = progress.valid[-1] > _RISEN * progress.valid[best]
    if rose and progress.train[-1] < _FALLEN * progress.train[best]:
        yield Seen(
            f"the validation loss was {progress.valid[best]:.3g} after epoch {best + 1} and is "
            f"{progress.valid[-1]:.3g} after {len(progress.valid)}, while training fell to {progress.train[-1]:.3g}.",
            {"best_epoch": best + 1, "best": progress.valid[best], "last": progress.valid[-1]},
            "Stop earlier (patience=, keep_best=True), augment the images, or take a smaller net.",
        )
