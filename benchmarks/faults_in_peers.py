"""What other libraries say to the same faults: each in an environment of its own.

    python -m venv peers && peers/bin/pip install torch lightning keras skorch scikit-learn
    peers/bin/python benchmarks/faults_in_peers.py --peer lightning      (or keras, skorch, fastai)

Plants faults in the scikit-learn digits (8×8) and trains a net of one hidden layer for three epochs. Counted as said:
an exception, or a warning that the clean training does not give. Needs no inkproof.
"""

import argparse
import json
import logging
import os
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["KERAS_BACKEND"] = "torch"

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

Data = tuple[Tensor, Tensor]
Job = dict[str, Any]


def digits() -> tuple[Data, Data]:
    data = load_digits()
    x, y = torch.tensor(data.data / 16, dtype=torch.float32), torch.tensor(data.target)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    return (x[:1400], y[:1400]), (x[1400:], y[1400:])


def net(*last: nn.Module, outputs: int = 10) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 40), nn.ReLU(), nn.Linear(40, outputs), *last)


def accuracy(p: Any, y: Any) -> Any:
    return (p.argmax(1) == y).float().mean()


def column_accuracy(p: Any, y: Any) -> Any:
    return (p.argmax(1).unsqueeze(1) == y).float().mean()


def column_loss(p: Any, y: Any) -> Any:
    return ((p - y) ** 2).mean()


def zeros() -> nn.Module:
    model = net()
    for parameter in model.parameters():
        nn.init.zeros_(parameter)
    return model


def planted() -> dict[str, Job]:
    """The faults by name: what differs from the clean job."""
    (x, y), (v, w) = digits()
    broken, copied = x.clone(), v.clone()
    broken[3, 20] = float("nan")
    copied[:80], labels = x[:80], torch.cat([y[:80], w[80:]])
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(1))]
    kept = y != 3
    return {
        "clean": {},
        "validation is training": {"valid": (x, y)},
        "20 % of validation from training": {"valid": (copied, labels)},
        "accuracy of (n, 1) against (n,)": {"metric": column_accuracy},
        "loss of (n, 1) against (n,)": {
            "model": lambda: net(outputs=1),
            "loss": column_loss,
            "train": (x, (y == 3).float()),
            "valid": (v, (w == 3).float()),
            "metric": None,
        },
        "a second trainer round a trained model": {"twice": True},
        "training labels shuffled": {"train": (x, shuffled)},
        "labels counted from 1 in training": {"train": (x, (y + 1) % 10)},
        "a class missing in training": {"train": (x[kept], y[kept])},
        "validation of another scale (0 to 16)": {"valid": (v * 16, w)},
        "one NaN pixel": {"train": (broken, y)},
        "softmax before cross entropy": {"model": lambda: net(nn.Softmax(dim=1))},
        "softmax over the batch": {"model": lambda: net(nn.Softmax(dim=0))},
        "all weights zero": {"model": zeros},
        "learning rate 100": {"lr": 100.0},
        "learning rate 0": {"lr": 0.0},
        "ten classes, one output": {"model": lambda: net(outputs=1), "loss": column_loss, "metric": None},
        "sorted by class and not shuffled": {"train": (x[y.argsort()], y.sort().values), "shuffle": False},
        "predictions of training rows as a submission, cut": {"submit": True},
    }


def job(change: Job) -> Job:
    train, valid = digits()
    usual = {"model": net, "loss": F.cross_entropy, "train": train, "valid": valid, "lr": 0.1, "metric": accuracy}
    return usual | {"shuffle": True, "twice": False, "submit": False} | change


# -- peers -------------------------------------------------------------------------------------------------------------


def with_fastai(asked: Job) -> None:
    import fastai.callback.progress  # noqa: F401  # it gives Learner its no_bar
    from fastai.data.core import DataLoaders
    from fastai.data.load import DataLoader as FastLoader
    from fastai.learner import Learner
    from fastai.optimizer import SGD

    sides = [list(zip(*asked[name], strict=True)) for name in ("train", "valid")]
    loaders = DataLoaders(FastLoader(sides[0], bs=64, shuffle=asked["shuffle"]), FastLoader(sides[1], bs=64))
    model = asked["model"]()
    for _ in range(2 if asked["twice"] else 1):
        learner = Learner(loaders, model, loss_func=asked["loss"], opt_func=SGD, metrics=asked["metric"])
        with learner.no_bar(), learner.no_logging():
            learner.fit(3, asked["lr"])
    with learner.no_bar():
        predictions = learner.get_preds(ds_idx=0 if asked["submit"] else 1)[0]
    _ = predictions.argmax(1)[: len(asked["valid"][0])]


