"""What a run was made with: versions, processor, threads, settings chosen for the machine."""

import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from inkproof import kernels

_PACKAGES = ("inkproof", "torch", "numpy", "pillow", "scikit-learn")


def describe_environment() -> dict[str, Any]:
    """Versions of Python and packages, operating system, processor, threads, kernels of ours, CUDA, as plain data."""
    return {
        "python": sys.version.split()[0],
        "packages": {name: _version(name) for name in _PACKAGES},
        "system": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "kernels": kernels.version(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
