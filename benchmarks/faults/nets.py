"""Faults of models, losses, optimisers and trainings: E to G of the catalogue."""

import copy
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from clean import MODELS, dense, evaluate, prepared
from fault import SGD, Plant, fault, learner, own_loop, tensors
from rows import on_train
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from inkproof import ImageSet, Learner
from inkproof.errors import Refused

# -- E: model and loss -------------------------------------------------------------------------------------------------


class Behind(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor], body: nn.Module):
        super().__init__()
        self.body, self.function = body, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.body(x))


class Detached(nn.Module):
    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        self.first, self.last = nn.Linear(math.prod(shape), 30), nn.Linear(30, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.first(x.flatten(1)).relu().detach())


def behind(function: Callable[[Tensor], Tensor]) -> Callable[..., nn.Module]:
    return lambda shape, classes: Behind(function, dense(shape, classes, nn.ReLU))


def ended(last: nn.Module) -> Callable[..., nn.Module]:
    return lambda shape, classes: nn.Sequential(dense(shape, classes, nn.ReLU), copy.deepcopy(last))


def with_outputs(count: Callable[[int], int]) -> Callable[..., nn.Module]:
    return lambda shape, classes: dense(shape, count(classes), nn.ReLU)


def all_equal(value: float) -> Callable[..., nn.Module]:
    def make(shape: tuple[int, ...], classes: int) -> nn.Module:
        model = dense(shape, classes, nn.ReLU)
        for parameter in model.parameters():
            nn.init.constant_(parameter, value)
        return model

    return make


def dead(shape: tuple[int, ...], classes: int) -> nn.Module:
    model = dense(shape, classes, nn.ReLU)
    nn.init.constant_(model[1].bias, -100.0)
    return model


def squared_of_column(p: Tensor, y: Tensor) -> Tensor:
    return ((p - y) ** 2).mean()


def column_accuracy(p: Tensor, y: Tensor) -> Tensor:
    return (p.argmax(dim=1, keepdim=True) == y).float().mean()


def rmse(p: Tensor, y: Tensor) -> Tensor:
    return ((p - y) ** 2).mean()


def one_of_two(train: TensorDataset, valid: TensorDataset) -> tuple[TensorDataset, ...]:
    """First class or not, as floats (n,)."""
    return tuple(TensorDataset(data.tensors[0], (data.tensors[1] == 0).float()) for data in (train, valid))


def as_column(train: TensorDataset, valid: TensorDataset) -> tuple[TensorDataset, ...]:
    return tuple(TensorDataset(data.tensors[0], (data.tensors[1] == 0).float()[:, None]) for data in (train, valid))


def one_output(shape: tuple[int, ...], classes: int) -> nn.Module:
    return dense(shape, 1, nn.ReLU)


def outputs_of(count: Callable[[int], int]) -> Plant:
    def run(images: ImageSet, seed: int) -> list[Any] | None:
        if len(images.classes) == 2 and count(2) == 1:
            return None
        sides = prepared(images, None, seed)
        try:
            Learner(partial(with_outputs(count), images.shape, len(images.classes)), sides.train, on_finding="record")
        except Refused as error:
            return list(error.findings)
        return []

    return run


def mean_loss_of_log(p: Tensor, y: Tensor) -> Tensor:
    return F.nll_loss((p + 1e-9).log(), y)


MODEL_FAULTS: list[tuple[str, str, str, dict[str, Any]]] = [
    ("E2", "softmax before cross entropy", "outputs-activated-twice", {"model": ended(nn.Softmax(dim=1))}),
    (
        "E3",
        "softmax over the batch",
        "outputs-depend-on-batch",
        {"model": behind(lambda x: x.softmax(dim=0)), "loss": mean_loss_of_log},
    ),
    (
        "E3",
        "softmax without a dimension",
        "softmax-without-dimension",
        {"model": ended(nn.Softmax()), "loss": mean_loss_of_log},
    ),
    ("E4", "nll of raw outputs", "loss-of-raw-outputs", {"loss": F.nll_loss}),
    ("E7", "sigmoid before cross entropy", "outputs-activated-twice", {"model": ended(nn.Sigmoid())}),
    ("E8", "no non-linearity", "layers-without-nonlinearity", {"model": dense}),
    ("E9", "outputs times 0", "outputs-ignore-inputs", {"model": behind(lambda x: x * 0)}),
    ("F2", "learning rate 0", "weights-never-moved", {"lr": 0.0}),
    ("F4", "first layer detached", "parameters-without-gradient", {"model": Detached}),
    ("G4", "all weights zero", "weights-all-equal", {"model": all_equal(0.0)}),
    ("G4", "all weights 0.1", "weights-all-equal", {"model": all_equal(0.1)}),
    ("H1", "dropout in evaluation", "outputs-random", {"model": behind(lambda x: F.dropout(x, 0.5))}),
]
for _code, _name, _wanted, _options in MODEL_FAULTS:
    fault(_code, f"{_name} (Learner)", _wanted, learner(**_options))
    _own = {"make" if key == "model" else key: value for key, value in _options.items()}
    fault(_code, f"{_name} (own loop)", _wanted, own_loop(**_own))
