"""What the documents say holds: examples run, commands and recipes they name exist."""

import doctest
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import inkproof
from inkproof.cli import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = [module.name for module in pkgutil.walk_packages(inkproof.__path__, "inkproof.")]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_in_docstrings_run(name: str) -> None:
    module = import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"np": import_module("numpy")})
    assert failed == 0


@pytest.mark.parametrize("block", re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL))
def test_the_readmes_python_runs(block: str) -> None:
    exec(compile(block, "README.md", "exec"), {})


def test_every_command_the_readme_names_exists() -> None:
    named = set(re.findall(r"^    inkproof ([a-z-]+)", README, flags=re.MULTILINE))
    assert {"train", "submit", "show"} <= named <= set(cli.commands)


def test_the_readme_names_every_room() -> None:
    rooms = [path for path in Path(inkproof.__file__).parent.iterdir() if not path.name.startswith("__")]
    for room in rooms:
        assert room.suffix not in (".py", "") or f"{room.name}" in README, room.name
