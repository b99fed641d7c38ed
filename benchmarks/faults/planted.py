"""Every fault of the catalogue, planted where people plant it: in files, rows, models, loops, scores, submissions.

A fault is a function of a source's images and a seed that gives the findings of the call that meets it, in their
order. Where a fault can be met by a Learner and in a loop of one's own, both are planted.
"""

import contextlib
import copy
import csv
import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from clean import MODELS, as_tensors, dense, evaluate, plain, prepared, trained, watched
from sources import rate
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from inkproof import ImageSet, Learner, audit, models, open_images
from inkproof.errors import InputError, Refused
from inkproof.images import Split
from inkproof.label_errors import check_labels, find_label_errors

SGD = torch.optim.SGD
Plant = Callable[[ImageSet, int], list[Any] | None]
"""None where a source cannot have the fault, such as one output for its two classes."""


@dataclass(frozen=True)
class Fault:
    """One fault.

    Args:
        code: in the catalogue of faults.
        name: what is planted, and how much of it.
        wanted: the ids that name it.
        plant: gives the findings, in their order; None where the source cannot have the fault.
        smallest: pixels a side that images need for it.
        slow: planted once a source.
    """

    code: str
    name: str
    wanted: tuple[str, ...]
    plant: Plant
    smallest: int = 0
    slow: bool = False


FAULTS: list[Fault] = []


def fault(code: str, name: str, wanted: str, plant: Plant, *, smallest: int = 0, slow: bool = False) -> None:
    FAULTS.append(Fault(code, name, tuple(wanted.split(" | ")), plant, smallest, slow))


def learner(plant: Callable[[Split], Split] = lambda sides: sides, **options: Any) -> Plant:
    """Trained by a Learner on ImageSets."""
    make = options.pop("model", partial(models.hidden, units=30))

    def run(images: ImageSet, seed: int) -> list[Any]:
        return trained(
            plant(prepared(images, None, seed)), make, seed=seed, **({"epochs": 4, "lr": rate(images)} | options)
        )

    return run


def tensors(change: Callable[[TensorDataset, TensorDataset], Any], **options: Any) -> Plant:
    """Trained by a Learner on pairs of tensors."""

    def run(images: ImageSet, seed: int) -> list[Any]:
        sides = prepared(images, None, seed)
        make = options.get("model", partial(models.hidden, units=30))
        settings = {key: value for key, value in options.items() if key not in ("model", "epochs", "lr")}
        model = partial(make, sides.train.shape, len(sides.train.classes))
        found = Learner(model, *change(*as_tensors(sides)), on_finding="record", seed=seed, **settings)
        with contextlib.suppress(Exception):  # what a fault breaks later is not what is asked for
            found.fit(options.get("epochs", 2), lr=options.get("lr", rate(images)), verbose=False)
        return found.findings

    return run


def own_loop(loop: Any = plain, **options: Any) -> Plant:
    """Trained in a loop of one's own, inside `audit.watch`."""
    return lambda images, seed: watched(
        prepared(images, None, seed), loop, seed=seed, **({"lr": rate(images)} | options)
    )


# -- A: files and rows -------------------------------------------------------------------------------------------------


def rebuilt(images: ImageSet, pixels: Any = None, labels: Any = None) -> ImageSet:
    return ImageSet(
        images.pixels if pixels is None else np.clip(pixels, 0, 255).astype(np.uint8),
        images.labels if labels is None else labels,
        classes=images.classes,
        ids=images.ids,
        source=images.source,
    )


def csv_file(change: Callable[[list[str]], list[str]]) -> Plant:
    """A CSV of the images that is damaged, then opened."""

    def run(images: ImageSet, seed: int) -> list[Any]:
        few = images.subset(np.arange(seed, 60 + seed))
        rows = few.pixels.reshape(len(few), -1)
        labels = few.require_labels("here")
        lines = [",".join(["label", *(f"pixel{number}" for number in range(rows.shape[1]))])]
        lines += [",".join(map(str, [label, *row])) for label, row in zip(labels.tolist(), rows.tolist(), strict=True)]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "train.csv"
            path.write_text("\n".join(change(lines)) + "\n")
            channels, height, width = few.shape
            try:
                open_images(str(path), shape=(channels, height, width), cache=False)
            except InputError as error:
                return [error]
        return []

    return run


