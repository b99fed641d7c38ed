"""Training with torch's gradients and an update by hand: `p -= lr * p.grad`.

The same four losses as `numpy_gradients`, each written as a formula; what was derived with pen and paper there,
`loss.backward()` does here. `parameters` is [w, b] or [w1, b1, w2, b2], weights (inputs, outputs).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64
from torch import Tensor

Loss = Callable[[list[Tensor], Tensor, Tensor], Tensor]


def train(
    loss: Loss,
    parameters: list[Tensor],
    images: Float[Tensor, "n pixels"],
    labels: Int64[Tensor, " n"],
    *,
    lr: float,
    epochs: int,
    batch_size: int = 256,
) -> list[Tensor]:
    """Plain stochastic gradient descent, batches in the order of the data; returns new parameters.

    Args:
        loss: one of the functions below: gives the loss of a batch.
        parameters: the first weights and biases.
        images: float (n, pixels).
        labels: int64 (n,).
        lr: learning rate.
        epochs: passes over the images.
        batch_size: images a step.
    """
    parameters = [parameter.clone().requires_grad_() for parameter in parameters]
    for _ in range(epochs):
        for start in range(0, len(images), batch_size):
            x, y = images[start : start + batch_size], labels[start : start + batch_size]
            loss(parameters, x, y).backward()
            with torch.no_grad():  # the update itself is no part of what is differentiated
                for p in parameters:
                    assert p.grad is not None, "backward gives every parameter its gradient"
                    p -= lr * p.grad
                    p.grad = None  # or the next backward would add to it
    return [parameter.detach() for parameter in parameters]


def linear(parameters: list[Tensor], x: Tensor, y: Tensor) -> Float[Tensor, ""]:
    """One linear layer, softmax, mean cross entropy."""
    w, b = parameters
    return -(x @ w + b).log_softmax(dim=1)[torch.arange(len(y)), y].mean()


def logistic(parameters: list[Tensor], x: Tensor, y: Tensor) -> Float[Tensor, ""]:
    """One output, sigmoid, mean binary cross entropy; y is 0 or 1."""
    w, b = parameters
    z = (x @ w + b).squeeze(1)  # (n, 1) beside y (n,) would broadcast to (n, n) without a word
    return torch.where(y == 1, -torch.nn.functional.logsigmoid(z), -torch.nn.functional.logsigmoid(-z)).mean()


def hidden(parameters: list[Tensor], x: Tensor, y: Tensor) -> Float[Tensor, ""]:
    """One hidden layer with ReLU, softmax, mean cross entropy."""
    w1, b1, w2, b2 = parameters
    h = (x @ w1 + b1).clamp(min=0)
    return -(h @ w2 + b2).log_softmax(dim=1)[torch.arange(len(y)), y].mean()


def rmse_softmax(parameters: list[Tensor], x: Tensor, y: Tensor) -> Float[Tensor, ""]:
    """One linear layer, softmax, root of the mean squared difference from one-hot targets."""
    w, b = parameters
    p = (x @ w + b).softmax(dim=1)
    target = torch.eye(p.shape[1], dtype=p.dtype)[y]
    return ((p - target) ** 2).mean().sqrt()
