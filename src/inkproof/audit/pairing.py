"""Checks of losses and metrics: do they pair each prediction with its own target?

`(p.argmax(1, keepdim=True) == y).float().mean()` compares (n, 1) with (n,): torch broadcasts to (n, n) without a
word and the result no longer depends on which prediction belongs to which target. Shapes outside do not show it,
so the function is run on a small probe under a mode that sees every tensor operation inside.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from inkproof.audit.findings import Finding
from inkproof.heads import Head

PROBE_ROWS = 23  # prime and unlike any class count in use: only rows are so many


class _BroadcastWatch(TorchFunctionMode):
    """Notes operations in which (n,) met (n, 1)."""

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._meeting = {(rows,), (rows, 1)}
        self.seen: list[str] = []

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        operands = [*args, *(kwargs or {}).values()]
        if self._meeting <= {tuple(operand.shape) for operand in operands if isinstance(operand, Tensor)}:
            self.seen.append(getattr(func, "__name__", str(func)).strip("_"))
        return func(*args, **(kwargs or {}))


def check_pairing_of(
    function: Callable[[Tensor, Tensor], Any], outputs: Tensor, targets: Tensor, *, name: str, kind: str
) -> list[Finding]:
    """Find a loss or metric that compares every prediction with every target.

    Two signs must agree: in one operation (n,) met (n, 1), and shuffling the targets does not change the value. A
    function that cannot be run on the probe is left to the first real batch.

    Args:
        function: takes outputs and targets.
        outputs: of a few rows, as the model gives them; `ideal_outputs` makes some.
        targets: of the same rows, as the data gives them.
        name: how the user calls the function.
        kind: "loss" or "metric", for the message.
    """
    try:
        with torch.random.fork_rng(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of some of what is found here
            with _BroadcastWatch(len(outputs)) as watch:
                value = float(function(outputs, targets))
            other = float(function(outputs, targets.roll(1, dims=0)))
    except Exception:
        return []  # not written for this probe; the first real batch will say why
    all_equal = bool((targets == targets[:1]).all())  # then shuffling can tell nothing
    if not watch.seen or (not all_equal and abs(value - other) > 1e-5 * max(abs(value), abs(other), 1e-12)):
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
            evidence={
                "operation": watch.seen[0],
                "outputs": list(outputs.shape),
                "targets": list(targets.shape),
                "value": value,
                "value_with_shuffled_targets": other,
            },
            remedy="Give both sides the same shape, for instance with .squeeze(1) or argmax(1) without keepdim.",
        )
    ]


def ideal_outputs(head: Head, *, flat: bool = False) -> tuple[Tensor, Tensor]:
    """Outputs that decode to their labels, and the targets of these labels, for a few rows.

    Args:
        head: what the outputs mean.
        flat: a model of one output gives (n,) and not (n, 1).
    """
    labels = torch.arange(PROBE_ROWS) % head.classes
    if head.name == "classes":
        outputs = 10.0 * torch.nn.functional.one_hot(labels, head.classes).float()
    else:
        column = labels.float() if head.name == "value" else 20.0 * labels.float() - 10.0
        outputs = column if flat else column.unsqueeze(1)
    return outputs, head.targets(labels, outputs)
