"""Starting and ending quickly: what need not be done while torch is imported, nor when a command is done.

torch makes hundreds of thousands of objects when it is imported, and they live as long as the process. Looking for
garbage among them, while they are made and once more when the interpreter ends, takes a third of the processor time of
`python -c "import torch"`: 1.28 s, and 0.86 s without (2 cores of an AMD EPYC, November 2026).

For each of its kernels in Python it asks `inspect` for the module that registers it, which is found by the files of all
modules: 5 % of what is left (2 cores of an Intel Xeon, November 2026). When the process ends it unregisters all of its
operators, one by one: 0.12 s there.
"""

import ctypes
import gc
import inspect
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def importing_torch() -> Iterator[None]:
    """Inside the block torch is imported for the first time; where it is there already, nothing of this is done.

    No garbage is looked for, and afterwards the collector leaves alone what was there at the end of the block
    (`gc.freeze`, which `gc.unfreeze` undoes). It is on where it was on before; where it was off, it is let be.
    """
    if "torch" in sys.modules:
        yield
        return
    with _modules_by_name(), _collector_at_rest():
        yield


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    if not gc.isenabled():
        yield
        return
    gc.collect()  # what is garbage now must not be kept with the rest
    gc.disable()
    try:
        yield
    finally:
        if "torch" in sys.modules:
            gc.freeze()
        gc.enable()


@contextmanager
def _modules_by_name() -> Iterator[None]:
    """Inside the block `inspect.getmodule` finds the module of a frame by the name that its globals give."""
    by_file = inspect.getmodule

    def getmodule(object: object, _filename: str | None = None) -> ModuleType | None:  # noqa: A002  # inspect's name
        named = sys.modules.get(object.f_globals.get("__name__", "")) if inspect.isframe(object) else None
        return by_file(object, _filename) if named is None else named

    inspect.getmodule = getmodule
    try:
        yield
    finally:
        inspect.getmodule = by_file


def end_with_python() -> None:
    """From here on the process ends as soon as Python has ended, after exit handlers, files and output.

    For a command's own process alone: what libraries in C that were loaded before would still do is left out, and with
    it that torch takes itself apart. Nothing is done without torch, or where the C library is not glibc.
    """
    if "torch" in sys.modules and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)  # with the exit code; the latest runs first
