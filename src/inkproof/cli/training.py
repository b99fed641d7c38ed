"""The commands that train: `train` and `lr-find`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from inkproof import console
from inkproof.cli.options import (
    Classes,
    Picture,
    Size,
    TorchCommand,
    allow_option,
    device_option,
    json_option,
    no_cache_option,
    shape_option,
)
from inkproof.errors import InputError, Interrupted

if TYPE_CHECKING:
    from inkproof.images import Split
    from inkproof.recipes import Recipe


@click.command(cls=TorchCommand)
@click.option("--data", default="digits", show_default=True, metavar="SOURCE", help="Labelled images.")
@click.option("--test", metavar="SOURCE", help="Test images, with or without labels. [default: cut from the data]")
@click.option("--recipe", "recipe_name", metavar="NAME|FILE", help="Recipe by name or TOML file. [default: accurate]")
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Epochs, those of hard examples shorter. [default: the recipe's]"
)
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="Learning rate. [default: the recipe's]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, order and augmentation.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Train so many, from SEED on.")
@click.option("--classes", type=Classes(), metavar="3,7", help="Keep these classes only.")
@device_option
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run. [default: a new one in runs/]")
@click.option("--resume", is_flag=True, help="Go on with a run that was killed: the one named by --out, or the last.")
@allow_option
@click.option("--valid-size", type=Size(), default=0.1, show_default=True, help="Validation side: share or number.")
@click.option("--test-size", type=Size(), default=0.2, show_default=True, help="Test side, where there is none.")
@click.option("--split-seed", type=int, default=0, show_default=True, help="Of the split alone.")
@click.option("--all-rows", is_flag=True, help="Train on every labelled image, before a submission; no score.")
@click.option("--patience", type=click.IntRange(min=1), help="Stop after so many epochs without a better valid_loss.")
@click.option("--keep-best", is_flag=True, help="Keep the weights of the epoch with the best valid_loss.")
@click.option("--log", type=click.Path(path_type=Path, dir_okay=False), metavar="CSV", help="History, as it grows.")
@shape_option
@no_cache_option
@json_option
@click.pass_context
def train(
    ctx: click.Context, /, *, as_json: bool, resume: bool, out: Path | None, log: Path | None, **options: Any
) -> int:
    """Train a recipe and leave a run: weights, scores, history, findings."""
    from inkproof.history import History, LiveTable, Row
    from inkproof.runs import TrainingOptions, data_options, latest_partial, new_run_path, open_sides, train_run
    from inkproof.runs.directory import begun_with

    if resume:
        out = out or latest_partial()
        recorded = begun_with(out)
        given = {name for name in options if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
        options |= {name: value for name, value in recorded.items() if name not in given}
    recipe = _recipe(options)
    sides = open_sides(data_options(options, recipe.classes))
    seeds = tuple(range(options["seed"], options["seed"] + options["seeds"]))
    _announce(recipe, sides, seeds)
    tables: dict[int, LiveTable] = {}
    grown = History()

    def on_row(seed: int, row: Row) -> None:
        if seed not in tables:
            tables[seed] = LiveTable()
            if len(seeds) > 1:
                console.say(f"seed {seed}")
        tables[seed].add(row)
        if log is not None:
            grown.rows.append(row)
            grown.to_csv(log)

    trained = train_run(
        recipe,
        sides,
        out or new_run_path(recipe.name, options["data"]),
        options=TrainingOptions(
            seeds=seeds,
            device=options["device"],
            allow=frozenset(options["allow"]),
            patience=options["patience"],
            keep_best=options["keep_best"],
        ),
        command=options,
        resume=resume,
        on_row=on_row,
    )
    console.print_findings(trained.findings)
    if as_json:
        histories = trained.history if len(seeds) > 1 else trained.history[seeds[0]]
        console.print_json(
            {
                "run": str(trained.path),
                "recipe": recipe.name,
                "interrupted": trained.interrupted,
                "scores": trained.scores,
                "history": histories,
                "findings": trained.findings,
            }
        )
    else:
        _print_trained(trained.scores, trained.path, sides)
    return Interrupted.exit_code if trained.interrupted else 0


def _recipe(options: dict[str, Any]) -> "Recipe":
    """The recipe named on the command line, with what the command line changes of it."""
    from inkproof.recipes import DEFAULT, load_recipe

    recipe = load_recipe(options["recipe_name"] or DEFAULT)
    changes: dict[str, Any] = {}
    if options.get("epochs") is not None:
        changes |= {"epochs": options["epochs"], "most_images": None}
    if options.get("lr") is not None:
        if recipe.optimizer is None:
            raise InputError(f"the recipe {recipe.name!r} is fitted without a learning rate: leave out --lr")
        changes["optimizer"] = recipe.optimizer.model_copy(update={"lr": options["lr"]})
    return recipe.model_copy(update=changes)


def _announce(recipe: "Recipe", sides: "Split", seeds: tuple[int, ...]) -> None:
    from inkproof import kernels

    epochs = recipe.epochs_for(len(sides.train))
    cut = "" if epochs == recipe.epochs else f" (of {recipe.epochs}: cut to {recipe.most_images:,} images seen)"
    console.say(
        f"{recipe.name} on {console.describe_sides(sides)}; {console.count(epochs, 'epoch')}{cut}, "
        f"{console.describe_seeds(seeds)}"
    )
    for note in sides.train.notes:
        console.say(f"note: {note}")
    if recipe.model.name in ("linear", "hidden", "deep", "conv") and not kernels.are_there():
        console.say(
            "note: inkproof's kernels are not there, and this net may train at half its speed: they need a processor "
            "with AVX2, and gcc when inkproof is installed"
        )


def _print_trained(scores: dict[str, Any], run: Path, sides: "Split") -> None:
    for name, side in (("valid", sides.valid), ("test", sides.test)):
        if scores[name] is not None:
            print(console.describe_score(name, scores[name]))
        elif side is not None:
            console.say(f"note: the {name} images have no labels: they are not scored (inkproof predict, submit)")
    if scores["test"] is None and sides.test is None:
        console.say("note: no images were held out for a test, so nothing here says how good the model is on new ones")
    training = scores["training"]
    print(f"trained {console.count(training['epochs'], 'epoch')} in {training['seconds']:.1f} s")
    print(f"run: {run}")


@click.command("lr-find", cls=TorchCommand)
@click.option("--data", default="digits", show_default=True, metavar="SOURCE", help="Labelled images.")
@click.option("--recipe", "recipe_name", metavar="NAME|FILE", help="Recipe by name or TOML file. [default: accurate]")
@click.option("--classes", type=Classes(), metavar="3,7", help="Keep these classes only.")
@click.option("--seed", type=int, default=0, show_default=True)
@device_option
@click.option("--out", type=Picture(), metavar="FILE.png", help="Draw the curve.")
@allow_option
@shape_option
@no_cache_option
@json_option
def find_lr(*, as_json: bool, out: Path | None, **options: Any) -> None:
    """Suggest a learning rate for a recipe on these images."""
    from inkproof.recipes.building import build_learner
    from inkproof.runs import DataOptions, open_sides

    recipe = _recipe(options)
    data = DataOptions(
        options["data"],
        classes=options["classes"],
        recipe_classes=recipe.classes,
        shape=options["shape"],
        cache=not options["no_cache"],
    )
    sides = open_sides(data)
    learner = build_learner(
        recipe, sides.train, sides.valid, seed=options["seed"], device=options["device"], allow=options["allow"]
    )
    suggested = learner.lr_find()
    assert learner.lr_curve is not None, "lr_find keeps its curve"
    if out is not None:
        learner.lr_curve.plot(out)
        console.say(f"curve: {out}")
    if as_json:
        curve = {"lrs": learner.lr_curve.lrs.tolist(), "losses": learner.lr_curve.losses.tolist()}
        console.print_json({"recipe": recipe.name, "suggested": suggested._asdict(), "curve": curve})
    else:
        meanings = {
            "valley": "in the longest falling stretch: start here",
            "steep": "where the loss falls fastest",
            "minimum": "a tenth of the rate with the smallest loss",
            "slide": "the largest before the slope changes",
        }
        rows = [(name, f"{lr:.3g}", meanings[name]) for name, lr in suggested._asdict().items()]
        console.print_table(["suggestion", "lr", "meaning"], rows, numbers=["lr"])
