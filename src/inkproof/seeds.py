"""Many seeds of one recipe, trained side by side where that is faster: small nets of linear layers under plain SGD.

Their batches are the same, so that one pass over the data serves all; what differs is where each net begins. Other
models are trained one after another: on a processor convolutions of several nets side by side took longer than in turn.
Processes of one thread beside each other would take 0.7 of the time, but a seed would not equal its lone run: another
number of threads gives other last digits, and a training makes them large.
"""

from collections.abc import Iterable, Sequence
from time import perf_counter

import torch

from inkproof.batches import BYTE, Batches, BatchSource, in_own_unit, ink_for
from inkproof.learner import Learner
from inkproof.optimizers import set_step_values
from inkproof.schedules import Schedule
from inkproof.stacked import StackedNets, can_be_stacked
from inkproof.wide_layers import InkRows
from inkproof.written_out import LinearStep, are_far_from_overflow, takes_ink


def can_train_together(learners: Sequence[Learner]) -> bool:
    """Whether these Learners, alike but for their initial weights, can be trained side by side."""
    return can_be_stacked([_written_out(learner) for learner in learners])


def train_together(learners: Sequence[Learner], epochs: int, schedule: Schedule) -> bool:
    """Train Learners side by side on the batches of the first; each gets its weights, rows and findings.

    Args:
        learners: alike but for their initial weights, as `can_train_together` has it.
        epochs: how many.
        schedule: learning rate of each step.

    Returns:
        Whether it was done: False where a number came near the end of what float32 holds; weights and histories are
        then as they were.
    """
    nets = [written_out for learner in learners if (written_out := _written_out(learner)) is not None]
    first = learners[0]
    stacked = StackedNets(nets, of_ink=BYTE if _take_ink(first, nets[0]) else None)
    optimizer, steps = nets[0].optimizer, epochs * len(first.training_batches)
    rows: list[tuple[torch.Tensor, list[tuple[float | None, dict[str, float]]], float, float]] = []
    with torch.autocast(first.device.type, enabled=False):  # a user's
        for epoch in range(epochs):
            started = perf_counter()
            losses, sizes = [], []
            batches, unit = _in_form_of(stacked, first.training_batches)
            for step, (inputs, labels) in enumerate(batches, start=epoch * len(first.training_batches)):
                set_step_values(optimizer, schedule(step, steps))
                shape = torch.empty(len(labels), first.head.outputs, device=labels.device)
                targets, lr = first.head.targets(labels, shape), optimizer.param_groups[0]["lr"]
                loss = stacked.step(inputs, targets, lr, unit=unit)
                if loss is None:
                    return False
                losses.append(loss)
                sizes.append(len(labels))
            weights = torch.tensor(sizes, dtype=torch.float64) / sum(sizes)
            means = weights @ torch.stack(losses).double().cpu()
            if not are_far_from_overflow([means, *stacked.numbers]):
                return False
            trained = perf_counter()
            judged = _judge(learners, stacked)
            rows.append((means, judged, trained - started, perf_counter() - started))
    stacked.write_back()
    for number, learner in enumerate(learners):
        for means, judged, train_seconds, seconds in rows:
            share = 1 / len(learners)  # of the time that all took
            learner.add_row(float(means[number]), judged[number], train_seconds * share, seconds * share)
        learner.finish(steps)
    return True


def _written_out(learner: Learner) -> LinearStep | None:
    step = None if learner.optimizer is None else learner.stepper().written_out
    return step if isinstance(step, LinearStep) and step.precision == "float32" else None


def _take_ink(learner: Learner, net: LinearStep) -> bool:
    """Whether nets are given the ink of a Learner's images, on both sides."""
    layer, sides = net.layers[0], (learner.training_batches, learner.validation_batches)
    given = (batches for batches in sides if batches is not None)
    takes = takes_ink(layer, flatten=net.flatten)
    return takes and all(ink_for(batches, layer.in_features) is not None for batches in given)


def _in_form_of(
    stacked: StackedNets, batches: BatchSource
) -> tuple[Iterable[tuple[torch.Tensor | InkRows, torch.Tensor]], float]:
    """One pass as the nets take it, and what its inputs are multiplied by."""
    if not stacked.takes_ink:
        return in_own_unit(batches, parts=stacked.parts)
    assert isinstance(batches, Batches), "only these have ink"
    ink = batches.ink
    assert ink is not None, "known to be there"
    return ((InkRows(ink, rows), labels) for rows, labels in batches.in_rows()), BYTE


def _judge(learners: Sequence[Learner], stacked: StackedNets) -> list[tuple[float | None, dict[str, float]]]:
    """Validation loss and metrics of each."""
    if learners[0].validation_batches is None:
        return [(None, {}) for _ in learners]
    batches, unit = _in_form_of(stacked, learners[0].validation_batches)
    parts = [(stacked.outputs(inputs, unit=unit), labels) for inputs, labels in batches]
    outputs = torch.cat([part for part, _ in parts], dim=1)
    labels = torch.cat([part for _, part in parts])
    return [learner.objective.judge(one, labels) for learner, one in zip(learners, outputs, strict=True)]
