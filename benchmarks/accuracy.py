"""Seconds of training to an accuracy on images held out, over seeds: one row a recipe.

    python benchmarks/accuracy.py --data DIR [--recipes fast,accurate] [--seeds 5] [--json FILE]

MNIST's training images (IDX files in DIR) are split once, by class: 50,000 to train on, 10,000 held out, of which
nothing is chosen here. No test-time augmentation. Seconds are of training alone; they depend on the processor, above
all on whether it multiplies matrices in bfloat16, which is printed.
"""

import argparse
import json
import platform
import statistics
from pathlib import Path

import torch

from inkproof import ImageSet, open_images
from inkproof.recipes import load_recipe
from inkproof.recipes.building import build_learner, build_schedule


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory of MNIST's IDX files")
    parser.add_argument("--recipes", default="fast,accurate")
    parser.add_argument("--epochs", type=int, help="in place of the recipes' own")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    opened = open_images(str(options.data))
    images = opened if isinstance(opened, ImageSet) else opened.train
    sides = images.split(valid=10_000, seed=0)
    print(f"{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rows = []
    for name in options.recipes.split(","):
        recipe = load_recipe(name)
        epochs = options.epochs or recipe.epochs_for(len(sides.train))
        accuracies, seconds = [], []
        for seed in range(options.seeds):
            learner = build_learner(recipe, sides.train, sides.valid, seed=seed)
            history = list(learner.follow(learner.epochs(epochs, build_schedule(recipe))))
            accuracies.append(history[-1].metrics["accuracy"])
            seconds.append(learner.history.train_seconds)
            print(f"  {name}, seed {seed}: {accuracies[-1]:.2%} in {seconds[-1]:.1f} s", flush=True)
        spread = statistics.stdev(accuracies) if len(accuracies) > 1 else float("nan")
        rows.append(
            {
                "recipe": name,
                "epochs": epochs,
                "precision": learner.precision,
                "accuracy": statistics.mean(accuracies),
                "sd": spread,
                "seeds": options.seeds,
                "seconds": statistics.median(seconds),
            }
        )
        print(
            f"{name}: {statistics.mean(accuracies):.2%} ± {spread:.2%} over {options.seeds} seeds, "
            f"{statistics.median(seconds):.1f} s of training ({console_epochs(epochs)}, {learner.precision})"
        )
    if options.json:
        options.json.write_text(json.dumps({"machine": platform.platform(), "rows": rows}, indent=1) + "\n")


def console_epochs(epochs: int) -> str:
    return f"{epochs} epoch{'s' if epochs != 1 else ''}"


if __name__ == "__main__":
    main()
