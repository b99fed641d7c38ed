"""What a model's raw outputs mean: a head pairs losses with targets, decoding and probabilities.

    classes   k logits, one a class        targets int64 (n,)
    binary    1 logit for the second class targets float (n, 1), 0 or 1
    value     1 number, nearest label wins targets float (n, 1), the index of the class

Every loss here checks that predictions and targets pair row by row: (256, 1) against (256,) broadcasts to
(256, 256) in torch without an error, and the net then learns the mean.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from inkproof.errors import InputError, ShapeMismatch
from inkproof.runtime import VECTOR

HeadName = Literal["classes", "binary", "value"]
Activation = Literal["none", "probabilities", "log-probabilities"]
Loss = Callable[[Tensor, Tensor], Tensor]
"""A loss takes outputs and targets of one batch and gives a scalar."""


@dataclass(frozen=True)
class Head:
    """The meaning of a model's outputs.

    Args:
        name: `classes`, `binary` or `value`.
        classes: how many classes the labels count, 2 to 1,000.

    Raises:
        InputError: a binary head for more than two classes.
    """

    name: HeadName
    classes: int

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise InputError(f"a classifier needs at least two classes, not {self.classes}")
        if self.name == "binary" and self.classes != 2:
            raise InputError(
                f"a binary head tells two classes apart and the data has {self.classes}: "
                "choose two with --classes, or use the head 'classes'"
            )

    @property
    def outputs(self) -> int:
        """How many numbers the model gives an image."""
        return self.classes if self.name == "classes" else 1

    def check_outputs(self, outputs: Float[Tensor, "..."]) -> None:
        """Raise ShapeMismatch unless outputs are (n, k) for `classes`, (n, 1) or (n,) for the other heads."""
        if self.name == "classes":
            fits = outputs.ndim == 2 and outputs.shape[1] == self.classes
        else:
            fits = outputs.ndim == 1 or (outputs.ndim == 2 and outputs.shape[1] == 1)
        if not fits:
            width = self.outputs
            raise ShapeMismatch(
                f"the model gives outputs of shape {tuple(outputs.shape)}, but {self.classes} classes with the head "
                f"{self.name!r} need (n, {width}): end the model with {width} output{'s' if width > 1 else ''}, "
                "or choose another head"
            )

    def targets(self, labels: Int64[Tensor, " n"], outputs: Float[Tensor, "n ..."]) -> Shaped[Tensor, "n ..."]:
        """Labels in the form that this head's losses take beside these outputs."""
        if self.name == "classes":
            return labels
        return labels.to(outputs.dtype).reshape(outputs.shape)

    def decode(self, outputs: Float[Tensor, "n ..."], activation: Activation = "none") -> Int64[Tensor, " n"]:
        """The predicted class index of each row."""
        if self.name == "classes":
            return outputs.argmax(dim=1)
        flat = outputs.reshape(len(outputs))
        if self.name == "binary":
            return (flat > (0.5 if activation == "probabilities" else 0.0)).long()
        return flat.round().clamp(0, self.classes - 1).long()

    def probabilities(
        self, outputs: Float[Tensor, "n ..."], activation: Activation = "none"
    ) -> Float[Tensor, "n classes"]:
        """The probability of each class; outputs that the model activated itself are not activated again.

        A `value` head knows no probabilities: the nearest label gets 1.
        """
        if self.name == "value":
            return F.one_hot(self.decode(outputs), self.classes).to(outputs.dtype)
        if self.name == "binary":
            second = outputs.reshape(-1, 1) if activation == "probabilities" else outputs.reshape(-1, 1).sigmoid()
            return torch.cat([1 - second, second], dim=1)
        if activation == "probabilities":
            return outputs
        return outputs.exp() if activation == "log-probabilities" else outputs.softmax(dim=1)

    @property
    def loss(self) -> Loss:
        """The loss that suits the head where none is given."""
        return {"classes": cross_entropy, "binary": binary_cross_entropy, "value": mean_squared_error}[self.name]


def choose_head(name: HeadName | None, classes: int | None, outputs: Float[Tensor, "n ..."]) -> Head:
    """The head by its name, else the one that fits.

    Args:
        name: None takes `binary` for one output and two classes, else `classes`.
        classes: of the labels; None takes as many as there are outputs.
        outputs: a few of the model.
    """
    width = outputs.shape[1] if outputs.ndim == 2 else 1
    classes = classes or max(width, 2)
    return Head(name or ("binary" if width == 1 and classes == 2 else "classes"), classes)


