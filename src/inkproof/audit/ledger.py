"""The ledger: which weights are the result of how many training steps, and which rows were used for what, as far as
this process knows.

It lives in memory. Weights and rows are known by a hash of their content, so that it does not matter by what name,
object or Learner they come back.
"""

from collections import OrderedDict
from typing import Literal

import torch
from torch import Tensor, nn

Role = Literal["chosen on", "scored"]
"""What held-out rows are used for: to choose on while training goes on, or for a final score."""

_MOST = 10_000  # weights and uses remembered; the oldest are forgotten first
_steps: OrderedDict[int, int] = OrderedDict()
_uses: OrderedDict[tuple[int, int, Role], set[int]] = OrderedDict()


def weights_hash(model: nn.Module) -> int:
    """Hash of all parameters by name: equal for equal weights, within this process."""
    return hash(tuple((name, hash(_bytes_of(parameter))) for name, parameter in model.named_parameters()))


def _bytes_of(parameter: Tensor) -> bytes:
    return parameter.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes()


def record_steps(model: nn.Module, steps: int, *, begun_with: int) -> None:
    """Note that the weights, as they are now, are the result of so many steps.

    Args:
        model: after them.
        steps: how many were taken.
        begun_with: the weights' hash before the first; steps that changed nothing make no trained model.
    """
    now = weights_hash(model)
    if now == begun_with:
        return
    _steps[now] = steps
    while len(_steps) > _MOST:
        _steps.popitem(last=False)


def steps_of(model: nn.Module) -> int:
    """How many steps led to the weights as they are now; 0 where none are known."""
    return _steps.get(weights_hash(model), 0)


def record_use(train: int, held_out: int, role: Role, weights: int) -> int:
    """Note that weights trained on some rows were used with held-out rows.

    Args:
        train: hash of the training rows. Rows that are held out in one fold and trained on in the next
            have other training rows each time.
        held_out: hash of the held-out rows.
        role: what they were used for.
        weights: hash of the weights.

    Returns:
        How many different weights were used with these rows in this role, these included.
    """
    seen = _uses.setdefault((train, held_out, role), set())
    seen.add(weights)
    while len(_uses) > _MOST:
        _uses.popitem(last=False)
    return len(seen)


def uses_of(train: int, held_out: int, role: Role) -> int:
    """How many different weights, trained on these rows, were used with these held-out rows in this role."""
    return len(_uses.get((train, held_out, role), ()))


def forget() -> None:
    """Begin a new ledger: what this process has trained and scored so far belongs to another question."""
    _steps.clear()
    _uses.clear()
