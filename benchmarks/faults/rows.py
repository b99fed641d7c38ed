"""Faults of files, rows, splits, labels and preprocessing: A to D of the catalogue, and J2."""

import math
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from clean import prepared, trained
from fault import Plant, fault, learner, own_loop, tensors
from sources import rate
from torch import Tensor, nn
from torch.utils.data import Dataset, TensorDataset

from inkproof import ImageSet, Learner, audit, models, open_images
from inkproof.errors import InputError
from inkproof.images import Split
from inkproof.label_errors import check_labels, find_label_errors

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
