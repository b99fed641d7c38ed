"""A short process starts and ends quickly."""

import platform
import subprocess
import sys
from importlib.metadata import version

import pytest

MANY = 50_000


def said(code: str) -> list[str]:
    return subprocess.check_output([sys.executable, "-c", code], text=True).split()


@pytest.mark.parametrize(
    "first",
    [
        "from inkproof import Learner",
        "from inkproof.notebook import *",
        "from inkproof.startup import import_torch\nimport_torch()",
    ],
)
def test_what_the_import_of_torch_made_is_left_alone_and_the_collector_is_on(first: str) -> None:
    count, enabled = said(f"import gc\n{first}\nprint(gc.get_freeze_count(), gc.isenabled())")
    assert int(count) > MANY
    assert enabled == "True"


def test_nothing_is_done_where_torch_is_there_already() -> None:
    assert said("import gc, torch; from inkproof import Learner; print(gc.get_freeze_count())") == ["0"]


def test_a_collector_that_is_off_stays_off() -> None:
    code = "import gc; gc.disable(); from inkproof import Learner; print(gc.get_freeze_count(), gc.isenabled())"
    assert said(code) == ["0", "False"]


def test_garbage_of_before_is_not_kept() -> None:
    code = """
import gc, weakref
class Thing: pass
thing = Thing(); thing.itself = thing; watch = weakref.ref(thing); del thing
from inkproof import Learner
print(watch() is None)
"""
    assert said(code) == ["True"]


@pytest.mark.skipif(not version("torch").startswith("2.13"), reason="another torch may ask for other modules")
def test_inspect_knows_what_torch_asks_it_for_and_looks_through_no_other_modules() -> None:
    code = """
import inspect, sys
from inkproof import Learner
known = [(sys.modules[name].__file__ == file) for file, name in inspect.modulesbyfile.items() if name in sys.modules]
print(all(known), len(known))
"""
    right, count = said(code)
    assert right == "True"
    assert 0 < int(count) < 50, "torch asks for other modules than those that `inkproof.startup` names"


def test_a_command_ends_with_its_code_its_handlers_and_all_it_printed() -> None:
    code = """
import atexit, sys, torch
from inkproof.startup import end_with_python
atexit.register(print, "handled")
end_with_python()
print("said " * 50_000)
sys.exit(3)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ended.returncode == 3
    assert ended.stdout.split() == ["said"] * 50_000 + ["handled"]
    assert ended.stderr == ""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="elsewhere libraries take themselves apart")
def test_a_command_does_not_wait_for_torch_to_take_itself_apart() -> None:
    """What was registered with the C library before is not called any more."""
    code = """
import ctypes, inkproof.startup, torch
libc = ctypes.CDLL(None)
libc.on_exit(ctypes.cast(libc.abort, ctypes.c_void_p), None)
inkproof.startup.end_with_python()
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
