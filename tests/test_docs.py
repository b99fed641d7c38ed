"""What the documents say holds: examples run, commands and recipes they name exist."""

import doctest
import json
import pkgutil
import re
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from matplotlib import pyplot

import inkproof
from inkproof.cli import cli
from inkproof.recipes import RUNGS, load_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MODULES = [module.name for module in pkgutil.walk_packages(inkproof.__path__, "inkproof.")]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_examples_in_docstrings_run(name: str) -> None:
    module = import_module(name)
    failed, _ = doctest.testmod(module, extraglobs={"np": import_module("numpy")})
    assert failed == 0


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_the_python_of_a_page_runs_from_top_to_bottom(page: Path) -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        exec(compile(block, page.name, "exec"), names)
    pyplot.close("all")


def test_every_picture_and_page_that_the_docs_point_to_exists() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        targets = re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        assert [target for target in targets if not (page.parent / target).exists()] == []


def _script(name: str) -> ModuleType:
    """A script of docs/, as a module."""
    spec = spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_the_page_of_detection_is_what_was_measured() -> None:
    page = (ROOT / "docs" / "detection.md").read_text(encoding="utf-8")
    assert page == _script("make_detection_page").write_page(), "run docs/make_detection_page.py"


def test_the_page_of_benchmarks_is_what_was_measured() -> None:
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert page == _script("make_benchmarks_page").write_page(), "run docs/make_benchmarks_page.py"


def test_the_page_of_findings_is_the_catalogue() -> None:
    page = (ROOT / "docs" / "findings.md").read_text(encoding="utf-8")
    assert page == _script("make_findings_page").write_page(), "run docs/make_findings_page.py"


def test_the_page_of_the_ladder_is_what_was_measured_and_holds_every_rung() -> None:
    made = _script("make_ladder_page")
    page = (ROOT / "docs" / "ladder.md").read_text(encoding="utf-8")
    assert page == made.write_page(), "run docs/make_ladder_page.py"
    for ladder in json.loads((ROOT / "docs" / "ladders.json").read_text(encoding="utf-8")).values():
        measured = [(row["rung"], row["kind"], row["why"], row["summary"]) for row in ladder["rungs"]]
        now = [(rung.recipe, rung.kind, rung.why, load_recipe(rung.recipe).summary) for rung in RUNGS if not rung.long]
        assert measured == now, "measure the ladder again"


def test_every_command_the_readme_names_exists() -> None:
    named = set(re.findall(r"^    inkproof ([a-z-]+)", README, flags=re.MULTILINE))
    assert {"train", "submit", "show"} <= named <= set(cli.commands)


def test_the_readme_names_every_room() -> None:
    rooms = [path for path in Path(inkproof.__file__).parent.iterdir() if not path.name.startswith("__")]
    for room in rooms:
        assert room.suffix not in (".py", "") or f"{room.name}" in README, room.name
