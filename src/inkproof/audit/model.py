"""Checks of model and optimiser on a few rows, before the first step; nothing of the model changes."""

import copy
import math
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor, nn

from inkproof.audit.catalogue import Seen, check
from inkproof.audit.ledger import steps_of
from inkproof.heads import Activation
from inkproof.randomness import seed_global
from inkproof.steps import evaluating

_SAME = 1e-3  # relative: rounding of another batch size is far below
_LINEAR = 1e-4
_SKILL, _LOSS_SHARE = 0.5, 0.5


@dataclass(frozen=True)
class Trainee:
    """A model as it is before the first step.

    Args:
        model: in any mode; left as it is.
        optimizer: None where there is nothing to train.
        inputs: (n, ...) of a few training rows, on the model's device.
        labels: their class indices, None where they are none.
        outputs: what the model gives for them.
        activation: what it does to its outputs itself.
        kinds: how many classes the training labels count, 0 where they are none.
        whole_numbers: the labels came as whole numbers, not as floats.
        decoded: a model of one output is decoded to classes, as the head `value` does.
        pretrained: the user says that the model brings trained weights.
        shuffled: the training rows get a new order every epoch; None where nothing was said and they do not.
        in_order: all training labels in the order of the data, None where they are no classes.
        batch_size: rows a step.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    inputs: Tensor
    labels: Tensor | None
    outputs: Tensor
    activation: Activation
    kinds: int
    whole_numbers: bool
    decoded: bool
    pretrained: bool
    shuffled: bool | None
    in_order: Int64[np.ndarray, " rows"] | None
    batch_size: int

    def run(self, inputs: Tensor, model: nn.Module | None = None, *, seed: int = 0) -> Tensor | None:
        """Outputs in evaluation mode; None where the model cannot take so many rows."""
        model = model or self.model
        try:
            with torch.no_grad(), torch.random.fork_rng(), evaluating(model), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                seed_global(seed)
                outputs = model(inputs)
        except Exception:  # a user's model may raise anything on rows that it is not made for
            return None
        return outputs.float() if isinstance(outputs, Tensor) else None


def _differ(first: Tensor, second: Tensor) -> float:
    """The largest difference, as a share of the outputs' own spread."""
    return float((first - second).abs().max() / (first.std() + first.abs().mean() + 1e-12))


@check(
    "outputs-random",
    moment="model",
    severity="warn",
    detected="Two passes over the same rows in evaluation mode differ.",
    misfires="Models that draw on purpose, as for uncertainty by dropout.",
)
def outputs_random(trainee: Trainee) -> Iterator[Seen]:
    """The model gives other outputs for the same images each time: dropout stays active in evaluation mode."""
    first, second = trainee.run(trainee.inputs), trainee.run(trainee.inputs, seed=1)
    if first is not None and second is not None and _differ(first, second) > _SAME:
        yield Seen(
            "the model gives other outputs for the same images each time, in evaluation mode too.",
            {"difference": _differ(first, second)},
            "Use nn.Dropout as a module, or F.dropout(x, training=self.training).",
        )


