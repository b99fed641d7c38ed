"""Checks of loss and metrics on a few rows, before the first step: do they pair, mean what they say, fit the model?

`(p.argmax(1, keepdim=True) == y).float().mean()` compares (n, 1) with (n,): torch broadcasts to (n, n) without a
word and the result no longer depends on which prediction belongs to which target. Shapes outside do not show it,
so a function is run on a small probe under a mode that sees every tensor operation inside.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from inkproof.audit.catalogue import Seen, check
from inkproof.heads import Activation, Head

PROBE_ROWS = 23  # prime and unlike any class count in use: only rows are so many

Function = Callable[[Tensor, Tensor], Any]
_SURE = 30.0  # a logit so large is certainty in float32


@dataclass(frozen=True)
class Functions:
    """What a model is trained and judged with.

    Args:
        loss: takes outputs and targets.
        loss_name: as the user calls it.
        metrics: by name.
        outputs: of a few rows, as the model gives them, or ideal ones.
        targets: of the same rows, in the form that loss and metrics get.
        activation: what the model does to its outputs itself.
    """

    loss: Function
    loss_name: str
    metrics: dict[str, Function]
    outputs: Tensor
    targets: Tensor
    activation: Activation = "none"

    def named(self, kind: str) -> dict[str, Function]:
        """The loss, or the metrics, by name."""
        return {self.loss_name: self.loss} if kind == "loss" else self.metrics


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


def value_of(function: Function, outputs: Tensor, targets: Tensor) -> float | None:
    """What a function gives on a probe; None where it is not written for such: the first real batch will say why."""
    try:
        with torch.random.fork_rng(), torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns of some of what is found here
            return float(function(outputs, targets))
    except Exception:  # a user's function may raise anything
        return None


def _broadcasting(kind: str, facts: Functions) -> Iterator[Seen]:
    outputs, targets = facts.outputs, facts.targets
    for name, function in facts.named(kind).items():
        with _BroadcastWatch(len(outputs)) as watch:
            value = value_of(function, outputs, targets)
        other = value_of(function, outputs, targets.roll(1, dims=0))
        if value is None or other is None or not watch.seen:
            continue
        all_equal = bool((targets == targets[:1]).all())  # then shuffling can tell nothing
        if not all_equal and abs(value - other) > 1e-5 * max(abs(value), abs(other), 1e-12):
            continue
        yield Seen(
            f"the {kind} {name} compares every prediction with every target: inside it `{watch.seen[0]}` turned "
            "shapes (n, 1) and (n,) into (n, n), so its value does not depend on which target belongs to whom.",
            {
                "operation": watch.seen[0],
                "outputs": list(outputs.shape),
                "targets": list(targets.shape),
                "value": value,
                "value_with_shuffled_targets": other,
            },
            "Give both sides the same shape, for instance with .squeeze(1) or argmax(1) without keepdim.",
        )


for _kind, _code in (("loss", "E1"), ("metric", "H2")):
    check(
        f"{_kind}-broadcasts",
        code=_code,
        moment="functions",
        severity="refuse",
        means=f"The {_kind} compares every prediction with every target, not with its own: (n, 1) met (n,), and torch "
        "made (n, n) of them without a word.",
        detected="Two signs together: inside the function an operation met shapes (n,) and (n, 1), and shuffling "
        "the targets does not change its value.",
        misfires="Losses that pair rows on purpose, as contrastive ones do, do not show both signs.",
    )(partial(_broadcasting, _kind))


@check(
    "accuracy-misses-perfect",
    code="H2",
    moment="functions",
    severity="refuse",
    detected="A metric with `acc` in its name gives something other than 1 (or 100) on perfect predictions, or "
    "other than 0 on predictions that are all wrong.",
    misfires="A metric of that name which means something else: give it another name.",
)
def accuracy_misses_perfect(facts: Functions) -> Iterator[Seen]:
    """A metric that is called accuracy does not give 1 where every prediction is right, or 0 where each is wrong."""
    ideal = _ideal(facts, _SURE)
    wrong = None if ideal is None else _all_wrong(facts, ideal)
    for name, metric in facts.metrics.items():
        if "acc" not in name.lower() or ideal is None or wrong is None or _broadcasts(metric, facts):
            continue
        perfect, none = value_of(metric, ideal, facts.targets), value_of(metric, wrong, facts.targets)
        if perfect is None or none is None:
            continue
        if min(abs(perfect - 1), abs(perfect - 100)) > 1e-3 or abs(none) > 1e-3:
            yield Seen(
                f"the metric {name} gives {perfect:.3g} on perfect predictions and {none:.3g} on ones that are all "
                "wrong, in place of 1 and 0.",
                {"on_perfect": perfect, "on_wrong": none},
                "Compare its predictions with its targets by hand, on three rows.",
            )


def _broadcasts(metric: Function, facts: Functions) -> bool:
    return any(True for _ in _broadcasting("metric", Functions(metric, "", {"": metric}, facts.outputs, facts.targets)))


@check(
    "misnamed",
    code="H3",
    moment="functions",
    severity="refuse",
    detected="Errors twice as large make rmse and mae twice as large, and mse four times; a loss or metric with "
    "one of these names does what another does.",
    misfires="A name that means something else, such as the start of a longer word.",
)
def misnamed(facts: Functions) -> Iterator[Seen]:
    """A loss or metric named rmse gives the mean squared error, or the other way round: its numbers mislead."""
    targets = facts.targets
    if not targets.is_floating_point() or targets.shape != facts.outputs.shape:
        return
    error = torch.linspace(0.1, 0.9, len(targets)).reshape(-1, *[1] * (targets.ndim - 1)).expand(targets.shape)
    for kind in ("loss", "metric"):
        for name, function in facts.named(kind).items():
            word = name.lower().replace("_", "")
            expected = 2.0 if "rmse" in word or "mae" in word else 4.0 if "mse" in word else None
            values = [value_of(function, targets + times * error, targets) for times in (1.0, 2.0)]
            if expected is None or values[0] is None or values[1] is None or not values[0]:
                continue
            grown = values[1] / values[0]
            if abs(grown - expected) > 0.05 and min(abs(grown - 2), abs(grown - 4)) < 0.02:
                other = "the mean squared error" if expected == 2 else "its root"
                yield Seen(
                    f"the {kind} {name} grows {grown:.3g}-fold when errors double: it is {other}, not what it says.",
                    {"grown": grown, "expected": expected},
                    f"Rename it, or {'take the root' if expected == 2 else 'leave out the root'}.",
                )


@check(
    "outputs-activated-twice",
    code="E2",
    moment="functions",
    severity="refuse",
    detected="The model's outputs are probabilities, and the loss of certain and right probabilities stays above "
    "0.05 while that of certain and right logits is 0: the loss activates its inputs again.",
    misfires="A loss whose minimum is not 0 on purpose.",
)
def outputs_activated_twice(facts: Functions) -> Iterator[Seen]:
    """The model ends in a softmax or sigmoid, and the loss applies one again: it never comes near 0."""
    if facts.activation != "probabilities":
        return
    certain, probable = _ideal(facts, _SURE), _ideal(facts, 1.0)
    if certain is None or probable is None:
        return
    probable = probable.clamp(min=0)
    lowest, of_logits = value_of(facts.loss, probable, facts.targets), value_of(facts.loss, certain, facts.targets)
    if lowest is not None and of_logits is not None and lowest > 0.05 and abs(of_logits) < 1e-3:
        yield Seen(
            f"the model gives probabilities, and the loss {facts.loss_name} takes raw outputs and activates those: "
            f"it cannot fall below {lowest:.3g}.",
            {"lowest_loss": lowest},
            "Leave out the model's last softmax or sigmoid; predictions are activated for you.",
        )


@check(
    "loss-of-raw-outputs",
    code="E4",
    moment="functions",
    severity="refuse",
    detected="The loss equals the negative mean output of the right class, and the outputs are no log- probabilities.",
)
def loss_of_raw_outputs(facts: Functions) -> Iterator[Seen]:
    """The loss takes log-probabilities (nll_loss) and the model gives raw outputs: it falls without end."""
    outputs, targets = facts.outputs, facts.targets
    fits = outputs.ndim == 2 and targets.ndim == 1 and not targets.is_floating_point()
    if not fits or facts.activation == "log-probabilities" or not _are_classes(targets, outputs.shape[1]):
        return
    probe = _noise(outputs)
    value, plain = value_of(facts.loss, probe, targets), float(F.nll_loss(probe, targets))
    if value is not None and abs(value - plain) < 1e-5 * max(abs(plain), 1e-3):
        yield Seen(
            f"the loss {facts.loss_name} takes log-probabilities, and the model gives raw outputs.",
            {"loss": value},
            "Use F.cross_entropy, or end the model with LogSoftmax(dim=1).",
        )


@check(
    "loss-ignores-targets",
    moment="functions",
    severity="warn",
    detected="The loss of a few outputs is the same whatever the targets are, among three orders of them.",
    misfires="A loss that has its targets from elsewhere.",
)
def loss_ignores_targets(facts: Functions) -> Iterator[Seen]:
    """The loss does not depend on its targets: nothing about the labels can be learnt from it."""
    if bool((facts.targets == facts.targets[:1]).all()) or _loss_broadcasts(facts):
        return
    probe = _noise(facts.outputs)
    values = [value_of(facts.loss, probe, facts.targets.roll(shift, dims=0)) for shift in (0, 1, 2)]
    if any(value is None or not math.isfinite(value) for value in values):
        return
    if values[0] == values[1] == values[2]:
        yield Seen(
            f"the loss {facts.loss_name} is the same whatever the targets are.",
            {"value": values[0]},
            "Look at what it does with its second argument.",
        )


def _loss_broadcasts(facts: Functions) -> bool:
    return any(True for _ in _broadcasting("loss", facts))


def _noise(outputs: Tensor) -> Tensor:
    """Other outputs of the same shape, always the same."""
    return torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs)


def _ideal(facts: Functions, size: float) -> Tensor | None:
    """Outputs that say the right class of each row with certainty; None for targets that are no classes."""
    outputs, targets = facts.outputs, facts.targets
    if outputs.ndim == 2 and outputs.shape[1] > 1 and targets.shape == outputs.shape[:1]:
        if not _are_classes(targets, outputs.shape[1]):
            return None
        return size * F.one_hot(targets.long(), outputs.shape[1]).to(outputs.dtype)
    zeros_and_ones = bool(((targets == 0) | (targets == 1)).all())
    one_output = outputs.ndim == 1 or outputs.shape[1:] == (1,)
    if one_output and zeros_and_ones and targets.numel() == outputs.numel():
        return size * (2 * targets.reshape(outputs.shape).to(outputs.dtype) - 1)
    return None


def _are_classes(targets: Tensor, width: int) -> bool:
    return not targets.is_floating_point() and int(targets.min()) >= 0 and int(targets.max()) < width


def _all_wrong(facts: Functions, ideal: Tensor) -> Tensor:
    """Outputs that say another class of each row with certainty."""
    return ideal.roll(1, dims=1) if ideal.ndim == 2 and ideal.shape[1] > 1 else -ideal


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
