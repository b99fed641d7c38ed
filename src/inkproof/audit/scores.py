"""Checks of a score that is claimed: it is computed again from the model and the rows."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from inkproof.audit.catalogue import Seen, check, look
from inkproof.audit.findings import Finding
from inkproof.batches import Data, ordered_batches
from inkproof.heads import choose_head, find_activation
from inkproof.metrics import Metric, accuracy
from inkproof.steps import collect_outputs

_USUAL_BATCHES = (16, 32, 50, 64, 100, 128, 200, 250, 256, 500, 512, 1000, 1024)
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Claim:
    """A score that is claimed, and the numbers that it may really be.

    Args:
        claimed: as reported, in 0..1 where it was a percentage.
        tolerance: how far a number may be from it and still be it: half of its last digit.
        measure: the score of the rows from a start to a stop.
        rows: how many there are.
        batch_sizes: that the score may have been averaged over.
    """

    claimed: float
    tolerance: float
    measure: Callable[[int, int], float]
    rows: int
    batch_sizes: tuple[int, ...]

    @property
    def recomputed(self) -> float:
        """The score of all rows."""
        return self.measure(0, self.rows)

    def is_(self, score: float) -> bool:
        """Whether this is the number that was claimed."""
        return abs(score - self.claimed) <= self.tolerance

    def mean_of_batches(self) -> int | None:
        """The batch size whose unweighted mean of batch scores was claimed."""
        for size in self.batch_sizes:
            if size < self.rows and self.rows % size:
                scores = [self.measure(start, min(start + size, self.rows)) for start in range(0, self.rows, size)]
                if self.is_(sum(scores) / len(scores)):
                    return size
        return None

    def without_last_rows(self) -> int | None:
        """How many rows at the end were left out: those of a last batch that was dropped."""
        left = {self.rows % size for size in self.batch_sizes if size < self.rows}
        return next((rows for rows in sorted(left) if rows and self.is_(self.measure(0, self.rows - rows))), None)


def check_score(
    claimed: float,
    model: nn.Module,
    data: Data | tuple[Tensor, Tensor],
    *,
    metric: Metric = accuracy,
    batch_size: int | None = None,
) -> list[Finding]:
    """Compute a score again from a model and the rows it was claimed for, and compare.

    Args:
        claimed: the score, as a share or in per cent; its digits tell how exactly it is meant.
        model: that it was claimed for, with the weights it has now; in any mode, left as it is.
        data: the rows: an ImageSet, (inputs, targets), a torch dataset or loader.
        metric: takes outputs and targets.
        batch_size: of the loop that computed it; None takes the loader's, else tries the usual ones.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    if isinstance(data, tuple):
        data = torch.utils.data.TensorDataset(*data)
    outputs, labels = collect_outputs(model, ordered_batches(data, device=device), precision="float32")
    if metric is accuracy:
        head = choose_head(None, None, outputs)
        right = (head.decode(outputs, find_activation(model, outputs)) == labels).double()

    def measure(start: int, stop: int) -> float:
        part = slice(start, stop)
        return float(right[part].mean() if metric is accuracy else metric(outputs[part], labels[part]))

    sizes = (batch_size,) if batch_size is not None else _sizes(data)
    in_per_cent = metric is accuracy and claimed > 1
    unit = 100 if in_per_cent else 1
    tolerance = max(_ROUNDING, 0.5 * 10.0 ** -_decimals(claimed)) / unit
    return look("score", Claim(claimed / unit, tolerance, measure, len(labels), sizes))


def _sizes(data: Any) -> tuple[int, ...]:
    own = data.batch_size if isinstance(data, DataLoader) else None
    return _USUAL_BATCHES if own is None else (own,)


def _decimals(number: float) -> int:
    digits = repr(float(number)).partition(".")[2]
    return len(digits) if digits.isdigit() else 9


@check(
    "score-mean-of-batches",
    code="H4",
    moment="score",
    severity="warn",
    detected="The claimed score is not that of all rows, but the plain mean of the scores of batches, of the loader's "
    "size or a usual one.",
)
def score_mean_of_batches(claim: Claim) -> Iterator[Seen]:
    """The score is the mean of batch means: the rows of a short last batch count more than the others."""
    if not claim.is_(claim.recomputed) and (size := claim.mean_of_batches()) is not None:
        yield Seen(
            f"the score {claim.claimed:.6g} is the mean over batches of {size}; over the {claim.rows:,} rows it is "
            f"{claim.recomputed:.6g}.",
            {"claimed": claim.claimed, "recomputed": claim.recomputed, "batch_size": size},
            "Count right predictions and rows, and divide once at the end.",
        )


@check(
    "score-without-last-rows",
    code="H5",
    moment="score",
    severity="refuse",
    detected="The claimed score is not that of all rows, but of those without a short last batch.",
)
def score_without_last_rows(claim: Claim) -> Iterator[Seen]:
    """The score leaves out the rows of the last batch: the loop or its loader dropped them."""
    if claim.is_(claim.recomputed) or claim.mean_of_batches() is not None:
        return
    if (left := claim.without_last_rows()) is not None:
        yield Seen(
            f"the score {claim.claimed:.6g} is that of {claim.rows - left:,} of {claim.rows:,} rows; of all it is "
            f"{claim.recomputed:.6g}.",
            {"claimed": claim.claimed, "recomputed": claim.recomputed, "left_out": left},
            "Read the held-out side with drop_last=False.",
        )


@check(
    "score-not-reproduced",
    code="I5",
    moment="score",
    severity="refuse",
    detected="The score is computed again from the model as it is now, and is another number, and not one of those "
    "that other checks explain.",
    misfires="Outputs that are drawn at random; a score in another precision, at its last digit.",
)
def score_not_reproduced(claim: Claim) -> Iterator[Seen]:
    """The score does not follow from these weights and these rows: other weights were loaded, or other rows scored."""
    explained = claim.mean_of_batches() is not None or claim.without_last_rows() is not None
    if not claim.is_(claim.recomputed) and not explained:
        yield Seen(
            f"the score {claim.claimed:.6g} was claimed, and {claim.recomputed:.6g} comes out of these weights on "
            f"these {claim.rows:,} rows.",
            {"claimed": claim.claimed, "recomputed": claim.recomputed, "rows": claim.rows},
            "Look at what load_state_dict returned (strict=False leaves out what does not fit), whether the model is "
            "in evaluation mode, and which rows were scored.",
        )
