"""Where images have ink: a list of pixels for each, made once for all passes."""

import ctypes
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from inkproof.images import ImageSet
from inkproof.kernels import library

_MOST = 1 / 4  # of the pixels: lists take two bytes for each that has ink, about half of the images' memory
_LARGEST = 2**30  # bytes of images
_SAMPLE = 1000  # images that show how much ink there is

_known: WeakKeyDictionary[ImageSet, "Ink | None"] = WeakKeyDictionary()


@dataclass(frozen=True)
class Ink:
    """The ink of some images, in order.

    Args:
        starts: where each one's list starts, and the last one ends.
        pixels: for each, the pixels to go on from the one before, and its value.
        width: all pixels of an image.
    """

    starts: Int64[Tensor, " starts"]
    pixels: UInt8[Tensor, "listed 2"]
    width: int

    @property
    def lists(self) -> tuple[int, int]:
        """Where starts and pixels lie, for the kernels."""
        return self.starts.data_ptr(), self.pixels.data_ptr()


def ink_of(images: ImageSet) -> Ink | None:
    """The images' ink, shared by all who ask and freed with them.

    None where more than a quarter of the pixels has ink, images are more than 2^30 bytes, or no kernels are there.
    """
    kernels = library()
    if kernels is None:
        return None
    if images not in _known:
        _known[images] = _listed(images, kernels) if _are_mostly_blank(images) else None
    return _known[images]


def _listed(images: ImageSet, kernels: ctypes.CDLL) -> Ink:
    stored, count = images.storage.reshape(len(images.storage), -1), len(images)
    rows = np.arange(len(stored))  # of any kind that numpy takes, and inside of the store
    if images.rows is not None:
        rows = rows[images.rows]
    given = stored.ctypes.data, rows.ctypes.data, count, stored.shape[1]
    starts = torch.empty(count + 1, dtype=torch.int64)
    kernels.count_ink(*given, starts.data_ptr())
    pixels = torch.empty(int(starts[-1]), 2, dtype=torch.uint8)
    kernels.list_ink(*given, starts.data_ptr(), pixels.data_ptr())
    return Ink(starts, pixels, stored.shape[1])


def _are_mostly_blank(images: ImageSet) -> bool:
    """Whether a list is shorter than its image, as a sample spread over all images has it."""
    if len(images) * images.storage[0].size > _LARGEST:
        return False
    places = np.linspace(0, len(images) - 1, min(len(images), _SAMPLE)).astype(np.int64)
    sample = images.storage[places if images.rows is None else images.rows[places]]
    return int(np.count_nonzero(sample)) <= _MOST * sample.size
