"""Batch normalisation's running statistics, measured anew on training images as they are.

While a net trains they follow its batches: deformed images, mostly hard ones. What it predicts later are images as
they are.
"""

from math import ceil

import numpy as np
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from inkproof.batches import BatchSource, Data, ordered_batches, spread_rows
from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.runtime import Precision
from inkproof.steps import evaluating, forward

_IMAGES = 2_000  # 10,000 gave the same accuracy
_LARGEST_BATCH = 500


def clean_batches(model: nn.Module, images: Data, *, device: torch.device) -> BatchSource:
    """Batches to measure a model's statistics on: up to 2,000 training images spread over the set, unaltered.

    Raises:
        InputError: the model has no batch normalisation that keeps statistics, or the images are no ImageSet.
    """
    if not _norms(model):
        raise InputError("clean_statistics are those of batch normalisation, and the model has none: leave them out")
    if not isinstance(images, ImageSet):
        raise InputError("clean_statistics are measured on ImageSets alone: other data is known only as it comes")
    count = min(len(images), _IMAGES)
    parts = ceil(count / _LARGEST_BATCH)
    # Each batch takes every so manieth image, for data may be sorted by class; all are of a size, for each weighs the
    # same in the mean.
    mixed = spread_rows(images, count).subset(np.argsort(np.arange(count) % parts, kind="stable"))
    return ordered_batches(mixed, device=device, batch_size=ceil(count / parts))


@torch.no_grad()
def measure_statistics(model: nn.Module, batches: BatchSource, *, precision: Precision) -> None:
    """Set running means and variances to those of the batches, averaged; nothing else of the model changes.

    Source: "precise" batch normalisation (Wu and Johnson 2021), which pools variances where these are averaged: of
    batches of 500 mixed images the mean is about a 500th smaller at most.
    """
    norms = _norms(model)
    momenta = [norm.momentum for norm in norms]
    try:
        with evaluating(model):
            for norm in norms:
                norm.train()
            for number, (inputs, _) in enumerate(batches, start=1):
                for norm in norms:
                    norm.momentum = 1 / number  # the first replaces what was, each adds its share to the mean
                forward(model, inputs, precision)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


def _norms(model: nn.Module) -> list[_BatchNorm]:
    return [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
