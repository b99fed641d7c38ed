"""Hard examples: after a first epoch, train mostly on the images that the net is least sure of."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inkproof.errors import InputError

_HARDEST_SHARE = 0.7  # of the images in a first epoch of some; the others are drawn, so that it gives easy ones too


@dataclass(frozen=True)
class HardExamples:
    """Which images an epoch gives.

    The first gives all of them; or, by a linear net's guess, mostly those that may be hard. Each after it gives the
    hardest and some of the others: nine of ten digits are learnt by then, and showing them again teaches little. Images
    that are labelled wrong count as hard.

    Args:
        share: of all images, the hardest, that an epoch after the first gives; no more than `first`.
        easy: share of the other images, drawn anew for each epoch, that it gives too, so that none is forgotten.
        first: share of all images that the first epoch gives.

    Raises:
        InputError: shares that are not above 0 and at most 1, a larger `share` than `first`, or a share of easy ones
            below 0 or above 1.

    Source: online batch selection by the latest known loss (Loshchilov and Hutter 2015), without its ranks' decay.
    """

    share: float
    easy: float = 0.1
    first: float = 1.0

    def __post_init__(self) -> None:
        if not (0 < self.share <= self.first <= 1 and 0 <= self.easy <= 1):
            raise InputError(
                f"hard examples need a share above 0 and at most 1, not {self.share}, easy ones of 0 to 1, not "
                f"{self.easy}, and a first epoch of at least the share and at most 1, not {self.first}"
            )

    def count(self, rows: int) -> tuple[int, int]:
        """How many hard and how many easy images an epoch after the first gives, of so many."""
        hard = max(1, round(self.share * rows))
        return hard, round(self.easy * (rows - hard))

    def count_first(self, rows: int) -> int:
        """How many images the first epoch gives, of so many."""
        return max(1, round(self.first * rows))


class Difficulties:
    """How hard each image was when it was last trained on, and the order of images that follows from it.

    Args:
        rows: how many images.
        settings: which of them an epoch gives.
        device: where difficulties are kept.

    Attributes:
        difficulty: of each image, 0 to 1; infinite for one that was not seen yet, 0 for one that need not be.
        given: positions of the images that were given last, of which `learn` speaks.
    """

    difficulty: Float[Tensor, " rows"]
    given: Int64[Tensor, " n"]

    def __init__(self, rows: int, settings: HardExamples, *, device: torch.device):
        self.settings = settings
        self.difficulty = torch.full((rows,), torch.inf, device=device)

    @property
    def want_a_guess(self) -> bool:
        """Whether a first epoch is next that gives some of the images, and nothing says yet which."""
        rows = len(self.difficulty)
        return self.settings.count_first(rows) < rows and bool(torch.isinf(self.difficulty).all())

    def leave_out_easy(self, certainty: Float[Tensor, " rows"], generator: torch.Generator) -> None:
        """Choose the images of the first epoch.

        Args:
            certainty: of the true classes, by a net that is quickly trained.
            generator: a CPU generator.
        """
        count = self.settings.count_first(len(certainty))
        hardest = round(_HARDEST_SHARE * count)
        mixed = torch.randperm(len(certainty), generator=generator).to(certainty.device)  # the file's order is no tie's
        hardest_first = mixed[certainty[mixed].argsort(stable=True)]
        others = hardest_first[hardest:]
        drawn = torch.randperm(len(others), generator=generator)
        self.difficulty[others[drawn[count - hardest :].to(others.device)]] = 0

    def order(self, generator: torch.Generator) -> Int64[Tensor, " n"]:
        """Positions of the next epoch's images, in random order: what was not seen yet, else the hardest and some more.

        Args:
            generator: a CPU generator.
        """
        chosen = self._unseen()
        if not len(chosen):
            hard, easy = self.settings.count(len(self.difficulty))
            hardest_first = self.difficulty.argsort(descending=True, stable=True)
            others = hardest_first[hard:]
            drawn = torch.randperm(len(others), generator=generator)[:easy]
            chosen = torch.cat([hardest_first[:hard], others[drawn.to(others.device)]])
        return chosen[torch.randperm(len(chosen), generator=generator).to(chosen.device)]

    def epoch_sizes(self, epochs: int) -> list[int]:
        """How many images each of so many next epochs gives."""
        rows = len(self.difficulty)
        hard, easy = self.settings.count(rows)
        unseen = self.settings.count_first(rows) if self.want_a_guess else len(self._unseen())
        return [unseen or hard + easy, *[hard + easy] * (epochs - 1)][:epochs]

    def learn(self, certainty: Float[Tensor, " n"]) -> None:
        """Remember how sure the model was of the true classes of the images that were given last, 0 to 1."""
        self.difficulty[self.given] = 1 - certainty.to(self.difficulty)

    def _unseen(self) -> Int64[Tensor, " n"]:
        return torch.isinf(self.difficulty).nonzero().flatten()
