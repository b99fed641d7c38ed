"""A short process starts and ends quickly: the garbage collector leaves alone what torch's import made."""

import subprocess
import sys

import pytest

MANY = 50_000


def said(code: str) -> list[str]:
    return subprocess.check_output([sys.executable, "-c", code], text=True).split()


@pytest.mark.parametrize(
    "first",
    ["from inkproof import Learner", "from inkproof.startup import collector_at_rest as c\nwith c(): import torch"],
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
