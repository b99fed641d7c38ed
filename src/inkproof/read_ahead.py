"""What Python does of torch's import while torch's library is loaded.

A quarter of `import torch` is its largest library, which registers its operators in C++ when it is loaded, without
Python; more than a tenth is to find and read the bytecode of its modules. Side by side they leave 0.9 of the import
(2 cores of an Intel Xeon, November 2026).
"""

import ctypes
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import cache_from_source, spec_from_loader
from itertools import chain
from pathlib import Path
from threading import Thread
from types import CodeType, ModuleType

# In torch's folder: 595 of the 716 files that torch 2.13 imports from there, and 157 others.
_FILES = (
    "*", "_custom_op/*", "_decomp/*", "_higher_order_ops/*", "_library/*", "_logging/*", "_native/*", "_prims/*",
    "_prims_common/*", "_refs/**/*", "_subclasses/*", "amp/*", "ao/nn/**/*", "ao/quantization/*", "autograd/*",
    "compiler/*", "cuda/*", "distributed/*", "distributed/rpc/*", "distributions/*", "export/*", "fft/*", "fx/*",
    "fx/experimental/unification/**/*", "fx/passes/**/*", "jit/*", "linalg/*", "masked/**/*", "nn/**/*", "optim/*",
    "package/*", "profiler/*", "testing/*", "utils/*", "utils/_debug_mode/*", "utils/data/**/*", "xpu/*",
)  # fmt: skip
# What torch or the audit will import; what has a library of its own that is not there yet waits for torch's.
_IMPORTED_LATER = ("numpy.ma", "torchgen.model", "typing_extensions", "pickletools", "urllib.request")


@contextmanager
def read_ahead() -> Iterator[None]:
    """For a block in which torch may be imported for the first time: its library and its modules are read together.

    Nothing is done before torch is imported; nor where it is not found in the usual way, where its bytecode is not
    there, or where its library is no `.so` (macOS, Windows).
    """
    finder = _Finder()
    before = sys.meta_path
    # Before Python's own, and after any that a user has put before that; a new list, for threads that go through this.
    at = before.index(PathFinder) if PathFinder in before else len(before)
    sys.meta_path = [*before[:at], finder, *before[at:]]
    try:
        yield
    finally:
        sys.meta_path = [each for each in sys.meta_path if each is not finder]


class _Finder:
    """Finds torch, and from then on the modules that were read."""

    def __init__(self) -> None:
        self._read: dict[str, _Loader] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As Python's own finders; None for what was not read."""
        if name == "torch":
            spec = PathFinder.find_spec(name, path)
            if spec is not None and spec.origin is not None and _is_usual(spec):
                spec.loader = _TorchLoader(spec.origin, self._read)
            return spec
        loader = self._read.pop(name, None)
        return None if loader is None else spec_from_loader(name, loader)


def _is_usual(torch: ModuleSpec) -> bool:
    return type(torch.loader) is SourceFileLoader and torch.cached is not None and Path(torch.cached).exists()


class _TorchLoader(SourceFileLoader):
    """Reads torch's modules and loads its library, then torch.

    Not so the finder: Python asks finders under one lock for all threads, and whoever imports under that may wait for a
    thread that waits for it.
    """

    def __init__(self, path: str, read: dict[str, "_Loader"]) -> None:
        super().__init__("torch", path)
        self._read = read

    def exec_module(self, module: ModuleType) -> None:
        """Load torch."""
        folder = Path(self.path).parent
        if _begin_to_load(folder / "lib"):
            self._read_modules(folder)
            for name in _IMPORTED_LATER:
                with suppress(Exception):  # torch may do without
                    import_module(name)
        try:
            super().exec_module(module)
        finally:
            self._read.clear()

    def _read_modules(self, folder: Path) -> None:
        for file in chain.from_iterable(folder.glob(f"{pattern}.py") for pattern in _FILES):
            name = ".".join(("torch", *file.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__")
            with suppress(Exception):  # torch may never import it
                if Path(cache_from_source(str(file))).exists():
                    self._read[name] = _Loader(name, str(file))


def _begin_to_load(folder: Path) -> bool:
    """Whether torch's largest library is being loaded, in a thread that torch's own import of it waits for."""
    library = folder / "libtorch_cpu.so"
    if not library.exists():
        return False
    try:
        ctypes.CDLL(str(folder / "libtorch_global_deps.so"), ctypes.RTLD_GLOBAL)  # first, as torch does
    except OSError:  # torch may know where to look
        return False
    # By the function in C, since Python 3.11 waits while `CDLL` loads.
    Thread(target=ctypes.CDLL(None).dlopen, args=(os.fsencode(library), os.RTLD_NOW), daemon=True).start()
    return True


class _Loader(SourceFileLoader):
    """Loads a module whose code it has read already."""

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name, path)
        self._code = super().get_code(name)

    def get_code(self, fullname: str) -> CodeType | None:
        """What was read, the first time."""
        code, self._code = self._code, None
        return super().get_code(fullname) if code is None else code
