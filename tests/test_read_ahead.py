"""What is read ahead of torch's import changes nothing but the time that it takes."""

import _ctypes
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

linux = pytest.mark.skipif(sys.platform != "linux", reason="torch's library is no .so")

QUICKLY = "from inkproof.startup import quick_import\nwith quick_import(): import torch"
# Each module with what Python's import wrote into it.
MODULES = """
import json, sys
names = ("__file__", "__cached__", "__package__", "__path__")
of = lambda module: [str(getattr(module, name, None)) for name in names] + [str(getattr(module.__spec__, "origin", 0))]
print(json.dumps({name: of(module) for name, module in sys.modules.items() if name.split(".")[0] == "torch"
                  and type(module).__name__ == "module"}))
"""
READ = """
import sys
from inkproof.read_ahead import _Loader
print(*(name for name, module in list(sys.modules.items()) if type(getattr(module, "__loader__", None)) is _Loader))
"""


def said(code: str, **environment: str) -> str:
    return subprocess.check_output(
        [sys.executable, "-c", code], text=True, env={**os.environ, **environment}, stderr=subprocess.STDOUT, timeout=60
    )


@pytest.fixture
def torch_of_ours(tmp_path: Path) -> Path:
    """A torch of three modules, of which it imports one, and of libraries that do nothing; with its bytecode."""
    library = tmp_path / "torch" / "lib"
    library.mkdir(parents=True)
    for name in ("libtorch_global_deps.so", "libtorch_cpu.so"):
        shutil.copy(_ctypes.__file__, library / name)
    (tmp_path / "torch" / "__init__.py").write_text("from torch import serialization\n")
    (tmp_path / "torch" / "serialization.py").write_text("there = True\n")
    (tmp_path / "torch" / "broken.py").write_text("there = \n")
    said("import torch", PYTHONPATH=str(tmp_path), PYTHONDONTWRITEBYTECODE="")
    return tmp_path


@linux
def test_modules_are_as_they_are_without() -> None:
    ahead: dict[str, Any] = json.loads(said(QUICKLY + MODULES))
    assert ahead == json.loads(said("import torch" + MODULES))
    assert len(ahead) > 500


@linux
@pytest.mark.skipif(not version("torch").startswith("2.13"), reason="another torch may have other modules")
def test_most_of_what_torch_imports_was_read_and_most_of_what_was_read_is_imported() -> None:
    code = f"""
import sys, inkproof.read_ahead as ahead
made = []
class Finder(ahead._Finder):
    def __init__(self): super().__init__(); made.append(self)
ahead._Finder = Finder
{QUICKLY}
loaders = [type(module.__loader__) for name, module in list(sys.modules.items())
           if name.split(".")[0] == "torch" and hasattr(module, "__loader__") and hasattr(module, "__file__")]
print(len(loaders), loaders.count(ahead._Loader), sum(len(finder._read) for finder in made))
"""
    count, read, in_vain = map(int, said(code).split())
    assert read > 0.75 * count
    assert in_vain < 0.3 * read


def test_pythons_finders_are_as_before() -> None:
    code = f"import sys; before = list(sys.meta_path)\n{QUICKLY}\nprint(sys.meta_path == before)"
    assert said(code).strip() == "True"


def test_the_source_of_what_was_read_is_found() -> None:
    code = f"import inspect\n{QUICKLY}\nprint('class Linear' in inspect.getsource(torch.nn.Linear))"
    assert said(code).strip() == "True"


@linux
def test_what_is_read_is_imported_and_what_cannot_be_read_is_let_be(torch_of_ours: Path) -> None:
    assert set(said(QUICKLY + READ, PYTHONPATH=str(torch_of_ours)).split()) == {"torch.serialization"}


@pytest.mark.parametrize("lacks", ["lib/libtorch_global_deps.so", "lib/libtorch_cpu.so", "__pycache__"])
def test_nothing_is_read_without_torchs_libraries_or_its_bytecode(torch_of_ours: Path, lacks: str) -> None:
    away = torch_of_ours / "torch" / lacks
    if away.is_dir():
        shutil.rmtree(away)
    else:
        away.unlink()
    code = QUICKLY + READ + "print(torch.serialization.there)"
    assert said(code, PYTHONPATH=str(torch_of_ours)).split() == ["True"]


@linux
def test_a_torch_that_is_loaded_in_another_way_stays_so(torch_of_ours: Path) -> None:
    code = """
import sys
from importlib.machinery import EXTENSION_SUFFIXES, ExtensionFileLoader, FileFinder, SourceFileLoader
class Watched(SourceFileLoader): pass
sys.path_hooks.insert(0, FileFinder.path_hook((ExtensionFileLoader, EXTENSION_SUFFIXES), (Watched, [".py"])))
sys.path_importer_cache.clear()
"""
    code += QUICKLY + READ + "print(*(type(each.__loader__).__name__ for each in (torch, torch.serialization)))"
    assert said(code, PYTHONPATH=str(torch_of_ours)).split() == ["Watched"] * 2


@linux
def test_a_thread_that_imports_the_same_module_meanwhile_does_not_wait_for_ever(torch_of_ours: Path) -> None:
    """Python 3.11 asks finders under a lock that the other thread needs for its own imports."""
    (torch_of_ours / "pickletools.py").write_text("import time; time.sleep(0.5); import colorsys\n")
    code = "import threading, time, inkproof.startup\n"
    code += "threading.Thread(target=__import__, args=('pickletools',), daemon=True).start()\ntime.sleep(0.2)\n"
    code += QUICKLY + "\nprint(torch.serialization.there)"
    assert said(code, PYTHONPATH=str(torch_of_ours)).split() == ["True"]


def test_without_torch_the_error_is_pythons_own(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no such library')")
    ended = subprocess.run(
        [sys.executable, "-c", QUICKLY], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert ended.returncode == 1
    assert "ImportError: no such library" in ended.stderr
