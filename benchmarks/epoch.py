"""Seconds an epoch of a small net, against a bare numpy loop with hand-written gradients, in one process.

    python benchmarks/epoch.py [--epochs 10] [--blocks 3]

The job: 784-30-10, ReLU, cross entropy, 33,600 rows, batch 256, plain SGD. numpy reads float32 rows in file order;
inkproof the same rows, then uint8 images, in file order and shuffled, and looks for numbers that are not finite. The
two large products of a step alone, in torch, are the floor. Each runs its epochs in a block, and the blocks take turns:
epochs in turn would let the idle threads of one library, which wait spinning, slow the other. Medians over all counted
epochs are printed. The rows are made up: time does not depend on what they show.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Iterator

import numpy as np
import torch
from torch.utils.data import TensorDataset

from inkproof import ImageSet, Learner, models, schedules

ROWS, BATCH, HIDDEN, CLASSES = 33_600, 256, 30, 10
LR = 0.1


def numpy_epochs(pixels: np.ndarray, labels: np.ndarray) -> Iterator[None]:
    """Train in numpy, one epoch a `next`."""
    random = np.random.default_rng(0)
    inputs = pixels.reshape(len(pixels), -1).astype(np.float32) / np.float32(255)
    hidden_weights = random.normal(0, 0.05, (784, HIDDEN)).astype(np.float32)
    hidden_bias = np.zeros(HIDDEN, np.float32)
    weights = random.normal(0, 0.2, (HIDDEN, CLASSES)).astype(np.float32)
    bias = np.zeros(CLASSES, np.float32)
    lr = np.float32(LR)
    while True:
        for start in range(0, len(inputs), BATCH):
            rows, truth = inputs[start : start + BATCH], labels[start : start + BATCH]
            hidden = np.maximum(rows @ hidden_weights + hidden_bias, 0)
            logits = hidden @ weights + bias
            exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
            error = exponentials / exponentials.sum(axis=1, keepdims=True)
            error[np.arange(len(truth)), truth] -= 1
            error /= np.float32(len(truth))
            hidden_error = (error @ weights.T) * (hidden > 0)
            weights -= lr * (hidden.T @ error)
            bias -= lr * error.sum(axis=0)
            hidden_weights -= lr * (rows.T @ hidden_error)
            hidden_bias -= lr * hidden_error.sum(axis=0)
        yield


def product_epochs(inputs: torch.Tensor) -> Iterator[None]:
    """The products of the first layer alone, forward and backward, one epoch a `next`."""
    weights, error = torch.randn(HIDDEN, 784), torch.randn(HIDDEN, BATCH)
    while True:
        for start in range(0, len(inputs), BATCH):
            rows = inputs[start : start + BATCH]
            _ = weights @ rows.T
            _ = error[:, : len(rows)] @ rows
        yield


def inkproof_epochs(data: ImageSet | TensorDataset, epochs: int, *, shuffle: bool) -> Iterator[None]:
    """Train with a Learner, one epoch a `next`; no validation side, as in the numpy loop."""
    learner = Learner(
        lambda: models.hidden((1, 28, 28), CLASSES, units=HIDDEN),
        data,
        batch_size=BATCH,
        optimizer=lambda parameters, lr: torch.optim.SGD(parameters, lr=lr, fused=True),
        shuffle=shuffle,
        allow=["labels-unrelated-to-images"],  # they are made up
        device="cpu",
    )
    for _ in learner.epochs(epochs, schedules.constant(LR)):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--epochs", type=int, default=10, help="counted epochs of a block; two more warm it up")
    parser.add_argument("--blocks", type=int, default=3, help="blocks of each loop")
    options = parser.parse_args()
    total = (options.epochs + 2) * options.blocks
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (ROWS, 1, 28, 28)).astype(np.uint8)
    labels = random.integers(0, CLASSES, ROWS)
    images = ImageSet(pixels, labels)
    inputs = torch.from_numpy(pixels.reshape(ROWS, -1).astype(np.float32) / np.float32(255))
    rows = TensorDataset(inputs, torch.from_numpy(labels))
    loops = {
        "numpy, file order": numpy_epochs(pixels, labels),
        "the products alone": product_epochs(inputs),
        "inkproof, float32 rows, file order": inkproof_epochs(rows, total, shuffle=False),
        "inkproof, images, file order": inkproof_epochs(images, total, shuffle=False),
        "inkproof, images, shuffled": inkproof_epochs(images, total, shuffle=True),
    }
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for _ in range(options.blocks):
        for name, loop in loops.items():
            for epoch in range(options.epochs + 2):
                started = time.perf_counter()
                next(loop)
                if epoch >= 2:
                    seconds[name].append(time.perf_counter() - started)
    print(f"{platform.platform()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    base = statistics.median(seconds["numpy, file order"])
    print(f"{'784-30-10, 33,600 rows, batch 256':36} {'median s':>9} {'min':>7} {'max':>7} {'to numpy':>9}")
    for name, measured in seconds.items():
        median = statistics.median(measured)
        print(f"{name:36} {median:9.4f} {min(measured):7.4f} {max(measured):7.4f} {median / base:8.2f}x")


if __name__ == "__main__":
    main()
