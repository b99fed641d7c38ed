"""Starting and ending quickly: what the garbage collector need not look at, and what a command need not take apart.

torch makes hundreds of thousands of objects when it is imported, and they live as long as the process. Looking for
garbage among them, while they are made and once more when the interpreter ends, takes a third of the processor time of
`python -c "import torch"`: 1.28 s, and 0.86 s without (2 cores of an AMD EPYC, November 2026).

While it is imported torch asks `inspect` a hundred times and more for the module of a running function, and `inspect`
resolves the links of all modules' files to tell: a twentieth of what is left (2 cores of an Intel Xeon, November 2026).

When a process ends, torch's libraries unregister their operators one by one: 0.11 to 0.14 s (2 cores of an Intel Xeon,
November 2026).
"""

import ctypes
import gc
import inspect
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

_ASKED_FOR = ("torch._library.custom_ops", "torch._native.registry", "torch.utils._debug_mode._mode")  # torch 2.13


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Inside the block, in which torch is imported for the first time, no garbage is looked for, nor modules by file.

    Afterwards the collector leaves alone what was there at the end of the block (`gc.freeze`, which `gc.unfreeze`
    undoes), and is on where it was on before. Where torch is there already, nothing of this is done.
    """
    if "torch" in sys.modules or not gc.isenabled():
        yield
        return
    _name_files_of_torch()
    gc.collect()  # what is garbage now must not be kept with the rest
    gc.disable()
    try:
        yield
    finally:
        if "torch" in sys.modules:
            gc.freeze()
        gc.enable()


def _name_files_of_torch() -> None:
    """Write down which modules are in the files that torch will ask for, where `inspect` keeps what it has found.

    The entries are those that it would write itself; for what another torch asks it looks as ever.
    """
    spec = find_spec("torch")
    if spec is None or spec.origin is None:
        return
    above = Path(spec.origin).parent.parent
    for name in _ASKED_FOR:
        file = above.joinpath(*name.split(".")).with_suffix(".py")
        inspect.modulesbyfile.setdefault(str(file), name)


def end_with_python() -> None:
    """From here on the process ends as soon as Python has ended: after its exit handlers, files and output.

    For a command's own process alone, which knows what it has loaded: what libraries in C would do after that is left
    out, such as torch's taking itself apart, but also a file that HDF5 would still write. Nothing is done without
    torch, or where the C library is not glibc.
    """
    if "torch" in sys.modules and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)  # with the exit code; the latest runs first
