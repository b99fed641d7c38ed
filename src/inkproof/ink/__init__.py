"""Linear layers on the ink of images: pixels that are blank are neither read nor multiplied.

A fifth of the pixels of handwritten digits have ink. The first layer of a net, nine tenths of the arithmetic of a small
one, takes a third to a half of its time with these alone. Where there are no kernels for it, torch multiplies all
pixels.
"""

from inkproof.ink.layer import InkLayer
from inkproof.ink.lists import Ink, ink_of

__all__ = ["Ink", "InkLayer", "ink_of"]
