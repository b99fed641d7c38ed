"""One training step and one evaluation pass: functions shared by all that trains or evaluates."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from inkproof.batches import BYTE, Batches, BatchSource, LoaderBatches, difficulties_of, in_own_unit, ink_for
from inkproof.captured import CapturedStep
from inkproof.errors import InputError, NotFinite
from inkproof.finite import DeviceGuard, require_finite_gradients
from inkproof.models import MeanImage
from inkproof.objective import Objective
from inkproof.optimizers import take_step
from inkproof.runtime import Precision
from inkproof.written_out import (
    ConvolutionalStep,
    Inked,
    LinearStep,
    NormalisedNet,
    QuickForward,
    SharedOut,
    StepOnCopy,
    WrittenOut,
    are_far_from_overflow,
    can_be_copied,
    dtype_of_products,
    in_place,
    ink_forward,
    on_copy,
    parts_of,
    quick_forward,
    takes_ink,
)


class BrokenPass(Exception):
    """A pass that must be taken again, step by step.

    A number came near the end of what float32 holds in a pass whose steps were looked at together, or autograd must
    judge a batch whose step was taken on a copy.
    """


@dataclass(frozen=True)
class StepPlan:
    """How steps of a training are computed where there is a faster way than one operation after another.

    Args:
        written_out: the step without autograd, for models that have one.
        gradients: computes loss and gradients without autograd, for nets of blocks with batch normalisation.
        guard: masks updates on a device in place of looking at their numbers, which would wait for it.
        captured: replays loss and gradients as a graph, for batches of the shape that it was captured with.
        watch: told outputs and labels of each batch.
        unit: what the step without autograd multiplies inputs by: batches of bytes are scaled in its products.
        looks_together: numbers are looked at after the last step, and not those of each before its update.
    """

    written_out: WrittenOut | None = None
    gradients: NormalisedNet | None = None
    guard: DeviceGuard | None = None
    captured: CapturedStep | None = None
    watch: Callable[[Tensor, Tensor], None] | None = None
    unit: float = 1.0
    looks_together: bool = False

    @contextmanager
    def quickest(
        self, batches: BatchSource, objective: Objective, *, again: bool, losses: list[Tensor] | None = None
    ) -> Iterator[tuple["StepPlan", Iterable[tuple[Tensor, Tensor]]]]:
        """The quickest plan for one pass, in a block that ends with it, and the batches as that plan takes them.

        Weights may wait for the block's end to have what was learnt. A user's loader might read them, and gets this
        plan as it is. A user's autocast does not reach into steps without autograd.

        Args:
            batches: of the pass.
            objective: of its steps.
            again: the pass can be taken again, if it breaks.
            losses: where whoever takes the steps puts them, if the pass can be taken again and is to break where they
                do: they and the weights are then looked at together, when the block ends. A pass that breaks takes
                twice as long for it, all others a twentieth less.

        Raises:
            BrokenPass: numbers that were looked at together broke, whatever was raised later.
        """
        if self.written_out is None and self.gradients is None:
            yield self, batches
            return
        step, may_break = self.written_out, again and not isinstance(batches, LoaderBatches)
        if isinstance(step, LinearStep) and step.precision == "bfloat16" and not may_break:
            yield replace(self, written_out=None), batches  # only the copy is rounded; all else is autocast's
            return
        with torch.autocast("cpu", enabled=False):
            if isinstance(batches, LoaderBatches) or not isinstance(step, LinearStep | ConvolutionalStep):
                yield self, batches
                return
            parameters = [each for group in step.optimizer.param_groups for each in group["params"]]
            if isinstance(batches, Batches):
                dtype = parameters[0].dtype
                batches = batches.with_targets(lambda labels: objective.all_targets(labels, dtype))
            taken, unit, form = self._form(batches, again=again)
            looking = nullcontext() if losses is None else _looking_together(losses, parameters)
            with looking, _without_autograd(batches), form as quickest:
                yield replace(self, written_out=quickest, unit=unit, looks_together=losses is not None), taken

    def _form(
        self, batches: BatchSource, *, again: bool
    ) -> tuple[Iterable[tuple[Tensor, Tensor]], float, AbstractContextManager[WrittenOut]]:
        """The batches of a pass, what their inputs are to be multiplied by, and the form of the step that takes them.

        Args:
            batches: with all of their pixels.
            again: the pass can be taken again.
        """
        step = self.written_out
        assert isinstance(step, LinearStep | ConvolutionalStep), "`quickest` was asked for no others"
        if not (again and isinstance(step, LinearStep) and can_be_copied(step)):
            taken, unit = in_own_unit(batches, dtype=torch.float32 if isinstance(step, LinearStep) else torch.uint8)
            return taken, unit, in_place(step, unit=unit)
        first = step.layers[0]
        ink = ink_for(batches, first.in_features) if takes_ink(first, flatten=step.flatten) else None
        if isinstance(batches, Batches) and ink is not None:
            return batches.in_rows(), BYTE, on_copy(step, Inked(step, ink, unit=BYTE))
        parts = parts_of(first.in_features, batches.device) if step.flatten and isinstance(batches, Batches) else 1
        taken, unit = in_own_unit(batches, dtype=dtype_of_products(first, step.precision), parts=parts)
        return taken, unit, on_copy(step, SharedOut(step, parts, unit=unit))


def _without_autograd(batches: BatchSource) -> AbstractContextManager[object]:
    """Inference mode for a whole pass, unless an augmentation, which may be a user's, alters its images."""
    altered = isinstance(batches, Batches) and batches.augment is not None
    return nullcontext() if altered else torch.inference_mode()


