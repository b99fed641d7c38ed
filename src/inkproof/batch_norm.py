"""Batch normalisation's running statistics, measured anew on training images as they are.

While a net trains they follow its batches: deformed images, mostly hard ones. What it predicts later are images as
they are.
"""

from math import ceil

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from inkproof.batches import BatchSource, Data, ordered_batches, spread_rows
from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.runtime import Precision
from inkproof.steps import evaluating, forward

_MOST, _FEWEST = 2_000, 500  # images; 10,000 gave the same accuracy
_LARGEST_BATCH = 500


def clean_batches(model: nn.Module, images: Data, *, device: torch.device) -> BatchSource:
    """Batches to measure a model's statistics on: a quarter of the training images, spread over the set, unaltered.

    They are 500 to 2,000, or all where there are fewer.

    Raises:
        InputError: the model has no batch normalisation that keeps statistics, or the images are no ImageSet.
    """
    if not _norms(model):
        raise InputError("clean_statistics are those of batch normalisation, and the model has none: leave them out")
    if not isinstance(images, ImageSet):
        raise InputError("clean_statistics are measured on ImageSets alone: other data is known only as it comes")
    count = min(len(images), _MOST, max(_FEWEST, len(images) // 4))
    # All of a size, for each weighs the same in the mean.
    batch_size = ceil(count / ceil(count / _LARGEST_BATCH))
    return ordered_batches(spread_rows(images, count), device=device, batch_size=batch_size)


@torch.no_grad()
def measure_statistics(model: nn.Module, batches: BatchSource, *, precision: Precision) -> None:
    """Set running means and variances to those of the batches, averaged; nothing else of the model changes.

    Source: "precise" batch normalisation, which does so after a training (Wu and Johnson 2021).
    """
    norms = _norms(model)
    momenta = [norm.momentum for norm in norms]
    with evaluating(model):
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches since the reset
            norm.train()
        for inputs, _ in batches:
            forward(model, inputs, precision)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
