"""Train what stands in this room on the embedded digits, and print how well each predicts images held out."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from inkproof.by_hand import numpy_gradients, torch_autograd, torch_optim


def main() -> None:
    """Print the accuracy of each hand-written training on the last 297 of the 1,797 digits."""
    pixels, digits = load_digits(return_X_y=True)
    images, labels = (pixels / 16).astype(np.float32), digits.astype(np.int64)
    generator = np.random.default_rng(0)
    first = [
        (0.1 * generator.standard_normal(shape)).astype(np.float32) for shape in ((64, 30), (30,), (30, 10), (10,))
    ]

    trained = numpy_gradients.train(numpy_gradients.hidden, first, images[:1500], labels[:1500], lr=0.5, epochs=100)
    print(f"numpy, gradients by hand   {_accuracy(trained, images, labels):.2%}")

    tensors = [torch.from_numpy(parameter) for parameter in first]
    x, y = torch.from_numpy(images[:1500]), torch.from_numpy(labels[:1500])
    by_autograd = torch_autograd.train(torch_autograd.hidden, tensors, x, y, lr=0.5, epochs=100)
    print(f"torch, update by hand      {_accuracy([p.numpy() for p in by_autograd], images, labels):.2%}")

    model, loss = torch_optim.hidden(64, 10)
    with torch.no_grad():
        for parameter, start in zip(model.parameters(), tensors, strict=True):
            parameter.copy_(_turned(start))
    torch_optim.train(model, loss, x, y, lr=0.5, epochs=100)
    ended = [_turned(parameter.detach()).numpy() for parameter in model.parameters()]
    print(f"torch.nn and torch.optim   {_accuracy(ended, images, labels):.2%}")


def _turned(parameter: torch.Tensor) -> torch.Tensor:
    """Weights (inputs, outputs) as nn.Linear's (outputs, inputs), or back; biases as they are."""
    return parameter.mT if parameter.ndim == 2 else parameter


def _accuracy(parameters: list[np.ndarray], images: np.ndarray, labels: np.ndarray) -> float:
    w1, b1, w2, b2 = parameters
    outputs = np.maximum(images[1500:] @ w1 + b1, 0) @ w2 + b2
    return float((outputs.argmax(axis=1) == labels[1500:]).mean())


if __name__ == "__main__":
    main()
