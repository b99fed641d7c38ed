"""What the default checks cost: opening and training 50,000 images, with them and without.

    python benchmarks/audit_cost.py --data DIR [--recipe accurate] [--rounds 3]

DIR is any source of labelled images, such as a directory of MNIST's IDX files. Without the checks means: the same
training in the same process with an empty catalogue; the two take turns. Medians are printed.
"""

import argparse
import platform
import statistics
from contextlib import contextmanager
from time import perf_counter

import torch

from inkproof.audit import catalogue, check_images
from inkproof.audit.catalogue import _CHECKS
from inkproof.images import Split
from inkproof.recipes import load_recipe
from inkproof.recipes.building import build_learner, build_schedule
from inkproof.runs import DataOptions, open_sides


@contextmanager
def without_checks():
    kept = dict(_CHECKS)
    for name in [name for name, one in kept.items() if one.function is not None]:
        del _CHECKS[name]
    try:
        yield
    finally:
        _CHECKS.clear()
        _CHECKS.update(kept)


def seconds(sides: Split, recipe_name: str) -> float:
    recipe = load_recipe(recipe_name)
    started = perf_counter()
    learner = build_learner(recipe, sides.train, sides.valid)
    for _ in learner.follow(learner.epochs(recipe.epochs_for(len(sides.train)), build_schedule(recipe))):
        pass
    return perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True)
    parser.add_argument("--recipe", default="accurate")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    sides = open_sides(DataOptions(data=arguments.data, valid_size=5000, test_size=5000))
    print(f"{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    started = perf_counter()
    check_images(sides.train, sides.valid, sides.test)
    print(f"{len(catalogue())} findings known; checks of {len(sides.train):,} images: {perf_counter() - started:.2f} s")
    ratios = []
    for _ in range(arguments.rounds):
        with without_checks():
            plain = seconds(sides, arguments.recipe)
        audited = seconds(sides, arguments.recipe)
        ratios.append(audited / plain)
        print(f"{arguments.recipe}: {plain:.2f} s without checks, {audited:.2f} s with, ratio {audited / plain:.3f}")
    print(f"median ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