def with_cell(lines: list[str], cell: str, *, column: int = 5) -> list[str]:
    cells = lines[7].split(",")
    cells[column] = cell
    return [*lines[:7], ",".join(cells), *lines[8:]]


def idx_files(change: Callable[[Path], None]) -> Plant:
    def run(images: ImageSet, seed: int) -> list[Any]:
        few = images.subset(np.arange(seed, 60 + seed))
        pixels, labels = few.pixels[:, 0], few.require_labels("here").astype(np.uint8)
        with tempfile.TemporaryDirectory() as folder:
            for name, values in (("images-idx3", pixels), ("labels-idx1", labels)):
                head = bytes([0, 0, 8, values.ndim]) + b"".join(int(n).to_bytes(4, "big") for n in values.shape)
                Path(folder, f"train-{name}-ubyte").write_bytes(head + values.tobytes())
            change(Path(folder))
            try:
                open_images(folder)
            except InputError as error:
                return [error]
        return []

    return run


def cut(folder: Path) -> None:
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-50])


def error_page(folder: Path) -> None:
    (folder / "train-images-idx3-ubyte").write_text("<html><body>404</body></html>")


def one_label_less(folder: Path) -> None:
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(bytes([0, 0, 8, 1, 0, 0, 0, 59]) + path.read_bytes()[9:])


fault("A1", "IDX file cut off", "file-damaged", idx_files(cut))
fault("A1", "error page in place of a file", "file-damaged", idx_files(error_page))
fault("A1", "CSV cut in a row", "file-damaged", csv_file(lambda lines: [*lines[:-1], lines[-1][:40]]))
fault("A2", "CSV header cut away", "header-wrong", csv_file(lambda lines: lines[1:]))
fault("A2", "one label less than images", "images-and-labels-differ", idx_files(one_label_less))


def with_label(train: TensorDataset, valid: TensorDataset) -> tuple[TensorDataset, ...]:
    def joined(data: TensorDataset) -> TensorDataset:
        x, y = data.tensors
        return TensorDataset(torch.cat([y[:, None].float(), x.flatten(1)], dim=1), y)

    return joined(train), joined(valid)


def on_x(change: Callable[[Tensor], Tensor], *, sides: str = "both") -> Any:
    def changed(train: TensorDataset, valid: TensorDataset) -> tuple[TensorDataset, ...]:
        new = []
        for name, data in (("train", train), ("valid", valid)):
            x, y = data.tensors
            new.append(TensorDataset(change(x.clone()) if sides in ("both", name) else x, y))
        return tuple(new)

    return changed


def on_y(change: Callable[[Tensor], Tensor], *, sides: str = "train") -> Any:
    def changed(train: TensorDataset, valid: TensorDataset) -> tuple[TensorDataset, ...]:
        new = []
        for name, data in (("train", train), ("valid", valid)):
            x, y = data.tensors
            new.append(TensorDataset(x, change(y.clone()) if sides in ("both", name) else y))
        return tuple(new)

    return changed


def wide(shape: tuple[int, ...], classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape) + 1, 30), nn.ReLU(), nn.Linear(30, classes))


def one_nan(x: Tensor) -> Tensor:
    x[3].view(-1)[5] = math.nan
    return x


def wrapped(x: Tensor) -> Tensor:
    return (x * 255).round().to(torch.uint8).view(torch.int8).float()


def by_own_loop(change: Any, *, model: Any = None) -> Plant:
    return own_loop(change=change, **({"make": model} if model else {}))


