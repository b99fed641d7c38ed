"""What is read ahead of torch's import changes nothing but the time that it takes."""

import _ctypes
import json
import os
import shutil
import subprocess
import sys
from importlib.metadata import version
from importlib.util import cache_from_source
from pathlib import Path
from py_compile import compile as compile_to_bytecode
from typing import Any

import pytest

from inkproof.read_ahead import _Loader, read_ahead

linux = pytest.mark.skipif(sys.platform != "linux", reason="torch's library is no .so")

QUICKLY = "from inkproof.startup import import_torch\nimport_torch()\nimport torch"
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


def said(code: str, *, path: Path | None = None) -> str:
    """What a new process prints that has a folder before all others in its path."""
    paths = [str(path)] * (path is not None) + os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return subprocess.check_output(
        [sys.executable, "-c", code], text=True, stderr=subprocess.STDOUT, timeout=60,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), "PYTHONDONTWRITEBYTECODE": ""},
    )  # fmt: skip


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
    said("import torch", path=tmp_path)
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
class Loader(ahead._Loader):
    def __init__(self, *values): super().__init__(*values); made.append(self)
ahead._Loader = Loader
{QUICKLY}
loaders = [type(module.__loader__) for name, module in list(sys.modules.items())
           if name.split(".")[0] == "torch" and hasattr(module, "__loader__") and hasattr(module, "__file__")]
print(len(loaders), loaders.count(Loader), len(made))
"""
    count, used, read = map(int, said(code).split())
    assert used > 0.75 * count
    assert used > 0.75 * read


def test_pythons_finders_are_as_before() -> None:
    code = f"import sys; before = list(sys.meta_path)\n{QUICKLY}\nprint(sys.meta_path == before)"
    assert said(code).strip() == "True"


def test_the_source_of_what_was_read_is_found() -> None:
    code = f"import inspect\n{QUICKLY}\nprint('class Linear' in inspect.getsource(torch.nn.Linear))"
    assert said(code).strip() == "True"


@linux
def test_what_is_read_is_imported_and_what_cannot_be_read_is_let_be(torch_of_ours: Path) -> None:
    broken = Path(cache_from_source(str(torch_of_ours / "torch" / "broken.py")))
    broken.write_bytes(Path(cache_from_source(str(torch_of_ours / "torch" / "serialization.py"))).read_bytes()[:20])
    (torch_of_ours / "typing_extensions.py").write_text("raise ValueError")
    code = QUICKLY + READ + "print('pickletools' in sys.modules, torch.serialization.there)"
    assert said(code, path=torch_of_ours).split() == ["torch.serialization", "torch", "True", "True"]


@linux
def test_a_module_without_bytecode_is_not_compiled_before_torch_imports_it(torch_of_ours: Path) -> None:
    (torch_of_ours / "torch" / "never.py").write_text("there = True\n")
    said(QUICKLY, path=torch_of_ours)
    assert not Path(cache_from_source(str(torch_of_ours / "torch" / "never.py"))).exists()


@linux
def test_the_library_is_loaded(torch_of_ours: Path) -> None:
    code = (
        QUICKLY
        + """
import time
for _ in range(500):
    loaded = "libtorch_cpu.so" in open("/proc/self/maps").read()
    if loaded: break
    time.sleep(0.01)
print(loaded)
"""
    )
    assert said(code, path=torch_of_ours).split() == ["True"]


@linux
def test_torch_itself_is_read_once() -> None:
    assert said(f"{QUICKLY}\nprint(type(torch.__loader__).__name__)").split() == ["_Loader"]


@linux
@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.1, 0.15])
def test_a_process_that_ends_meanwhile_ends_as_ever(seconds: float) -> None:
    """A library whose constructors still run must not be taken apart."""
    code = f"import sys, time, inkproof.read_ahead as a; a.begin_to_load_torch(); time.sleep({seconds}); sys.exit(3)"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert (ended.returncode, ended.stderr) == (3, "")


@linux
def test_without_threads_torch_is_imported_as_ever(torch_of_ours: Path) -> None:
    code = (
        "import threading\ndef refuse(self): raise RuntimeError('no more threads')\nthreading.Thread.start = refuse\n"
    )
    assert said(f"{code}{QUICKLY}\nprint(torch.serialization.there)", path=torch_of_ours).split() == ["True"]


@linux
def test_what_was_read_in_vain_is_not_kept() -> None:
    code = f"""
