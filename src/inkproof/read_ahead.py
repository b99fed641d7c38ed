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
from importlib.util import find_spec, spec_from_loader
from itertools import chain
from pathlib import Path
from threading import Thread
from types import CodeType, ModuleType

# In torch's folder: 669 of the 725 files that torch 2.13 imports from there, and 174 others.
_FILES = (
    "*", "_custom_op/*", "_decomp/*", "_higher_order_ops/*", "_library/*", "_logging/*", "_native/**/*", "_prims/*",
    "_prims_common/*", "_refs/**/*", "_strobelight/*", "_subclasses/*", "_vendor/**/*", "accelerator/*", "amp/*",
    "ao/nn/**/*", "ao/quantization/*", "autograd/*", "backends/**/*", "compiler/*", "cpu/**/*", "cuda/*", "cuda/amp/*",
    "distributed/*", "distributed/_pycute/*", "distributed/rpc/*", "distributions/*", "export/*", "fft/*", "fx/*",
    "fx/experimental/unification/**/*", "fx/passes/*", "fx/passes/infra/*", "fx/passes/utils/*", "jit/*", "linalg/*",
    "masked/**/*", "mps/*", "mtia/*", "multiprocessing/*", "nested/*", "nn/*", "nn/intrinsic/**/*", "nn/modules/*",
    "nn/parallel/*", "nn/qat/**/*", "nn/utils/*", "optim/*", "package/*", "package/analyze/*", "profiler/*",
    "quantization/*", "signal/**/*", "special/*", "testing/*", "utils/*", "utils/_debug_mode/*", "utils/data/**/*",
    "xpu/*",
)  # fmt: skip
# What torch or what comes after it will import. A module with a library of its own would wait for torch's: those of
# Python's that others need are imported before.
_IMPORTED_BEFORE = (
    "_bisect", "_blake2", "_bz2", "_csv", "_hashlib", "_heapq", "_lzma", "_posixsubprocess", "_random", "_sha512",
    "_socket", "_ssl", "array", "binascii", "fcntl", "select", "zlib",
)  # fmt: skip
_IMPORTED_BESIDE = (
    "typing_extensions", "torchgen.model", "pickletools", "urllib.request", "importlib.metadata", "unittest", "logging",
    "numpy.ma",
)  # fmt: skip


def begin_to_load_torch() -> Path | None:
    """Load torch's library in a thread that torch's own import of it will wait for.

    Returns:
        torch's folder; None, and nothing is done, where torch is not found in the usual way, where its bytecode is not
        there, where its library is no `.so` (macOS, Windows) or needs others that torch looks for, or without threads.
    """
    spec = find_spec("torch")
    if spec is None or type(spec.loader) is not SourceFileLoader or not Path(spec.cached or "").is_file():
        return None
    folder = Path(spec.loader.path).parent
    library = folder / "lib" / "libtorch_cpu.so"
    if not library.exists():
        return None
    _import_all(_IMPORTED_BEFORE)
    # By the function in C, since Python 3.11 waits while `CDLL` loads. Python waits for the thread before it ends: a
    # library that is taken apart while it is loaded crashes.
    loading = Thread(target=ctypes.CDLL(None).dlopen, args=(os.fsencode(library), os.RTLD_NOW))
    try:
        ctypes.CDLL(str(library.with_name("libtorch_global_deps.so")), ctypes.RTLD_GLOBAL)  # first, as torch does
        loading.start()
    except (OSError, RuntimeError):
        return None
    return folder


@contextmanager
def read_ahead(torch: Path) -> Iterator[None]:
    """For a block that imports torch while its library is being loaded: its modules are read before.

    Args:
        torch: its folder.
    """
    read = _read_modules(torch)
    _import_all(_IMPORTED_BESIDE)
    finder, before = _Finder(read), sys.meta_path
    # Before Python's own, and after any that a user has put before that; a new list, for threads that go through this.
    at = before.index(PathFinder) if PathFinder in before else len(before)
    sys.meta_path = [*before[:at], finder, *before[at:]]
    try:
        yield
    finally:
        sys.meta_path = [each for each in sys.meta_path if each is not finder]


def _import_all(names: Sequence[str]) -> None:
    for name in names:
        with suppress(Exception):  # torch may do without
            import_module(name)


def _read_modules(torch: Path) -> dict[str, "_Loader"]:
    read, beside = {}, len(str(torch.parent)) + 1
    for file in map(str, chain.from_iterable(torch.glob(f"{pattern}.py") for pattern in _FILES)):
        name = file[beside:].removesuffix(".py").replace(os.sep, ".").removesuffix(".__init__")
        with suppress(Exception):  # torch may never import it
            read[name] = _Loader(name, file)
    return read


class _Finder:
    """Finds the modules that were read."""

    def __init__(self, read: dict[str, "_Loader"]) -> None:
        self._read = read

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As Python's own finders; None for what was not read."""
        loader = self._read.get(name)
        return None if loader is None else spec_from_loader(name, loader)


class _Loader(SourceFileLoader):
    """Loads a module whose bytecode it has read already.

    Raises:
        ImportError: there is none, or it is older than the source.
    """

    def __init__(self, name: str, path: str) -> None:
        super().__init__(name, path)
        self._code = _Bytecode(name, path).get_code(name)

    def get_code(self, fullname: str) -> CodeType | None:
        """What was read, the first time."""
        code, self._code = self._code, None
        return super().get_code(fullname) if code is None else code


class _Bytecode(SourceFileLoader):
    """Reads a module's bytecode and compiles nothing, which would take longer than torch's library."""

    def source_to_code(self, *_: object, **__: object) -> CodeType:  # type: ignore[override]  # static in InspectLoader
        """Python asks for it where no bytecode fits."""
        raise ImportError(f"{self.path} has no bytecode of its present source")
