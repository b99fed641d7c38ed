"""The ledger: which weights are the result of how many training steps, as far as this process knows.

It lives in memory. Weights are known by a hash of their content, so that it does not matter by what name, object or
Learner they come back.
"""

import hashlib
from collections import OrderedDict

import torch
from torch import nn

_MOST = 10_000  # weights remembered; the oldest are forgotten first
_steps: OrderedDict[str, int] = OrderedDict()


def weights_fingerprint(model: nn.Module) -> str:
    """Hash of all parameters by name: equal for equal weights."""
    digest = hashlib.blake2b(digest_size=16)
    for name, parameter in model.named_parameters():
        digest.update(name.encode())
        digest.update(parameter.detach().cpu().reshape(-1).contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def record_steps(model: nn.Module, steps: int, *, begun_with: str) -> None:
    """Note that the weights, as they are now, are the result of so many steps.

    Args:
        model: after them.
        steps: how many were taken.
        begun_with: the fingerprint before the first; steps that changed nothing make no trained model.
    """
    now = weights_fingerprint(model)
    if now == begun_with:
        return
    _steps[now] = steps
    while len(_steps) > _MOST:
        _steps.popitem(last=False)


def steps_of(model: nn.Module) -> int:
    """How many steps led to the weights as they are now; 0 where none are known."""
    return _steps.get(weights_fingerprint(model), 0)
