"""How often the audit names planted faults, and how often it cries wolf on clean trainings.

    python benchmarks/faults.py [--seeds 5] [--json FILE]

Clean trainings: 64 set-ups that frighten many auditors (learning rates of 1 behind batch normalisation, dropout of 0.6,
zero-initialised heads and branches, tanh and sigmoid nets, 10:1 imbalance, natural duplicates, one epoch, two classes,
…) over four sources: the embedded digits, their 3s and 7s, rendered letters and digits of 16×16, and shapes of 20×20 in
noise. Thresholds of data and functions were set on the embedded digits and MNIST; that of `predicts-one-class` after
a first run of this bench, in which trainings too short to have begun were told so.

Planted faults: each on every source, by a Learner, with the id that should name it. A fault counts as detected when its
id is the first finding of severity `warn` or `refuse`, and as seen when it is among them.
"""

import argparse
import json
import math
import platform
import statistics
import string
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from inkproof import ImageSet, Learner, models, open_images, schedules
from inkproof.images import Split
from inkproof.metrics import wilson_interval

SGD, Adam = torch.optim.SGD, torch.optim.Adam


# -- sources -----------------------------------------------------------------------------------------------------------


def letters(count: int = 1500, size: int = 16) -> ImageSet:
    """Ten letters, rendered small, moved, turned, dimmed, with noise."""
    random = np.random.default_rng(0)
    font = ImageFont.load_default(size=size - 3)
    names = string.ascii_uppercase[:10]
    labels = random.integers(0, 10, count)
    pixels = np.zeros((count, 1, size, size), np.uint8)
    for row, label in enumerate(labels):
        image = Image.new("L", (size, size))
        ImageDraw.Draw(image).text(random.integers(1, 5, 2).tolist(), names[label], fill=255, font=font)
        turned = np.asarray(image.rotate(random.uniform(-15, 15), resample=Image.Resampling.BILINEAR), np.float32)
        noisy = turned * random.uniform(0.6, 1) + random.normal(0, 8, turned.shape)
        pixels[row, 0] = np.clip(noisy, 0, 255).astype(np.uint8)
    return ImageSet(pixels, labels, classes=tuple(names), source="letters")


