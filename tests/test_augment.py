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


def test_an_elastic_displacement_is_torchs_bicubic_upsampling_of_the_knots() -> None:
    images = torch.rand(6, 1, 20, 24)
    mine = Deformation(elastic=0.05)(images, torch.Generator().manual_seed(3))
    drawn = torch.Generator().manual_seed(3)
    torch.rand(5, 6, generator=drawn)  # the affine part's
    knots = torch.randn(6, 2, 5, 5, generator=drawn)
    field = F.interpolate(knots, size=(20, 24), mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    still = F.affine_grid(torch.eye(2, 3).expand(6, 2, 3), [6, 1, 20, 24], align_corners=False)
    expected = F.grid_sample(images, still + field * (2 * 0.05), align_corners=False)
    torch.testing.assert_close(mine, expected, atol=1e-4, rtol=0)
