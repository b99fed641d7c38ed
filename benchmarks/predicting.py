"""Seconds to predict 28,000 images, and milliseconds for one, with a loaded run of the recipe `fast`.

    python benchmarks/predicting.py [--recipe fast] [--rounds 7]

The images are made up and the net is trained for a moment on few of them: time does not depend on what it learnt.
"""

import argparse
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from inkproof import ImageSet, load_recipe, open_run
from inkproof.images import Split
from inkproof.runs import TrainingOptions, train_run

IMAGES = 28_000


def seconds(function: Callable[[], object], times: int) -> list[float]:
    """What each call took, after one that is not counted."""
    function()
    measured = []
    for _ in range(times):
        started = time.perf_counter()
        function()
        measured.append(time.perf_counter() - started)
    return measured


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    random = np.random.default_rng(0)
    labels = np.resize(np.arange(10), IMAGES)
    pixels = random.integers(0, 40, (IMAGES, 1, 28, 28)).astype(np.uint8)
    pixels[np.arange(IMAGES), 0, 2 * labels + 4] = 250  # a bar whose height tells the class
    images = ImageSet(pixels, labels)
    with tempfile.TemporaryDirectory() as folder:
        few = images.subset(np.arange(2_000))
        path = Path(folder) / "run"
        train_run(load_recipe(options.recipe), Split(few, None, None), path, options=TrainingOptions(), command={})
        run = open_run(path)
    print(f"{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}, {options.recipe}")
    many = seconds(lambda: run.predict(images), options.rounds)
    one = images.subset(np.array([0]))
    whole = seconds(lambda: run.predict(one), 50 * options.rounds)
    model, inputs = run.members[0].model, torch.from_numpy(pixels[:1]).float() / 255

    @torch.inference_mode()
    def bare() -> object:
        return model(inputs)

    alone = seconds(bare, 50 * options.rounds)
    print(f"{IMAGES:,} images: {statistics.median(many):.2f} s ({min(many):.2f} to {max(many):.2f})")
    for name, measured in (("one image, run.predict", whole), ("one image, the model alone", alone)):
        low, middle, high = (1000 * value for value in statistics.quantiles(measured, n=4))
        print(f"{name}: {middle:.2f} ms (quartiles {low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
