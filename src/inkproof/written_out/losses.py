"""Losses and their gradients for a net's outputs, written out."""

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from inkproof import heads
from inkproof.hooks import has_hooks

_FEW = 32  # classes: columns of a unit matrix are found sooner than zeros are written and ones put among them

_MEAN = 1  # as `torch.nn.functional` asks for it, whose own checks take a fifth of the loss's time

LossGradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes a batch's outputs, (outputs, n) of one net or (nets, outputs, n) of several, and its targets as the loss takes
them; gives the loss of each net, a mean over n rows, and n times its gradient for the outputs: the learning rate is
divided by n in place of so many numbers. Raises a RuntimeError or an IndexError for targets it cannot take."""


def judge(
    loss_gradient: LossGradient, outputs: Float[Tensor, "outputs n"], targets: Shaped[Tensor, "..."]
) -> tuple[Tensor, Tensor] | None:
    """The loss and its gradient; None for targets that it cannot take, or marks of rows to leave out: autograd's."""
    try:
        return loss_gradient(outputs, targets)
    except (RuntimeError, IndexError):
        return None


def known_gradient(loss: Any) -> LossGradient | None:
    """The loss with its gradient, for a loss that is known and has no hooks; None for all others.

    Args:
        loss: a function of `inkproof.heads` or `torch.nn.functional`, or a module of `torch.nn`.
    """
    if isinstance(loss, nn.Module) and has_hooks(loss):
        return None
    if type(loss) is nn.CrossEntropyLoss and loss.weight is None and loss.ignore_index == -100:  # torch's default
        return partial(_cross_entropy, smoothing=loss.label_smoothing) if loss.reduction == "mean" else None
    if type(loss) is nn.BCEWithLogitsLoss and loss.weight is None and loss.pos_weight is None:
        return _binary_cross_entropy if loss.reduction == "mean" else None
    smoothed = isinstance(loss, partial) and loss.func is heads.cross_entropy and not loss.args
    if smoothed and set(loss.keywords) <= {"label_smoothing"}:
        return partial(_cross_entropy, smoothing=loss.keywords.get("label_smoothing", 0.0))
    known: dict[Any, LossGradient] = {
        heads.cross_entropy: _cross_entropy,
        F.cross_entropy: _cross_entropy,
        heads.binary_cross_entropy: _binary_cross_entropy,
        F.binary_cross_entropy_with_logits: _binary_cross_entropy,
        heads.rmse_softmax: _rmse_softmax,
    }
    try:
        return known.get(loss)
    except TypeError:  # a loss that cannot be hashed is none of these
        return None


def _require(targets: Shaped[Tensor, "..."], shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise a RuntimeError for other targets: operations here would broadcast or convert them, or leave rows out."""
    if targets.shape != shape or targets.dtype != dtype:
        raise RuntimeError(f"the loss takes {dtype} {shape} here, not {targets.dtype} {tuple(targets.shape)}")


def _one_hot(
    targets: Int64[Tensor, " n"], classes: int, outputs: Float[Tensor, "..."], value: float
) -> Float[Tensor, "classes n"]:
    """Columns with a value at each row's class; a RuntimeError or an IndexError for what is no class."""
    if classes > _FEW:
        return outputs.new_zeros(classes, len(targets)).scatter_(0, targets.unsqueeze(0), value)
    return _diagonal(classes, value, outputs.dtype, outputs.device).index_select(1, targets)


@lru_cache(maxsize=32)
def _diagonal(classes: int, value: float, dtype: torch.dtype, device: torch.device) -> Float[Tensor, "classes classes"]:
    return torch.eye(classes, dtype=dtype, device=device) * value


def _cross_entropy(
    outputs: Float[Tensor, "*nets classes n"], targets: Shaped[Tensor, "..."], *, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """n times its gradient is the probabilities minus the (smoothed) one-hot targets.

    These are scaled by -1/n before and not their loss after: an operation on one number takes as long as on many.
    """
    classes, count = outputs.shape[-2:]
    given = targets.is_floating_point()  # probabilities a class
    if given:
        _require(targets, (count, classes), outputs.dtype)
        shares = targets.T / -count
    else:
        _require(targets, (count,), torch.int64)
        shares = _one_hot(targets, classes, outputs, -1 / count)
    if smoothing:
        shares = shares * (1 - smoothing) - smoothing / (classes * count)
    logarithms = outputs.log_softmax(dim=-2)
    # One product: twice as fast as picking them out.
    if outputs.ndim == 2:
        loss = torch.dot(logarithms.view(-1), shares.reshape(-1))
    else:
        loss = torch.mv(logarithms.view(-1, classes * count), shares.reshape(-1))
    gradient = logarithms.exp_()
    if given:
        gradient *= shares.sum(dim=0) * -count
    return loss, gradient.add_(shares, alpha=count)


def _binary_cross_entropy(
    outputs: Float[Tensor, "*nets k n"], targets: Shaped[Tensor, "..."]
) -> tuple[Tensor, Float[Tensor, "*nets k n"]]:
    """n times its gradient is the probability minus the target, over k."""
    width, count = outputs.shape[-2:]
    _require(targets, (count, width), outputs.dtype)
    wanted = targets.T
    if outputs.ndim == 2:
        loss = torch.binary_cross_entropy_with_logits(outputs, wanted, reduction=_MEAN)
    else:
        each = F.binary_cross_entropy_with_logits(outputs, wanted.expand_as(outputs), reduction="none")
        loss = each.mean(dim=(-2, -1))
    gradient = outputs.sigmoid().sub_(wanted)
    return loss, gradient if width == 1 else gradient.div_(width)


def _rmse_softmax(
    outputs: Float[Tensor, "*nets classes n"], targets: Shaped[Tensor, "..."]
) -> tuple[Tensor, Float[Tensor, "*nets classes n"]]:
    """As `by_hand.numpy_gradients.rmse_softmax` derives it, n times."""
    classes, count = outputs.shape[-2:]
    _require(targets, (count,), torch.int64)
    probabilities = outputs.softmax(dim=-2)
    difference = probabilities - F.one_hot(targets, classes).T
    loss = difference.square().mean(dim=(-2, -1)).sqrt()
    of_probabilities = difference / (classes * loss[..., None, None])
    weighted = of_probabilities * probabilities
    return loss, weighted - probabilities * weighted.sum(dim=-2, keepdim=True)
