"""Training in plain numpy: every gradient derived by hand.

`parameters` is a list of weights and biases, [w, b] or [w1, b1, w2, b2]. Weights are (inputs, outputs), so that a
layer is `x @ w + b`. Images x are (n, pixels), labels y are (n,).
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int

Array = Float[np.ndarray, "..."]
Gradients = Callable[[list[Array], Array, Int[np.ndarray, " n"]], tuple[float, list[Array]]]


def train(
    gradients: Gradients,
    parameters: list[Array],
    images: Array,
    labels: Int[np.ndarray, " n"],
    *,
    lr: float,
    epochs: int,
    batch_size: int = 256,
) -> list[Array]:
    """Plain stochastic gradient descent, batches in the order of the data; returns new parameters.

    Args:
        gradients: one of the functions below: gives the loss of a batch and its gradient for each parameter.
        parameters: the first weights and biases.
        images: float (n, pixels).
        labels: int (n,).
        lr: learning rate.
        epochs: passes over the images.
        batch_size: images a step.
    """
    parameters = [parameter.copy() for parameter in parameters]
    for _ in range(epochs):
        for start in range(0, len(images), batch_size):
            x, y = images[start : start + batch_size], labels[start : start + batch_size]
            _, of_batch = gradients(parameters, x, y)
            for parameter, gradient in zip(parameters, of_batch, strict=True):
                parameter -= lr * gradient
    return parameters


def linear(parameters: list[Array], x: Array, y: Int[np.ndarray, " n"]) -> tuple[float, list[Array]]:
    """One linear layer, softmax, mean cross entropy."""
    w, b = parameters
    loss, dz = _cross_entropy(x @ w + b, y)
    return loss, [x.T @ dz, dz.sum(axis=0)]


def logistic(parameters: list[Array], x: Array, y: Int[np.ndarray, " n"]) -> tuple[float, list[Array]]:
    """One output, sigmoid, mean binary cross entropy; y is 0 or 1."""
    w, b = parameters
    z = (x @ w + b)[:, 0]
    loss = (np.maximum(z, 0) - z * y + np.log1p(np.exp(-np.abs(z)))).mean()
    p = 1 / (1 + np.exp(-z))
    dz = ((p - y) / len(y))[:, None]  # dloss/dp = (p - y) / (p (1 - p)) / n, and dp/dz = p (1 - p)
    return float(loss), [x.T @ dz, dz.sum(axis=0)]


def hidden(parameters: list[Array], x: Array, y: Int[np.ndarray, " n"]) -> tuple[float, list[Array]]:
    """One hidden layer with ReLU, softmax, mean cross entropy."""
    w1, b1, w2, b2 = parameters
    h = np.maximum(x @ w1 + b1, 0)
    loss, dz = _cross_entropy(h @ w2 + b2, y)
    dh = (dz @ w2.T) * (h > 0)  # what did not pass the ReLU gets no gradient
    return loss, [x.T @ dh, dh.sum(axis=0), h.T @ dz, dz.sum(axis=0)]


def rmse_softmax(parameters: list[Array], x: Array, y: Int[np.ndarray, " n"]) -> tuple[float, list[Array]]:
    """One linear layer, softmax, root of the mean squared difference from one-hot targets."""
    w, b = parameters
    p = _softmax(x @ w + b)
    difference = p - np.eye(p.shape[1], dtype=p.dtype)[y]
    loss = np.sqrt((difference**2).mean())
    dp = difference / (difference.size * loss)  # the root's derivative is 1 / (2 loss), the mean square's 2 d / size
    dz = p * (dp - (dp * p).sum(axis=1, keepdims=True))  # each probability falls when another's output rises
    return float(loss), [x.T @ dz, dz.sum(axis=0)]


def _softmax(z: Array) -> Array:
    exponentials = np.exp(z - z.max(axis=1, keepdims=True))  # the largest is taken away, or exp would overflow
    probabilities: Array = exponentials / exponentials.sum(axis=1, keepdims=True)
    return probabilities


def _cross_entropy(z: Array, y: Int[np.ndarray, " n"]) -> tuple[float, Array]:
    """The loss, and its gradient for the outputs z: the probabilities minus the one-hot targets, over n."""
    rows = np.arange(len(y))
    shifted = z - z.max(axis=1, keepdims=True)
    loss = (np.log(np.exp(shifted).sum(axis=1)) - shifted[rows, y]).mean()
    dz = _softmax(z)
    dz[rows, y] -= 1
    return float(loss), dz / len(y)
