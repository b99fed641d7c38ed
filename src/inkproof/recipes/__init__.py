"""Recipes: the schema, the named recipes (TOML files under `named/`), and the building of trainings from them."""

import difflib
from functools import cache
from importlib import resources
from pathlib import Path

from inkproof.errors import InputError
from inkproof.recipes.ladder import RUNGS, Rung
from inkproof.recipes.recipe import Recipe, parse_recipe, read_toml

__all__ = ["DEFAULT", "RUNGS", "Recipe", "Rung", "load_recipe", "named_recipes", "parse_recipe"]

DEFAULT = "accurate"


@cache
def named_recipes() -> dict[str, Recipe]:
    """The recipes that come with inkproof, by name, simplest first."""
    order = [rung.recipe for rung in RUNGS]
    folder = resources.files("inkproof.recipes") / "named"
    found = []
    for entry in folder.iterdir():
        if entry.name.endswith(".toml"):
            with resources.as_file(entry) as path:
                found.append(parse_recipe(read_toml(path), where=entry.name))
    return {recipe.name: recipe for recipe in sorted(found, key=lambda recipe: order.index(recipe.name))}


def load_recipe(name: str | Path) -> Recipe:
    """A named recipe, or the one in a TOML file.

    Raises:
        InputError: no such name or file, or a file that is no recipe.
    """
    known = named_recipes()
    if str(name) in known:
        return known[str(name)]
    path = Path(name)
    if path.suffix == ".toml":
        return parse_recipe(read_toml(path), where=str(path))
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else "give a name or a .toml file."
    raise InputError(f"unknown recipe {str(name)!r}: {hint} Known: {', '.join(known)}")
