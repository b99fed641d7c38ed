"""The commands that show what there is: `show` a source, list `recipes`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from inkproof import console
from inkproof.cli.options import Classes, Picture, json_option, no_cache_option, shape_option


@click.command()
@click.argument("source")
@click.option("--classes", type=Classes(), metavar="3,7", help="Show these classes only.")
@click.option("--out", type=Picture(), metavar="FILE.png", help="Draw examples.")
@shape_option
@no_cache_option
@json_option
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


@click.command()
@click.argument("name", required=False)
@json_option
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
