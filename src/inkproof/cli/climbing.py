"""The command `ladder`: every rung on the same data, one table."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from inkproof import console
from inkproof.cli.options import (
    Classes,
    Names,
    Size,
    TorchCommand,
    allow_option,
    device_option,
    json_option,
    no_cache_option,
    shape_option,
)
from inkproof.errors import Interrupted


@click.command(cls=TorchCommand)
@click.option("--data", default="digits", show_default=True, metavar="SOURCE", help="Labelled images.")
@click.option("--test", metavar="SOURCE", help="Labelled test images. [default: cut from the data]")
@click.option("--rungs", type=Names(), metavar="A,B", help="Only these rungs. [default: all that fit but best]")
@click.option("--seed", type=int, default=0, show_default=True, help="The first seed.")
@click.option("--seeds", type=click.IntRange(min=1), default=1, show_default=True, help="Train so many, from SEED on.")
@click.option("--classes", type=Classes(), metavar="3,7", help="Keep these classes only.")
@device_option
@click.option("--out", type=click.Path(path_type=Path), metavar="DIR", help="[default: a new directory in runs/]")
@click.option("--resume", is_flag=True, help="Go on with the ladder in --out that was begun.")
@allow_option
@click.option("--valid-size", type=Size(), default=0.2, show_default=True, help="Validation side: share or number.")
@click.option("--test-size", type=Size(), default=0.2, show_default=True, help="Test side, where there is none.")
@click.option("--split-seed", type=int, default=0, show_default=True, help="Of the split alone.")
@shape_option
@no_cache_option
@json_option
def ladder(*, as_json: bool, out: Path | None, resume: bool, rungs: tuple[str, ...] | None, **options: Any) -> int:
    """Train every rung of the ladder that fits the data, but `best`, and show one table."""
    from inkproof.picture import draw_ladder
    from inkproof.runs import LADDER_CHART, DataOptions, TrainingOptions, climb, fitting_rungs, new_run_path, open_sides

    data = DataOptions(
        data=options["data"],
        test=options["test"],
        classes=options["classes"],
        shape=options["shape"],
        valid_size=options["valid_size"],
        test_size=options["test_size"],
        split_seed=options["split_seed"],
        labelled_test=True,
        cache=not options["no_cache"],
    )
    sides = open_sides(data)
    if data.test is not None and sides.test is not None and sides.test.source == sides.train.source:
        console.say(f"note: {data.test} has no labels to score on: the test side is cut from the data instead")
    chosen = fitting_rungs(sides, rungs)
    if resume and out is None:
        raise click.UsageError("--resume needs --out, the directory of the ladder that was begun")
    out = out or new_run_path("ladder", options["data"])
    seeds = tuple(range(options["seed"], options["seed"] + options["seeds"]))
    console.say(f"{len(chosen)} rungs on {console.describe_sides(sides)}, {console.describe_seeds(seeds)}: {out}")
    table = climb(
        sides,
        chosen,
        out,
        options=TrainingOptions(seeds=seeds, device=options["device"], allow=frozenset(options["allow"])),
        command=options,
        resume=resume,
        on_progress=lambda progress: console.show_progress(
            "[{number}/{rungs}] {rung}: seed {seed}, epoch {epoch} of {epochs}".format(**asdict(progress))
        ),
        on_rung=lambda row: console.say(f"{row['rung']}: {console.describe_accuracy(row['test'] or row['valid'])}"),
    )
    draw_ladder(table, out / LADDER_CHART)
    if as_json:
        console.print_json(table | {"out": str(out)})
    else:
        console.print_ladder(table)
        print(f"table: {out / 'ladder.json'}, {out / 'ladder.csv'}; chart: {out / LADDER_CHART}")
    return Interrupted.exit_code if table["interrupted"] else 0
