"""The ladder: every rung by its recipe, the figures published for it, and why they may differ from what is measured.

The published figures come from write-ups of people learning to classify digits, on Kaggle's Digit Recognizer (42,000
labelled rows, the last 8,400 to validate on) and on the 3s and 7s of MNIST. They are facts to compare with.
"""

from dataclasses import dataclass
from typing import Literal

TEN_CLASSES, TWO_CLASSES = 33_600, 12_396  # images that the published figures were trained on


@dataclass(frozen=True)
class Rung:
    """One rung of the ladder.

    Args:
        recipe: the name of its recipe.
        kind: "sound", or "wrong" for what is kept as it was published to show how it fails.
        published_valid: published accuracy on validation images.
        published_test: published accuracy on the leaderboard's images.
        why: what is wrong with the setting, or why a published figure is not what an honest one would be.
        trained_on: images that the published figures were trained on.
        long: takes minutes a seed at full size, and is climbed only where it is named.
    """

    recipe: str
    kind: Literal["sound", "wrong"] = "sound"
    published_valid: float | None = None
    published_test: float | None = None
    why: str = ""
    trained_on: int = TEN_CLASSES
    long: bool = False


_TRAINED_ROWS = "published validation rows were the training rows"
_ONE_NUMBER = "one number for ten unordered classes"
_BROADCAST = "published loss compared (256,) with (256, 1), every prediction with every target"
_STALE = "published Learner was built around a model that was trained already"
_SUBMITTED_TRAINING_ROWS = "published submission held predictions of 33,600 training rows cut to 28,000"
_OFFICIAL = "published on MNIST's 2,038 official test images of 3 and 7"

RUNGS = (
    Rung("one-number", "wrong", 0.146, why=f"{_ONE_NUMBER}; {_TRAINED_ROWS}"),
    Rung("one-number-hidden", "wrong", 0.104, why=f"{_ONE_NUMBER}; {_BROADCAST}"),
    Rung("one-number-learner", "wrong", 0.0996, why=f"{_ONE_NUMBER}; {_BROADCAST}"),
    Rung(
        "mean-image",
        published_test=0.80750,
        why="published as mean absolute distance, yet the figure is what squared distance gives (0.806 on MNIST)",
    ),
    Rung("linear", published_valid=0.8743, published_test=0.87421, why=_TRAINED_ROWS),
    Rung("linear-cross-entropy"),
    Rung("hidden-raw", published_valid=0.805, published_test=0.80389, why=_TRAINED_ROWS),
    Rung("hidden-softmax", published_valid=0.9030, published_test=0.90078, why=_TRAINED_ROWS),
    Rung(
        "hidden-one-cycle",
        "wrong",
        0.9031,
        0.90078,
        f"a learning rate of 0.001 for one epoch moves a fresh model nowhere; {_STALE}",
    ),
    Rung("hidden-by-hand", published_test=0.90142),
    Rung("hidden-cross-entropy"),
    Rung("deep"),
    Rung(
        "conv",
        "wrong",
        0.9736,
        0.10217,
        f"from these initial weights training may never leave a constant; {_SUBMITTED_TRAINING_ROWS}; published after "
        "2 epochs of 10",
    ),
    Rung(
        "conv-one-cycle",
        "wrong",
        0.98955,
        0.10217,
        f"a learning rate of 0.001 for one epoch moves a fresh model nowhere; {_STALE}; {_SUBMITTED_TRAINING_ROWS}",
    ),
    Rung("conv-he"),
    Rung("fast"),
    Rung("accurate"),
    Rung("best", long=True),
    Rung(
        "mean-image-3-7",
        published_valid=0.9511,
        why=f"{_OFFICIAL}, as the mean over the two classes",
        trained_on=TWO_CLASSES,
    ),
    Rung("logistic-by-hand", published_valid=0.983, why=_OFFICIAL, trained_on=TWO_CLASSES),
    Rung("logistic-torch", published_valid=0.982, why=_OFFICIAL, trained_on=TWO_CLASSES),
    Rung("logistic-learner", published_valid=0.9828, why=_OFFICIAL, trained_on=TWO_CLASSES),
    Rung("deep-3-7", published_valid=0.9897, why=_OFFICIAL, trained_on=TWO_CLASSES),
    Rung(
        "deep-3-7-high-lr",
        "wrong",
        0.99,
        why="published as above 0.99 now and then and stuck at 0.50 now and then; " + _OFFICIAL,
        trained_on=TWO_CLASSES,
    ),
)