def _inference_mode() -> AbstractContextManager[object]:
    """For a step, unless its pass is one: to enter it takes longer than an operation of a small net."""
    return nullcontext() if torch.is_inference_mode_enabled() else torch.inference_mode()


@contextmanager
def _looking_together(losses: list[Tensor], parameters: list[nn.Parameter]) -> Iterator[None]:
    """Look at losses and weights when the block ends."""
    try:
        yield
    except Exception as error:
        if are_far_from_overflow([*losses, *parameters]):
            raise
        raise BrokenPass from error
    if not are_far_from_overflow([torch.stack(losses), *parameters]):
        raise BrokenPass


PLAIN = StepPlan()


def train_step(
    model: nn.Module,
    objective: Objective,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    labels: Tensor,
    *,
    precision: Precision,
    check_finite: bool = True,
    plan: StepPlan = PLAIN,
) -> Float[Tensor, ""]:
    """Forward, backward, update: the textbook's step.

    Args:
        inputs: (b, ...) on the model's device, in units of `plan.unit`.
        labels: (b,) class indices, or targets in the form that the loss takes.
        check_finite: look at the loss and the gradients before the update.
        plan: how the same is computed faster.

    Returns:
        The loss before the update, detached, and an inference tensor where the step was written out: to be read, not
        to be differentiated; NaN where a guard masked the update.

    Raises:
        ShapeMismatch: predictions and targets do not pair row by row.
        NotFinite: the loss or a gradient is NaN or infinite; the weights are then still those before the step.
    """
    if plan.written_out is not None:
        with _inference_mode():
            done = plan.written_out.step(inputs, partial(objective.targets, labels), check_finite=check_finite)
        if done is not None:
            return done
        if isinstance(plan.written_out, StepOnCopy):
            raise BrokenPass
        if plan.unit != 1:
            inputs = inputs * plan.unit
        with torch.inference_mode(False):  # tensors that were made in it cannot be differentiated
            inputs, labels = (each.clone() if each.is_inference() else each for each in (inputs, labels))
            alone = replace(plan, written_out=None, unit=1.0)
            return train_step(
                model, objective, optimizer, inputs, labels, precision=precision, check_finite=check_finite, plan=alone
            )
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]

    def differentiate(inputs: Tensor, labels: Tensor) -> tuple[Float[Tensor, ""], Tensor]:
        def to_loss(outputs: Tensor) -> Tensor:
            return objective.loss(outputs, objective.paired_targets(labels, outputs))

        if plan.gradients is not None:
            done = plan.gradients.differentiate(inputs, partial(objective.targets, labels), to_loss)
            if done is not None:
                return done
        outputs = forward(model, inputs, precision)
        value = to_loss(outputs)
        # optimizer.zero_grad() spends a tenth of a small net's step on its profiling hooks.
        for parameter in parameters:
            parameter.grad = None
        value.backward()
        return value.detach(), outputs.detach()

    if plan.captured is not None:
        value, outputs = plan.captured(differentiate, parameters, inputs, labels)
    else:
        value, outputs = differentiate(inputs, labels)
    if plan.guard is not None:
        value = plan.guard.mask(optimizer, value, parameters)
    elif check_finite:
        if not math.isfinite(value.item()):
            raise NotFinite(f"the loss became {value.item()}")
        require_finite_gradients(model, parameters)
    take_step(optimizer)
    if plan.guard is not None:
        plan.guard.release(optimizer)
    if plan.watch is not None:
        plan.watch(outputs, labels)
    return value


def forward(model: nn.Module, inputs: Tensor, precision: Precision) -> Float[Tensor, "n ..."]:
    """The model's raw outputs in float32 or better, computed in the given precision."""
    # Within another autocast its cache of rounded weights would outlive updates, and a pass takes each weight but once.
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bfloat16", cache_enabled=False):
        outputs: Tensor = model(inputs)
    return outputs.float() if outputs.dtype == torch.bfloat16 else outputs


@torch.no_grad()
def collect_outputs(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, precision: Precision, again: bool = False
) -> tuple[Float[Tensor, "n ..."], Shaped[Tensor, "n ..."]]:
    """Outputs and labels of all rows, in the order of the batches; the model's mode is as it was afterwards.

    Args:
        model, precision: what gives the outputs.
        batches: of the rows.
        again: these will be scored again and again, so that what takes longer once may be made for them.
    """
    outputs, labels = [], []
    quick, batches, unit = _quickest_forward(model, batches, precision, again=again)
    with evaluating(model), torch.autocast("cpu", enabled=False):  # a user's; `forward` has its own
        for inputs, batch_labels in batches:
            done = None if quick is None else quick(inputs, unit)
            if done is None:
                done = forward(model, inputs if unit == 1 else inputs * unit, precision)
            outputs.append(done)
            labels.append(batch_labels)
    return torch.cat(outputs), torch.cat(labels)


def _quickest_forward(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], precision: Precision, *, again: bool
) -> tuple[QuickForward | None, Iterable[tuple[Tensor, Tensor]], float]:
    """What gives outputs soonest, None for the model itself, with batches as it takes them and their unit."""
    if again and isinstance(batches, Batches):
        of_ink = ink_forward(model, partial(ink_for, batches), unit=BYTE, precision=precision)
        if of_ink is not None:
            return of_ink, batches.in_rows(), BYTE
    quick = quick_forward(model, precision)
    return quick, *((batches, 1.0) if quick is None else in_own_unit(batches))


def fit_means(model: MeanImage, batches: BatchSource) -> None:
    """Fit the mean-image model in one pass.

    Raises:
        InputError: batches of hard examples.
    """
    if difficulties_of(batches) is not None:
        raise InputError("a mean image is the mean of all images: it takes no hard_examples")
    for inputs, labels in batches:
        model.observe(inputs, labels)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; afterwards every module is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training
