"""Kernels in C, for what torch has no operation: compiled where inkproof is installed, if a compiler is there.

Without them the same is computed by torch, in more time and to the last digits.
"""

from inkproof.kernels.library import are_there, library

__all__ = ["are_there", "library"]
