"""The jobs of the ladder by other libraries: seconds an epoch, whole process, memory, accuracy, paired with inkproof.

    python benchmarks/peers.py --data DIR [--rounds 3] [--peers fastai,sklearn] [--json docs/benchmarks.json]

Each peer runs in an environment of its own, made at the first call from benchmarks/requirements/ (fastai's takes 5 GB);
`--python fastai=ENV/bin/python` takes one that is there. In every round each library does the job once, in a process of
its own, in turn; figures are medians over rounds, ratios are taken within each round and their median is printed. Jobs,
on 33,600 rows with 8,400 to validate on after each epoch (MNIST's IDX files in DIR):

    linear   784-10, cross entropy, plain SGD 0.1, batch 256, 5 epochs
    hidden   784-30-10 with ReLU, likewise
    conv     five convolutions of stride 2 with He initialisation, SGD 0.05, batch 256, 3 epochs

An epoch's seconds are the median over all epochs but the first, validation included. inkproof's bytecode is written
first, as pip writes the peers'.
"""

import argparse
import compileall
import gzip
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

TRAIN, VALID, BATCH = 33_600, 8_400, 256
JOBS: dict[str, dict[str, Any]] = {
    "linear": {"epochs": 5, "lr": 0.1},
    "hidden": {"epochs": 5, "lr": 0.1},
    "conv": {"epochs": 3, "lr": 0.05},
}
HERE = ("inkproof", "torch loop")
PEERS = ("fastai", "lightning", "keras", "skorch", "sklearn")
FOLDER = Path(__file__).parent


# -- one job in one library: a generator that yields the validation accuracy after each epoch --------------------------


def net(job: str) -> Any:
    """The job's net for (n, 1, 28, 28)."""
    from torch import nn

    if job == "linear":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 10))
    if job == "hidden":
        return nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 10))
    channels, layers = [1, 4, 16, 32, 64], []
    for inputs, outputs in pairwise(channels):
        layers += [nn.Conv2d(inputs, outputs, 3, stride=2, padding=1), nn.ReLU()]
    layers += [nn.Conv2d(64, 10, 3, stride=2, padding=1), nn.Flatten()]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
    return nn.Sequential(*layers)


def tensors(data: dict[str, Any]) -> list[Any]:
    import torch

    parts = []
    for side in ("train", "valid"):
        parts += [torch.from_numpy(data[f"x_{side}"]).float().div_(255)[:, None], torch.from_numpy(data[f"y_{side}"])]
    return parts


def in_inkproof(job: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    from inkproof import ImageSet, Learner, models, schedules
    from inkproof.optimizers import SGD

    sides = [ImageSet(data[f"x_{side}"][:, None], data[f"y_{side}"]) for side in ("train", "valid")]
    make = {"linear": models.linear, "hidden": models.hidden}.get(job)
    model: Callable[[], Any] = (lambda: make((1, 28, 28), 10)) if make else (lambda: net(job))
    sgd = lambda parameters, lr: SGD(parameters, lr=lr, momentum=0.0)  # noqa: E731
    learner = Learner(model, *sides, optimizer=sgd, batch_size=BATCH)
    for row in learner.epochs(epochs, schedules.constant(lr)):
        yield row.metrics["accuracy"]


def in_torch(job: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    x, y, v, w = tensors(data)
    model = net(job)
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    train = DataLoader(TensorDataset(x, y), BATCH, shuffle=True)
    valid = DataLoader(TensorDataset(v, w), 2 * BATCH)
    for _ in range(epochs):
        model.train()
        for inputs, labels in train:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(inputs), labels).backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(inputs).argmax(1) == labels).sum()) for inputs, labels in valid)
        yield right / len(v)


