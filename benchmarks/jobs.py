"""A job of the ladder in one library, in this process: what `peers.py` has done by each in turn.

    python benchmarks/jobs.py LIBRARY JOB FOLDER

Prints seconds an epoch (the median over all but the first, validation included), accuracy after the last, peak memory.
FOLDER holds the job's arrays, as `peers.py` writes them. All train on the CPU in batches of 256; to validate, each
takes batches as its users would.
"""

import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

BATCH = 256


@dataclass(frozen=True)
class Job:
    """A rung of the ladder, trained with plain SGD in shuffled batches of 256 at a constant learning rate.

    Args:
        about: what it is, in words.
        lr, epochs: as on the ladder; of the convolutions, which diverge at its 0.1 without one-cycle, half that rate.
        hidden: units of hidden layers, with ReLU; of the convolutions, channels.
        data: which arrays: all ten digits, or threes and sevens.
    """

    about: str
    lr: float
    epochs: int
    hidden: tuple[int, ...] = ()
    data: str = "digits"

    @property
    def binary(self) -> bool:
        return self.data != "digits"


JOBS = {
    "linear": Job("784-10, cross entropy", 0.1, 20),
    "hidden": Job("784-30-10 with ReLU, cross entropy", 0.1, 10, (30,)),
    "conv": Job("five convolutions of stride 2, He initialisation, cross entropy", 0.05, 5, (4, 16, 32, 64)),
    "logistic": Job("784-1, binary cross entropy", 1.0, 10, data="threes and sevens"),
    "deep": Job("784-256-128-64-32-1, binary cross entropy", 0.1, 20, (256, 128, 64, 32), data="threes and sevens"),
}


# -- what libraries on torch share -------------------------------------------------------------------------------------


def net(name: str) -> Any:
    """The job's net for (n, 1, 28, 28)."""
    from torch import nn

    job, layers = JOBS[name], []
    if name == "conv":
        for inputs, outputs in pairwise((1, *job.hidden)):
            layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(job.hidden[-1], 10, 3, stride=2, padding=1), nn.Flatten()]
        for layer in layers:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
        return nn.Sequential(*layers)
    for inputs, outputs in pairwise((784, *job.hidden)):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(nn.Flatten(), *layers, nn.Linear((784, *job.hidden)[-1], 1 if job.binary else 10))


def tensors(name: str, data: dict[str, Any]) -> list[Any]:
    """Inputs and targets of both sides, as the loss takes them."""
    import torch

    parts = []
    for side in ("train", "valid"):
        targets = torch.from_numpy(data[f"y_{side}"])
        parts.append(torch.from_numpy(data[f"x_{side}"]).float().div_(255)[:, None])
        parts.append(targets.float()[:, None] if JOBS[name].binary else targets)
    return parts


def loss(name: str) -> Any:
    import torch.nn.functional as F

    return F.binary_cross_entropy_with_logits if JOBS[name].binary else F.cross_entropy


def right(outputs: Any, targets: Any) -> Any:
    """Which rows are, for (n, 1) as for (n, 10)."""
    return ((outputs > 0) == (targets > 0.5)) if outputs.shape[1] == 1 else outputs.argmax(1) == targets


# -- one job in one library: a generator that yields the validation accuracy after each epoch --------------------------


