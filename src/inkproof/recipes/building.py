"""From a recipe to what trains: model, loss, optimiser, schedule, augmentation and the Learner that holds them."""

from collections.abc import Callable, Collection, Iterable
from functools import partial

import torch
from torch import Tensor, nn

from inkproof import heads, models, schedules
from inkproof.augment import Deformation
from inkproof.hard_examples import HardExamples
from inkproof.images import ImageSet
from inkproof.learner import Learner
from inkproof.recipes.recipe import Optimizer, Recipe, ScheduleSettings
from inkproof.runtime import DeviceName, Precision, choose_device, choose_precision

_LOSSES: dict[str, heads.Loss] = {
    "cross-entropy": heads.cross_entropy,
    "binary-cross-entropy": heads.binary_cross_entropy,
    "clamped-binary-cross-entropy": heads.clamped_binary_cross_entropy,
    "mean-squared-error": heads.mean_squared_error,
    "root-mean-squared-error": heads.root_mean_squared_error,
    "rmse-softmax": heads.rmse_softmax,
}


def build_learner(
    recipe: Recipe,
    train: ImageSet,
    valid: ImageSet | None,
    *,
    seed: int = 0,
    device: DeviceName = "auto",
    allow: Collection[str] = (),
) -> Learner:
    """A Learner set up as the recipe says, its model fresh from the seed."""
    head = build_head(recipe, train.classes)
    return Learner(
        lambda: build_model(recipe, train.shape, head),
        train,
        valid,
        head=recipe.head,
        loss=build_loss(recipe),
        optimizer=partial(build_optimizer, recipe.optimizer) if recipe.optimizer else torch.optim.SGD,
        batch_size=recipe.batch_size,
        seed=seed,
        order_seed=0 if shares_order(recipe) else None,
        device=device,
        precision=resolve_precision(recipe, device),
        augment=None if recipe.augment is None else Deformation(**recipe.augment.model_dump()),
        shuffle=recipe.shuffle,
        hard_examples=None if recipe.hard_examples is None else HardExamples(**recipe.hard_examples.model_dump()),
        clean_statistics=recipe.clean_statistics,
        stem_learns=recipe.stem_learns,
        allow=allow,
    )


def shares_order(recipe: Recipe) -> bool:
    """Whether all seeds of the recipe see the same batches, so that they can be trained side by side.

    Their error bar is then over initial weights alone.
    """
    plain = recipe.optimizer is not None and recipe.optimizer.name == "sgd"
    plain = plain and recipe.optimizer is not None and not recipe.optimizer.momentum + recipe.optimizer.weight_decay
    return plain and recipe.hard_examples is None and recipe.model.name in ("linear", "hidden", "deep")


def build_head(recipe: Recipe, classes: tuple[str, ...]) -> heads.Head:
    """The recipe's head for these classes."""
    return heads.Head(recipe.head, len(classes))


def build_model(recipe: Recipe, shape: tuple[int, int, int], head: heads.Head) -> nn.Module:
    """A fresh model for images of this shape, its weights from torch's global generator."""
    makers: dict[str, Callable[..., nn.Module]] = {
        "mean-image": models.mean_image,
        "linear": models.linear,
        "hidden": models.hidden,
        "deep": models.deep,
        "conv": models.conv,
        "strong": models.strong,
    }
    return makers[recipe.model.name](shape, head.outputs, **recipe.model.model_dump(exclude={"name"}))


def build_loss(recipe: Recipe) -> heads.Loss:
    """The recipe's loss, of outputs and targets."""
    if recipe.label_smoothing:  # the recipe's own rules allow it for cross entropy alone
        return partial(heads.cross_entropy, label_smoothing=recipe.label_smoothing)
    return _LOSSES[recipe.loss]


def build_schedule(recipe: Recipe) -> schedules.Schedule:
    """The recipe's schedule; a mean image has no steps and gets a constant one."""
    settings: ScheduleSettings = recipe.schedule
    lr = recipe.optimizer.lr if recipe.optimizer else 0.0
    if settings.name == "constant":
        return schedules.constant(lr)
    make = schedules.one_cycle if settings.name == "one-cycle" else schedules.linear
    return make(lr) if settings.warm_up is None else make(lr, warm_up=settings.warm_up)


def build_optimizer(settings: Optimizer, parameters: Iterable[Tensor], *, lr: float) -> torch.optim.Optimizer:
    """The recipe's optimiser over these parameters; biases and norms do not decay."""
    parameters = list(parameters)
    groups = [
        {"params": [tensor for tensor in parameters if tensor.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [tensor for tensor in parameters if tensor.ndim <= 1], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    if settings.name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=settings.momentum, nesterov=settings.nesterov, fused=True)
    make = torch.optim.Adam if settings.name == "adam" else torch.optim.AdamW
    return make(groups, lr=lr, fused=True)


def resolve_precision(recipe: Recipe, device: DeviceName) -> Precision:
    """The precision to compute in; `auto` is what the processor gains by for convolutions, and float32 for all else."""
    if recipe.precision != "auto":
        return recipe.precision
    if recipe.model.name == "conv":
        channels = recipe.model.channels
    elif recipe.model.name == "strong":
        channels = recipe.model.widths
    else:
        return "float32"
    return choose_precision(choose_device(device), channels=min(channels))