def find_activation(model: nn.Module, outputs: Float[Tensor, "n ..."], loss: Loss | None = None) -> Activation:
    """Whether a model's outputs are already (log-)probabilities, from its last layer and a few real outputs.

    Args:
        model: whose last layer may tell.
        outputs: a few.
        loss: one of probabilities tells it where outputs cannot.
    """
    if isinstance(loss, nn.BCELoss) or loss is F.binary_cross_entropy:
        return "probabilities"
    last = next(reversed([module for module in model.modules() if not list(module.children())]), None)
    if isinstance(last, nn.Sigmoid):
        return "probabilities"
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        rows_sum_to = outputs.double().sum(dim=1)
        if bool((outputs >= 0).all()) and bool((rows_sum_to - 1).abs().max() < 1e-2):
            return "probabilities"
        if bool((outputs <= 0).all()) and bool(outputs.double().logsumexp(dim=1).abs().max() < 1e-2):
            return "log-probabilities"
    return "none"


def check_pairing(outputs: Shaped[Tensor, "..."], targets: Shaped[Tensor, "..."], *, where: str) -> None:
    """Raise ShapeMismatch unless each row of outputs meets exactly its own target.

    Allowed: equal shapes, or outputs (n, k, ...) with k ≥ 2 beside class indices (n, ...).

    Args:
        where: what takes them, for the message: "the loss my_loss".
    """
    if outputs.shape == targets.shape:
        return
    are_classes = not targets.is_floating_point() and outputs.ndim >= 2 and outputs.shape[1] >= 2
    if are_classes and targets.shape == outputs.shape[:1] + outputs.shape[2:]:
        return
    raise ShapeMismatch(
        f"{where} got predictions of shape {tuple(outputs.shape)} and targets of shape {tuple(targets.shape)} "
        f"({str(targets.dtype).removeprefix('torch.')}): they would broadcast instead of pairing row by row; "
        "reshape one of them, for instance targets.float().unsqueeze(1)"
    )


def cross_entropy(
    outputs: Float[Tensor, "n classes"], targets: Int64[Tensor, " n"], *, label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """Mean cross entropy of logits against class indices.

    Args:
        label_smoothing: share of the target spread evenly over all classes, 0 to 1 (Szegedy et al. 2016).
    """
    check_pairing(outputs, targets, where="cross entropy")
    indices = outputs.ndim == 2 and targets.ndim == 1 and targets.dtype == torch.int64
    if indices and outputs.shape[1] < VECTOR and outputs.device.type == "cpu" and not outputs.requires_grad:
        # Over ten numbers that lie side by side it takes seven times as long as down the columns (AVX-512).
        outputs, targets = outputs.T.unsqueeze(0), targets.unsqueeze(0)
    return F.cross_entropy(outputs, targets, label_smoothing=label_smoothing)


def binary_cross_entropy(outputs: Float[Tensor, "n ..."], targets: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """Mean binary cross entropy of logits against 0 and 1, in the numerically safe form."""
    check_pairing(outputs, targets, where="binary cross entropy")
    return F.binary_cross_entropy_with_logits(outputs, targets)


def clamped_binary_cross_entropy(outputs: Float[Tensor, "n ..."], targets: Float[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """Mean binary cross entropy as it is written out by hand: of a sigmoid clamped to [1e-6, 1 - 1e-6].

    A row that the clamp meets has no gradient, however wrong it is; `binary_cross_entropy` has no such rows.
    """
    check_pairing(outputs, targets, where="clamped binary cross entropy")
    second = outputs.sigmoid().clamp(1e-6, 1 - 1e-6)
    return -(targets * second.log() + (1 - targets) * (1 - second).log()).mean()


def mean_squared_error(outputs: Float[Tensor, "n ..."], targets: Shaped[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """Mean squared difference; class indices beside k outputs are compared one-hot."""
    check_pairing(outputs, targets, where="mean squared error")
    return F.mse_loss(outputs, _one_hot_like(outputs, targets))


def root_mean_squared_error(outputs: Float[Tensor, "n ..."], targets: Shaped[Tensor, "n ..."]) -> Float[Tensor, ""]:
    """Root of `mean_squared_error`."""
    return mean_squared_error(outputs, targets).sqrt()


def rmse_softmax(outputs: Float[Tensor, "n classes"], targets: Int64[Tensor, " n"]) -> Float[Tensor, ""]:
    """Root of the mean squared difference between softmax(outputs) and one-hot targets."""
    check_pairing(outputs, targets, where="rmse_softmax")
    return F.mse_loss(outputs.softmax(dim=1), _one_hot_like(outputs, targets)).sqrt()


def _one_hot_like(outputs: Float[Tensor, "n ..."], targets: Shaped[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    if outputs.shape == targets.shape:
        return targets.to(outputs.dtype)
    return F.one_hot(targets, outputs.shape[1]).to(outputs.dtype)