import pickle, sys, weakref, inkproof.read_ahead as ahead
made = []
class Loader(ahead._Loader):
    def __init__(self, *values): super().__init__(*values); made.append(weakref.ref(self))
ahead._Loader = Loader
{QUICKLY}
kept = {{loader().name for loader in made if loader() is not None}}
print(len(made) > len(kept) > 0, kept <= set(sys.modules), len(pickle.dumps(torch.__spec__)) < 1000)
"""
    assert said(code).split() == ["True"] * 3


def test_code_is_read_once_before_and_then_as_ever(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text("there = True\n")
    compile_to_bytecode(str(file))
    loader = _Loader("some", str(file))
    file.write_text("there = False  # by now\n")
    first, second = {}, {}
    exec(loader.get_code("some"), first)
    exec(loader.get_code("some"), second)
    assert (first["there"], second["there"]) == (True, False)


def test_code_whose_bytecode_is_older_than_its_source_is_not_read_before(tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text("there = True\n")
    compile_to_bytecode(str(file))
    file.write_text("there = False  # by now\n")
    with pytest.raises(ImportError, match=r"some\.py has no bytecode of its present source"):
        _Loader("some", str(file))


@linux
def test_finders_that_a_user_put_before_pythons_come_first(torch_of_ours: Path) -> None:
    code = """
import sys
from importlib.machinery import PathFinder, SourceFileLoader
class Watched(SourceFileLoader): pass
class Finder:
    def find_spec(name, path=None, target=None):
        if name == "torch.serialization":
            spec = PathFinder.find_spec(name, path)
            spec.loader = Watched(name, spec.origin)
            return spec
sys.meta_path.insert(sys.meta_path.index(PathFinder), Finder)
"""
    code += QUICKLY + "\nprint(type(torch.serialization.__loader__).__name__)"
    assert said(code, path=torch_of_ours).split() == ["Watched"]


def test_a_list_of_finders_that_the_block_replaced_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = sys.meta_path
    replaced = [*before, before[0]]
    with read_ahead(tmp_path):
        monkeypatch.setattr(sys, "meta_path", replaced)
    assert sys.meta_path == replaced


@pytest.mark.parametrize("lacks", ["lib/libtorch_global_deps.so", "lib/libtorch_cpu.so", "__pycache__"])
def test_nothing_is_read_without_torchs_libraries_or_its_bytecode(torch_of_ours: Path, lacks: str) -> None:
    away = torch_of_ours / "torch" / lacks
    if away.is_dir():
        shutil.rmtree(away)
    else:
        away.unlink()
    code = QUICKLY + READ + "print(torch.serialization.there)"
    assert said(code, path=torch_of_ours).split() == ["True"]


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
    assert said(code, path=torch_of_ours).split() == ["Watched"] * 2


@linux
def test_a_thread_that_imports_the_same_module_meanwhile_does_not_wait_for_ever(torch_of_ours: Path) -> None:
    """Python asks finders under a lock that the other thread needs for its own imports."""
    (torch_of_ours / "pickletools.py").write_text("import time; time.sleep(0.5); import colorsys\n")
    code = "import threading, time, inkproof.startup\n"
    code += "threading.Thread(target=__import__, args=('pickletools',), daemon=True).start()\ntime.sleep(0.2)\n"
    code += QUICKLY + "\nprint(torch.serialization.there)"
    assert said(code, path=torch_of_ours).split() == ["True"]


def test_without_torch_the_error_is_pythons_own(tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('no such library')")
    ended = subprocess.run(
        [sys.executable, "-c", QUICKLY], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )  # fmt: skip
    assert ended.returncode == 1
    assert "ImportError: no such library" in ended.stderr
