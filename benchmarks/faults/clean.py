"""Clean trainings that frighten many auditors, by a Learner and in a loop of one's own."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sources import rate, sources
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from inkproof import ImageSet, Learner, audit, models, schedules
from inkproof.augment import Deformation
from inkproof.images import Split

SGD, Adam = torch.optim.SGD, torch.optim.Adam


class Residual(nn.Module):
    def __init__(self, numbers: int, classes: int):
        super().__init__()
        self.first, self.branch, self.last = nn.Linear(numbers, 32), nn.Linear(32, 32), nn.Linear(32, classes)
        nn.init.zeros_(self.branch.weight)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.flatten(1)).relu()
        return self.last((hidden + self.branch(hidden)).relu())


def dense(shape: tuple[int, ...], classes: int, *between: Callable[[], nn.Module], width: int = 40) -> nn.Sequential:
    layers = [
        nn.Flatten(),
        nn.Linear(math.prod(shape), width),
        *(make() for make in between),
        nn.Linear(width, classes),
    ]
    return nn.Sequential(*layers)


def zero_head(shape: tuple[int, ...], classes: int) -> nn.Module:
    model = dense(shape, classes, nn.ReLU)
    nn.init.zeros_(model[-1].weight)
    return model


def frozen(shape: tuple[int, ...], classes: int) -> nn.Module:
    model = dense(shape, classes, nn.ReLU)
    model[1].requires_grad_(False)
    return model


MODELS: dict[str, Callable[..., nn.Module]] = {
    "linear": models.linear,
    "hidden": partial(models.hidden, units=30),
    "deep": models.deep,
    "conv-he": partial(models.conv, initialisation="he"),
    "strong": partial(models.strong, widths=(8, 16)),
    "tanh": lambda shape, classes: dense(shape, classes, nn.Tanh),
    "sigmoid": lambda shape, classes: dense(shape, classes, nn.Sigmoid),
    "dropout": lambda shape, classes: dense(shape, classes, nn.ReLU, partial(nn.Dropout, 0.6), width=99),
    "norm": lambda shape, classes: dense(shape, classes, partial(nn.BatchNorm1d, 40), nn.ReLU),
    "layer norm": lambda shape, classes: dense(shape, classes, partial(nn.LayerNorm, 40), nn.GELU),
    "zero head": zero_head,
    "residual": lambda shape, classes: Residual(math.prod(shape), classes),
    "frozen": frozen,
}
SMOOTH = nn.CrossEntropyLoss(label_smoothing=0.2)
TRAININGS: dict[str, dict[str, Any]] = {
    "momentum 0.05": {"lr": 0.05, "epochs": 3},
    "SGD 0.1": {"lr": 0.1, "epochs": 3, "optimizer": SGD},
    "Adam": {"lr": 1e-3, "epochs": 3, "optimizer": Adam},
    "one cycle": {"lr": 0.05, "epochs": 2, "cycle": True},
    "smoothed": {"lr": 0.05, "epochs": 2, "loss": SMOOTH},
}
SPECIAL: dict[str, dict[str, Any]] = {
    "SGD 1 behind norm": {"model": "norm", "lr": 1.0, "epochs": 3, "optimizer": SGD},
    "one epoch": {"model": "hidden", "lr": 0.1, "epochs": 1},
    "large batches": {"model": "hidden", "lr": 0.1, "epochs": 4, "batch_size": 500},
    "small batches": {"model": "hidden", "lr": 0.02, "epochs": 1, "batch_size": 4},
    "imbalanced 10:1": {"model": "hidden", "lr": 0.05, "epochs": 3, "data": "imbalanced"},
    "few rows": {"model": "hidden", "lr": 0.05, "epochs": 4, "data": "few"},
    "natural duplicates": {"model": "hidden", "lr": 0.05, "epochs": 3, "data": "duplicates"},
    "file order": {"model": "hidden", "lr": 0.05, "epochs": 3, "shuffle": False},
    "strong augmentation": {"model": "strong", "lr": 0.1, "epochs": 3, "augment": Deformation(20, 0.2, 0.2, 0.1, 0.03)},
    "standardised tensors": {"model": "hidden", "lr": 0.05, "epochs": 3, "data": "standardised"},
    "fine-tuning": {"model": "hidden", "lr": 0.05, "epochs": 3, "before": 3, "pretrained": True},
    "long": {"model": "hidden", "lr": 0.05, "epochs": 15},
}


def setups() -> dict[str, dict[str, Any]]:
    """At least 64: every model with most trainings, and the special ones."""
    plain = {
        f"{model}, {training}": {"model": model, **settings}
        for model in MODELS
        for training, settings in TRAININGS.items()
    }
    return plain | SPECIAL


def prepared(images: ImageSet, kind: str | None, seed: int) -> Split:
    labels = images.require_labels("the bench")
    random = np.random.default_rng(seed)
    if kind == "imbalanced":
        keep = np.flatnonzero((labels != 1) | (random.random(len(labels)) < 0.1))
        images = images.subset(keep)
    elif kind == "few":
        images = images.subset(np.sort(random.permutation(len(images))[:300]))
    split = images.split(valid=0.2, seed=seed)
    if kind == "duplicates":
        train = split.train.subset(np.concatenate([np.arange(len(split.train)), np.arange(20)]))
        split = Split(train, split.valid)
    return split


def as_tensors(sides: Split, *, standardised: bool = False) -> tuple[TensorDataset, TensorDataset]:
    """Training and validation side as pairs of tensors, as people who read their own files have them."""
    assert sides.valid is not None
    pixels = [torch.from_numpy(side.pixels.astype(np.float32) / 255) for side in (sides.train, sides.valid)]
    labels = [torch.from_numpy(side.require_labels("the bench").copy()) for side in (sides.train, sides.valid)]
    if standardised:
        mean, spread = pixels[0].mean(), pixels[0].std()
        pixels = [(part - mean) / spread for part in pixels]
    train, valid = (TensorDataset(x, y) for x, y in zip(pixels, labels, strict=True))
    return train, valid


def clean_runs(seeds: int, mnist: Path | None) -> Iterator[tuple[str, str, list[Any]]]:
    """(source, set-up, findings) of each."""
    for place, (source, images) in enumerate(sources(mnist).items()):
        for number, (name, settings) in enumerate(setups().items()):
            if (number + place) % 4 and name not in SPECIAL:  # each set-up on one source, the special ones on all
                continue
            for seed in range(seeds):
                options = dict(settings)
                data = options.pop("data", None)
                sides = prepared(images, data, seed)
                options["tensors"] = data == "standardised"
                options["lr"] *= rate(images) / 0.05
                yield source, name, trained(sides, MODELS[options.pop("model")], seed=seed, **options)
        for name, loop in LOOPS.items():
            for seed in range(seeds):
                yield source, f"own loop: {name}", watched(prepared(images, None, seed), loop, seed=seed)


def trained(
    sides: Split,
    make: Callable[..., nn.Module],
    *,
    lr: float = 0.05,
    epochs: int = 2,
    cycle: bool = False,
    before: int = 0,
    tensors: bool = False,
    **options: Any,
) -> list[Any]:
    """The findings of a Learner and its training."""
    shape, classes = sides.train.shape, len(sides.train.classes)
    data = as_tensors(sides, standardised=True) if tensors else (sides.train, sides.valid)
    factory: Any = partial(make, shape, classes)
    if before:
        first = Learner(factory, data[0], on_finding="record", seed=options.get("seed", 0))
        first.fit(before, lr=lr, verbose=False)
        factory = first.model
    learner = Learner(factory, *data, on_finding="record", **options)
    schedule = schedules.one_cycle(lr) if cycle else schedules.constant(lr)
    for _ in learner.follow(learner.epochs(epochs, schedule)):
        pass
    return [finding for finding in learner.findings if finding.severity != "note"]


# -- loops of one's own ------------------------------------------------------------------------------------------------

Loop = Callable[[nn.Module, Any, DataLoader[Any], DataLoader[Any], Any], None]


def plain(model: nn.Module, optimizer: Any, train: DataLoader[Any], valid: DataLoader[Any], loss: Any) -> None:
    """Three epochs, each trained and validated as it should be."""
    for _ in range(3):
        model.train()
        for x, y in train:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        evaluate(model, valid)


def accumulated(model: nn.Module, optimizer: Any, train: DataLoader[Any], valid: DataLoader[Any], loss: Any) -> None:
    """Two batches a step."""
    for _ in range(4):
        for number, (x, y) in enumerate(train):
            (loss(model(x), y) / 2).backward()
            if number % 2:
                optimizer.step()
                optimizer.zero_grad()
        evaluate(model, valid)
        model.train()


def cycled(model: nn.Module, optimizer: Any, train: DataLoader[Any], valid: DataLoader[Any], loss: Any) -> None:
    """A one-cycle schedule that is stepped after each batch."""
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=3 * len(train))
    for _ in range(3):
        for x, y in train:
            optimizer.zero_grad(set_to_none=False)
            loss(model(x), y).backward()
            optimizer.step()
            scheduler.step()


def by_epoch(model: nn.Module, optimizer: Any, train: DataLoader[Any], valid: DataLoader[Any], loss: Any) -> None:
    """A schedule of epochs that is stepped after each epoch."""
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 4)
    for _ in range(4):
        for x, y in train:
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()
        scheduler.step()


def evaluate(model: nn.Module, valid: DataLoader[Any]) -> float:
    """Accuracy over all rows."""
    model.eval()
    with torch.no_grad():
        right = sum(int((model(x).argmax(dim=1) == y).sum()) for x, y in valid)
    return right / len(valid.dataset)


LOOPS: dict[str, Loop] = {"plain": plain, "accumulated": accumulated, "one cycle": cycled, "cosine by epoch": by_epoch}


def with_norm(shape: tuple[int, ...], classes: int) -> nn.Module:
    return dense(shape, classes, partial(nn.BatchNorm1d, 40), nn.ReLU, partial(nn.Dropout, 0.2))


def watched(
    sides: Split,
    loop: Loop,
    *,
    seed: int,
    make: Callable[..., nn.Module] = with_norm,
    change: Callable[[TensorDataset, TensorDataset], Any] = lambda train, valid: (train, valid),
    loss: Any = torch.nn.functional.cross_entropy,
    lr: float = 0.05,
    shuffle: bool = True,
    parameters: Callable[[nn.Module], Any] = lambda model: model.parameters(),
    drop_last: bool = False,
) -> list[Any]:
    """The findings of `audit.watch` around a loop over torch loaders."""
    train, valid = change(*as_tensors(sides))
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make(sides.train.shape, len(sides.train.classes))
        loaders = DataLoader(train, 32, shuffle=shuffle), DataLoader(valid, 70, drop_last=drop_last)
        optimizer = SGD(parameters(model), lr=lr)
        with audit.watch(
            model, optimizer, loss=loss, loader=loaders[0], valid=loaders[1], on_finding="record"
        ) as watching:
            loop(model, optimizer, *loaders, loss)
    return [finding for finding in watching.findings if finding.severity != "note"]
