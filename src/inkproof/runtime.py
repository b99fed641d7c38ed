"""What the machine offers: device, precision, threads, and an allocator that keeps its memory."""

import ctypes
import platform
from typing import Literal, get_args

import torch
from torch import nn

from inkproof.errors import InputError

DeviceName = Literal["auto", "cpu", "cuda"]
Precision = Literal["float32", "bfloat16"]

VECTOR = 16  # float32 numbers in a register of AVX-512, the longest there is

_WIDE = 32  # channels

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_MAX = -4
_GLIBC_DEFAULT_MMAP_MAX = 65536
_GLIBC_DEFAULT_TRIM_THRESHOLD = 128 * 1024


def to_whole_vectors(numbers: int) -> int:
    """The next multiple of a vector's numbers: rows of so many begin where vectors do."""
    return -(-numbers // VECTOR) * VECTOR


def choose_device(name: str) -> torch.device:
    """The device for a name of `DeviceName`; `auto` is CUDA where there is one.

    Raises:
        InputError: CUDA was asked for and is not there, or a device of another kind was.
    """
    if name not in get_args(DeviceName):
        raise InputError(f"device {name!r} is none of {', '.join(get_args(DeviceName))}")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise InputError("device 'cuda' was asked for, but torch sees no CUDA device here: use --device cpu or auto")
    # With its number, as tensors carry it: torch.device("cuda") is not equal to torch.device("cuda:0").
    return torch.device("cuda", torch.cuda.current_device())


def known_precision(name: str) -> Precision:
    """The precision of a name.

    Raises:
        InputError: it is none of `Precision`.
    """
    known: dict[str, Precision] = {each: each for each in get_args(Precision)}
    if name not in known:
        raise InputError(f"precision {name!r} is none of {', '.join(known)}")
    return known[name]


def place(model: nn.Module, device: torch.device) -> nn.Module:
    """Move a model to a device, in place; convolutions with channels last, as the processor's kernels are quickest."""
    model.to(device)
    if any(isinstance(module, nn.Conv2d) for module in model.modules()):
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks it
    return model


def is_intel() -> bool:
    """Whether the processor is Intel's, as torch names it."""
    capabilities: dict[str, object] = getattr(torch.cpu, "get_capabilities", dict)()  # older torch has none
    return "Intel" in str(capabilities.get("cpu_name"))


def choose_precision(device: torch.device, *, channels: int) -> Precision:
    """bfloat16 where the device multiplies it and gains by it, else float32.

    Decided by what the processor says of itself and not by a timing, so that two runs never differ in it. A step of
    the recipe `fast` takes 0.66 of its float32 time on 2 cores of an AMD EPYC with AVX-512 BF16, November 2026. Those
    of Intel's multiply bfloat16 no faster without AMX: there `fast` and `accurate`, with layers of 16 channels, take
    1.2 to 1.3 of it, and `best`, of 32 and more, 0.67 (2 cores of a Xeon whose AMX is hidden).

    Args:
        channels: of the narrowest layer.
    """
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    gains = _has_amx() or (multiplies_bfloat16() and (channels >= _WIDE or not is_intel()))
    return "bfloat16" if gains else "float32"


def multiplies_bfloat16() -> bool:
    """Whether the processor has x86's instructions for products of bfloat16."""
    return _has_amx() or _asked_of_torch("_is_avx512_bf16_supported")


def _has_amx() -> bool:
    return _asked_of_torch("_is_amx_tile_supported")


def _asked_of_torch(name: str) -> bool:
    """What torch says of the processor, under a name that it may drop again."""
    return bool(getattr(torch.cpu, name, bool)())


class one_thread:
    """Inside the block torch computes on one thread: sharing a product of a few thousand numbers takes longer than it.

    A class of its own and no generator: it stands in steps that take a third of a millisecond.
    """

    def __enter__(self) -> None:
        self._threads = torch.get_num_threads()
        torch.set_num_threads(1)

    def __exit__(self, *error: object) -> None:
        torch.set_num_threads(self._threads)


def keep_freed_memory(keep: bool = True) -> bool:
    """Stop glibc from handing freed memory back to the kernel, process-wide; `keep=False` undoes it.

    A training step frees and takes the same few megabytes thousands of times. With glibc's defaults each time
    costs page faults: 26 instead of 38-48 ms a step of a small convolutional net (2 cores, November 2026).

    Returns:
        Whether it was applied: False where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    largest = 2**31 - 1
    mmap_max, trim = (0, largest) if keep else (_GLIBC_DEFAULT_MMAP_MAX, _GLIBC_DEFAULT_TRIM_THRESHOLD)
    return bool(libc.mallopt(_M_MMAP_MAX, mmap_max) and libc.mallopt(_M_TRIM_THRESHOLD, trim))
