"""One list of promises for every network and image shape."""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import nn

from inkproof import models

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 1, 1), (3, 5, 7), (1, 16, 16), (3, 64, 48), (1, 100, 100)]
TRAINED = [models.linear, models.hidden, models.deep, models.conv, models.strong]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", TRAINED)
@pytest.mark.parametrize("outputs", [1, 2, 10])
def test_every_model_follows_image_shape_and_outputs(
    make: Callable[..., nn.Module], shape: tuple[int, int, int], outputs: int
) -> None:
    model = make(shape, outputs)
    images = torch.rand(3, *shape)
    given = model(images)
    assert given.shape == (3, outputs)
    given.sum().backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []
    model.eval()
    torch.testing.assert_close(model(images[:1]), model(images)[:1], msg="rows depend on each other in evaluation")


def test_sizes_are_the_published_ones() -> None:
    def parameters(model: nn.Module) -> int:
        return sum(parameter.numel() for parameter in model.parameters())

    shape = (1, 28, 28)
    assert parameters(models.linear(shape, 10)) == 784 * 10 + 10
    assert parameters(models.hidden(shape, 10)) == 784 * 30 + 30 + 30 * 10 + 10
    deep = [784, 256, 128, 64, 32, 1]
    assert parameters(models.deep(shape, 1)) == sum(a * b + b for a, b in pairwise(deep))
    conv = [1, 4, 16, 32, 64, 10]
    assert parameters(models.conv(shape, 10)) == sum(a * b * 9 + b for a, b in pairwise(conv))
    assert len([layer for layer in models.conv(shape, 10) if isinstance(layer, nn.Conv2d)]) == 5
    assert not any(isinstance(layer, nn.AvgPool2d) for layer in models.conv(shape, 10))
    assert parameters(models.strong(shape, 10)) == 52_570
    assert parameters(models.strong(shape, 10, widths=(16, 32, 32, 64), pools="late")) == 38_714


@pytest.mark.parametrize(
    ("stem", "pools", "sides"),
    [
        ("stride", "early", [12, 10, 5, 3]),
        ("stride", "late", [12, 10, 10, 3]),
        ("pool", "early", [24, 12, 6, 4]),
        ("pool", "late", [24, 12, 12, 4]),
    ],
)
def test_the_strong_nets_convolutions_of_a_digit_have_these_sides(stem: str, pools: str, sides: list[int]) -> None:
    seen: list[int] = []
    model = models.strong((1, 28, 28), 10, stem=stem, pools=pools)
    for layer in list(model)[:-2]:
        if isinstance(layer, nn.Conv2d):
            layer.register_forward_hook(lambda layer, inputs, outputs: seen.append(outputs.shape[-1]))
    model.eval()(torch.rand(1, 1, 28, 28))
    assert seen == sides


def test_the_mean_image_is_the_nearest_mean_by_l1_distance() -> None:
    random = np.random.default_rng(0)
    images = torch.from_numpy(random.random((40, 1, 5, 5)).astype(np.float32))
    labels = torch.from_numpy(random.integers(0, 3, 40))
    model = models.mean_image((1, 5, 5), 3)
    for start in range(0, 40, 16):
        model.observe(images[start : start + 16], labels[start : start + 16])
    means = torch.stack([images[labels == label].mean(0) for label in range(3)])
    distances = (images[:, None] - means[None]).abs().mean(dim=(2, 3, 4))
    torch.testing.assert_close(model(images), -distances)


def test_a_second_pass_changes_no_mean() -> None:
    images, labels = torch.rand(10, 1, 4, 4), torch.arange(10) % 2
    model = models.mean_image((1, 4, 4), 2)
    model.observe(images, labels)
    once = model.means.clone()
    model.observe(images, labels)
    torch.testing.assert_close(model.means, once)


def test_a_class_never_seen_is_never_predicted() -> None:
    model = models.mean_image((1, 4, 4), 3)
    model.observe(torch.rand(6, 1, 4, 4), torch.arange(6) % 2)
    assert (model(torch.zeros(5, 1, 4, 4)).argmax(1) != 2).all()
