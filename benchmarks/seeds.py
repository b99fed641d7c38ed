"""What sixteen seeds cost, in times of one: the linear net and 784-30-10, validation included.

    python benchmarks/seeds.py [--seeds 16] [--epochs 5] [--rounds 5]

33,600 rows of made-up images, 8,400 to validate on, the ladder's recipes. One seed and all seeds take turns in one
process; the ratio is of medians. Building the Learners is not counted; the same sides are audited once.
"""

import argparse
import platform
import statistics
import time

import numpy as np
import torch

from inkproof import ImageSet
from inkproof.recipes import load_recipe
from inkproof.recipes.building import build_learner, build_schedule
from inkproof.seeds import can_train_together, train_together

RECIPES = ("linear-cross-entropy", "hidden-cross-entropy")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (42_000, 1, 28, 28)).astype(np.uint8)
    labels = random.integers(0, 10, 42_000)
    train, valid = ImageSet(pixels[:33_600], labels[:33_600]), ImageSet(pixels[33_600:], labels[33_600:])
    print(f"{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for name in RECIPES:
        recipe = load_recipe(name)
        schedule = build_schedule(recipe)
        seconds: dict[str, list[float]] = {"one": [], "all": []}
        for _ in range(options.rounds + 1):
            learners = [
                build_learner(
                    recipe, train, valid, seed=seed, allow=["labels-unrelated-to-images", "loss-stands-still"]
                )
                for seed in range(options.seeds + 1)
            ]
            started = time.perf_counter()
            list(learners[-1].epochs(options.epochs, schedule))
            seconds["one"].append((time.perf_counter() - started) / options.epochs)
            assert can_train_together(learners[:-1])
            started = time.perf_counter()
            assert train_together(learners[:-1], options.epochs, schedule)
            seconds["all"].append((time.perf_counter() - started) / options.epochs)
        one, every = (statistics.median(measured[1:]) for measured in seconds.values())
        print(f"{name:22} one {one:.3f} s an epoch, {options.seeds} seeds {every:.3f} s: {every / one:.2f} times one")


if __name__ == "__main__":
    main()
