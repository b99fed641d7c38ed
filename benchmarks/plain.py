"""Seconds to an accuracy beside plain trainings with torch alone, in turn on this machine: one row an accuracy.

    python benchmarks/plain.py --data DIR [--settings quick,fast] [--seeds 3] [--json FILE]

A plain training is a good loop over torch's own modules, as one writes it today: convolution, max-pool, batch
normalisation, ReLU; all images in every epoch, from memory, in channels last; Nesterov, the rate up and down linearly,
label smoothing, deformed images; autograd and a fused optimiser. It has from inkproof the code that deforms, the rule
by which a precision is chosen, and memory that is not given back to the kernel. Its nets and epochs are the shortest
of those tried for each accuracy, on a processor with bfloat16 matrix units; but for one, whose epoch and a quarter
became one, they were not tuned again for others.

Settings are those of benchmarks/accuracy.py. Both train on the file's first 50,000 images and are scored on its last
10,000, which had a say in settings (see there) and none in the plain trainings. Seconds are of training alone, without
building the net and without validation. Use an idle machine: what else runs slows the two down unequally.
"""

import argparse
import json
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from accuracy import TARGETS, Setting, cut, settings_here
from torch import Tensor, nn

from inkproof import ImageSet, open_images
from inkproof.augment import Deformation
from inkproof.errors import InputError
from inkproof.runtime import Precision, choose_precision, keep_freed_memory, place

BATCH, PEAK, WARM_UP = 128, 0.2, 0.2


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Args:
        accuracy: on held-out images, 0 to 1.
        seconds: of training.
        precision: of its products.
    """

    accuracy: float
    seconds: float
    precision: Precision

    def __str__(self) -> str:
        return f"{self.accuracy:.2%} in {self.seconds:.1f} s ({self.precision})"


@dataclass(frozen=True)
class Block:
    """Convolution without bias, perhaps a 2×2 max-pool, batch normalisation, ReLU.

    Args:
        channels: that it gives.
        kernel: pixels a side.
        padding: rows and columns of zeros around the images.
        pools: whether a pool stands behind the convolution.
    """

    channels: int
    kernel: int = 3
    padding: int = 1
    pools: bool = True


@dataclass(frozen=True)
class Plain:
    """A plain training.

    Args:
        blocks: of its net, before one linear layer.
        epochs: may end within one.
        augment: alters its images; None leaves them as they are.
    """

    blocks: tuple[Block, ...]
    epochs: float
    augment: Deformation | None = None


LARGE = (Block(32, 5, padding=0), Block(64, pools=False), Block(64), Block(128, padding=0))
DEFORMED = Deformation(rotate=10, scale=0.1, shear=0.1, shift=1.5 / 28, elastic=0.6 / 28)
PLAIN = {
    "quick": Plain((Block(16, 5, padding=0), Block(32), Block(64)), 0.75),
    "fast": Plain((Block(24, 5, padding=0), Block(48), Block(96)), 1, Deformation(shift=1 / 28)),
    "middle": Plain(LARGE, 2, DEFORMED),
    "accurate": Plain(LARGE, 4, DEFORMED),
}


def build(blocks: tuple[Block, ...]) -> nn.Sequential:
    """The net, for images of 28×28."""
    layers: list[nn.Module] = []
    depth, side = 1, 28
    for block in blocks:
        layers.append(nn.Conv2d(depth, block.channels, block.kernel, padding=block.padding, bias=False))
        depth, side = block.channels, side + 2 * block.padding - block.kernel + 1
        if block.pools:
            layers.append(nn.MaxPool2d(2))
            side //= 2
        layers += [nn.BatchNorm2d(depth, momentum=0.3), nn.ReLU()]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(depth * side * side, 10))


def pixels(images: ImageSet) -> tuple[Tensor, Tensor]:
    """Images (n, 1, 28, 28) in channels last, with MNIST's mean and deviation as 0 and 1, and labels."""
    x = torch.from_numpy(images.pixels.copy()).float().div_(255).sub_(0.1307).div_(0.3081)
    return x.contiguous(memory_format=torch.channels_last), torch.from_numpy(images.require_labels("training").copy())


