"""The commands: parse, call, print. What they do stands elsewhere; heavy imports happen inside them."""

import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from inkproof import console
from inkproof.errors import AuditWarning, InkproofError, InputError, Interrupted

if TYPE_CHECKING:
    from inkproof.images import ImageSet, Split
    from inkproof.recipes import Recipe

_EXIT_USAGE = 2
_EXIT_INTERNAL = 70


def main(arguments: list[str] | None = None) -> int:
    """Run a command; every error becomes one line and an exit code.

    Returns:
        0 done, 1 a refused audit, 2 usage or input, 130 interrupted, 70 an internal error.
    """
    try:
        result = cli.main(args=arguments, prog_name="inkproof", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except InkproofError as error:
        console.print_error(str(error))
        return error.exit_code
    except click.ClickException as error:
        usage = f" (try: {error.ctx.command_path} --help)" if isinstance(error, click.UsageError) and error.ctx else ""
        console.print_error(f"{error.format_message()}{usage}")
        return _EXIT_USAGE
    except (click.Abort, KeyboardInterrupt):
        console.say("interrupted")
        return Interrupted.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output went away: nothing is left to say to it
        return 0
    except OSError as error:
        if error.filename is None:
            return _internal_error(error)
        console.print_error(f"{error.filename}: {error.strerror}")
        return _EXIT_USAGE
    except Exception as error:
        return _internal_error(error)


def _internal_error(error: Exception) -> int:
    import traceback

    traceback.print_exception(error)
    console.print_error("this is a mistake in inkproof: please report it with the lines above and the command")
    return _EXIT_INTERNAL


# -- types of options ----------------------------------------------------------------------------------------------


class _Size(click.ParamType[float]):
    """A share below 1 or a whole number of images."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            size = float(value)
        except ValueError:
            size = -1.0
        if size < 0 or (size >= 1 and not size.is_integer()):
            self.fail(f"{value!r} is neither a share below 1 nor a whole number of images", param, ctx)
        return size


class _Classes(click.ParamType[tuple[str, ...]]):
    """Class names with commas between."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(part.strip() for part in value.split(","))
        if len(names) < 2 or "" in names or len(set(names)) != len(names):
            self.fail(f"{value!r}: give two or more different class names, for instance 3,7", param, ctx)
        return names


class _Shape(click.ParamType[tuple[int, int, int]]):
    """28x28 or 3x32x32."""

    name = "shape"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int, int]:
        if isinstance(value, tuple):
            return value
        parts = value.lower().split("x")
        if len(parts) not in (2, 3) or not all(part.isdigit() and int(part) > 0 for part in parts):
            self.fail(f"{value!r}: give height x width or channels x height x width, for instance 28x28", param, ctx)
        channels, height, width = (int(part) for part in (["1", *parts] if len(parts) == 2 else parts))
        return channels, height, width


class _Picture(click.Path):
    """A picture to write, of a kind that its ending names."""

    name = "picture"
    endings = (".png", ".jpg", ".svg", ".pdf")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if Path(value).suffix.lower() not in self.endings:
            self.fail(f"{value!r}: the name must end in one of {', '.join(self.endings)}", param, ctx)
        return Path(value)


_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")
_shape = click.option("--shape", type=_Shape(), help="Size of the images where the source does not say: 28x28.")
_no_cache = click.option("--no-cache", is_flag=True, help="Neither read nor keep a converted copy of a CSV file.")
_device = click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
_allow = click.option("--allow", multiple=True, metavar="ID", help="Let a finding of this id pass; repeatable.")
_tta = click.option("--tta", is_flag=True, help="Average over each image and its shifts by one pixel.")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="inkproof")
def cli() -> None:
    """Train classifiers for handwritten digits and other small images: audited, measured, provable.

    A SOURCE is one of digits, mnist, fashion-mnist, or a path: a Kaggle CSV, a directory of IDX files, a folder of
    images, an .npz file. `mnist:test` names one part of a source that has several.
    """
    # Findings are shown by `print_findings`, in the place where a reader of the command looks for them.
    warnings.simplefilter("ignore", AuditWarning)


# -- train -----------------------------------------------------------------------------------------------------------