fault(
    "E1",
    "(n, 1) against (n,) (Learner)",
    "loss-broadcasts",
    tensors(one_of_two, model=one_output, loss=squared_of_column, metrics=[]),
)
fault(
    "E1",
    "(n, 1) against (n,) (own loop)",
    "loss-broadcasts",
    own_loop(change=one_of_two, make=one_output, loss=squared_of_column),
)
fault("E5", "one output for classes (Learner)", "one-output-for-classes", outputs_of(lambda classes: 1))
fault(
    "E5",
    "one output for classes (own loop)",
    "one-output-for-classes | loss-broadcasts",
    own_loop(make=one_output, loss=squared_of_column),
)
fault(
    "E6",
    "an output too few",
    "outputs-do-not-fit",
    outputs_of(lambda classes: classes - 1 if classes > 2 else 1 + classes),
)
fault(
    "E6",
    "outputs for twice the classes",
    "more-outputs-than-classes",
    tensors(lambda train, valid: (train, valid), model=with_outputs(lambda classes: 2 * classes)),
)

# -- F, G: optimisation and dynamics -----------------------------------------------------------------------------------


def half_the_parameters(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return SGD(list(parameters)[:2], lr=lr)


def never_cleared(model: nn.Module, optimizer: Any, train: Any, valid: Any, loss: Any) -> None:
    for x, y in train:
        loss(model(x), y).backward()
        optimizer.step()


def never_stepped(model: nn.Module, optimizer: Any, train: Any, valid: Any, loss: Any) -> None:
    for _ in range(3):
        for x, y in train:
            optimizer.zero_grad()
            loss(model(x), y).backward()


def scheduled_by_epoch(model: nn.Module, optimizer: Any, train: Any, valid: Any, loss: Any) -> None:
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=6 * len(train))
    for _ in range(6):
        for x, y in train:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        scheduler.step()


def in_evaluation_mode(model: nn.Module, optimizer: Any, train: Any, valid: Any, loss: Any) -> None:
    for _ in range(2):
        evaluate(model, valid)
        for x, y in train:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()


def evaluated_in_training(model: nn.Module, optimizer: Any, train: Any, valid: Any, loss: Any) -> None:
    for x, y in train:
        optimizer.zero_grad()
        loss(model(x), y).backward()
        optimizer.step()
    with torch.no_grad():
        for x, _ in valid:
            model(x)


def sorted_by_class(images: ImageSet) -> ImageSet:
    return images.subset(images.require_labels("here").argsort(kind="stable"))


def sorted_tensors(train: TensorDataset, valid: TensorDataset) -> tuple[TensorDataset, ...]:
    order = train.tensors[1].argsort(stable=True)
    return TensorDataset(train.tensors[0][order], train.tensors[1][order]), valid


fault("F1", "gradients never cleared", "gradients-not-cleared", own_loop(never_cleared))
fault("F2", "the optimiser never steps", "weights-never-moved", own_loop(never_stepped))
fault("F3", "half the parameters (Learner)", "parameters-not-optimised", learner(optimizer=half_the_parameters))
fault(
    "F3",
    "half the parameters (own loop)",
    "parameters-not-optimised",
    own_loop(parameters=lambda model: list(model.parameters())[:2]),
)
for _lr in (100.0, 1000.0):
    fault(
        "F5",
        f"learning rate {_lr:g}",
        "loss-rose | not-finite | units-dead | predicts-one-class",
        learner(lr=_lr, optimizer=SGD, model=MODELS["deep"]),
    )
fault("F6", "learning rate 1e-8", "loss-stands-still", learner(lr=1e-8, optimizer=SGD))
fault("F7", "a one-cycle schedule stepped by epoch", "schedule-not-followed", own_loop(scheduled_by_epoch, lr=0.02))
fault("G1", "loss of NaN", "not-finite", learner(loss=lambda p, y: F.cross_entropy(p, y) * math.nan))
fault("G1", "learning rate 1e30", "not-finite", learner(lr=1e30, optimizer=SGD))
fault(
    "G2",
    "collapse of a deep net",
    "predicts-one-class | units-dead | loss-rose | not-finite | loss-stands-still",
    learner(lr=8.0, optimizer=SGD, model=MODELS["deep"], epochs=6),
)
fault("G3", "dead units", "units-dead | predicts-one-class", learner(model=dead))
fault(
    "G5",
    "sorted and not shuffled (Learner)",
    "batches-of-one-class",
    learner(on_train(sorted_by_class), shuffle=False, batch_size=16),
)
fault(
    "G5",
    "sorted and not shuffled (own loop)",
    "batches-of-one-class | not-shuffled",
    own_loop(change=sorted_tensors, shuffle=False),
)
fault("G5", "never shuffled (Learner)", "not-shuffled", learner(shuffle=None))
fault("G6", "trained in evaluation mode", "trained-in-evaluation-mode", own_loop(in_evaluation_mode))
