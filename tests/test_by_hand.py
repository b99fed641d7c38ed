"""By hand, by autograd, by torch.optim and by Learner: from the same weights and batches to the same weights."""

import subprocess
import sys
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from inkproof import heads
from inkproof.by_hand import numpy_gradients, torch_autograd, torch_optim
from inkproof.images import ImageSet
from inkproof.learner import Learner

TRAININGS = ["linear", "logistic", "hidden", "rmse_softmax"]
LR, EPOCHS, BATCH_SIZE = 0.1, 2, 100


def first_weights(training: str, pixels: int) -> list[np.ndarray]:
    shapes = {
        "linear": [(pixels, 10), (10,)],
        "logistic": [(pixels, 1), (1,)],
        "hidden": [(pixels, 30), (30,), (30, 10), (10,)],
        "rmse_softmax": [(pixels, 10), (10,)],
    }[training]
    generator = np.random.default_rng(1)
    return [0.2 * generator.standard_normal(shape) for shape in shapes]


def data_for(training: str, digits: ImageSet) -> tuple[np.ndarray, np.ndarray]:
    """990 images: the last batch is smaller than the others."""
    images = digits.with_classes(("3", "7"), rest="drop") if training == "logistic" else digits
    images = images.subset(np.arange(min(len(images), 990)))
    assert images.labels is not None
    return images.pixels.reshape(len(images), -1) / 255, images.labels


def module_of(training: str, parameters: list[Tensor]) -> tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]:
    make: dict[str, Callable[..., tuple[nn.Module, Callable[[Tensor, Tensor], Tensor]]]] = {
        "linear": partial(torch_optim.linear, classes=10),
        "logistic": torch_optim.logistic,
        "hidden": partial(torch_optim.hidden, classes=10),
        "rmse_softmax": partial(torch_optim.rmse_softmax, classes=10),
    }
    model, loss = make[training](len(parameters[0]))
    model.to(parameters[0].dtype)
    with torch.no_grad():
        for parameter, first in zip(model.parameters(), parameters, strict=True):
            parameter.copy_(first.mT if first.ndim == 2 else first)
    return model, loss


def weights_of(model: nn.Module) -> list[np.ndarray]:
    parameters = [parameter.detach() for parameter in model.parameters()]
    return [(parameter.mT if parameter.ndim == 2 else parameter).numpy() for parameter in parameters]


def by_learner(training: str, parameters: list[Tensor], images: Tensor, labels: Tensor) -> list[np.ndarray]:
    model, _ = module_of(training, parameters)
    binary = training == "logistic"
    losses = {"logistic": heads.binary_cross_entropy, "rmse_softmax": heads.rmse_softmax}
    learner = Learner(
        model,
        TensorDataset(images, labels),
        head="binary" if binary else "classes",
        loss=losses.get(training, heads.cross_entropy) if not binary else None,
        optimizer=torch.optim.SGD,
        batch_size=BATCH_SIZE,
        shuffle=False,
    )
    learner.fit(EPOCHS, LR, verbose=False)
    return weights_of(model)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-4), ("float64", 1e-9)])
@pytest.mark.parametrize("training", TRAININGS)
def test_all_four_ways_end_at_the_same_weights(training: str, dtype: str, tolerance: float, digits: ImageSet) -> None:
    pixels, labels = data_for(training, digits)
    images = pixels.astype(dtype)
    first = [parameter.astype(dtype) for parameter in first_weights(training, images.shape[1])]
    tensors = [torch.from_numpy(parameter) for parameter in first]
    x, y = torch.from_numpy(images), torch.from_numpy(labels.copy())
    settings = {"lr": LR, "epochs": EPOCHS, "batch_size": BATCH_SIZE}

    by_numpy = numpy_gradients.train(getattr(numpy_gradients, training), first, images, labels, **settings)
    by_autograd = torch_autograd.train(getattr(torch_autograd, training), tensors, x, y, **settings)
    model, loss = module_of(training, tensors)
    torch_optim.train(model, loss, x, y, **settings)

    ended = {
        "autograd": [parameter.numpy() for parameter in by_autograd],
        "optim": weights_of(model),
        "learner": by_learner(training, tensors, x, y),
    }
    for start, reference in zip(first, by_numpy, strict=True):
        assert reference.dtype == dtype
        assert relative_error(start, reference) > 100 * tolerance, "training moved the weights"
    for way, weights in ended.items():
        for reference, parameter in zip(by_numpy, weights, strict=True):
            assert relative_error(parameter, reference) < tolerance, way


def relative_error(have: np.ndarray, want: np.ndarray) -> float:
    return float(np.linalg.norm(have.astype(np.float64) - want) / np.linalg.norm(want.astype(np.float64)))


@pytest.mark.parametrize("training", TRAININGS)
def test_gradients_by_hand_are_those_of_finite_differences(training: str, digits: ImageSet) -> None:
    pixels, labels = data_for(training, digits)
    images, labels = pixels[:20].astype(np.float64), labels[:20]
    parameters = first_weights(training, images.shape[1])
    gradients = getattr(numpy_gradients, training)
    _, derived = gradients(parameters, images, labels)
    step = 1e-6
    for parameter, gradient in zip(parameters, derived, strict=True):
        assert gradient.shape == parameter.shape
        for place in np.random.default_rng(2).choice(parameter.size, size=min(parameter.size, 40), replace=False):
            value = parameter.flat[place]
            losses = []
            for moved in (value + step, value - step):
                parameter.flat[place] = moved
                losses.append(gradients(parameters, images, labels)[0])
            parameter.flat[place] = value
            assert (losses[0] - losses[1]) / (2 * step) == pytest.approx(gradient.flat[place], rel=1e-5, abs=1e-8)


def test_the_room_can_be_run_and_learns() -> None:
    shown = subprocess.run(
        [sys.executable, "-W", "error", "-m", "inkproof.by_hand"], capture_output=True, text=True, check=True
    ).stdout
    accuracies = [float(line.split()[-1].rstrip("%")) for line in shown.splitlines()]
    assert len(accuracies) == 3
    assert min(accuracies) > 85
