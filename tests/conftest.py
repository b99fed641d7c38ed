"""What several tests use: small real images, and a command line run in this process."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from inkproof import audit
from inkproof.cli import main
from inkproof.images import ImageSet, Split
from inkproof.sources import open_one

MNIST = os.environ.get("INKPROOF_MNIST")
needs_mnist = pytest.mark.skipif(MNIST is None, reason="INKPROOF_MNIST names no directory of IDX files")


def pytest_configure() -> None:
    # Tests run beside each other, one a core: threads of their own would only wait for each other.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INKPROOF_CACHE", str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="session")
def digits() -> ImageSet:
    return open_one("digits")


@pytest.fixture(scope="session")
def few_digits(digits: ImageSet) -> Split:
    """300 images to train on, 100 to validate, 100 to test: quick, and still learnt."""
    return digits.subset(np.arange(500)).split(valid=100, test=100)


@dataclass(frozen=True)
class Result:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def inkproof(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """Runs a command as the console script does, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        code = main([str(argument) for argument in arguments])
        captured = capfd.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def kaggle(tmp_path: Path, digits: ImageSet) -> Path:
    """A competition's three files, of 8×8 digits: train.csv, test.csv, sample_submission.csv."""
    folder = tmp_path / "kaggle"
    folder.mkdir()
    pixels = digits.pixels.reshape(len(digits), -1)
    assert digits.labels is not None
    names = ",".join(f"pixel{number}" for number in range(64))
    train = np.column_stack([digits.labels, pixels])[:300]
    np.savetxt(folder / "train.csv", train, "%d", ",", header=f"label,{names}", comments="")
    np.savetxt(folder / "test.csv", pixels[300:340], "%d", ",", header=names, comments="")
    sample = [[number, 0] for number in range(1, 41)]
    np.savetxt(folder / "sample_submission.csv", sample, "%d", ",", header="ImageId,Label", comments="")
    return folder


@pytest.fixture(autouse=True)
def _a_new_ledger() -> None:
    """What one test trains and scores is nothing to the next."""
    audit.forget()


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
