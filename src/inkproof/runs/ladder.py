"""The ladder: every rung trained on the same data, as one table. Each rung is a run of its own under `rungs/`."""

import csv
import io
import math
import shutil
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from inkproof.audit import NOT_FINITE
from inkproof.errors import InputError
from inkproof.files import write_text
from inkproof.history import Row
from inkproof.images import Split
from inkproof.metrics import wilson_interval
from inkproof.recipes import RUNGS, Rung, load_recipe
from inkproof.recipes.recipe import Recipe
from inkproof.runs import directory
from inkproof.runs.environment import describe_environment
from inkproof.runs.sides import sides_of_classes
from inkproof.runs.training import TrainedRun, TrainingOptions, read_trained, train_run

LADDER_JSON, LADDER_CSV, LADDER_CHART = "ladder.json", "ladder.csv", "ladder.svg"
_SHORT_SHARE = 0.75  # of the published steps: below it a rung is said to be short of steps


@dataclass(frozen=True)
class Progress:
    """Where a ladder stands: which rung of how many, at which seed, after which epoch of how many."""

    rung: str
    number: int
    rungs: int
    seed: int
    epoch: int
    epochs: int


def fitting_rungs(sides: Split, names: Sequence[str] | None = None) -> list[Rung]:
    """The rungs that fit the data: those for chosen classes only where the data has them.

    Args:
        sides: what is to be trained on.
        names: only these; None takes all but the long ones.

    Raises:
        InputError: a name that is no rung, or one that does not fit.
    """
    known = {rung.recipe: rung for rung in RUNGS}
    for name in names or ():
        if name not in known:
            raise InputError(f"no rung is called {name!r}; known: {', '.join(known)}")
        if not _fits(load_recipe(name), sides):
            raise InputError(
                f"the rung {name} is for the classes {', '.join(load_recipe(name).classes or ())}, and "
                f"{sides.train.source} has {', '.join(sides.train.classes)}"
            )
    wanted = [known[name] for name in names] if names is not None else [rung for rung in RUNGS if not rung.long]
    return [rung for rung in wanted if _fits(load_recipe(rung.recipe), sides)]


def _fits(recipe: Recipe, sides: Split) -> bool:
    wanted, there = recipe.classes, sides.train.classes
    return wanted is None or len(there) == len(wanted) or set(wanted) <= set(there)


def climb(
    sides: Split,
    rungs: Sequence[Rung],
    out: Path,
    *,
    options: TrainingOptions,
    command: dict[str, Any],
    resume: bool = False,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_rung: Callable[[dict[str, Any]], None] = lambda row: None,
) -> dict[str, Any]:
    """Train the rungs one after another and write the table, anew after each.

    Args:
        sides: to train, validate and score on.
        rungs: which, in order.
        out: the directory to make; rungs in it that are whole are kept when `resume` is given.
        options: seeds, device and what may pass.
        command: how the sides came about, for the record.
        resume: go on with a ladder that was begun.
        on_progress: told after every epoch.
        on_rung: told the row of each rung that is done.

    A loss that becomes NaN is an outcome of a rung and told in its row; it does not end the ladder.

    Returns:
        The content of ladder.json: data, environment, rows, and whether Ctrl-C ended it early.

    Raises:
        Refused: by the audit, before anything is trained.
        InputError: the directory exists, or holds a ladder of other data.
    """
    options = replace(options, allow=options.allow | {NOT_FINITE})
    if out.exists() and not resume:
        raise InputError(f"{out}: exists already: go on with --resume, choose another --out or remove it")
    named = {"train": sides.train, "valid": sides.valid, "test": sides.test}
    table: dict[str, Any] = {
        "data": sides.train.source,
        "images": {name: len(side) for name, side in named.items() if side is not None},
        "seeds": list(options.seeds),
        "command": command,
        "environment": describe_environment(),
        "interrupted": False,
        "rungs": [],
    }
    for number, rung in enumerate(rungs, start=1):
        recipe = load_recipe(rung.recipe)
        own_sides = sides_of_classes(sides, recipe.classes)
        run = out / "rungs" / rung.recipe

        def on_row(seed: int, row: Row, recipe: Recipe = recipe, number: int = number, own: Split = own_sides) -> None:
            epochs = recipe.epochs_for(len(own.train))
            on_progress(Progress(recipe.name, number, len(rungs), seed, row.epoch, epochs))

        if run.exists() and read_trained(run).interrupted:
            shutil.rmtree(run)
        begun = run.exists() or directory.partial_path(run).exists()
        trained = train_run(
            recipe, own_sides, run, options=options, command=command, resume=resume and begun, on_row=on_row
        )
        row = _row(rung, recipe, own_sides, trained)
        table["rungs"].append(row)
        table["interrupted"] = trained.interrupted
        directory.write_json(out / LADDER_JSON, table)
        write_text(out / LADDER_CSV, to_csv(table))
        on_rung(row)
        if trained.interrupted:
            break
    return directory.read_json(out / LADDER_JSON)