@cli.command()
@click.option("--data", default="digits", show_default=True, metavar="SOURCE", help="Labelled images.")
@click.option("--test", metavar="SOURCE", help="Test images, with or without labels. [default: cut from the data]")
@click.option("--recipe", "recipe_name", metavar="NAME|FILE", help="Recipe by name or TOML file. [default: accurate]")
@click.option("--epochs", type=click.IntRange(min=1), help="Passes over the training images. [default: the recipe's]")
@click.option("--lr", type=click.FloatRange(min=0, min_open=True), help="Learning rate. [default: the recipe's]")
@click.option("--seed", type=int, default=0, show_default=True, help="Of weights, order and augmentation.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Train so many, from SEED on.")
@click.option("--classes", type=_Classes(), metavar="3,7", help="Keep these classes only.")
@_device
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="The run. [default: a new one in runs/]")
@click.option("--resume", is_flag=True, help="Go on with a run that was killed: the one named by --out, or the last.")
@_allow
@click.option("--valid-size", type=_Size(), default=0.1, show_default=True, help="Validation side: share or number.")
@click.option("--test-size", type=_Size(), default=0.2, show_default=True, help="Test side, where there is none.")
@click.option("--split-seed", type=int, default=0, show_default=True, help="Of the split alone.")
@click.option("--all-rows", is_flag=True, help="Train on every labelled image, before a submission; no score.")
@click.option("--patience", type=click.IntRange(min=1), help="Stop after so many epochs without a better valid_loss.")
@click.option("--keep-best", is_flag=True, help="Keep the weights of the epoch with the best valid_loss.")
@click.option("--log", type=click.Path(path_type=Path, dir_okay=False), metavar="CSV", help="History, as it grows.")
@_shape
@_no_cache
@_json
@click.pass_context
def train(
    ctx: click.Context, /, *, as_json: bool, resume: bool, out: Path | None, log: Path | None, **options: Any
) -> int:
    """Train a recipe and leave a run: weights, scores, history, findings."""
    from inkproof.history import History, LiveTable, Row
    from inkproof.runs import DataOptions, TrainingOptions, latest_partial, new_run_path, open_sides, train_run
    from inkproof.runs.directory import begun_with

    if resume:
        out = out or latest_partial()
        recorded = begun_with(out)
        given = {name for name in options if ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE}
        options |= {name: value for name, value in recorded.items() if name not in given}
    recipe = _recipe(options)
    data = DataOptions(
        data=options["data"],
        test=options["test"],
        classes=options["classes"],
        shape=options["shape"],
        valid_size=options["valid_size"],
        test_size=options["test_size"],
        split_seed=options["split_seed"],
        all_rows=options["all_rows"],
        cache=not options["no_cache"],
    )
    sides = open_sides(data)
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
    named = {"train": sides.train, "valid": sides.valid, "test": sides.test}
    counts = ", ".join(f"{len(side):,} {name}" for name, side in named.items() if side is not None)
    channels, height, width = sides.train.shape
    epochs = recipe.epochs_for(len(sides.train))
    cut = "" if epochs == recipe.epochs else f" (of {recipe.epochs}: cut to {recipe.most_images:,} images seen)"
    console.say(
        f"{recipe.name} on {sides.train.source}: {counts} images of {channels}x{height}x{width}, "
        f"{len(sides.train.classes)} classes; {epochs} {'epoch' if epochs == 1 else 'epochs'}{cut}, "
        f"{'seed' if len(seeds) == 1 else 'seeds'} {', '.join(map(str, seeds))}"
    )
    for note in sides.train.notes:
        console.say(f"note: {note}")


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _print_trained(scores: dict[str, Any], run: Path, sides: "Split") -> None:
    for name, side in (("valid", sides.valid), ("test", sides.test)):
        if scores[name] is not None:
            print(console.describe_score(name, scores[name]))
        elif side is not None:
            console.say(f"note: the {name} images have no labels: they are not scored (inkproof predict, submit)")
    if scores["test"] is None and sides.test is None:
        console.say("note: no images were held out for a test, so nothing here says how good the model is on new ones")
    training = scores["training"]
    print(f"trained {_count(training['epochs'], 'epoch')} in {training['seconds']:.1f} s")
    print(f"run: {run}")


# -- lr-find, show -----------------------------------------------------------------------------------------------------