def in_inkproof(name: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    from inkproof import ImageSet, Learner, schedules
    from inkproof.optimizers import SGD

    classes = ("3", "7") if JOBS[name].binary else None
    sides = [ImageSet(data[f"x_{side}"][:, None], data[f"y_{side}"], classes=classes) for side in ("train", "valid")]
    sgd = lambda parameters, lr: SGD(parameters, lr=lr, momentum=0.0)  # noqa: E731
    learner = Learner(lambda: net(name), *sides, optimizer=sgd, batch_size=BATCH, device="cpu")
    for row in learner.epochs(epochs, schedules.constant(lr)):
        yield row.metrics["accuracy"]


def in_torch(name: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x, y, v, w = tensors(name, data)
    model, minimised = net(name), loss(name)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    train = DataLoader(TensorDataset(x, y), BATCH, shuffle=True)
    valid = DataLoader(TensorDataset(v, w), 2 * BATCH)
    for _ in range(epochs):
        model.train()
        for inputs, targets in train:
            optimizer.zero_grad()
            minimised(model(inputs), targets).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            count = sum(int(right(model(inputs), targets).sum()) for inputs, targets in valid)
        yield count / len(v)


def in_fastai(name: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    """Imported as its documentation and its notebooks have it: `from fastai.vision.all import *`."""
    import fastai.vision.all  # noqa: F401

    yield from in_fastai_by_module(name, data, epochs, lr)


def in_fastai_by_module(name: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    """No more of it imported than a job needs, which takes 2 to 3 seconds less of import."""
    import fastai.callback.progress  # noqa: F401  # it gives Learner its no_bar
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from fastai.optimizer import SGD

    def accuracy(outputs: Any, targets: Any) -> Any:
        return right(outputs, targets).float().mean()

    x, y, v, w = tensors(name, data)
    loaders = DataLoaders(
        DataLoader(list(zip(x, y, strict=True)), bs=BATCH, shuffle=True),
        DataLoader(list(zip(v, w, strict=True)), bs=BATCH),
    )
    learner = Learner(loaders, net(name), loss_func=loss(name), opt_func=SGD, metrics=accuracy)
    with learner.no_bar(), learner.no_logging():
        for _ in range(epochs):
            learner.fit(1, lr)
            yield float(learner.recorder.values[-1][-1])


def in_lightning(name: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    import logging
    import warnings

    import lightning
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    ticks: list[tuple[float, float]] = []
    x, y, v, w = tensors(name, data)

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net, self.loss = net(name), loss(name)
            self.right = 0

        def training_step(self, batch: Any, _: int) -> Any:
            return self.loss(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.right += int(right(self.net(batch[0]), batch[1]).sum())

        def on_validation_epoch_end(self) -> None:
            ticks.append((time.perf_counter(), self.right / len(v)))
            self.right = 0

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=lr)

    trainer = lightning.Trainer(
        max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    loaders = DataLoader(TensorDataset(x, y), BATCH, shuffle=True), DataLoader(TensorDataset(v, w), 2 * BATCH)
    started = time.perf_counter()
    trainer.fit(Module(), *loaders)
    yield from ticked(started, ticks)


def in_keras(name: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    import os

    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    from keras import layers

    job, he = JOBS[name], {"padding": "same", "activation": "relu", "kernel_initializer": "he_normal"}
    if name == "conv":  # whose last convolution, of one window, is a dense layer
        stack = [*(layers.Conv2D(width, 3, 2, **he) for width in job.hidden), layers.Flatten()]
    else:
        stack = [layers.Flatten(), *(layers.Dense(width, activation="relu") for width in job.hidden)]
    model = keras.Sequential([keras.Input((28, 28, 1)), *stack, layers.Dense(1 if job.binary else 10)])
    if job.binary:
        minimised = keras.losses.BinaryCrossentropy(from_logits=True)
        accuracy = keras.metrics.BinaryAccuracy("accuracy", threshold=0.0)
    else:
        minimised, accuracy = keras.losses.SparseCategoricalCrossentropy(from_logits=True), "accuracy"
    model.compile(keras.optimizers.SGD(lr), loss=minimised, metrics=[accuracy])
    x, v = (data[f"x_{side}"][..., None].astype(np.float32) / 255 for side in ("train", "valid"))
    ticks: list[tuple[float, float]] = []

    class Clock(keras.callbacks.Callback):
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            ticks.append((time.perf_counter(), logs["val_accuracy"]))

    started = time.perf_counter()
    model.fit(
        x, data["y_train"], validation_data=(v, data["y_valid"]), epochs=epochs, batch_size=BATCH, verbose=0,
        callbacks=[Clock()],
    )  # fmt: skip
    yield from ticked(started, ticks)


def in_skorch(name: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    import torch
    from skorch import NeuralNetBinaryClassifier, NeuralNetClassifier
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split

    x, v = (data[f"x_{side}"][:, None].astype(np.float32) / 255 for side in ("train", "valid"))
    binary, targets = JOBS[name].binary, {side: data[f"y_{side}"] for side in ("train", "valid")}
    if binary:
        targets = {side: each.astype(np.float32) for side, each in targets.items()}
    network = (NeuralNetBinaryClassifier if binary else NeuralNetClassifier)(
        lambda: net(name), criterion=torch.nn.BCEWithLogitsLoss if binary else torch.nn.CrossEntropyLoss,
        optimizer=torch.optim.SGD, lr=lr, max_epochs=epochs, batch_size=BATCH, iterator_train__shuffle=True,
        train_split=predefined_split(Dataset(v, targets["valid"])), verbose=0,
    )  # fmt: skip
    network.fit(x, targets["train"])
    RECORDED.extend(network.history[:, "dur"])
    yield from network.history[:, "valid_acc"]


def in_sklearn(name: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    from sklearn.neural_network import MLPClassifier

    x, v = (data[f"x_{side}"].reshape(-1, 784).astype(np.float32) / 255 for side in ("train", "valid"))
    model = MLPClassifier(
        JOBS[name].hidden, solver="sgd", momentum=0.0, alpha=0.0, learning_rate_init=lr, batch_size=BATCH
    )
    for _ in range(epochs):
        model.partial_fit(x, data["y_train"], classes=np.unique(data["y_train"]))
        yield float(model.score(v, data["y_valid"]))


RECORDED: list[float] = []  # seconds of epochs that a library timed itself
LIBRARIES: dict[str, Callable[..., Iterator[float]]] = {
    "inkproof": in_inkproof,
    "torch loop": in_torch,
    "fastai": in_fastai,
    "fastai by module": in_fastai_by_module,
    "lightning": in_lightning,
    "keras": in_keras,
    "skorch": in_skorch,
    "sklearn": in_sklearn,
}


def can_do(library: str, name: str) -> bool:
    """Whether a library does a job: scikit-learn's MLP is for nets of hidden layers, and knows no convolutions."""
    return library != "sklearn" or name in ("hidden", "deep")


def ticked(started: float, ticks: list[tuple[float, float]]) -> Iterator[float]:
    """Epochs of a library that runs them by itself: their ends and accuracies."""
    ends = [started, *(end for end, _ in ticks)]
    RECORDED.extend(end - start for start, end in pairwise(ends))
    yield from (accuracy for _, accuracy in ticks)


def do(library: str, name: str, folder: str) -> dict[str, Any]:
    """One job in this process."""
    data, job = {file.stem: np.load(file) for file in Path(folder).glob("*.npy")}, JOBS[name]
    seconds, accuracy = [], 0.0
    started = time.perf_counter()
    for reached in LIBRARIES[library](name, data, job.epochs, job.lr):
        accuracy = float(reached)
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    seconds = RECORDED or seconds
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"epoch": statistics.median(seconds[1:]), "accuracy": accuracy, "megabytes": memory}


if __name__ == "__main__":
    print(json.dumps(do(*sys.argv[1:])))
