"""The baseline: nearest mean image by mean absolute distance. A module like the others, fitted by averaging."""

from math import prod

import torch
from jaxtyping import Float, Int64
from torch import Tensor, nn


class MeanImage(nn.Module):
    """Gives for each class minus the mean absolute distance to the mean of the images seen of it.

    It has no parameters to train: `observe` takes a batch into the means. One pass over the data fits it; a
    second changes nothing.

    Args:
        shape: (channels, height, width) of the images.
        outputs: number of classes.
    """

    sums: Float[Tensor, "outputs pixels"]
    counts: Float[Tensor, " outputs"]

    def __init__(self, shape: tuple[int, int, int], outputs: int):
        super().__init__()
        # float64: a mean of 60,000 images of single precision would lose digits.
        self.register_buffer("sums", torch.zeros(outputs, prod(shape), dtype=torch.float64))
        self.register_buffer("counts", torch.zeros(outputs, dtype=torch.float64))

    @torch.no_grad()
    def observe(self, images: Float[Tensor, "n channels height width"], labels: Int64[Tensor, " n"]) -> None:
        """Take a batch into the means."""
        self.sums.index_add_(0, labels, images.flatten(1).double())
        self.counts.index_add_(0, labels, torch.ones(len(labels), dtype=torch.float64, device=labels.device))

    @property
    def means(self) -> Float[Tensor, "outputs pixels"]:
        """The mean image of each class, zeros for a class not seen."""
        return self.sums / self.counts.clamp(min=1).unsqueeze(1)

    def forward(self, images: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n outputs"]:
        """Minus the mean absolute distance to each class's mean image: the nearest has the largest output."""
        flat = images.flatten(1)
        distances = torch.cdist(flat, self.means.to(flat.dtype), p=1) / flat.shape[1]
        return -distances.masked_fill(self.counts == 0, torch.inf)


def mean_image(shape: tuple[int, int, int], outputs: int) -> MeanImage:
    """Nearest mean image; see `MeanImage`."""
    return MeanImage(shape, outputs)
