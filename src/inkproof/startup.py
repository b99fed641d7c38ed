"""Starting and ending quickly: where nothing need be looked for, and what a command need not take apart.

torch makes hundreds of thousands of objects when it is imported, and they live as long as the process. Looking for
garbage among them, while they are made and once more when the interpreter ends, takes a third of the processor time of
`python -c "import torch"`: 1.28 s, and 0.86 s without (2 cores of an AMD EPYC, November 2026).

While it is imported torch asks `inspect` which module a running function is from, and to tell `inspect` resolves the
links of all modules' files: a twentieth of what is left (2 cores of an Intel Xeon, November 2026).

When a process ends, torch's libraries unregister their operators one by one: 0.11 to 0.14 s (2 cores of an Intel Xeon,
November 2026).
"""

import ctypes
import gc
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from inkproof.read_ahead import begin_to_load_torch, read_ahead

_ASKED_FOR = ("torch._library.custom_ops", "torch._native.registry", "torch.utils._debug_mode._mode")  # torch 2.13


def import_torch() -> None:
    """Import torch: sooner than Python would, and otherwise the same.

    No garbage is looked for, and afterwards none among what is there by then (`gc.freeze`, which `gc.unfreeze` undoes);
    a collector that is off stays off. No module is looked for by its file, and torch's modules are read while its
    library is loaded. Where torch is there already, nothing is done.
    """
    if "torch" in sys.modules:
        return
    folder = begin_to_load_torch()
    with _collector_at_rest(), nullcontext() if folder is None else read_ahead(folder):
        _name_files_of_torch()
        import_module("torch")


@contextmanager
def _collector_at_rest() -> Iterator[None]:
    """No garbage is looked for; once torch is there, what was there at the end of the block is left alone for good."""
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


def _name_files_of_torch() -> None:
    """Write down which modules are in the files that torch will ask for, where `inspect` keeps what it has found.

    `inspect` would write the same. Nobody asks for a file that another torch does not have; for all others, or where
    paths are written in another way, `inspect` looks as ever.
    """
    import inspect  # not for those who import inkproof alone

    spec = find_spec("torch")
    if spec is None or not spec.submodule_search_locations:
        return
    for name in _ASKED_FOR:
        file = Path(spec.submodule_search_locations[0], *name.split(".")[1:]).with_suffix(".py")
        inspect.modulesbyfile.setdefault(str(file.absolute()), name)


def end_with_python() -> None:
    """From here on the process ends as soon as Python has ended: after its exit handlers, files and output.

    For a command's own process alone, which knows what it has loaded: what libraries in C would do after that is left
    out, such as torch's taking itself apart, but also a file that HDF5 would still write. Nothing is done without
    torch, or where the C library is not glibc.
    """
    if "torch" in sys.modules and platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.on_exit(ctypes.cast(libc._exit, ctypes.c_void_p), None)  # with the exit code; the latest runs first
