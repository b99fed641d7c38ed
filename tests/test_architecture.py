"""The structure that must not bend: direction of imports, what costs start-up time, what the package shows."""

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import inkproof

SOURCE = Path(inkproof.__file__).parent


def python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout


def test_importing_inkproof_loads_nothing_heavy() -> None:
    loaded = python("import sys, inkproof; print(*sorted(sys.modules))").split()
    assert not {"torch", "numpy", "pydantic", "click", "rich", "sklearn", "matplotlib"} & set(loaded)


def test_names_that_do_without_torch_load_none() -> None:
    names = "for name in inkproof._WITHOUT_TORCH: getattr(inkproof, name)"
    assert "torch" not in python(f"import sys, inkproof\n{names}\nprint(*sys.modules)").split()


def test_the_version_is_that_of_the_package() -> None:
    assert inkproof.__version__ == version("inkproof")


def test_help_loads_no_torch() -> None:
    code = "import sys; from inkproof.cli import main; main(['--help']); print(*sorted(sys.modules))"
    assert not {"torch", "numpy", "sklearn", "matplotlib"} & set(python(code).split())


def test_listing_recipes_loads_no_torch() -> None:
    code = "import sys; from inkproof.cli import main; main(['recipes']); print(*sorted(sys.modules))"
    assert "torch" not in python(code).split()


def test_every_public_name_can_be_had_and_is_documented() -> None:
    for name in inkproof.__all__:
        assert getattr(inkproof, name).__doc__, name


def test_the_public_names_are_these() -> None:
    assert sorted(inkproof.__all__) == inkproof.__all__ == dir(inkproof)


def test_every_file_says_what_it_is_for_and_stays_readable() -> None:
    for path in SOURCE.rglob("*.py"):
        lines = path.read_text(encoding="utf-8").splitlines()
        assert lines[0].startswith(('"""', 'r"""')), f"{path} opens without saying what it is for"
        assert len(lines) <= 500, f"{path} has {len(lines)} lines: it wants to be two files"


def test_imports_go_one_way() -> None:
    from importlinter.cli import EXIT_STATUS_SUCCESS, lint_imports

    config = SOURCE.parents[1] / "pyproject.toml"
    assert lint_imports(config_filename=str(config), no_cache=True) == EXIT_STATUS_SUCCESS