def _row(rung: Rung, recipe: Recipe, sides: Split, trained: TrainedRun) -> dict[str, Any]:
    """One row of the table as plain data."""
    training = trained.scores["training"]
    seeds = len(trained.by_seed)
    return {
        "rung": rung.recipe,
        "kind": rung.kind,
        "summary": recipe.summary,
        "classes": len(sides.train.classes),
        "parameters": training["parameters"],
        "epochs": training["epochs"],
        "seconds": training["seconds"] / seeds,
        "valid": _accuracies("valid", trained),
        "test": _accuracies("test", trained),
        "published": {"valid": rung.published_valid, "test": rung.published_test},
        "why": rung.why,
        "remarks": _remarks(rung, recipe, sides, trained),
        "run": f"rungs/{rung.recipe}",
    }


def _accuracies(side: str, trained: TrainedRun) -> dict[str, Any] | None:
    """Mean, standard deviation over seeds, and the interval over images, which are two different errors."""
    scores = {seed: scores[side] for seed, scores in trained.by_seed.items()}
    if any(score is None for score in scores.values()):
        return None
    accuracies = [score["accuracy"] for score in scores.values()]
    images = next(iter(scores.values()))["images"]
    mean = statistics.mean(accuracies)
    return {
        "images": images,
        "accuracy": mean,
        "accuracy_sd": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "accuracy_by_seed": {str(seed): score["accuracy"] for seed, score in scores.items()},
        "interval": list(wilson_interval(round(mean * images), images)),
    }


def _remarks(rung: Rung, recipe: Recipe, sides: Split, trained: TrainedRun) -> list[str]:
    """What a reader of the row must know: too few steps for the setting, or a model that ended at a constant."""
    remarks = []
    steps = trained.scores["training"]["epochs"] * -(-len(sides.train) // recipe.batch_size)
    published = recipe.epochs_for(rung.trained_on) * -(-rung.trained_on // recipe.batch_size)
    adapts = recipe.most_images is not None  # more epochs on fewer images, by the recipe itself
    if recipe.optimizer is not None and not adapts and steps < _SHORT_SHARE * published:
        remarks.append(f"short of steps: {steps:,} here, {published:,} on the published {rung.trained_on:,} images")
    side = "test" if trained.scores["test"] is not None else "valid"
    confusions = [scores[side]["confusion"] for scores in trained.by_seed.values() if scores[side] is not None]
    constant = sum(sum(any(column) for column in zip(*confusion, strict=True)) == 1 for confusion in confusions)
    if constant:
        remarks.append(f"predicts one class for every image with {constant} of {len(confusions)} seeds")
    broken = sum(not _is_finite(rows[-1]["train_loss"]) for rows in trained.history.values())
    if broken:
        remarks.append(f"the loss became NaN or infinite with {broken} of {len(trained.history)} seeds")
    return remarks


def _is_finite(number: float | None) -> bool:
    return number is not None and math.isfinite(number)


def to_csv(table: dict[str, Any]) -> str:
    """The table as a CSV, one line a rung."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    sides = ("valid", "test")
    measured = [f"{side}_{name}" for side in sides for name in ("accuracy", "accuracy_sd", "images")]
    plain = ("rung", "kind", "classes", "parameters", "epochs", "seconds")
    writer.writerow([*plain, *measured, "published_valid", "published_test", "why", "remarks"])
    for row in table["rungs"]:
        scores = [(row[side] or {}).get(name) for side in sides for name in ("accuracy", "accuracy_sd", "images")]
        published = [row["published"][side] for side in sides]
        writer.writerow([*(row[name] for name in plain), *scores, *published, row["why"], "; ".join(row["remarks"])])
    return text.getvalue()
