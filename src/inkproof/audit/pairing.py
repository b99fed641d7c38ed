"""Checks of losses and metrics: do they pair each prediction with its own target?

`(p.argmax(1, keepdim=True) == y).float().mean()` compares (n, 1) with (n,): torch broadcasts to (n, n) without a
word and the result no longer depends on which prediction belongs to which target. Shapes outside do not show it,
so the function is run on a small probe under a mode that sees every tensor operation inside.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from inkproof.audit.findings import Finding
from inkproof.heads import Head

_PROBE_ROWS = 23  # prime and unlike any class count in use: a shape (23, 23) can only come from the rows


class _BroadcastWatch(TorchFunctionMode):
    """Notes operations that made (n, n) out of operands (n,) and (n, 1)."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor) and result.shape == (_PROBE_ROWS, _PROBE_ROWS):
            shapes = {tuple(operand.shape) for operand in args if isinstance(operand, Tensor)}
            if {(_PROBE_ROWS,), (_PROBE_ROWS, 1)} <= shapes:
                self.seen.append(getattr(func, "__name__", str(func)).strip("_"))
        return result


def check_pairing_of(
    function: Callable[[Tensor, Tensor], Any], head: Head, *, name: str, kind: str, flat: bool = False
) -> list[Finding]:
    """Find a loss or metric that broadcasts predictions against targets inside.

    Two signs must agree: an operation made (n, n) of (n,) and (n, 1), and shuffling the targets does not change
    the value. A function that cannot be run on the probe is left to the first real batch.

    Args:
        function: takes outputs and targets.
        head: what the outputs mean.
        name: how the user calls the function.
        kind: "loss" or "metric", for the message.
        flat: a model of one output gives (n,) and not (n, 1).
    """
    labels = torch.arange(_PROBE_ROWS) % head.classes
    outputs = _ideal_outputs(head, labels, flat)
    targets = head.targets(labels, outputs)
    try:
        with torch.random.fork_rng(), torch.no_grad():
            with _BroadcastWatch() as watch:
                value = float(function(outputs, targets))
            other = float(function(outputs, targets.roll(1, dims=0)))
    except Exception:
        return []  # not written for this probe; real batches are checked by shape at every step
    if not watch.seen or abs(value - other) > 1e-5 * max(abs(value), abs(other), 1e-12):
        return []
    return [
        Finding(
            id=f"{kind}-broadcasts",
            code="E1" if kind == "loss" else "H2",
            severity="refuse",
            message=(
                f"the {kind} {name} compares every prediction with every target: inside it `{watch.seen[0]}` turned "
                f"shapes (n, 1) and (n,) into (n, n), so its value does not depend on which target belongs to which "
                "prediction."
            ),
            evidence={"operation": watch.seen[0], "value": value, "value_with_shuffled_targets": other},
            remedy="Give both sides the same shape, for instance with .squeeze(1) or argmax(1) without keepdim.",
        )
    ]


def _ideal_outputs(head: Head, labels: Tensor, flat: bool) -> Tensor:
    """Outputs that decode to exactly these labels."""
    if head.name == "classes":
        return 10.0 * torch.nn.functional.one_hot(labels, head.classes).float()
    column = labels.float() if head.name == "value" else 20.0 * labels.float() - 10.0
    return column if flat else column.unsqueeze(1)
