"""Seconds of training to an accuracy on images held out, over seeds: one row a setting.

    python benchmarks/accuracy.py --data DIR [--settings quick,fast] [--seeds 5] [--aside | --usual] [--json FILE]

MNIST's training images (IDX files in DIR) are cut in two, by class: 10,001 are kept aside, by which nothing may be
chosen (docs/log.md tells of the one time that they had a say); all settings were tuned on splits of the other 49,999
(10,000 of them to look at), a split a seed. That is measured again, unless another cut is asked for. With --aside each
setting trains on the 49,999 and is scored on the 10,001. With --usual it trains on the file's first 50,000 images and
is scored on its last 10,000, which most published figures of validation are for, and which are easier; most of them
were among the images that settings were tuned on, and they had a say themselves: in the nets and the stem that stops
learning, in the lengths for float32, and for bfloat16 in that `fast` and `middle` are no longer.

Seconds are of training alone; they depend on the processor, above all on whether it multiplies matrices in bfloat16,
which is printed, and where it does settings are longer. `accuracy` is without test-time augmentation, `shifted` is the
mean prediction for each image and its shifts by a pixel. `together` is the mean prediction of all seeds: an ensemble,
whose seconds are the sum of theirs; only with --aside or --usual do they share their held-out images.
"""

import argparse
import json
import platform
import statistics
from dataclasses import dataclass, field
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import torch

from inkproof import ImageSet, Learner, open_images
from inkproof.recipes import Recipe, load_recipe, parse_recipe
from inkproof.recipes.building import build_learner, build_schedule, resolve_precision
from inkproof.runtime import Precision

ASIDE, ASIDE_SEED = 10_000, 20261124


@dataclass(frozen=True)
class Setting:
    """A recipe, at its own length or at another.

    Args:
        recipe: its name.
        epochs: in place of the recipe's.
        changes: of the recipe, by key, with dots between tables as in TOML.
    """

    recipe: str
    epochs: int | None = None
    changes: dict[str, Any] = field(default_factory=dict)

    def fit(self, train: ImageSet, valid: ImageSet, seed: int) -> Learner:
        """Train on all of some images."""
        recipe, epochs = self._build(len(train))
        learner = build_learner(recipe, train, valid, seed=seed)
        for _ in learner.follow(learner.epochs(epochs, build_schedule(recipe))):
            pass
        return learner

    def _build(self, images: int) -> tuple[Recipe, int]:
        """The recipe and its epochs on so many images."""
        settings = load_recipe(self.recipe).model_dump()
        for path, value in self.changes.items():
            *tables, key = path.split(".")
            reduce(getitem, tables, settings)[key] = value
        recipe = parse_recipe(settings, where=f"{self.recipe} with {self.changes}")
        return recipe, self.epochs or recipe.epochs_for(images)


def shares(*, first: float, share: float, easy: float) -> dict[str, Any]:
    """Changes of how many images epochs give: the first; and those after it, of the hardest and of the others."""
    return {"hard_examples.first": first, "hard_examples.share": share, "hard_examples.easy": easy}


# What each is for: accuracy in per cent, and the seconds in which it is meant to be reached.
TARGETS = {
    "quick": (99.0, 3.5),
    "fast": (99.3, 6.0),
    "fast as it is": (99.3, 6.0),
    "middle": (99.5, 18.0),
    "accurate": (99.6, 35.0),
    "best": (99.7, 600.0),
}
# At a higher rate, and with fewer hard images (0.15 of 26,000 then), a few hundred steps learn nearly as much from a
# fifth to a third less. The recipe does not take this over: from hundreds of images it would learn less (docs/log.md).
SHORT = {"optimizer.lr": 0.3, "schedule.warm_up": 0.3}
QUICK = {**SHORT, "augment": None, "stem_learns": 0.2}
FAST = {**SHORT, "stem_learns": 0.4}
# A quarter less time than the recipe's own net for -0.014 ± 0.032 (`middle`) and +0.002 ± 0.019 points on splits of the
# 49,999, with other shares (docs/log.md). From 300,000 images, which the recipe sees, it was not measured.
WIDE = {"model.pools": "early", "model.widths": [16, 32, 64, 96], "stem_learns": 0.4}
# In bfloat16 the same seconds hold more, in minutes too in which others use the machine (docs/log.md).
SETTINGS: dict[Precision, dict[str, Setting]] = {
    "float32": {
        "quick": Setting("fast", 3, {**QUICK, **shares(first=0.32, share=0.05, easy=0.015)}),
        "fast": Setting("fast", 5, {**FAST, **shares(first=0.42, share=0.06, easy=0.02)}),
        "fast as it is": Setting("fast"),
        "middle": Setting("accurate", 7, {**WIDE, **shares(first=0.6, share=0.18, easy=0.05)}),
        "accurate": Setting(
            "accurate", 10, {**WIDE, "model.widths": [24, 32, 64, 96], **shares(first=0.8, share=0.28, easy=0.09)}
        ),
        "best": Setting("best"),
    },
    "bfloat16": {
        "quick": Setting("fast", 4, {**QUICK, **shares(first=0.45, share=0.07, easy=0.02)}),
        "fast": Setting("fast", 5, {**FAST, **shares(first=0.58, share=0.09, easy=0.027)}),
        "fast as it is": Setting("fast"),
        "middle": Setting("accurate", 9, {**WIDE, **shares(first=0.65, share=0.2, easy=0.055)}),
        "accurate": Setting("accurate", 13, shares(first=0.9, share=0.3, easy=0.1)),
        "best": Setting("best"),
    },
}