@check(
    "outputs-depend-on-batch",
    code="E3",
    moment="model",
    severity="refuse",
    detected="In evaluation mode the outputs of half the rows differ by more than a thousandth of their spread "
    "when the other half is not there.",
    misfires="Models that compare the rows of a batch on purpose.",
)
def outputs_depend_on_batch(trainee: Trainee) -> Iterator[Seen]:
    """An image's outputs depend on the images beside it in the batch, as with a softmax over the batch."""
    if len(trainee.inputs) < 4:
        return
    whole, again = trainee.run(trainee.inputs), trainee.run(trainee.inputs, seed=1)
    half = trainee.run(trainee.inputs[: len(trainee.inputs) // 2])
    if whole is None or again is None or half is None or len(half) != len(whole) // 2:
        return
    if _differ(whole, again) <= _SAME < _differ(half, whole[: len(half)]):
        yield Seen(
            "the model's outputs for an image depend on which other images are in the batch.",
            {"difference": _differ(half, whole[: len(half)])},
            "Look for a softmax, mean or reshape over the first dimension: softmax needs dim=1.",
        )


@check(
    "softmax-without-dimension",
    code="E3",
    moment="model",
    severity="warn",
    detected="A Softmax or LogSoftmax module with dim=None.",
)
def softmax_without_dimension(trainee: Trainee) -> Iterator[Seen]:
    """A softmax was given no dimension: torch guesses one by the number of dimensions, and guesses wrong for images."""
    for name, module in trainee.model.named_modules():
        if isinstance(module, nn.Softmax | nn.LogSoftmax | nn.Softmin) and module.dim is None:
            kind = type(module).__name__
            yield Seen(
                f"{kind} {name!r} has no dimension: torch guesses one.",
                {"module": name},
                f"Say over what it runs: nn.{kind}(dim=1).",
            )


@check(
    "one-output-for-classes",
    code="E5",
    moment="model",
    severity="warn",
    detected="The model gives one number a row, and the labels are whole numbers of three or more kinds. Labels "
    "that come as integers are refused.",
    misfires="Labels that are amounts, not classes: allow it, or declare head='value'.",
)
def one_output_for_classes(trainee: Trainee) -> Iterator[Seen]:
    """One number is to say which of many classes an image shows, as if class 7 lay between 6 and 8."""
    width = trainee.outputs[0].numel()
    if width == 1 and trainee.kinds > 2 and not trainee.decoded:
        yield Seen(
            f"the model gives one number for {trainee.kinds} classes: it can only learn that they lie in a row.",
            {"classes": trainee.kinds},
            f"End the model with {trainee.kinds} outputs, and train it with cross entropy.",
            severity="refuse" if trainee.whole_numbers else None,
        )


@check(
    "more-outputs-than-classes",
    code="E6",
    moment="model",
    severity="warn",
    detected="More outputs than the training labels have classes, counted over all rows.",
    misfires="A head that is shared with other data.",
)
def more_outputs_than_classes(trainee: Trainee) -> Iterator[Seen]:
    """The model has outputs that no label ever names; they cost time and can only be wrong."""
    width = trainee.outputs.shape[1] if trainee.outputs.ndim == 2 else 1
    if trainee.whole_numbers and width > trainee.kinds >= 2:
        yield Seen(
            f"the model gives {width} outputs, and the training labels have {trainee.kinds} classes.",
            {"outputs": width, "classes": trainee.kinds},
            f"End the model with {trainee.kinds} outputs, or look where the other classes went.",
        )


@check(
    "layers-without-nonlinearity",
    code="E8",
    moment="model",
    severity="warn",
    detected="Two layers or more, and yet the outputs of mixed images are the mixed outputs, to one in ten thousand; "
    "with its weights disturbed too.",
    misfires="A linear model that is factored on purpose.",
)
def layers_without_nonlinearity(trainee: Trainee) -> Iterator[Seen]:
    """Several layers, and nothing between them that bends: together they are one linear layer."""
    weighted = [module for module in trainee.model.modules() if isinstance(module, nn.Linear | nn.modules.conv._ConvNd)]
    if len(weighted) < 2 or len(trainee.inputs) < 8 or not trainee.inputs.is_floating_point():
        return
    if _is_affine(trainee, trainee.model) and _is_affine(trainee, _disturbed(trainee.model, times=4)):
        yield Seen(
            f"the model has {len(weighted)} layers with weights and is linear all the same.",
            {"layers": len(weighted)},
            "Put nn.ReLU() between the layers.",
        )


def _is_affine(trainee: Trainee, model: nn.Module | None) -> bool:
    """Whether the outputs of mixed images are the mixed outputs, and differ from image to image at all."""
    half = len(trainee.inputs) // 2
    first, second = trainee.inputs[:half], trainee.inputs[half : 2 * half]
    outputs = [trainee.run(inputs, model) for inputs in (first, second, 0.3 * first + 0.7 * second)]
    if any(one is None for one in outputs):
        return False
    one, other, mixed = (_raw(output, trainee.activation) for output in outputs if output is not None)
    return _spread(one) > 1e-6 and _differ(mixed, 0.3 * one + 0.7 * other) < _LINEAR


def _raw(outputs: Tensor, activation: Activation) -> Tensor:
    """Outputs as before a softmax, up to a number a row."""
    if activation == "none":
        return outputs
    logs = outputs.clamp(min=1e-30).log() if activation == "probabilities" else outputs
    if outputs.ndim < 2 or outputs.shape[1] == 1:
        return logs - (1 - outputs).clamp(min=1e-30).log()
    return logs - logs.mean(dim=1, keepdim=True)


@check(
    "outputs-ignore-inputs",
    code="E9",
    moment="model",
    severity="refuse",
    detected="With its weights disturbed at random, on a copy, the model still gives the same outputs for all images.",
)
def outputs_ignore_inputs(trainee: Trainee) -> Iterator[Seen]:
    """The outputs do not depend on the image: somewhere inside it is multiplied by 0, detached or overwritten."""
    disturbed = _disturbed(trainee.model)
    if disturbed is None or len(trainee.inputs) < 2 or _spread(trainee.inputs) == 0:
        return
    outputs = trainee.run(trainee.inputs, disturbed)
    if outputs is not None and torch.isfinite(outputs).all() and _spread(outputs) == 0:
        yield Seen(
            "the model gives the same outputs for every image, whatever its weights are.",
            {"images": len(trainee.inputs)},
            "Follow one image through its forward function.",
        )


def _spread(rows: Tensor) -> float:
    return float((rows - rows[:1]).abs().max())


def _disturbed(model: nn.Module, *, times: float = 1.0) -> nn.Module | None:
    if not any(True for _ in model.parameters()):
        return None
    disturbed = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in disturbed.named_parameters():
            if parameter.is_floating_point():
                if name.endswith("bias"):
                    parameter.zero_()  # a bias far below zero would keep every unit silent
                size = 1 / math.sqrt(max(parameter[0].numel(), 1)) if parameter.ndim > 1 else 0.1
                parameter.add_(times * size * torch.randn(parameter.shape, generator=generator).to(parameter))
    return disturbed


@check(
    "weights-all-equal",
    code="G4",
    moment="model",
    severity="refuse",
    detected="A weight of two dimensions or more, not in the last layer, whose numbers are all equal, so that its "
    "units get equal gradients or none: looked at in one backward pass on a copy.",
    misfires="Branches that begin at zero on purpose get gradients that differ, and are let be.",
)
def weights_all_equal(trainee: Trainee) -> Iterator[Seen]:
    """All weights of a layer are equal: its units compute the same, get the same gradient, and stay equal for ever."""
    suspects = [
        name
        for name, parameter in trainee.model.named_parameters()
        if parameter.ndim > 1 and len(parameter) > 1 and float(parameter.detach().max() - parameter.detach().min()) == 0
    ]
    layers = [name for name, parameter in trainee.model.named_parameters() if parameter.ndim > 1]
    suspects = [name for name in suspects if name != layers[-1]]
    if not suspects:
        return
    gradients = _gradients(trainee)
    stuck = [name for name in suspects if name in gradients and _spread(gradients[name].flatten(1)) < 1e-12]
    if stuck:
        yield Seen(
            f"all numbers of {stuck[0]} are equal, and so are the gradients of its units: they can never differ.",
            {"parameters": stuck},
            "Leave the weights as the layer's constructor drew them.",
        )


def _gradients(trainee: Trainee) -> dict[str, Tensor]:
    """The gradient of each parameter for outputs that are wanted to differ, on a copy in evaluation mode."""
    model = copy.deepcopy(trainee.model).eval()
    try:
        with torch.random.fork_rng(), torch.enable_grad():
            outputs = model(trainee.inputs).float()
            wanted = torch.randn(outputs.shape, generator=torch.Generator().manual_seed(0)).to(outputs)
            (outputs - wanted).square().mean().backward()
    except Exception:  # a user's model may raise anything
        return {}
    return {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


@check(
    "parameters-not-optimised",
    code="F3",
    moment="model",
    severity="refuse",
    detected="A parameter that requires a gradient and is in no group of the optimiser.",
    misfires="Parts that are kept still on purpose: `requires_grad_(False)` declares it.",
)
def parameters_not_optimised(trainee: Trainee) -> Iterator[Seen]:
    """The optimiser does not know some of the model's parameters: they keep their first values for ever."""
    if trainee.optimizer is None:
        return
    known = {id(parameter) for group in trainee.optimizer.param_groups for parameter in group["params"]}
    wanted = {name: one for name, one in trainee.model.named_parameters() if one.requires_grad}
    missing = [name for name, parameter in wanted.items() if id(parameter) not in known]
    if missing:
        yield Seen(
            f"the optimiser does not have {len(missing)} of the model's {len(wanted)} parameters (for instance "
            f"{missing[0]}): they never move.",
            {"missing": missing[:20]},
            "Give it model.parameters() of the model that is trained, after its last layer was replaced.",
        )


@check(
    "parameters-without-gradient",
    code="F4",
    moment="model",
    severity="warn",
    detected="One backward pass on a copy leaves parameters that require a gradient without one; refused where none "
    "gets one.",
    misfires="Parts that are used in training mode alone, or not yet.",
)
def parameters_without_gradient(trainee: Trainee) -> Iterator[Seen]:
    """Parameters that should be trained get no gradient: a detach, a no_grad or an unused layer cuts them off."""
    wanted = [name for name, one in trainee.model.named_parameters() if one.requires_grad]
    reached = _gradients(trainee)
    cut_off = [name for name in wanted if name not in reached]
    whole = not reached
    if cut_off and not (whole and (_differentiable(trainee) or any(True for _ in outputs_ignore_inputs(trainee)))):
        yield Seen(
            f"{len(cut_off)} of {len(wanted)} parameters get no gradient (for instance {cut_off[0]}): they never move.",
            {"parameters": cut_off[:20]},
            "Look in the forward function for .detach(), .data, torch.no_grad() and layers that are not used.",
            severity="refuse" if whole else None,
        )


def _differentiable(trainee: Trainee) -> bool:
    """Whether the outputs, with gradients on, depend on any parameter; True where the model cannot be run."""
    try:
        with torch.random.fork_rng(), torch.enable_grad(), evaluating(trainee.model):
            return bool(trainee.model(trainee.inputs).requires_grad)
    except Exception:  # a user's model may raise anything
        return True


@check(
    "parameters-frozen",
    code="F4",
    moment="model",
    severity="note",
    detected="Parameters with requires_grad=False.",
    misfires="It states a fact: a frozen part is declared by that very flag.",
)
def parameters_frozen(trainee: Trainee) -> Iterator[Seen]:
    """A part of the model is frozen and keeps its values."""
    sizes = {name: one.numel() for name, one in trainee.model.named_parameters() if not one.requires_grad}
    if sizes:
        whole = sum(one.numel() for one in trainee.model.parameters())
        yield Seen(
            f"{sum(sizes.values()) / whole:.0%} of the model's weights are frozen (for instance {next(iter(sizes))}).",
            {"parameters": list(sizes)[:20]},
            "Call requires_grad_() on what should be trained.",
        )


@check(
    "model-already-trained",
    code="H6",
    moment="model",
    severity="warn",
    detected="The ledger of this process has exactly these weights as the result of training steps; or, before its "
    "first step, the model is half way from chance to perfect on training rows with less than half the "
    "loss of guessing.",
    misfires="Fine-tuning: `Learner(..., pretrained=True)` declares it. With fewer than 100 rows only the ledger "
    "is asked.",
)
def model_already_trained(trainee: Trainee) -> Iterator[Seen]:
    """The model was trained before: its first epoch shows what earlier training reached, not what this one does."""
    if trainee.pretrained:
        return
    remedy = "Build a new model for a fresh start, or say pretrained=True if it is to be trained on."
    if steps := steps_of(trainee.model):
        yield Seen(
            f"the model was trained for {steps:,} steps before: this is no fresh start.", {"steps": steps}, remedy
        )
        return
    labels, outputs = trainee.labels, trainee.outputs
    if labels is None or len(labels) < 100 or outputs.ndim != 2 or outputs.shape[1] < 2 or int(labels.min()) < 0:
        return
    if int(labels.max()) >= outputs.shape[1] or trainee.activation == "log-probabilities":
        return
    raw = outputs if trainee.activation == "none" else outputs.clamp(min=1e-12).log()
    loss = float(nn.functional.cross_entropy(raw, labels))
    accuracy = float((outputs.argmax(dim=1) == labels).double().mean())
    chance = float(labels.bincount().max() / len(labels))
    if (accuracy - chance) / (1 - chance + 1e-9) > _SKILL and loss < _LOSS_SHARE * math.log(outputs.shape[1]):
        yield Seen(
            f"before its first step the model is right on {accuracy:.0%} of {len(labels)} training rows: it was "
            "trained before.",
            {"accuracy": accuracy, "loss": loss, "rows": len(labels)},
            remedy,
        )
