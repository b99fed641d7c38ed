"""Checks of a training: while it runs, of numbers that are not finite; when it ends, of what it came to."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor, nn

from inkproof.audit.catalogue import Seen, check, declare
from inkproof.audit.findings import Finding
from inkproof.audit.ledger import weights_hash
from inkproof.steps import evaluating

_NOT_FINITE = declare(
    "not-finite",
    code="G1",
    moment="training",
    severity="refuse",
    means="The loss or a gradient became NaN or infinite: the numbers after it mean nothing.",
    detected="On the CPU loss and gradients are looked at before every update. Of small nets under plain SGD losses "
    "and weights are looked at after an epoch, which is trained again with a look before every update where one broke. "
    "On a GPU updates are masked from the first such step on, and the epoch's end tells its number.",
    misfires="Losses that are infinite on purpose.",
)
NOT_FINITE = _NOT_FINITE.id
_REMEDY = "Look whether the optimiser has this model's parameters, and whether its learning rate is 0."


def weights_never_moved(outcome: "Outcome") -> Iterator[Seen]:
    """Steps were taken and no weight has changed: nothing was learnt."""
    if outcome.steps and weights_hash(outcome.model) == outcome.begun_with:
        yield never_moved(outcome.steps)


def never_moved(steps: int) -> Seen:
    """What is said of so many steps that changed nothing."""
    return Seen(f"after {steps:,} steps every weight is what it was at the start.", {"steps": steps}, _REMEDY)


def never_stepped(passes: int) -> Seen:
    """What is said of so many backward passes without a step."""
    return Seen(
        f"{passes:,} backward passes were made, and the optimiser never stepped: every weight is what it was.",
        {"passes": passes, "steps": 0},
        "Call optimizer.step() after backward().",
    )


check(
    "weights-never-moved",
    code="F2",
    moment="training",
    severity="refuse",
    detected="The hash of all weights is the same before the first and after the last step.",
    misfires="A learning rate of 0 on purpose.",
)(weights_never_moved)
_FLAT, _FROZEN, _RISEN = 0.002, 1e-5, 1.5
_FEW_STEPS = 20
_ENOUGH_STEPS, _IMPROVED = 100, 0.97
_DEAD_SHARE = 0.9


def not_finite(what: str, where: str) -> Finding:
    """A loss or gradient that is NaN or infinite.

    Args:
        what: "the loss became nan".
        where: "step 12, before the update".
    """
    return _NOT_FINITE.found(
        Seen(
            f"At {where}: {what}.",
            {"what": what, "where": where},
            "Lower the learning rate, and look for NaN in the inputs or log and sqrt of 0 in the loss.",
        )
    )


@dataclass(frozen=True)
class Outcome:
    """What a training came to.

    Args:
        model: after its last epoch.
        begun_with: the hash of its weights before the first step.
        first_loss: of these rows, before the first step; None where the loss could not be taken.
        last_loss: likewise, after the last.
        steps: how many were taken.
        inputs: of a few rows.
        labels: their class indices, None where they are none.
        predicted: what the model says of them, as class indices.
    """

    model: nn.Module
    begun_with: int
    first_loss: float | None
    last_loss: float | None
    steps: int
    inputs: Shaped[Tensor, "n ..."]
    labels: Int64[Tensor, " n"] | None
    predicted: Int64[Tensor, " n"] | None


@check(
    "loss-rose",
    code="F5",
    moment="training",
    severity="warn",
    detected="The loss of up to 128 training rows, in evaluation mode, is more than 1.5 times what it was before "
    "any step.",
    misfires="A model that came pretrained.",
)
def loss_rose(outcome: Outcome) -> Iterator[Seen]:
    """The training loss ends higher than it began: the learning rate is too high, or the loss has the wrong sign."""
    first, last = outcome.first_loss, outcome.last_loss
    if first is None or last is None or not math.isfinite(last) or first <= 0:
        return
    if last > _RISEN * first:
        yield Seen(
            f"the training loss began at {first:.3g} and ended at {last:.3g}.",
            {"first": first, "last": last},
            "Take a tenth of the learning rate; `lr_find` suggests one.",
        )


@check(
    "loss-stands-still",
    code="F6",
    moment="training",
    severity="warn",
    detected="After 100 steps or more the loss of up to 128 training rows is within 0.2 % of what it was at first; "
    "after 20 or more, within a thousandth of a per cent.",
    misfires="A model that was as good as it can get before the training.",
)
def loss_stands_still(outcome: Outcome) -> Iterator[Seen]:
    """The training loss hardly changes: the learning rate is too low, or the net stands at a constant."""
    first, last = outcome.first_loss, outcome.last_loss
    if first is None or last is None or not math.isfinite(last) or outcome.steps < _FEW_STEPS:
        return
    if abs(last - first) < (_FLAT if outcome.steps >= _ENOUGH_STEPS else _FROZEN) * abs(first):
        yield Seen(
            f"the training loss was {first:.4g} before the first step and is {last:.4g} after {outcome.steps:,}.",
            {"first": first, "last": last, "steps": outcome.steps},
            "Look for a better learning rate with `lr_find`, and at how the weights begin.",
        )


@check(
    "units-dead",
    code="G3",
    moment="training",
    severity="warn",
    detected="When a training ends, more than 90 % of the units of a ReLU give 0 for each of up to 128 rows.",
    misfires="Nets that are sparse on purpose.",
)
def units_dead(outcome: Outcome) -> Iterator[Seen]:
    """Most units of a layer give 0 for every image: they get no gradient and never come back."""
    for name, share in _dead_shares(outcome.model, outcome.inputs).items():
        if share > _DEAD_SHARE:
            yield Seen(
                f"{share:.0%} of the units behind {name!r} give 0 for every image.",
                {"module": name, "share": share, "images": len(outcome.inputs)},
                "Take a smaller learning rate, or He initialisation.",
            )


@check(
    "predicts-one-class",
    code="G2",
    moment="training",
    severity="warn",
    detected="When a training ends, after 100 steps or more that took less than 3 % off the loss, the model says the "
    "same class of up to 128 rows, whose labels are of several classes, the most frequent of them at most 90 %.",
    misfires="Rare classes: above that share nothing is said.",
)
def predicts_one_class(outcome: Outcome) -> Iterator[Seen]:
    """The model says the same class of every image: it has collapsed, or never begun."""
    labels, predicted = outcome.labels, outcome.predicted
    if labels is None or predicted is None or len(labels) < 20 or int(labels.min()) < 0:
        return
    first, last = outcome.first_loss, outcome.last_loss
    if outcome.steps < _ENOUGH_STEPS or (last is not None and not math.isfinite(last)):
        return  # too early to tell, or said already
    if first is not None and last is not None and last < _IMPROVED * first:
        return  # it is on its way
    common = float(labels.bincount().max() / len(labels))
    if common <= 0.9 and bool((predicted == predicted[0]).all()):
        yield Seen(
            f"the model says class {int(predicted[0])} of every image.",
            {"class": int(predicted[0]), "images": len(labels)},
            "Try a smaller learning rate, another initialisation or batch normalisation, and several seeds.",
        )


def _dead_shares(model: nn.Module, inputs: Tensor) -> dict[str, float]:
    """For each ReLU module the share of its units (channels, for images) that are 0 for all rows."""
    shares: dict[str, float] = {}
    handles = []

    def watch(name: str) -> None:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            by_unit = output.detach().transpose(0, 1).flatten(1) if output.ndim > 1 else output.detach()[None]
            shares[name] = float((by_unit.abs().amax(dim=1) == 0).double().mean())

        handles.append(module.register_forward_hook(hook))

    for name, module in model.named_modules():
        if isinstance(module, nn.ReLU):
            watch(name)
    if not handles:
        return {}
    try:
        with torch.no_grad(), torch.random.fork_rng(), evaluating(model):
            model(inputs)
    finally:
        for handle in handles:
            handle.remove()
    return shares
