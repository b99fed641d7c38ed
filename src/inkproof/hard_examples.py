"""Hard examples: once all images were seen, train mostly on those that the net is least sure of."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inkproof.errors import InputError


@dataclass(frozen=True)
class HardExamples:
    """Which images an epoch gives after the first, which gives all of them; it is as much shorter.

    Nine of ten digits are learnt in the first epoch, and showing them again teaches little.

    Args:
        share: of all images, the hardest, that an epoch gives.
        easy: share of the other images, drawn anew for each epoch, that it gives too, so that none is forgotten.

    Raises:
        InputError: a share that is not above 0 and at most 1, or a negative or larger share of easy ones.

    Source: online batch selection by the latest known loss (Loshchilov and Hutter 2015), without its ranks' decay.
    """

    share: float
    easy: float = 0.1

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 <= self.easy <= 1):
            raise InputError(
                f"hard examples need a share above 0 and at most 1, not {self.share}, and easy ones of 0 to 1, not "
                f"{self.easy}"
            )

    def count(self, rows: int) -> tuple[int, int]:
        """How many hard and how many easy images an epoch after the first gives, of so many."""
        hard = max(1, round(self.share * rows))
        return hard, round(self.easy * (rows - hard))


class Difficulties:
    """How hard each image was when it was last trained on, and the order of images that follows from it.

    Args:
        rows: how many images.
        settings: which of them an epoch gives.
        device: where difficulties are kept.

    Attributes:
        difficulty: of each image, 0 to 1; infinite for one that was not seen yet.
        given: positions of the images that were given last, of which `learn` speaks.
    """

    difficulty: Float[Tensor, " rows"]
    given: Int64[Tensor, " n"]

    def __init__(self, rows: int, settings: HardExamples, *, device: torch.device):
        self.settings = settings
        self.difficulty = torch.full((rows,), torch.inf, device=device)

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
        return [len(self._unseen()) or hard + easy, *[hard + easy] * (epochs - 1)][:epochs]

    def learn(self, certainty: Float[Tensor, " n"]) -> None:
        """Remember how sure the model was of the true classes of the images that were given last, 0 to 1."""
        self.difficulty[self.given] = 1 - certainty.to(self.difficulty)

    def _unseen(self) -> Int64[Tensor, " n"]:
        return torch.isinf(self.difficulty).nonzero().flatten()
