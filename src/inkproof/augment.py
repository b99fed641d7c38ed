"""Batched augmentation on the device: every image of a batch altered in one pass, from a stream of its own."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from inkproof.runtime import one_thread

Augmentation = Callable[[Tensor, torch.Generator], Tensor]
"""An augmentation takes images (n, channels, height, width) and a CPU generator and gives new images."""


@dataclass(frozen=True)
class Deformation:
    """Random rotation, scale, shear, shift and elastic displacement, one bilinear resampling in all.

    Distances are shares of the image side, so that one setting serves 8×8 and 28×28. What leaves the image is
    lost, what enters is background (0).

    Args:
        rotate: largest angle either way, degrees.
        scale: largest change of size either way, a share.
        shear: largest horizontal shear either way.
        shift: largest shift either way in each direction, as a share of the side.
        elastic: standard deviation of the displacement at the knots of a coarse grid, as a share of the side.
        knots: knots of that grid along each side; between them the displacement is bicubic.

    Source: affine part as torchvision's RandomAffine, drawn uniformly; elastic part after Simard et al. 2003,
    with a coarse grid in place of a smoothed field.
    """

    rotate: float = 0.0
    scale: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    elastic: float = 0.0
    knots: int = 5

    def __call__(
        self, images: Float[Tensor, "n channels height width"], generator: torch.Generator
    ) -> Float[Tensor, "n channels height width"]:
        """Alter each image on its own.

        Args:
            images: any float range, 0 is background.
            generator: a CPU generator: the same draws on every device.
        """
        count, _, height, width = images.shape
        with one_thread():  # waking sixteen for a sine of 128 numbers takes 2 ms, longer than a GPU's whole step
            coefficients = _beside(images, self._coefficients(count, generator))
        knots = coefficients.shape[-1] - 2
        rows, columns = (_basis(knots, size, images.device, images.dtype) for size in (height, width))
        along_rows = (coefficients @ columns.T).permute(0, 2, 3, 1).reshape(count, knots + 2, 2 * width)
        grid = (rows @ along_rows).view(count, height, width, 2)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    def _coefficients(self, count: int, generator: torch.Generator) -> Float[Tensor, "n 2 terms terms"]:
        """Of the coordinates to read from, in the products of a term of the rows and one of the columns (`_basis`)."""
        maps = self._affine(count, generator)
        knots = self.knots if self.elastic else 0
        coefficients = torch.zeros(count, 2, knots + 2, knots + 2)
        if knots:
            displacements = torch.randn(count, 2, knots, knots, generator=generator)
            coefficients[..., :knots, :knots] = displacements * (2 * self.elastic)  # the unit is half a side
        coefficients[..., knots, knots + 1] = maps[..., 0]
        coefficients[..., knots + 1, knots] = maps[..., 1]
        coefficients[..., knots, knots] = maps[..., 2]
        return coefficients

    def _affine(self, count: int, generator: torch.Generator) -> Float[Tensor, "n 2 3"]:
        """One map from output to input coordinates an image, in units of half a side."""
        angle, size, shear, right, down = torch.rand(5, count, generator=generator) * 2 - 1
        angle = angle * (self.rotate * math.pi / 180)
        size = 1 + size * self.scale
        cosine, sine = torch.cos(angle) * size, torch.sin(angle) * size
        rows = [cosine, shear * self.shear - sine, right * (2 * self.shift), sine, cosine, down * (2 * self.shift)]
        return torch.stack(rows, dim=1).view(count, 2, 3)


def _beside(images: Tensor, drawn: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Numbers drawn on the CPU, on the images' device and in their type; nobody waits for them to get there."""
    return drawn.pin_memory().to(images, non_blocking=True) if images.is_cuda else drawn.to(images)


@cache
def _basis(knots: int, size: int, device: torch.device, dtype: torch.dtype) -> Float[Tensor, "size terms"]:
    """What each knot adds to each pixel of a bicubic upsampling, 1, and where the pixel stands between -1 and 1.

    Affine and elastic part then come of the same two products, which take a fifth of torch's upsampling alone. Pixels
    stand as `F.affine_grid` without aligned corners has them.
    """
    centres = (2 * torch.arange(size) + 1) / size - 1
    terms = [torch.ones(size, 1), centres.unsqueeze(1)]
    if knots:
        unit = torch.eye(knots).view(knots, 1, knots, 1)
        upsampled = F.interpolate(unit, size=(size, 1), mode="bicubic", align_corners=True)
        terms.insert(0, upsampled.view(knots, size).T)
    return torch.cat(terms, dim=1).to(device, dtype)


def one_pixel_views(images: Float[Tensor, "n channels height width"]) -> list[Float[Tensor, "n channels height width"]]:
    """The images and their shifts by one pixel in four directions: the views of test-time augmentation."""
    height, width = images.shape[2:]
    padded = F.pad(images, (1, 1, 1, 1))
    offsets = [(1, 1), (0, 1), (2, 1), (1, 0), (1, 2)]
    return [padded[:, :, down : down + height, right : right + width] for down, right in offsets]
