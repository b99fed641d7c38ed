"""How cost grows with rows, pixels and seeds: an epoch of the net of one hidden layer, and the memory of its process.

    python benchmarks/growth.py [--json FILE]

Rows are made of 1,000 drawn images, repeated with noise of a few grey levels where they have ink. Each size runs in a
process of its own: images are made, a Learner is built with all its checks, two epochs are trained by plain SGD; the
second is counted.
"""

import argparse
import json
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROWS = (1_000, 10_000, 30_000, 100_000, 300_000, 1_000_000)
SIDES = (8, 14, 28, 56)
SEEDS = (1, 2, 4, 8, 16, 32)


def made_up(rows: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    base = np.zeros((1_000, side, side), np.uint8)
    labels = np.arange(1_000) % 10
    for image, label in zip(base, labels, strict=True):  # a bar whose place tells the class
        at = int((label + 0.5) * side / 10)
        image[max(at - side // 10, 0) : at + 1, random.integers(0, side // 4) : -1] = random.integers(120, 250)
    pixels = np.empty((rows, 1, side, side), np.uint8)
    for start in range(0, rows, 1_000):
        count = min(1_000, rows - start)
        noise = random.integers(0, 6, (count, side, side), dtype=np.uint8)
        pixels[start : start + count, 0] = (base[:count] + noise) * (base[:count] > 0)
    return pixels, np.resize(labels, rows)


def child(rows: int, side: int, seeds: int) -> dict[str, Any]:
    import torch

    from inkproof import ImageSet, Learner, models, schedules
    from inkproof.recipes import load_recipe
    from inkproof.recipes.building import build_learner
    from inkproof.seeds import train_together

    images = ImageSet(*made_up(rows, side))
    started = time.perf_counter()
    if seeds == 1:
        learner = Learner(
            lambda: models.hidden(images.shape, 10, units=30), images, optimizer=torch.optim.SGD, batch_size=256,
            on_finding="record",
        )  # fmt: skip
        built = time.perf_counter() - started
        seconds = [row.train_seconds for row in learner.epochs(2, schedules.constant(0.01))]
    else:
        recipe = load_recipe("hidden-cross-entropy")
        learners = [build_learner(recipe, images, None, seed=seed) for seed in range(seeds)]
        built = time.perf_counter() - started
        assert train_together(learners, 2, schedules.constant(0.01))
        seconds = [row.train_seconds * seeds for row in learners[0].history]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"built": built, "epoch": seconds[1], "megabytes": memory, "pixels_megabytes": images.pixels.nbytes / 2**20}


def measure(rows: int, side: int = 28, seeds: int = 1) -> dict[str, Any]:
    command = [sys.executable, __file__, "--child", str(rows), str(side), str(seeds)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = {"rows": rows, "side": side, "seeds": seeds} | json.loads(result.stdout.strip().splitlines()[-1])
    print(
        f"{rows:>9,} rows of {side}x{side}, {seeds:>2} seeds: {found['epoch']:7.3f} s an epoch, built in "
        f"{found['built']:5.1f} s, {found['megabytes']:6.0f} MB for {found['pixels_megabytes']:5.0f} MB of pixels",
        flush=True,
    )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=3, type=int, help=argparse.SUPPRESS)
    parser.add_argument("--machine", help="how the machine is named in what is written")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(child(*options.child)))
        return
    found = {
        "machine": options.machine or platform.platform(),
        "rows": [measure(rows) for rows in ROWS],
        "sides": [measure(30_000, side) for side in SIDES],
        "seeds": [measure(30_000, seeds=seeds) for seeds in SEEDS],
    }
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