def with_lightning(asked: Job) -> None:
    import lightning

    class Module(lightning.LightningModule):
        def __init__(self, model: nn.Module) -> None:
            super().__init__()
            self.model = model

        def training_step(self, batch: Any, _: int) -> Any:
            return asked["loss"](self.model(batch[0]), batch[1])

        def validation_step(self, batch: Any, _: int) -> None:
            outputs = self.model(batch[0])
            self.log("valid_loss", asked["loss"](outputs, batch[1]))
            if asked["metric"]:
                self.log("accuracy", asked["metric"](outputs, batch[1]))

        def predict_step(self, batch: Any, _: int) -> Any:
            return self.model(batch[0])

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=asked["lr"])

    train = DataLoader(TensorDataset(*asked["train"]), 64, shuffle=asked["shuffle"])
    valid = DataLoader(TensorDataset(*asked["valid"]), 64)
    model = asked["model"]()
    for _ in range(2 if asked["twice"] else 1):
        module = Module(model)
        trainer = lightning.Trainer(
            max_epochs=3, logger=False, enable_checkpointing=False, enable_progress_bar=False, accelerator="cpu"
        )
        trainer.fit(module, train, valid)
    trainer.predict(module, train if asked["submit"] else valid)


def with_keras(asked: Job) -> None:
    import keras

    model = keras.Sequential([keras.Input((64,)), keras.layers.TorchModuleWrapper(asked["model"]())])
    metrics = [asked["metric"]] if asked["metric"] else []
    for _ in range(2 if asked["twice"] else 1):
        model.compile(
            keras.optimizers.SGD(asked["lr"]),
            loss=lambda y, p: asked["loss"](p, y.squeeze(-1).long() if asked["loss"] is F.cross_entropy else y),
            metrics=[lambda y, p, one=one: one(p, y.squeeze(-1).long()) for one in metrics],
        )
        sides = {name: tuple(part.numpy() for part in asked[name]) for name in ("train", "valid")}
        model.fit(
            *sides["train"],
            validation_data=sides["valid"],
            epochs=3,
            batch_size=64,
            verbose=0,
            shuffle=asked["shuffle"],
        )
    model.predict(sides["train" if asked["submit"] else "valid"][0], verbose=0)


def with_skorch(asked: Job) -> None:
    from skorch import NeuralNet
    from skorch.callbacks import EpochScoring
    from skorch.dataset import Dataset
    from skorch.helper import predefined_split

    class Loss(nn.Module):
        def forward(self, p: Tensor, y: Tensor) -> Tensor:
            return asked["loss"](p, y)

    def scored(network: Any, data: Any, y: Any) -> float:
        outputs = torch.as_tensor(network.predict(data))
        return float(asked["metric"](outputs, torch.as_tensor(np.asarray([one[1] for one in data]))))

    callbacks = [("own", EpochScoring(scored, use_caching=False))] if asked["metric"] else []
    model = asked["model"]()
    sides = {name: Dataset(*(part.numpy() for part in asked[name])) for name in ("train", "valid")}
    for _ in range(2 if asked["twice"] else 1):
        network = NeuralNet(
            lambda: model,
            criterion=Loss,
            optimizer=torch.optim.SGD,
            lr=asked["lr"],
            max_epochs=3,
            batch_size=64,
            iterator_train__shuffle=asked["shuffle"],
            train_split=predefined_split(sides["valid"]),
            callbacks=callbacks,
            verbose=0,
        )
        network.fit(sides["train"], None)
    network.predict(sides["train" if asked["submit"] else "valid"])


PEERS: dict[str, Callable[[Job], None]] = {
    "fastai": with_fastai,
    "lightning": with_lightning,
    "keras": with_keras,
    "skorch": with_skorch,
}


def said(peer: Callable[[Job], None], change: Job) -> list[str]:
    """Warnings, logged ones too, and the error, if any."""
    lines: list[str] = []

    class Catch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.levelno >= logging.WARNING:
                lines.append(record.getMessage().split("\n")[0])

    logging.getLogger().addHandler(Catch())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            peer(job(change))
        except Exception as error:  # what is asked for
            lines.append(f"{type(error).__name__}: {error}".split("\n")[0])
    return lines + [str(one.message).strip().split("\n")[0] for one in caught]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", choices=PEERS, required=True)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    peer = PEERS[arguments.peer]
    peer(job({}))  # must work; and what a library says once, at its first use, is about no fault
    usual = set(said(peer, {}))
    result = {}
    for name, change in planted().items():
        new = [line for line in said(peer, change) if line not in usual and "__array__" not in line]  # numpy's own news
        result[name] = new[0][:160] if new else ""
        print(f"{name:55} {result[name] or '-'}", flush=True)
    if arguments.json:
        release = version(arguments.peer)
        arguments.json.write_text(json.dumps({"peer": arguments.peer, "version": release, "said": result}, indent=1))


if __name__ == "__main__":
    main()