def settings_here() -> dict[str, Setting]:
    """Those for this processor."""
    return SETTINGS[resolve_precision(load_recipe("fast"), "auto")]


def kept_aside(labels: np.ndarray) -> np.ndarray:
    """Which rows are kept aside: as many of each class as its share, drawn once and for all."""
    random = np.random.default_rng(ASIDE_SEED)
    aside = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        rows = np.flatnonzero(labels == label)
        random.shuffle(rows)
        aside[rows[: round(ASIDE * len(rows) / len(labels))]] = True
    return aside


def accuracy_of_mean(probabilities: list[torch.Tensor], images: ImageSet) -> float:
    """Share of images that the mean of some nets' probabilities, (n, classes) each, gets right."""
    labels = torch.from_numpy(images.require_labels("scoring").copy())
    return float((torch.stack(probabilities).mean(dim=0).argmax(dim=1) == labels).double().mean())


def cut(images: ImageSet, *, aside: bool, usual: bool) -> tuple[ImageSet, ImageSet | None]:
    """The images to train on and those to score; None of the latter where each seed splits the former."""
    if usual:
        return images.subset(np.arange(50_000)), images.subset(np.arange(50_000, len(images)))
    kept = kept_aside(images.require_labels("training"))
    return images.subset(np.flatnonzero(~kept)), images.subset(np.flatnonzero(kept)) if aside else None


def measure(setting: Setting, known: ImageSet, held_out: ImageSet | None, seeds: int) -> dict[str, Any]:
    """Train a setting with each seed."""
    accuracies, shifted_accuracies, seconds = [], [], []
    plain, shifted = [], []  # probabilities by each seed
    for seed in range(seeds):
        train, valid = (known, held_out) if held_out is not None else known.split(valid=10_000, seed=1000 + seed)
        assert valid is not None
        learner = setting.fit(train, valid, seed)
        accuracies.append(learner.history[-1].metrics["accuracy"])
        seconds.append(learner.history.train_seconds)
        plain.append(learner.get_preds(valid)[0])
        shifted.append(learner.get_preds(valid, tta=True)[0])
        shifted_accuracies.append(accuracy_of_mean(shifted[-1:], valid))
        print(f"  seed {seed}: {accuracies[-1]:.2%} in {seconds[-1]:.1f} s", flush=True)
    shared = held_out is not None and seeds > 1
    return {
        "recipe": setting.recipe,
        "changes": setting.changes,
        "epochs": len(learner.history),
        "images": len(train),
        "precision": learner.precision,
        "accuracy": statistics.mean(accuracies),
        "sd": statistics.stdev(accuracies) if seeds > 1 else None,
        "shifted": statistics.mean(shifted_accuracies),
        "seeds": seeds,
        "seconds": statistics.median(seconds),
        "together": accuracy_of_mean(plain, valid) if shared else None,
        "together_shifted": accuracy_of_mean(shifted, valid) if shared else None,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="directory of MNIST's IDX files")
    parser.add_argument("--settings", default=",".join(TARGETS), help="which, with commas between")
    parser.add_argument("--seeds", type=int, default=5)
    cuts = parser.add_mutually_exclusive_group()
    cuts.add_argument("--aside", action="store_true", help="train on all 49,999, score on the 10,001 kept aside")
    cuts.add_argument("--usual", action="store_true", help="train on the first 50,000, score on the last 10,000")
    parser.add_argument("--machine", help="how the machine is named in what is written")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    settings = settings_here()
    if unknown := set(options.settings.split(",")) - set(settings):
        parser.error(f"no setting is called {', '.join(sorted(unknown))}; known: {', '.join(settings)}")
    opened = open_images(str(options.data))
    images = opened if isinstance(opened, ImageSet) else opened.train
    known, held_out = cut(images, aside=options.aside, usual=options.usual)
    print(f"{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    rows = []
    for name in options.settings.split(","):
        print(f"{name}:", flush=True)
        row = {"setting": name, **measure(settings[name], known, held_out, options.seeds)}
        target, row["wanted_seconds"] = TARGETS[name]
        row["target"] = target / 100
        rows.append(row)
        spread = "" if row["sd"] is None else f" ± {row['sd']:.2%}"
        together = ""
        if row["together"] is not None:
            together = f"; together {row['together']:.2%}, shifted {row['together_shifted']:.2%}"
        print(
            f"{name}: {row['accuracy']:.2%}{spread} over {row['seeds']} seeds in {row['seconds']:.1f} s of training "
            f"({row['target']:.1%} wanted in {row['wanted_seconds']:g}; {row['precision']}); "
            f"shifted {row['shifted']:.2%}{together}"
        )
    if options.json:
        about = {"machine": options.machine or platform.platform(), "aside": options.aside, "usual": options.usual}
        options.json.write_text(json.dumps({**about, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
