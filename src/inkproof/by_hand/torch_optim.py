"""Training with torch.nn and torch.optim: modules hold the parameters, an optimiser updates them.

The same four trainings as `torch_autograd`. `nn.Linear` keeps its weights as (outputs, inputs).
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def train(
    model: nn.Module,
    loss: Loss,
    images: Float[Tensor, "n pixels"],
    labels: Int64[Tensor, " n"],
    *,
    lr: float,
    epochs: int,
    batch_size: int = 256,
) -> None:
    """Plain stochastic gradient descent, batches in the order of the data; trains the model in place.

    Args:
        model: one of those below, for (n, pixels).
        loss: its loss, of outputs and labels.
        images: float (n, pixels).
        labels: int64 (n,).
        lr: learning rate.
        epochs: passes over the images.
        batch_size: images a step.
    """
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    for _ in range(epochs):
        for start in range(0, len(images), batch_size):
            x, y = images[start : start + batch_size], labels[start : start + batch_size]
            optimizer.zero_grad()
            loss(model(x), y).backward()
            optimizer.step()


def linear(pixels: int, classes: int) -> tuple[nn.Module, Loss]:
    """One linear layer with cross entropy."""
    return nn.Sequential(nn.Linear(pixels, classes)), F.cross_entropy


def logistic(pixels: int) -> tuple[nn.Module, Loss]:
    """One output with binary cross entropy; labels are 0 or 1."""
    return nn.Sequential(nn.Linear(pixels, 1)), _binary_cross_entropy


def hidden(pixels: int, classes: int, *, units: int = 30) -> tuple[nn.Module, Loss]:
    """One hidden layer with ReLU and cross entropy."""
    return nn.Sequential(nn.Linear(pixels, units), nn.ReLU(), nn.Linear(units, classes)), F.cross_entropy


def rmse_softmax(pixels: int, classes: int) -> tuple[nn.Module, Loss]:
    """One linear layer with the root mean squared error of its softmax."""
    return nn.Sequential(nn.Linear(pixels, classes)), _rmse_softmax


def _binary_cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(outputs, labels.to(outputs.dtype).unsqueeze(1))


def _rmse_softmax(outputs: Tensor, labels: Tensor) -> Tensor:
    target = F.one_hot(labels, outputs.shape[1]).to(outputs.dtype)
    return F.mse_loss(outputs.softmax(dim=1), target).sqrt()