for _path, _how in (("Learner", tensors), ("own loop", by_own_loop)):
    fault("A3", f"label among the columns ({_path})", "label-among-inputs", _how(with_label, model=wide))
    fault("A4", f"pixels as int8 ({_path})", "values-wrapped", _how(on_x(wrapped)))
    fault("A5", f"one NaN pixel ({_path})", "inputs-not-finite", _how(on_x(one_nan, sides="train")))
    fault(
        "C7",
        f"5 % of labels -100 ({_path})",
        "labels-ignored",
        _how(on_y(lambda y: y.index_fill(0, torch.arange(0, len(y), 20), -100))),
    )
    fault("D1", f"pixels of 0 to 255 ({_path})", "inputs-not-scaled", _how(on_x(lambda x: x * 255)))
    fault("D2", f"divided by 255 twice ({_path})", "inputs-scaled-twice", _how(on_x(lambda x: x / 255)))
    fault(
        "D3",
        f"training standardised alone ({_path})",
        "inputs-rescaled",
        _how(on_x(lambda x: (x - x.mean()) / x.std(), sides="train")),
    )
    fault(
        "D4",
        f"validation inverted ({_path})",
        "inputs-rescaled | sides-do-not-match",
        _how(on_x(lambda x: 1 - x, sides="valid")),
    )
    fault("B1", f"validation is training ({_path})", "valid-overlaps-train", _how(lambda train, valid: (train, train)))
    fault(
        "C1",
        f"labels shuffled ({_path})",
        "labels-unrelated-to-images | sides-do-not-match",
        _how(on_y(lambda y: y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))])),
    )
fault("A4", "a negative pixel in a CSV", "pixel-not-usable", csv_file(lambda lines: with_cell(lines, "-56")))
fault("A5", "an empty field in a CSV", "pixel-not-usable", csv_file(lambda lines: with_cell(lines, "")))
fault("C7", "a label of -1 in a CSV", "label-not-usable", csv_file(lambda lines: with_cell(lines, "-1", column=0)))


def on_train(change: Callable[[ImageSet], ImageSet]) -> Callable[[Split], Split]:
    return lambda sides: Split(change(sides.train), sides.valid)


def on_valid(change: Callable[[Any], ImageSet]) -> Callable[[Split], Split]:
    return lambda sides: Split(sides.train, change(sides.valid))


def blank(share: float) -> Callable[[ImageSet], ImageSet]:
    def change(images: ImageSet) -> ImageSet:
        pixels = images.pixels.copy()
        pixels[: max(int(share * len(pixels)), 1)] = 0
        return rebuilt(images, pixels)

    return change


def two_labels(images: ImageSet) -> ImageSet:
    pixels, labels = images.pixels.copy(), images.require_labels("here").copy()
    pixels[:10], labels[:10] = pixels[10:20], (labels[10:20] + 1) % len(images.classes)
    return rebuilt(images, pixels, labels)


