"""One training step and one evaluation pass: functions shared by all that trains or evaluates."""

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from inkproof.errors import NotFinite
from inkproof.heads import Loss, check_pairing
from inkproof.models import MeanImage
from inkproof.optimizers import take_step
from inkproof.runtime import Precision
from inkproof.written_out import WrittenOut

ToTargets = Callable[[Tensor, Tensor], Tensor]
"""Turns the labels of a batch into the form its loss takes beside these outputs."""


def train_step(
    model: nn.Module,
    loss: Loss,
    optimizer: torch.optim.Optimizer,
    inputs: Tensor,
    labels: Tensor,
    *,
    to_targets: ToTargets,
    precision: Precision,
    check_shapes: bool = True,
    check_finite: bool = True,
    written_out: WrittenOut | None = None,
) -> Float[Tensor, ""]:
    """Forward, backward, update: the textbook's step.

    Args:
        inputs: (b, ...) on the model's device.
        labels: (b,) class indices, or targets as a user's loader gives them.
        check_shapes: predictions and targets must pair by their shapes; a loss that pairs them itself needs no check.
        check_finite: look at the loss and the gradients before the update, where that costs no wait for a device.
        written_out: the step without autograd, for models that have one, as `write_out` gives it.

    Returns:
        The loss before the update, detached.

    Raises:
        ShapeMismatch: predictions and targets do not pair row by row.
        NotFinite: the loss or a gradient is NaN or infinite; the weights are then still those before the step.
    """

    def paired_targets(outputs: Tensor) -> Tensor:
        targets = to_targets(labels, outputs)
        if check_shapes:
            check_pairing(outputs, targets, where=f"the loss {name_of(loss)}")
        return targets

    if written_out is not None and precision == "float32":
        done = written_out.step(inputs, paired_targets, check_finite=check_finite)
        if done is not None:
            return done
    outputs = forward(model, inputs, precision)
    value = loss(outputs, paired_targets(outputs))
    check_finite = check_finite and value.device.type == "cpu"
    if check_finite and not math.isfinite(value.item()):
        raise NotFinite(f"the loss became {value.item()}")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for parameter in parameters:  # optimizer.zero_grad() spends a tenth of a small net's step on its profiling hooks
        parameter.grad = None
    value.backward()  # type: ignore[no-untyped-call]  # untyped in torch
    if check_finite:
        _check_gradients(model, parameters)
    take_step(optimizer)
    return value.detach()


def forward(model: nn.Module, inputs: Tensor, precision: Precision) -> Float[Tensor, "n ..."]:
    """The model's raw outputs in float32 or better, computed in the given precision."""
    with torch.autocast(inputs.device.type, torch.bfloat16, enabled=precision == "bfloat16"):
        outputs: Tensor = model(inputs)
    return outputs.float() if outputs.dtype == torch.bfloat16 else outputs


@torch.no_grad()
def collect_outputs(
    model: nn.Module, batches: Iterable[tuple[Tensor, Tensor]], *, precision: Precision
) -> tuple[Float[Tensor, "n ..."], Shaped[Tensor, "n ..."]]:
    """Outputs and labels of all rows, in the order of the batches; the model's mode is as it was afterwards."""
    outputs, labels = [], []
    with evaluating(model):
        for inputs, batch_labels in batches:
            outputs.append(forward(model, inputs, precision))
            labels.append(batch_labels)
    return torch.cat(outputs), torch.cat(labels)


def fit_means(model: MeanImage, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
    """Fit the mean-image model in one pass."""
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


def name_of(function: object) -> str:
    """How a user would call a loss or metric: its function or class name."""
    target = getattr(function, "func", function)  # a partial is known by what it calls
    return str(getattr(target, "__name__", type(target).__name__))


def _check_gradients(model: nn.Module, parameters: list[nn.Parameter]) -> None:
    """One norm over all gradients tells whether any number in them is NaN or infinite."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients and not math.isfinite(torch.stack(torch._foreach_norm(gradients)).sum().item()):
        for name, parameter in model.named_parameters():
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all():
                raise NotFinite(f"the gradient of {name} has NaN or infinite numbers")
        # All numbers are finite: only the norm overflowed.
