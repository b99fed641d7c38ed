"""Seconds to an accuracy beside plain trainings with torch alone, in turn on this machine: one row an accuracy.

    python benchmarks/plain.py --data DIR [--settings quick,fast] [--seeds 3] [--json FILE]

A plain training is a good loop over torch's own modules, as one writes it today: convolution, max-pool, batch
normalisation, ReLU; all images in every epoch, in channels last, from memory; Nesterov, the rate up and down
linearly, label smoothing, deformed images; autograd and a fused optimiser. Of the nets and lengths that were tried,
each is the quickest to its accuracy. It has from inkproof what no loop of its own needs to repeat: the deformation, the
precision that was quicker on this processor, and memory that is not given back to the kernel. Settings are those of
benchmarks/accuracy.py, and both train on the file's first 50,000 images and are scored on its last 10,000.

Seconds depend on the processor and on the minute; the ratio of two trainings in turn hardly does.
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
from accuracy import SETTINGS, Setting, cut
from torch import Tensor, nn

from inkproof import ImageSet, open_images
from inkproof.augment import Deformation
from inkproof.recipes.building import build_learner, build_schedule
from inkproof.runtime import Precision, place

BATCH, PEAK, WARM_UP = 128, 0.2, 0.2


@dataclass(frozen=True)
class Block:
    """Convolution without bias, perhaps a pool, batch normalisation, ReLU."""

    channels: int
    kernel: int = 3
    padding: int = 1
    pools: bool = True


@dataclass(frozen=True)
class Plain:
    """A plain training.

    Args:
        blocks: of its net, before one linear layer.
        epochs: or a part of one.
        augment: of its images.
    """

    blocks: tuple[Block, ...]
    epochs: float
    augment: Deformation | None = None


LARGE = (Block(32, 5, padding=0), Block(64, pools=False), Block(64), Block(128, padding=0))
DEFORMED = Deformation(rotate=10, scale=0.1, shear=0.1, shift=1.5 / 28, elastic=0.6 / 28)
PLAIN = {
    "quick": Plain((Block(16, 5, padding=0), Block(32), Block(64)), 0.75),
    "fast": Plain((Block(24, 5, padding=0), Block(48), Block(96)), 1.25, Deformation(shift=1 / 28)),
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


def train_plainly(
    plain: Plain, train: ImageSet, valid: ImageSet, seed: int, precision: Precision
) -> tuple[float, float]:
    """Accuracy on held-out images, and seconds of training."""
    torch.manual_seed(seed)
    draws = torch.Generator().manual_seed(seed)
    model = place(build(plain.blocks), torch.device("cpu"))
    decayed = [each for each in model.parameters() if each.ndim > 1]
    others = [each for each in model.parameters() if each.ndim <= 1]
    groups: list[dict[str, Any]] = [{"params": decayed, "weight_decay": 5e-4}, {"params": others}]
    optimizer = torch.optim.SGD(groups, lr=PEAK, momentum=0.9, nesterov=True, fused=True)
    x, y = pixels(train)
    background = float(x.min())
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
        share = (step + 1) / steps
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
    return float((found == y).double().mean()), seconds


def train_by_inkproof(setting: Setting, train: ImageSet, valid: ImageSet, seed: int) -> tuple[float, float, Precision]:
    """Accuracy on held-out images, seconds of training, and the precision that was chosen."""
    if setting.images is not None:
        train = train.split(valid=len(train) - setting.images, seed=seed).train
    recipe, epochs = setting.build(len(train))
    learner = build_learner(recipe, train, valid, seed=seed)
    history = list(learner.follow(learner.epochs(epochs, build_schedule(recipe))))
    return history[-1].metrics["accuracy"], learner.history.train_seconds, learner.precision


def measure(name: str, train: ImageSet, valid: ImageSet, seeds: int) -> dict[str, Any]:
    """Train both with each seed, in turn."""
    own, plain = [], []
    for seed in range(seeds):
        accuracy, seconds, precision = train_by_inkproof(SETTINGS[name], train, valid, seed)
        own.append((accuracy, seconds))
        plain.append(train_plainly(PLAIN[name], train, valid, seed, precision))
        print(f"  seed {seed}: {own[-1][0]:.2%} in {own[-1][1]:.1f} s, {plain[-1][0]:.2%} in {plain[-1][1]:.1f} s")
    return {
        "setting": name,
        "seeds": seeds,
        "precision": precision,
        "accuracy": statistics.mean(accuracy for accuracy, _ in own),
        "seconds": statistics.median(seconds for _, seconds in own),
        "plain_accuracy": statistics.mean(accuracy for accuracy, _ in plain),
        "plain_seconds": statistics.median(seconds for _, seconds in plain),
        "ratio": statistics.median(theirs / ours for (_, ours), (_, theirs) in zip(own, plain, strict=True)),
    }


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
    opened = open_images(str(options.data))
    images = opened if isinstance(opened, ImageSet) else opened.train
    train, valid = cut(images, aside=False, usual=True)
    assert valid is not None
    print(f"{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rows = []
    for name in options.settings.split(","):
        print(f"{name}:", flush=True)
        rows.append(measure(name, train, valid, options.seeds))
        print(
            "{setting}: {accuracy:.2%} in {seconds:.1f} s; plainly {plain_accuracy:.2%} in {plain_seconds:.1f} s, "
            "{ratio:.1f} times as long; {precision}, {seeds} seeds".format(**rows[-1]),
            flush=True,
        )
    if options.json:
        options.json.write_text(
            json.dumps({"machine": options.machine or platform.platform(), "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