def shapes(count: int = 1200, size: int = 20) -> ImageSet:
    """Four shapes of random size and place, in noise."""
    random = np.random.default_rng(1)
    labels = random.integers(0, 4, count)
    pixels = np.zeros((count, 1, size, size), np.uint8)
    for row, label in enumerate(labels):
        image = Image.new("L", (size, size), int(random.integers(0, 60)))
        draw = ImageDraw.Draw(image)
        side, (left, top) = int(random.integers(8, 12)), random.integers(1, 8, 2).tolist()
        box, ink = (left, top, left + side, top + side), int(random.integers(150, 255))
        if label == 0:
            draw.ellipse(box, fill=ink)
        elif label == 1:
            draw.rectangle(box, outline=ink, width=2)
        elif label == 2:
            draw.line((box[0], box[1], box[2], box[3]), fill=ink, width=3)
        else:
            draw.line((box[0], top + side // 2, box[2], top + side // 2), fill=ink, width=3)
        pixels[row, 0] = np.clip(np.asarray(image, np.float32) + random.normal(0, 10, (size, size)), 0, 255)
    return ImageSet(pixels, labels, classes=("disc", "frame", "slope", "bar"), source="shapes")


def sources() -> dict[str, ImageSet]:
    digits = open_images("digits")
    assert isinstance(digits, ImageSet)
    pair = digits.with_classes(("3", "7"), rest="drop")
    return {"digits": digits, "3 and 7": pair, "letters": letters(), "shapes": shapes()}


# -- clean trainings ---------------------------------------------------------------------------------------------------


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


def clean_runs(seeds: int) -> Iterator[tuple[str, str, list[Any]]]:
    """(source, set-up, findings) of each."""
    for place, (source, images) in enumerate(sources().items()):
        for number, (name, settings) in enumerate(setups().items()):
            if (number + place) % 4 and name not in SPECIAL:  # each set-up on one source, the special ones on all
                continue
            for seed in range(seeds):
                options = dict(settings)
                sides = prepared(images, options.pop("data", None), seed)
                yield source, name, trained(sides, MODELS[options.pop("model")], seed=seed, **options)


def trained(
    sides: Split,
    make: Callable[..., nn.Module],
    *,
    lr: float = 0.05,
    epochs: int = 2,
    cycle: bool = False,
    **options: Any,
) -> list[Any]:
    """The findings of a Learner and its training."""
    factory = partial(make, sides.train.shape, len(sides.train.classes))
    learner = Learner(factory, sides.train, sides.valid, on_finding="record", **options)
    schedule = schedules.one_cycle(lr) if cycle else schedules.constant(lr)
    for _ in learner.follow(learner.epochs(epochs, schedule)):
        pass
    return [finding for finding in learner.findings if finding.severity != "note"]


# -- planted faults ----------------------------------------------------------------------------------------------------


def rebuilt(images: ImageSet, pixels: Any = None, labels: Any = None) -> ImageSet:
    return ImageSet(
        images.pixels if pixels is None else np.clip(pixels, 0, 255).astype(np.uint8),
        images.labels if labels is None else labels,
        classes=images.classes,
        ids=images.ids,
        source=images.source,
    )


def on_train(change: Callable[[ImageSet], ImageSet]) -> Callable[[Split], Split]:
    return lambda sides: Split(change(sides.train), sides.valid)


def on_valid(change: Callable[[ImageSet], ImageSet]) -> Callable[[Split], Split]:
    return lambda sides: Split(sides.train, change(sides.valid))  # type: ignore[arg-type]


def rolled(images: ImageSet) -> ImageSet:
    return rebuilt(images, labels=np.roll(images.require_labels("here"), 1))


def counted_from_1(images: ImageSet) -> ImageSet:
    return rebuilt(images, labels=(images.require_labels("here") + 1) % len(images.classes))


def partly_blank(images: ImageSet) -> ImageSet:
    pixels = images.pixels.copy()
    pixels[: len(pixels) // 20] = 0
    return rebuilt(images, pixels)


def part_from_training(sides: Split, share: float) -> Split:
    assert sides.valid is not None
    count = int(share * len(sides.valid))
    pixels, labels = sides.valid.pixels.copy(), sides.valid.require_labels("here").copy()
    pixels[:count], labels[:count] = sides.train.pixels[:count], sides.train.require_labels("here")[:count]
    return Split(sides.train, ImageSet(pixels, labels, classes=sides.train.classes))


def merged(images: ImageSet) -> ImageSet:
    labels = images.require_labels("here").copy()
    labels[labels == 1] = 0
    return rebuilt(images, labels=labels)


def sorted_by_class(images: ImageSet) -> ImageSet:
    return images.subset(images.require_labels("here").argsort(kind="stable"))


class Behind(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor], body: nn.Module):
        super().__init__()
        self.body, self.function = body, function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.body(x))


def behind(function: Callable[[Tensor], Tensor]) -> Callable[..., nn.Module]:
    return lambda shape, classes: Behind(function, dense(shape, classes, nn.ReLU))


def ended(last: nn.Module) -> Callable[..., nn.Module]:
    return lambda shape, classes: nn.Sequential(dense(shape, classes, nn.ReLU), last)


def all_zero(shape: tuple[int, ...], classes: int) -> nn.Module:
    model = dense(shape, classes, nn.ReLU)
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def dead(shape: tuple[int, ...], classes: int) -> nn.Module:
    model = dense(shape, classes, nn.ReLU)
    nn.init.constant_(model[1].bias, -100.0)
    return model


def column_accuracy(p: Tensor, y: Tensor) -> Tensor:
    return (p.argmax(dim=1, keepdim=True) == y).float().mean()


def half_the_parameters(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return SGD(list(parameters)[:2], lr=lr)


MODEL = partial(models.hidden, units=30)
FAULTS: dict[str, tuple[str, dict[str, Any]]] = {
    "B1 validation is training": ("valid-overlaps-train", {"plant": lambda s: Split(s.train, s.train)}),
    "B3 10 % of validation from training": ("valid-overlaps-train", {"plant": lambda s: part_from_training(s, 0.1)}),
    "B3 2 % of validation from training": ("valid-overlaps-train", {"plant": lambda s: part_from_training(s, 0.02)}),
    "C1 training labels shifted": ("labels-unrelated-to-images | sides-do-not-match", {"plant": on_train(rolled)}),
    "C4 validation labels shifted": ("sides-do-not-match", {"plant": on_valid(rolled)}),
    "C4 validation labels counted from 1": ("sides-do-not-match", {"plant": on_valid(counted_from_1)}),
    "C5 a class merged in training": ("class-missing", {"plant": on_train(merged)}),
    "A6 5 % blank": ("blank-images", {"plant": on_train(partly_blank)}),
    "D4 validation inverted": (
        "sides-do-not-match | inputs-rescaled",
        {"plant": on_valid(lambda images: rebuilt(images, 255 - images.pixels.astype(int)))},
    ),
    "D3 validation dimmed to a quarter": (
        "inputs-rescaled",
        {"plant": on_valid(lambda images: rebuilt(images, images.pixels * 0.25))},
    ),
    "E2 softmax before cross entropy": ("outputs-activated-twice", {"model": ended(nn.Softmax(dim=1))}),
    "E7 sigmoid before cross entropy": ("outputs-activated-twice", {"model": ended(nn.Sigmoid())}),
    "E3 softmax over the batch": (
        "outputs-depend-on-batch",
        {"model": behind(lambda x: x.softmax(dim=0)), "loss": lambda p, y: F.nll_loss((p + 1e-9).log(), y)},
    ),
    "E4 nll of raw outputs": ("loss-of-raw-outputs", {"loss": F.nll_loss}),
    "E8 no non-linearity": ("layers-without-nonlinearity", {"model": dense}),
    "E9 outputs times 0": ("outputs-ignore-inputs", {"model": behind(lambda x: x * 0)}),
    "F2 learning rate 0": ("weights-never-moved", {"lr": 0.0}),
    "F3 half the parameters": ("parameters-not-optimised", {"optimizer": half_the_parameters}),
    "F5 learning rate 1,000": ("loss-rose | not-finite", {"lr": 1000.0, "optimizer": SGD}),
    "F6 learning rate 1e-8": ("loss-stands-still", {"lr": 1e-8, "optimizer": SGD}),
    "G1 loss of log 0": ("not-finite", {"loss": lambda p, y: F.cross_entropy(p, y) * math.nan}),
    "G3 dead units": ("units-dead | predicts-one-class", {"model": dead}),
    "G4 all weights zero": ("weights-all-equal", {"model": all_zero}),
    "G5 sorted and not shuffled": (
        "batches-of-one-class",
        {"plant": on_train(sorted_by_class), "shuffle": False, "batch_size": 16},
    ),
    "H1 dropout in evaluation": ("outputs-random", {"model": behind(lambda x: F.dropout(x, 0.5))}),
    "H2 (n, 1) in the metric": ("metric-broadcasts", {"metrics": [column_accuracy]}),
}


def planted_runs(seeds: int) -> Iterator[tuple[str, str, str, list[str]]]:
    """(fault, source, wanted ids, ids found in order) of each."""
    for source, images in sources().items():
        for fault, (wanted, settings) in FAULTS.items():
            for seed in range(seeds):
                options = dict(settings)
                plant, make = options.pop("plant", lambda sides: sides), options.pop("model", MODEL)
                sides = plant(prepared(images, None, seed))
                options = {"epochs": 5} | options
                yield fault, source, wanted, [one.id for one in trained(sides, make, seed=seed, **options)]


# -- report ------------------------------------------------------------------------------------------------------------


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="of each clean set-up")
    parser.add_argument("--json", type=Path, help="write what was measured")
    arguments = parser.parse_args()
    print(f"{platform.platform()}, torch {torch.__version__}")
    runs = list(clean_runs(arguments.seeds))
    alarms: Counter[str] = Counter()
    refused = warned = 0
    for source, name, found in runs:
        refused += any(one.severity == "refuse" for one in found)
        warned += any(one.severity == "warn" for one in found)
        for one in found:
            alarms[one.id] += 1
            print(f"alarm: {source}: {name}: {one.id}: {one.message}")
    low, high = wilson_interval(warned, len(runs))
    at_most = wilson_interval(refused, len(runs))[1]
    print(f"clean: {len(runs)} runs of {len(setups())} set-ups")
    share = f"{warned / len(runs):.1%}, {low:.1%} to {high:.1%}"
    print(f"refused {refused} (95 % below {at_most:.1%}), warned {warned} ({share})")
    results: dict[str, list[tuple[bool, bool]]] = {}
    for fault, source, wanted, ids in planted_runs(2):
        first = bool(ids) and ids[0] in wanted.split(" | ")
        results.setdefault(fault, []).append((first, bool(set(ids) & set(wanted.split(" | ")))))
        if not first:
            print(f"missed: {fault} on {source}: {ids}")
    for fault, hits in results.items():
        first, seen = (sum(hit[place] for hit in hits) for place in (0, 1))
        print(f"{fault:40} first {first}/{len(hits)}, seen {seen}/{len(hits)}")
    firsts = statistics.mean(statistics.mean(one for one, _ in hits) for hits in results.values())
    print(f"detection, averaged over {len(results)} faults: {firsts:.1%} with the right id first")
    if arguments.json:
        measured = {"clean_runs": len(runs), "refused": refused, "warned": warned, "alarms": dict(alarms)}
        arguments.json.write_text(json.dumps(measured | {"detection": firsts}, indent=1) + "\n")


if __name__ == "__main__":
    main()
