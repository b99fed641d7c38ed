"""Kernels in C, for what torch has no operation: compiled where inkproof is installed, if a compiler is there.

Without them the same is computed by torch, in more time and to the last digits.
"""

from inkproof.kernels.loading import allowed, are_there, library, version

__all__ = ["allowed", "are_there", "library", "version"]