def joined_twice(images: ImageSet) -> ImageSet:
    return images.subset(np.concatenate([np.arange(len(images)), np.arange(len(images) // 4)]))


fault("A6", "5 % blank", "blank-images", learner(on_train(blank(0.05))))
fault("A6", "0.3 % blank", "blank-images", learner(on_train(blank(0.003))))
fault("A7", "10 images with two labels", "conflicting-labels", learner(on_train(two_labels)))
fault("A7", "a quarter joined twice", "duplicate-images", learner(on_train(joined_twice)))

# -- B: splits ---------------------------------------------------------------------------------------------------------


def part_from_training(share: float) -> Callable[[Split], Split]:
    def change(sides: Split) -> Split:
        assert sides.valid is not None
        count = max(int(share * len(sides.valid)), 1)
        pixels, labels = sides.valid.pixels.copy(), sides.valid.require_labels("here").copy()
        pixels[:count], labels[:count] = sides.train.pixels[:count], sides.train.require_labels("here")[:count]
        return Split(sides.train, ImageSet(pixels, labels, classes=sides.train.classes))

    return change


def test_is_training(images: ImageSet, seed: int) -> list[Any]:
    sides = prepared(images, None, seed)
    return audit.check_images(sides.train, sides.valid, sides.train)


def moved(images: ImageSet) -> ImageSet:
    return rebuilt(images, np.roll(images.pixels, 1, axis=3))


def altered_first(images: ImageSet, seed: int) -> list[Any]:
    """Each image and its shifted copy, then split; ids name the image that each was made of."""
    rows = np.random.default_rng(seed).permutation(2 * len(images))
    both = ImageSet(
        np.concatenate([images.pixels, moved(images).pixels])[rows],
        np.tile(images.require_labels("here"), 2)[rows],
        classes=images.classes,
        ids=np.tile(images.ids, 2)[rows],
        source=images.source,
    )
    cut_at = int(1.6 * len(images))
    return audit.check_images(both.subset(np.arange(cut_at)), both.subset(np.arange(cut_at, len(both))))


def altered_copies(change: Callable[[Any, Any], Any]) -> Plant:
    """A fifth of validation are altered copies of training images, looked at as `inkproof audit` does."""

    def run(images: ImageSet, seed: int) -> list[Any]:
        sides = prepared(images, None, seed)
        assert sides.valid is not None
        count, random = len(sides.valid) // 5, np.random.default_rng(seed)
        pixels = sides.valid.pixels.copy()
        pixels[:count] = np.clip(change(sides.train.pixels[:count].astype(float), random), 0, 255)
        return audit.check_copies(sides.train, rebuilt(sides.valid, pixels))

    return run


def sorted_cut(images: ImageSet, seed: int) -> list[Any]:
    order = images.require_labels("here").argsort(kind="stable")
    cut_at = int(0.8 * len(images))
    sides = Split(images.subset(order[:cut_at]), images.subset(order[cut_at:]))
    return trained(sides, partial(models.hidden, units=30), seed=seed)


def part_sorted(sides: Split) -> Split:
    """Validation in which half of the first class is missing."""
    assert sides.valid is not None
    labels = sides.valid.require_labels("here")
    rare = np.flatnonzero(labels == 0)
    return Split(sides.train, sides.valid.subset(np.setdiff1d(np.arange(len(labels)), rare[: int(0.9 * len(rare))])))


def validated_on_test(images: ImageSet, seed: int) -> list[Any]:
    """Choose on the test side; then score on it what was chosen."""
    sides = images.split(valid=0.2, test=0.2, seed=seed)
    make = partial(models.hidden, images.shape, len(images.classes), units=30)
    first = Learner(make, sides.train, sides.test, on_finding="record", seed=seed)
    first.fit(2, lr=rate(images), verbose=False)
    second = Learner(make, sides.train, sides.valid, on_finding="record", seed=seed)
    second.fit(2, lr=rate(images), verbose=False)
    second.get_preds(sides.test)
    return second.findings


def scored_often(images: ImageSet, seed: int) -> list[Any]:
    sides = images.split(valid=0.2, test=0.2, seed=seed)
    for number in range(5):
        make = partial(models.linear, images.shape, len(images.classes))
        last = Learner(make, sides.train, on_finding="record", seed=10 * seed + number)
        last.fit(1, lr=rate(images), verbose=False)
        last.get_preds(sides.test)
    return last.findings


def standardised_by_all(train: TensorDataset, valid: TensorDataset) -> tuple[TensorDataset, ...]:
    (x, y), (v, w) = train.tensors, valid.tensors
    whole = torch.cat([x, v]).double()
    mean, spread = whole.mean(), whole.std()
    return TensorDataset(((x - mean) / spread).float(), y), TensorDataset(((v - mean) / spread).float(), w)


fault(
    "B1",
    "validation is training (ImageSet)",
    "valid-overlaps-train",
    learner(lambda sides: Split(sides.train, sides.train)),
)
fault("B2", "test is training", "test-overlaps-train", test_is_training)
for _share in (0.5, 0.1, 0.02, 0.005):
    fault(
        "B3", f"{_share:.1%} of validation from training", "valid-overlaps-train", learner(part_from_training(_share))
    )
fault("B4", "altered before the split, ids kept", "sides-share-sources", altered_first)
fault(
    "B4",
    "validation holds shifted training images",
    "altered-copies",
    altered_copies(lambda x, _: np.roll(x, 1, axis=3)),
    smallest=12,
)
fault(
    "B5", "validation holds dimmed training images", "altered-copies", altered_copies(lambda x, _: 0.8 * x), smallest=12
)
fault(
    "B5",
    "validation holds noisy training images",
    "altered-copies",
    altered_copies(lambda x, random: x + random.normal(0, 6, x.shape)),
    smallest=12,
)
fault("B6", "a sorted file is cut", "class-missing | class-shares-differ", sorted_cut)
fault("B6", "nine tenths of a class cut off", "class-shares-differ", learner(part_sorted))
fault("B7", "validated on the test side", "test-used-for-choice", validated_on_test)
fault("B7", "test side scored five times", "test-scored-repeatedly", scored_often)
fault("B8", "standardised by all rows", "statistics-of-all-rows", tensors(standardised_by_all))
fault(
    "B9",
    "30 validation images",
    "held-out-side-small",
    lambda images, seed: (
        Learner(
            partial(models.linear, images.shape, len(images.classes)), *_small(images, seed), on_finding="record"
        ).findings
    ),
)


def _small(images: ImageSet, seed: int) -> tuple[ImageSet, ImageSet]:
    sides = images.split(valid=30, seed=seed)
    assert sides.valid is not None
    return sides.train, sides.valid


# -- C: labels ---------------------------------------------------------------------------------------------------------


def rolled(images: ImageSet) -> ImageSet:
    return rebuilt(images, labels=np.roll(images.require_labels("here"), 1))


def counted_from_1(images: ImageSet) -> ImageSet:
    return rebuilt(images, labels=(images.require_labels("here") + 1) % len(images.classes))


def swapped(images: ImageSet) -> ImageSet:
    labels = images.require_labels("here").copy()
    labels[labels == 0], labels[images.require_labels("here") == 1] = 1, 0
    return rebuilt(images, labels=labels)


def merged(images: ImageSet) -> ImageSet:
    labels = images.require_labels("here").copy()
    labels[labels == 1] = 0
    return rebuilt(images, labels=labels)


def noisy_labels(images: ImageSet, seed: int) -> list[Any]:
    random, labels = np.random.default_rng(seed), images.require_labels("here").copy()
    rows = random.permutation(len(labels))[: len(labels) // 10]
    labels[rows] = (labels[rows] + random.integers(1, len(images.classes), len(rows))) % len(images.classes)
    changed = rebuilt(images, labels=labels)
    return check_labels(changed, find_label_errors(changed, seed=seed))


def rare(images: ImageSet) -> ImageSet:
    labels = images.require_labels("here")
    of_class = np.flatnonzero(labels == 1)
    return images.subset(np.setdiff1d(np.arange(len(labels)), of_class[max(len(of_class) // 100, 3) :]))


fault("C1", "labels shifted by a row", "labels-unrelated-to-images | sides-do-not-match", learner(on_train(rolled)))
fault("C2", "10 % of labels drawn wrong", "labels-likely-wrong", noisy_labels, slow=True)
fault("C4", "validation labels shifted", "sides-do-not-match", learner(on_valid(rolled)))
fault("C4", "validation labels counted from 1", "sides-do-not-match", learner(on_valid(counted_from_1)))
fault("C4", "two classes swapped in validation", "classes-swapped | sides-do-not-match", learner(on_valid(swapped)))
fault("C5", "a class merged in training", "class-missing", learner(on_train(merged)))
fault("C6", "1 % of a class kept", "class-imbalance", lambda images, seed: learner()(rare(images), seed))

# -- D: preprocessing --------------------------------------------------------------------------------------------------


class Altering(Dataset[Any]):
    """Reads items one by one and alters each at random, as a transform does."""

    def __init__(self, data: TensorDataset, *, seeded: bool = False, still: bool = False):
        self.data, self.seeded, self.still = data, seeded, still

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, row: int) -> tuple[Tensor, Tensor]:
        if self.seeded:
            torch.manual_seed(0)
        x, y = self.data[row]
        return (x if self.still else x + 0.1 * torch.rand(x.shape)), y


def flipped(images: Tensor, generator: torch.Generator) -> Tensor:
    some = torch.rand(len(images), generator=generator) < 0.5
    return torch.where(some[:, None, None, None], images.flip(2), images)


fault(
    "D3",
    "validation dimmed to a quarter",
    "inputs-rescaled",
    learner(on_valid(lambda images: rebuilt(images, images.pixels * 0.25))),
)
fault(
    "D4",
    "validation inverted",
    "inputs-rescaled | sides-do-not-match",
    learner(on_valid(lambda images: rebuilt(images, 255 - images.pixels.astype(int)))),
)
fault(
    "D5",
    "validation transposed",
    "sides-do-not-match",
    learner(on_valid(lambda images: rebuilt(images, images.pixels.transpose(0, 1, 3, 2)))),
)
fault(
    "D5",
    "validation pixels scrambled",
    "sides-do-not-match",
    learner(
        on_valid(
            lambda images: rebuilt(
                images,
                images.pixels.reshape(len(images), -1)[
                    :, np.random.default_rng(0).permutation(math.prod(images.shape))
                ].reshape(images.pixels.shape),
            )
        )
    ),
)
fault(
    "D6",
    "validation altered at random (Learner)",
    "held-out-side-random",
    tensors(lambda train, valid: (train, Altering(valid)), epochs=1),
)
fault(
    "D6",
    "validation altered at random (own loop)",
    "held-out-side-random",
    own_loop(change=lambda train, valid: (train, Altering(valid))),
)
fault("D7", "half the images upside down", "augmentation-changes-labels", learner(augment=flipped))
fault(
    "J2",
    "the seed is set for each item (Learner)",
    "augmentation-repeats",
    tensors(lambda train, valid: (Altering(train, seeded=True), valid), epochs=1),
)
fault(
    "J2",
    "the seed is set for each item (own loop)",
    "augmentation-repeats",
    own_loop(change=lambda train, valid: (Altering(train, seeded=True), valid)),
)

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

# -- H: evaluation -----------------------------------------------------------------------------------------------------


def learnt(images: ImageSet, seed: int) -> tuple[Learner, Split]:
    sides = prepared(images, None, seed)
    first = Learner(
        partial(models.hidden, images.shape, len(images.classes), units=30), *_two(sides), on_finding="record"
    )
    first.fit(3, lr=rate(images), verbose=False)
    return first, sides


def _two(sides: Split) -> tuple[ImageSet, ImageSet]:
    assert sides.valid is not None
    return sides.train, sides.valid


def around_a_trained_model(*, known: bool) -> Plant:
    def run(images: ImageSet, seed: int) -> list[Any]:
        first, sides = learnt(images, seed)
        if not known:
            audit.forget()
        return Learner(first.model, *_two(sides), on_finding="record").findings

    return run


def after_a_ramp(images: ImageSet, seed: int) -> list[Any]:
    """A learning-rate ramp of one's own that leaves its weights, inside a watch; then the training."""
    sides = prepared(images, None, seed)
    train, valid = as_tensors(sides)
    model = dense(images.shape, len(images.classes), nn.ReLU)
    optimizer = SGD(model.parameters(), lr=1e-6)
    loader = DataLoader(train, 32, shuffle=True)
    with audit.watch(model, optimizer, loss=F.cross_entropy, loader=loader, on_finding="record"):
        for x, y in loader:
            optimizer.param_groups[0]["lr"] *= 1.2
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()
            optimizer.step()
    return Learner(model, train, valid, on_finding="record").findings


def claimed(score: Callable[[Tensor, int], float]) -> Plant:
    """A score of a trained model on validation rows that is computed wrongly; rows that hide it give no plant."""

    def run(images: ImageSet, seed: int) -> list[Any] | None:
        first, sides = learnt(images, seed)
        valid = sides.valid
        assert valid is not None
        right = (first.predict(valid) == torch.from_numpy(valid.require_labels("here").copy())).double()
        batch_size = next(size for size in (64, 50, 32, 100) if len(valid) % size > 3)
        wrong = score(right, batch_size)
        if wrong == float(right.mean()):
            return None
        return audit.check_score(wrong, first.model, valid, batch_size=batch_size)

    return run


def mean_of_means(right: Tensor, size: int) -> float:
    return float(torch.stack([part.mean() for part in right.split(size)]).mean())


def without_the_last(right: Tensor, size: int) -> float:
    return float(right[: len(right) // size * size].mean())


def other_weights(images: ImageSet, seed: int) -> list[Any]:
    """A state dict whose names have a prefix, loaded with strict=False: nothing is loaded."""
    first, sides = learnt(images, seed)
    score = first.history[-1].metrics["accuracy"]
    fresh = models.hidden(images.shape, len(images.classes), units=30)
    fresh.load_state_dict({f"module.{name}": one for name, one in first.model.state_dict().items()}, strict=False)
    return audit.check_score(score, fresh, _two(sides)[1])


def three_trainings(images: ImageSet, seed: int) -> list[Any]:
    sides = prepared(images, None, seed)
    for number in range(3):
        make = partial(models.linear, images.shape, len(images.classes))
        last = Learner(make, *_two(sides), on_finding="record", seed=number)
        last.fit(1, lr=rate(images), verbose=False)
    return last.findings


fault("H1", "model.eval() is missing", "evaluated-in-training-mode", own_loop(evaluated_in_training))
fault("H2", "(n, 1) in the metric", "metric-broadcasts", learner(metrics=[column_accuracy]))
fault("H3", "rmse without its root", "misnamed", tensors(as_column, model=one_output, loss=F.mse_loss, metrics=[rmse]))
fault("H4", "mean of batch means", "score-mean-of-batches", claimed(mean_of_means))
fault("H5", "last batch dropped", "score-without-last-rows", claimed(without_the_last))
fault("H5", "validation loader with drop_last", "rows-left-out", own_loop(drop_last=True))
fault("H6", "a trained model in a new Learner, known", "model-already-trained", around_a_trained_model(known=True))
fault("H6", "a trained model from elsewhere", "model-already-trained", around_a_trained_model(known=False))
fault("H7", "a ramp that leaves its weights", "model-already-trained", after_a_ramp)
fault("H8", "best of three trainings", "best-of-many", three_trainings)

# -- I: submissions ----------------------------------------------------------------------------------------------------


def submission(change: Callable[[list[str], list[str], ImageSet], tuple[list[str], list[str]]]) -> Plant:
    """Right labels for test images, changed, and checked as a file."""

    def run(images: ImageSet, seed: int) -> list[Any]:
        sides = prepared(images, None, seed)
        train, test = _two(sides)
        names = [train.classes[label] for label in test.require_labels("here")]
        ids, labels = change([str(one) for one in test.ids], names, train)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "submission.csv"
            with path.open("w", newline="") as file:
                csv.writer(file).writerows([("ImageId", "Label"), *zip(ids, labels, strict=True)])
            unlabelled = ImageSet(test.pixels, None, ids=test.ids, source=test.source)
            return audit.check_submission(path, unlabelled, train=train)

    return run


def of_training(ids: list[str], labels: list[str], train: ImageSet) -> tuple[list[str], list[str]]:
    return ids, [train.classes[label] for label in train.require_labels("here")[: len(ids)]]


fault("I1", "a row too few", "submission-row-count", submission(lambda ids, labels, train: (ids[:-1], labels[:-1])))
fault(
    "I2", "ids counted otherwise", "submission-ids", submission(lambda ids, labels, train: ([*ids[1:], ids[0]], labels))
)
fault(
    "I2", "an id twice", "submission-ids", submission(lambda ids, labels, train: ([ids[0], ids[0], *ids[2:]], labels))
)
fault("I3", "predictions of training rows, cut", "submission-misaligned", submission(of_training))
fault(
    "I3",
    "shifted by a row",
    "submission-misaligned",
    submission(lambda ids, labels, train: (ids, [*labels[1:], labels[0]])),
)
fault("I3", "reversed", "submission-misaligned", submission(lambda ids, labels, train: (ids, labels[::-1])))
fault(
    "I4",
    "labels as 3.0",
    "submission-labels",
    submission(lambda ids, labels, train: (ids, [f"{label}.0" for label in labels])),
)
fault(
    "I4",
    "labels counted from 1",
    "submission-misaligned | submission-labels",
    submission(
        lambda ids, labels, train: (
            ids,
            [train.classes[(train.classes.index(label) + 1) % len(train.classes)] for label in labels],
        )
    ),
)
fault("I5", "a checkpoint that was not loaded", "score-not-reproduced", other_weights)
fault(
    "I6",
    "one class predicted",
    "submission-one-class",
    submission(lambda ids, labels, train: (ids, [labels[0]] * len(ids))),
)

NOT_PLANTED = {
    "C3": "a class map that is wrong everywhere alike: nothing inside the data shows it",
    "H9": "a claim within noise: `inkproof compare` tests it, which is no finding",
    "J1": "seeds: inkproof draws everything from one seed, and `verify --retrain` trains again",
    "J3": "a run without its record: `inkproof verify` fails; tests/test_verify.py changes each file",
}
