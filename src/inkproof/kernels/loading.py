"""The compiled kernels, where an installation has them."""

import ctypes
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

import torch  # it loads the OpenMP whose threads the kernels take

_PLACE, _NUMBER, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_ARGUMENTS = {
    "count_ink": [_PLACE, _PLACE, _NUMBER, _NUMBER, _PLACE],
    "list_ink": [_PLACE, _PLACE, _NUMBER, _NUMBER, _PLACE, _PLACE],
    "ink_forward": [_PLACE, _NUMBER, _PLACE, _PLACE, *[_NUMBER, _FLOAT, _NUMBER, _NUMBER], *[_PLACE] * 3, _NUMBER],
    "ink_learn": [
        *[_PLACE, _NUMBER, _PLACE, _PLACE, _NUMBER, _FLOAT, _NUMBER, _NUMBER],
        *[_PLACE, _NUMBER, _FLOAT, _PLACE, _PLACE],
    ],
    "windows_forward": [
        *[_PLACE, _PLACE, _NUMBER, _NUMBER, _NUMBER, _NUMBER, _PLACE, _NUMBER, _FLOAT, ctypes.c_int32],
        *[_PLACE, _NUMBER],
    ],
    "windows_learn": [
        *[_PLACE, _PLACE, _NUMBER, _NUMBER, _NUMBER, _NUMBER, _PLACE, _NUMBER, _FLOAT, _NUMBER],
        *[_PLACE, _PLACE],
    ],
    "windows_gradient": [
        *[_PLACE, _NUMBER, _NUMBER, _NUMBER, _NUMBER, _PLACE, _NUMBER, _PLACE, _PLACE],
        *[_NUMBER, _NUMBER, _PLACE, _PLACE],
    ],
}


_FOLDER = Path(__file__).parent

_are_allowed = True


def library() -> ctypes.CDLL | None:
    """The library, which `hatch_build.py` compiles.

    None where there is none that is made of these sources, the processor lacks AVX2, or kernels are not allowed.
    """
    return _load() if _are_allowed else None


def are_there() -> bool:
    """Whether kernels are taken."""
    return library() is not None


def version() -> str | None:
    """Which kernels are taken, a part of what a run was made with: they round sums in another order than torch."""
    return _digest() if are_there() else None


@contextmanager
def allowed(allow: bool) -> Iterator[None]:
    """What is made in the block takes kernels, where they are there and no block around it forbids them, or none."""
    global _are_allowed  # noqa: PLW0603  # for the process, as a library is there for the process
    before = _are_allowed
    _are_allowed = before and allow
    try:
        yield
    finally:
        _are_allowed = before


@lru_cache
def _load() -> ctypes.CDLL | None:
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return None
    try:
        loaded = ctypes.CDLL(str(_FOLDER / "kernels.compiled"))
        made_of = ctypes.c_char_p.in_dll(loaded, "made_of").value
    except (OSError, ValueError):  # not there, of another OpenMP, or without this symbol
        return None
    if made_of is None or made_of.decode() != _digest():
        return None  # of other sources, such as those of an earlier version
    for name, arguments in _ARGUMENTS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, None
    return loaded


@lru_cache
def _digest() -> str:
    """As `hatch_build.py` has it."""
    sources = sorted(_FOLDER.glob("*.c"))
    return hashlib.sha256(b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
