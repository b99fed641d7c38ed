"""What sixteen seeds cost, in times of one: the linear net and 784-30-10, validation included.

    python benchmarks/seeds.py [--seeds 16] [--epochs 5] [--rounds 5] [--device auto]

33,600 rows of made-up images, 8,400 to validate on, the ladder's recipes. One seed and all seeds take turns in one
process; the ratio is of medians. Building the Learners is not counted; the same sides are audited once. `--seeds
16,64,256` asks for one number after another: how many cost a GPU no more than twice one?

    python benchmarks/seeds.py --processes

asks whether seeds of a convolutional net, which cannot be stacked, should be trained beside each other in processes of
one thread or one after another: two seeds of `fast` both ways, and by how much the number of threads alone moves a
net's weights.
"""

import argparse
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from inkproof import ImageSet
from inkproof.recipes import load_recipe
from inkproof.recipes.building import build_learner, build_schedule
from inkproof.runtime import DeviceName
from inkproof.seeds import can_train_together, train_together

RECIPES = ("linear-cross-entropy", "hidden-cross-entropy")


def images_with_bars(count: int) -> ImageSet:
    """Noise with a bar whose height tells the class: something to learn, however little."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 120, (count, 1, 28, 28)).astype(np.uint8)
    labels = random.integers(0, 10, count)
    pixels[np.arange(count), 0, 2 * labels + 4] = 250
    return ImageSet(pixels, labels)


def train_alone(seed: int, threads: int, file: Path) -> None:
    """Train one seed of `fast` on so many threads; print its seconds of training, keep its weights."""
    torch.set_num_threads(threads)
    learner = build_learner(load_recipe("fast"), images_with_bars(20_000), None, seed=seed)
    started = time.perf_counter()
    list(learner.epochs(3, build_schedule(load_recipe("fast"))))
    print(time.perf_counter() - started)
    torch.save(torch.cat([parameter.detach().flatten() for parameter in learner.model.parameters()]), file)


def compare_processes(rounds: int) -> None:
    """Two seeds in turn on all threads, and beside each other on one thread each, in turn."""

    def start(seed: int, threads: int, name: str) -> subprocess.Popen[str]:
        command = [sys.executable, __file__, "--child", str(seed), str(threads), str(Path(folder) / name)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    threads = torch.get_num_threads()
    print(f"{platform.platform()}, {threads} threads, torch {torch.__version__}")
    ratios = []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(rounds):
            in_turn = sum(float(start(seed, threads, f"all{seed}").communicate()[0]) for seed in range(2))
            beside = [start(seed, 1, f"one{seed}") for seed in range(2)]
            slower = max(float(process.communicate()[0]) for process in beside)
            ratios.append(in_turn / slower)
            print(f"two seeds in turn {in_turn:.1f} s, beside each other {slower:.1f} s: {ratios[-1]:.2f} times faster")
        weights = [torch.load(Path(folder) / name, weights_only=True) for name in ("all0", "one0")]
    moved = float((weights[0] - weights[1]).norm() / weights[0].norm())
    print(f"median {statistics.median(ratios):.2f}; training seconds alone, a process takes about two more to start")
    print(f"the number of threads alone moves the weights of one seed by {moved:.0%} of their size")


def numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=numbers, default=[16], help="how many, with commas between")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--processes", action="store_true", help="compare with processes of one thread")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        seed, threads, file = options.child
        train_alone(int(seed), int(threads), Path(file))
        return
    if options.processes:
        compare_processes(options.rounds)
        return
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (42_000, 1, 28, 28)).astype(np.uint8)
    labels = random.integers(0, 10, 42_000)
    train, valid = ImageSet(pixels[:33_600], labels[:33_600]), ImageSet(pixels[33_600:], labels[33_600:])
    print(f"{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in RECIPES:
        for seeds in options.seeds:
            one, every = compare_with_one(
                name, train, valid, seeds, rounds=options.rounds, epochs=options.epochs, device=options.device
            )
            print(f"{name:22} one {one:.3f} s an epoch, {seeds} seeds {every:.3f} s: {every / one:.2f} times one")


def compare_with_one(
    name: str, train: ImageSet, valid: ImageSet, seeds: int, *, rounds: int, epochs: int, device: DeviceName
) -> tuple[float, float]:
    """Median seconds an epoch of one seed and of all, taking turns."""
    recipe = load_recipe(name)
    schedule = build_schedule(recipe)
    allow = ["labels-unrelated-to-images", "loss-stands-still"]
    ones, alls = [], []
    for _ in range(rounds + 1):
        learners = [
            build_learner(recipe, train, valid, seed=seed, device=device, allow=allow) for seed in range(seeds + 1)
        ]
        started = time.perf_counter()
        list(learners[-1].epochs(epochs, schedule))
        ones.append((time.perf_counter() - started) / epochs)
        assert can_train_together(learners[:-1])
        started = time.perf_counter()
        assert train_together(learners[:-1], epochs, schedule)
        alls.append((time.perf_counter() - started) / epochs)
    return statistics.median(ones[1:]), statistics.median(alls[1:])


if __name__ == "__main__":
    main()