def train_plainly(plain: Plain, train: ImageSet, valid: ImageSet, seed: int) -> Trained:
    """Train a plain net."""
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    model = place(build(plain.blocks), torch.device("cpu"))
    decayed = [each for each in model.parameters() if each.ndim > 1]
    others = [each for each in model.parameters() if each.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": 5e-4}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=PEAK, momentum=0.9, nesterov=True, fused=True)
    x, y = pixels(train)
    background = float(x.min())
    precision = choose_precision(torch.device("cpu"), channels=min(block.channels for block in plain.blocks))
    steps = round(plain.epochs * (len(x) // BATCH))
    start = time.perf_counter()
    for step in range(steps):
        batch = step % (len(x) // BATCH)
        if batch == 0:
            order = torch.randperm(len(x), generator=draws)
        rows = order[batch * BATCH : (batch + 1) * BATCH]
        inputs = x[rows]
        if plain.augment is not None:
            inputs = plain.augment(inputs - background, draws) + background
        share = (step + 0.5) / steps
        for group in optimizer.param_groups:
            group["lr"] = PEAK * min(share / WARM_UP, (1 - share) / (1 - WARM_UP))
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            loss = F.cross_entropy(model(inputs), y[rows], label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - start
    model.eval()
    x, y = pixels(valid)
    with torch.inference_mode():
        found = torch.cat([model(part).argmax(dim=1) for part in x.split(1000)])
    return Trained(float((found == y).double().mean()), seconds, precision)


def train_by_inkproof(setting: Setting, train: ImageSet, valid: ImageSet, seed: int) -> Trained:
    """Train a setting."""
    learner = setting.fit(train, valid, seed)
    return Trained(learner.history[-1].metrics["accuracy"], learner.history.train_seconds, learner.precision)


def measure(name: str, train: ImageSet, valid: ImageSet, seeds: int) -> dict[str, Any]:
    """Train both with each seed; which of them goes first alternates."""
    own, plain, setting = [], [], settings_here()[name]
    for seed in range(seeds):
        if seed % 2 == 0:
            own.append(train_by_inkproof(setting, train, valid, seed))
        plain.append(train_plainly(PLAIN[name], train, valid, seed))
        if seed % 2 == 1:
            own.append(train_by_inkproof(setting, train, valid, seed))
        print(f"  seed {seed}: inkproof {own[-1]}; plain {plain[-1]}", flush=True)
    ratios = [theirs.seconds / ours.seconds for ours, theirs in zip(own, plain, strict=True)]
    return {
        "setting": name,
        "target": TARGETS[name][0] / 100,
        "accuracies": [each.accuracy for each in own],
        "seconds": [each.seconds for each in own],
        "plain_accuracies": [each.accuracy for each in plain],
        "plain_seconds": [each.seconds for each in plain],
        "ratios": ratios,
    }


def summary(row: dict[str, Any]) -> str:
    """One line of a setting."""
    own, plain = (
        f"{statistics.mean(row[f'{key}accuracies']):.2%} in {statistics.median(row[f'{key}seconds']):.1f} s"
        for key in ("", "plain_")
    )
    low, middle, high = min(row["ratios"]), statistics.median(row["ratios"]), max(row["ratios"])
    return f"{row['setting']}: inkproof {own}; plain {plain}: {middle:.1f} times as long ({low:.1f} to {high:.1f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory of MNIST's IDX files")
    parser.add_argument("--settings", default=",".join(PLAIN), help="which, with commas between")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--machine", help="how the machine is named in what is written")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if unknown := set(options.settings.split(",")) - set(PLAIN):
        parser.error(f"no setting is called {', '.join(sorted(unknown))}; known: {', '.join(PLAIN)}")
    if options.seeds < 1:
        parser.error("--seeds must be at least 1")
    keep_freed_memory()
    try:
        opened = open_images(str(options.data))
    except InputError as error:
        parser.error(str(error))
    images = opened if isinstance(opened, ImageSet) else opened.train
    if len(images) != 60_000:
        parser.error(f"{options.data} has {len(images):,} training images, where MNIST has 60,000")
    train, valid = cut(images, aside=False, usual=True)
    assert valid is not None
    print(f"{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rows = []
    for name in options.settings.split(","):
        print(f"{name}:", flush=True)
        rows.append(measure(name, train, valid, options.seeds))
        print(summary(rows[-1]), flush=True)
    if options.json:
        options.json.write_text(
            json.dumps({"machine": options.machine or platform.platform(), "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
