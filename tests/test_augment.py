"""Deformation does what torch's own grid does; in equal draws, equal images."""

import pytest
import torch
import torch.nn.functional as F

from inkproof.augment import Deformation


@pytest.mark.parametrize("shape", [(5, 1, 28, 28), (3, 3, 8, 11)])
def test_an_affine_deformation_is_that_of_torchs_affine_grid(shape: tuple[int, int, int, int]) -> None:
    deformation = Deformation(rotate=20, scale=0.2, shear=0.2, shift=0.1)
    images = torch.rand(shape)
    mine = deformation(images, torch.Generator().manual_seed(3))
    maps = deformation._affine(shape[0], torch.Generator().manual_seed(3))
    grid = F.affine_grid(maps, list(shape), align_corners=False)
    torch.testing.assert_close(mine, F.grid_sample(images, grid, align_corners=False), atol=1e-4, rtol=0)


def test_nothing_asked_for_leaves_images_as_they_are() -> None:
    images = torch.rand(4, 1, 9, 9)
    torch.testing.assert_close(Deformation()(images, torch.Generator()), images, atol=1e-5, rtol=0)