@cli.command("lr-find")
@click.option("--data", default="digits", show_default=True, metavar="SOURCE", help="Labelled images.")
@click.option("--recipe", "recipe_name", metavar="NAME|FILE", help="Recipe by name or TOML file. [default: accurate]")
@click.option("--classes", type=_Classes(), metavar="3,7", help="Keep these classes only.")
@click.option("--seed", type=int, default=0, show_default=True)
@_device
@click.option("--out", type=_Picture(), metavar="FILE.png", help="Draw the curve.")
@_allow
@_shape
@_no_cache
@_json
def find_lr(*, as_json: bool, out: Path | None, **options: Any) -> None:
    """Suggest a learning rate for a recipe on these images."""
    from inkproof.recipes.building import build_learner
    from inkproof.runs import DataOptions, open_sides

    recipe = _recipe(options)
    data = DataOptions(
        options["data"], classes=options["classes"], shape=options["shape"], cache=not options["no_cache"]
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


@cli.command()
@click.argument("source")
@click.option("--classes", type=_Classes(), metavar="3,7", help="Show these classes only.")
@click.option("--out", type=_Picture(), metavar="FILE.png", help="Draw examples.")
@_shape
@_no_cache
@_json
def show(source: str, *, classes: tuple[str, ...] | None, out: Path | None, as_json: bool, **options: Any) -> None:
    """Show what a source holds: sizes, counts of classes, examples with their labels."""
    from inkproof.images import Split
    from inkproof.picture import draw_examples, summarise
    from inkproof.sources import open_images

    opened = open_images(source, shape=options["shape"], cache=not options["no_cache"])
    sides = opened if isinstance(opened, Split) else Split(opened)
    named = {"train": sides.train, "valid": sides.valid, "test": sides.test}
    parts = {name: side for name, side in named.items() if side is not None}
    if classes is not None:
        parts = {name: side.with_classes(classes, rest="drop") for name, side in parts.items()}
    if len(parts) == 1:
        parts = {"": sides.train if classes is None else parts["train"]}
    if out is not None:
        draw_examples(next(iter(parts.values())), out)
        console.say(f"examples: {out}")
    summaries = {name: summarise(images) for name, images in parts.items()}
    if as_json:
        console.print_json(summaries.get("", summaries))
        return
    for name, images in parts.items():
        print(f"{name}: {images!r}" if name else repr(images))
        for note in images.notes:
            print(f"note: {note}")
        if images.labels is not None:
            counts = summaries[name]["per_class"]
            console.print_table(
                ["class", "images"], [(label, f"{count:,}") for label, count in counts.items()], numbers=["images"]
            )


# -- predict, submit ---------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="CSV", help="[default: printed]")
@click.option("--proba", is_flag=True, help="Add the probability of each class.")
@_tta
@_device
@_shape
@_no_cache
def predict(run: Path, source: str, *, out: Path | None, proba: bool, tta: bool, **options: Any) -> None:
    """Predict the class of each image of SOURCE with a run."""
    from inkproof.files import write_text
    from inkproof.runs import open_run

    opened = open_run(run, device=options["device"])
    images = opened.check(_images(source, options))
    probabilities = opened.probabilities(images, tta=tta)
    labels = probabilities.argmax(dim=1).tolist()
    columns = ["id", "label"] + [f"p_{name}" for name in opened.classes] * proba
    rows = [[str(identity), opened.classes[label]] for identity, label in zip(images.ids, labels, strict=True)]
    if proba:
        for row, shares in zip(rows, probabilities.tolist(), strict=True):
            row += [f"{share:.6f}" for share in shares]
    text = _csv([columns, *rows])
    if out is None:
        print(text, end="")
    else:
        write_text(out, text)
        console.say(f"{len(images):,} predictions: {out}")
    if images.labels is not None:
        correct = int((images.labels == labels).sum())
        console.say(f"{correct:,} of {len(images):,} agree with the labels of {source}: {correct / len(images):.2%}")


@cli.command()
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="CSV")
@click.option("--sample", type=click.Path(path_type=Path, dir_okay=False), metavar="CSV", help="Sample submission.")
@_tta
@_device
@_allow
@_shape
@_no_cache
def submit(run: Path, source: str, *, out: Path, sample: Path | None, tta: bool, **options: Any) -> None:
    """Write the submission of a run for the test images SOURCE."""
    from inkproof.audit import act_on, check_rows
    from inkproof.runs import open_run
    from inkproof.submission import read_sample, write_submission

    opened = open_run(run, device=options["device"])
    images = _images(source, options)
    prescribed = None if sample is None else read_sample(sample)
    ids = [str(identity) for identity in images.ids]
    findings = act_on(check_rows(len(images), ids, prescribed), allow=options["allow"])
    labels = [opened.classes[label] for label in opened.predict(images, tta=tta).tolist()]
    write_submission(out, labels, ids, prescribed if not findings else None)
    console.print_findings(finding.as_dict() for finding in findings)
    print(f"submission: {out} ({len(labels):,} rows)")


def _images(source: str, options: dict[str, Any]) -> "ImageSet":
    from inkproof.sources import open_one

    return open_one(source, shape=options["shape"], cache=not options["no_cache"])


def _csv(rows: list[list[str]]) -> str:
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


# -- recipes -----------------------------------------------------------------------------------------------------------


@cli.command()
@click.argument("name", required=False)
@_json
def recipes(name: str | None, *, as_json: bool) -> None:
    """List the named recipes, or print one as the TOML file to start your own from."""
    from inkproof.recipes import DEFAULT, load_recipe, named_recipes

    if name is not None:
        recipe = load_recipe(name)
        if as_json:
            console.print_json(recipe.model_dump(mode="json"))
        else:
            print(recipe.to_toml(), end="")
        return
    known = named_recipes().values()
    if as_json:
        console.print_json({recipe.name: recipe.model_dump(mode="json") for recipe in known})
        return
    marked: Callable[[str], str] = lambda name: f"{name} (default)" if name == DEFAULT else name  # noqa: E731
    console.print_table(["recipe", "what it is"], [(marked(recipe.name), recipe.summary) for recipe in known])