def in_fastai(job: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    import fastai.callback.progress  # noqa: F401  # it gives Learner its no_bar
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader
    from fastai.learner import Learner
    from fastai.metrics import accuracy
    from fastai.optimizer import SGD
    from torch.nn.functional import cross_entropy

    x, y, v, w = tensors(data)
    loaders = DataLoaders(
        DataLoader(list(zip(x, y, strict=True)), bs=BATCH, shuffle=True),
        DataLoader(list(zip(v, w, strict=True)), bs=BATCH),
    )
    learner = Learner(loaders, net(job), loss_func=cross_entropy, opt_func=SGD, metrics=accuracy)
    with learner.no_bar(), learner.no_logging():
        for _ in range(epochs):
            learner.fit(1, lr)
            yield float(learner.recorder.values[-1][-1])


def in_lightning(job: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    import logging
    import warnings

    import lightning
    import torch
    from torch.utils.data import DataLoader, TensorDataset

    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    ticks: list[tuple[float, float]] = []

    class Module(lightning.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.net = net(job)
            self.right = 0

        def training_step(self, batch: Any, _: int) -> Any:
            return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            self.right += int((self.net(batch[0]).argmax(1) == batch[1]).sum())

        def on_validation_epoch_end(self) -> None:
            ticks.append((time.perf_counter(), self.right / VALID))
            self.right = 0

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=lr)

    x, y, v, w = tensors(data)
    trainer = lightning.Trainer(
        max_epochs=epochs, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu",
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip
    loaders = DataLoader(TensorDataset(x, y), BATCH, shuffle=True), DataLoader(TensorDataset(v, w), 2 * BATCH)
    started = time.perf_counter()
    trainer.fit(Module(), *loaders)
    yield from ticked(started, ticks)


def in_keras(job: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    import os

    os.environ["KERAS_BACKEND"] = "torch"
    import keras
    from keras import layers

    stack = {
        "linear": [layers.Flatten()],
        "hidden": [layers.Flatten(), layers.Dense(30, activation="relu")],
        "conv": [
            *(
                layers.Conv2D(width, 3, 2, "same", activation="relu", kernel_initializer="he_normal")
                for width in (4, 16, 32, 64)
            ),
            layers.Flatten(),
        ],
    }[job]
    model = keras.Sequential([keras.Input((28, 28, 1)), *stack, layers.Dense(10)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(lr), loss=loss, metrics=["accuracy"])
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


def in_skorch(job: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    import torch
    from skorch import NeuralNetClassifier
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split

    x, v = (data[f"x_{side}"][:, None].astype(np.float32) / 255 for side in ("train", "valid"))
    network = NeuralNetClassifier(
        lambda: net(job), criterion=torch.nn.CrossEntropyLoss, optimizer=torch.optim.SGD, lr=lr, max_epochs=epochs,
        batch_size=BATCH, iterator_train__shuffle=True, train_split=predefined_split(Dataset(v, data["y_valid"])),
        verbose=0,
    )  # fmt: skip
    network.fit(x, data["y_train"])
    RECORDED.extend(network.history[:, "dur"])
    yield from network.history[:, "valid_acc"]


def in_sklearn(job: str, data: dict[str, Any], epochs: int, lr: float) -> Iterator[float]:
    from sklearn.neural_network import MLPClassifier

    x, v = (data[f"x_{side}"].reshape(-1, 784).astype(np.float32) / 255 for side in ("train", "valid"))
    model = MLPClassifier((30,), solver="sgd", momentum=0.0, alpha=0.0, learning_rate_init=lr, batch_size=BATCH)
    for _ in range(epochs):
        model.partial_fit(x, data["y_train"], classes=np.arange(10))
        yield float(model.score(v, data["y_valid"]))


RECORDED: list[float] = []  # seconds of epochs that a library timed itself
LIBRARIES: dict[str, Callable[..., Iterator[float]]] = {
    "inkproof": in_inkproof,
    "torch loop": in_torch,
    "fastai": in_fastai,
    "lightning": in_lightning,
    "keras": in_keras,
    "skorch": in_skorch,
    "sklearn": in_sklearn,
}


def ticked(started: float, ticks: list[tuple[float, float]]) -> Iterator[float]:
    """Epochs of a library that runs them by itself: their ends and accuracies."""
    ends = [started, *(end for end, _ in ticks)]
    RECORDED.extend(end - start for start, end in pairwise(ends))
    yield from (accuracy for _, accuracy in ticks)


def do(library: str, job: str, file: Path) -> dict[str, Any]:
    """One job in this process."""
    data = dict(np.load(file))
    seconds, accuracy = [], 0.0
    started = time.perf_counter()
    for reached in LIBRARIES[library](job, data, **JOBS[job]):
        accuracy = float(reached)
        seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
    seconds = RECORDED or seconds
    counted = seconds[1:]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"epoch": statistics.median(counted), "accuracy": accuracy, "megabytes": memory}


# -- all of them in turn -----------------------------------------------------------------------------------------------


def read_mnist(folder: Path) -> dict[str, np.ndarray]:
    names = ("images-idx3", "labels-idx1")
    raw = {name: gzip.decompress((folder / f"train-{name}-ubyte.gz").read_bytes()) for name in names}
    x = np.frombuffer(raw["images-idx3"], np.uint8, offset=16).reshape(-1, 28, 28)
    y = np.frombuffer(raw["labels-idx1"], np.uint8, offset=8).astype(np.int64)
    return {
        "x_train": x[:TRAIN],
        "y_train": y[:TRAIN],
        "x_valid": x[TRAIN : TRAIN + VALID],
        "y_valid": y[TRAIN : TRAIN + VALID],
    }


def environment(peer: str) -> str:
    """The peer's Python, in an environment made from its pinned versions where there is none yet."""
    place = FOLDER / "environments" / peer
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        print(f"making {place}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        requirements = str(FOLDER / "requirements" / f"{peer}.txt")
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--requirement", requirements], check=True)
        (place / "complete").touch()
    return str(python)


def compile_inkproof() -> None:
    """Write inkproof's bytecode, as pip does for all that it installs but for what is editable."""
    import inkproof

    compileall.compile_dir(inkproof.__path__[0], quiet=1)


def measure(pythons: dict[str, str], folder: Path, rounds: int) -> list[dict[str, Any]]:
    """Every library on every job, in turn, so many times."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "data.npz"
        np.savez(file, **read_mnist(folder))
        for _ in range(rounds):
            for job in JOBS:
                for library, python in pythons.items():
                    if library == "sklearn" and job != "hidden":
                        continue
                    started = time.perf_counter()
                    command = [python, __file__, "--child", library, job, str(file)]
                    result = subprocess.run(command, capture_output=True, text=True, check=False)
                    if result.returncode:
                        raise SystemExit(f"{library}, {job}: {result.stderr[-800:]}")
                    row = json.loads(result.stdout.strip().splitlines()[-1])
                    found.setdefault((job, library), []).append(row | {"process": time.perf_counter() - started})
                    print(f"{job:8} {library:12} {row['epoch']:8.3f} s an epoch", file=sys.stderr, flush=True)
    return [
        {"job": job, "library": library}
        | {key: statistics.median(row[key] for row in rows) for key in ("epoch", "process", "megabytes", "accuracy")}
        | {
            f"{key}_ratio": statistics.median(
                row[key] / own[key] for row, own in zip(rows, found[job, "inkproof"], strict=True)
            )
            for key in ("epoch", "process")
        }
        for (job, library), rows in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help="directory of MNIST's IDX files, gzipped")
    parser.add_argument("--peers", default=",".join(PEERS), help="which, with commas between")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PYTHON", help="a peer's environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--machine", help="how the machine is named in what is written")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.child:
        library, job, file = options.child
        print(json.dumps(do(library, job, Path(file))))
        return
    peers = [peer for peer in options.peers.split(",") if peer]
    if options.data is None:
        parser.error("--data is needed: the directory of MNIST's IDX files")
    if unknown := set(peers) - set(PEERS):
        parser.error(f"no peer is called {', '.join(sorted(unknown))}; known: {', '.join(PEERS)}")
    given = dict(pair.split("=", 1) for pair in options.python)
    compile_inkproof()
    pythons = dict.fromkeys(HERE, sys.executable)
    pythons |= {peer: given.get(peer) or environment(peer) for peer in peers}
    rows = measure(pythons, options.data, options.rounds)
    print(
        f"{'job':8} {'library':12} {'epoch s':>8} {'ratio':>6} {'process s':>9} {'ratio':>6} {'MB':>6} {'accuracy':>8}"
    )
    for row in rows:
        print(
            f"{row['job']:8} {row['library']:12} {row['epoch']:8.3f} {row['epoch_ratio']:5.1f}x "
            f"{row['process']:9.1f} {row['process_ratio']:5.1f}x {row['megabytes']:6.0f} "
            f"{row['accuracy']:8.2%}"
        )
    if options.json:
        machine = options.machine or platform.platform()
        options.json.write_text(
            json.dumps({"machine": machine, "rounds": options.rounds, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
