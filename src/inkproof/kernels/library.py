"""The compiled kernels, where an installation has them."""

import ctypes
from functools import lru_cache
from pathlib import Path

import torch  # it loads the OpenMP whose threads the kernels take

_PLACE, _NUMBER, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_float
_ARGUMENTS = {
    "count_ink": [_PLACE, _PLACE, _NUMBER, _NUMBER, _PLACE],
    "list_ink": [_PLACE, _PLACE, _NUMBER, _NUMBER, _PLACE, _PLACE],
    "forward": [_PLACE, _NUMBER, _PLACE, _PLACE, *[_NUMBER, _FLOAT, _NUMBER, _NUMBER], *[_PLACE] * 3, _NUMBER],
    "learn": [
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


@lru_cache
def library() -> ctypes.CDLL | None:
    """The library, which `hatch_build.py` compiles; None where no compiler was found, or the processor lacks AVX2."""
    if torch.backends.cpu.get_cpu_capability() not in ("AVX2", "AVX512"):
        return None
    try:
        loaded = ctypes.CDLL(str(Path(__file__).with_name("kernels.compiled")))
    except OSError:
        return None
    for name, arguments in _ARGUMENTS.items():
        function = getattr(loaded, name)
        function.argtypes, function.restype = arguments, None
    return loaded


def are_there() -> bool:
    """Whether the kernels are: a part of what a run was made with, since sums are rounded in another order."""
    return library() is not None
