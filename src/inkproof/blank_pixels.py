"""Images without pixels that are blank in all of them, for nets that learn nothing from these."""

import math
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from inkproof.images import ImageSet
from inkproof.runtime import to_whole_vectors

_MOST_TO_COPY = 2**26  # bytes of images: a copy takes memory, and 1.5 to 3 ms a megabyte
_BLANK = 1 / 8  # of the pixels: with fewer, a few epochs win less without them than the copy takes

_inked: WeakKeyDictionary[ImageSet, "Inked | None"] = WeakKeyDictionary()


@dataclass(frozen=True)
class Inked:
    """Images without pixels that are blank in all of them.

    Args:
        rows: the pixels that are left, zeros to the end of a vector, and a byte of 255 in place of the last zero.
        places: which pixels are left.
    """

    rows: UInt8[Tensor, "n width"]
    places: Int64[Tensor, " places"]


def without_blank_pixels(images: ImageSet) -> Inked | None:
    """A copy of the images, shared by all who ask and freed with them; None where few are blank or images are many."""
    if images not in _inked:
        _inked[images] = _copied(images)
    return _inked[images]


def _copied(images: ImageSet) -> Inked | None:
    pixels = math.prod(images.shape)
    if len(images) * pixels > _MOST_TO_COPY:
        return None
    rows = images.pixels.reshape(-1, pixels)
    places = np.flatnonzero(np.bitwise_or.reduce(rows, axis=0))
    width = to_whole_vectors(len(places) + 1)
    if width > (1 - _BLANK) * pixels:
        return None
    # Blank pixels fill the vector, since zeros would be another copy.
    blank = np.setdiff1d(np.arange(pixels), places)[: width - len(places)]
    kept = rows.take(np.concatenate([places, blank]), axis=1)
    kept[:, -1] = 255
    return Inked(torch.from_numpy(kept), torch.from_numpy(places))
