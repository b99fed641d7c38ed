"""The kernels' library: made where a compiler is there, loaded where the processor has what it takes, told of."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import Result
from test_runs import Killed, train

from inkproof import kernels
from inkproof.errors import InputError
from inkproof.history import Row
from inkproof.images import Split
from inkproof.kernels import loading
from inkproof.recipes import load_recipe
from inkproof.runs.environment import describe_environment

Command = Callable[..., Result]
ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.skipif(not kernels.are_there(), reason="no compiler made the kernels")


@pytest.fixture(scope="module")
def hatch_build() -> ModuleType:
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def checkout(folder: Path) -> Path:
    """A folder with the sources of the kernels alone."""
    place = folder / "src" / "inkproof" / "kernels"
    place.mkdir(parents=True)
    for source in (ROOT / "src/inkproof/kernels").glob("*.c"):
        (place / source.name).write_text(source.read_text())
    return place


def test_without_a_compiler_there_is_no_library_and_no_error(
    hatch_build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = checkout(tmp_path)
    (place / "kernels.compiled").write_text("of an older source")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert not hatch_build.compile_kernels(tmp_path)
    assert not (place / "kernels.compiled").exists()
    monkeypatch.setenv("CC", "false")
    assert not hatch_build.compile_kernels(tmp_path)


def test_a_compiler_that_knows_no_openmp_makes_kernels_of_one_thread(
    hatch_build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = checkout(tmp_path)
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\ncase "$*" in *-fopenmp*) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    monkeypatch.setenv("CC", str(compiler))
    assert hatch_build.compile_kernels(tmp_path)
    assert (place / "kernels.compiled").stat().st_size > 1000


@pytest.mark.parametrize(("capability", "there"), [("AVX2", True), ("AVX512", True), ("DEFAULT", False)])
def test_kernels_are_for_processors_with_avx2(capability: str, there: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert (loading._load.__wrapped__() is not None) == there


def test_a_library_of_other_sources_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    assert loading._load.__wrapped__() is not None
    monkeypatch.setattr(loading, "_digest", lambda: "of others")
    assert loading._load.__wrapped__() is None


def test_kernels_that_are_not_allowed_are_not_taken() -> None:
    with kernels.allowed(False):
        assert not kernels.are_there()
        assert describe_environment()["kernels"] is None
        with kernels.allowed(True):
            assert not kernels.are_there()
    assert kernels.are_there()


def test_a_run_tells_which_kernels_were_there_and_trains_again_without_those_that_were_not(
    inkproof: Command, tmp_path: Path
) -> None:
    options = ["train", "--recipe", "conv", "--epochs", "1", "--out"]
    assert inkproof(*options, tmp_path / "with").code == 0
    with kernels.allowed(False):
        assert inkproof(*options, tmp_path / "without").code == 0
    versions = [
        json.loads((tmp_path / name / "environment.json").read_text())["kernels"] for name in ("with", "without")
    ]
    assert versions == [kernels.version(), None]
    for name in ("with", "without"):
        verified = inkproof("verify", tmp_path / name, "--retrain")
        assert verified.code == 0
        assert "bit for bit" in verified.out + verified.err
    with kernels.allowed(False):
        other = inkproof("verify", tmp_path / "with", "--retrain")
    assert other.code == 0
    assert "bit for bit" in other.out + other.err or "other kernels" in other.out + other.err


def test_a_training_without_kernels_says_so(inkproof: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(recipe: str, name: str) -> str:
        return inkproof("train", "--recipe", recipe, "--epochs", "1", "--out", tmp_path / name).err

    assert "kernels" not in said("linear-cross-entropy", "with")
    monkeypatch.setattr(kernels, "are_there", lambda: False)
    assert "note: inkproof's kernels are not there" in said("linear-cross-entropy", "without")
    assert "kernels" not in said("fast", "blocks")


def test_a_training_goes_on_with_the_kernels_it_was_begun_with_or_not_at_all(
    few_digits: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = load_recipe("conv").model_copy(update={"epochs": 3})

    def kill(seed: int, row: Row) -> None:
        if row.epoch == 2:
            raise Killed

    with kernels.allowed(False):
        train(tmp_path / "whole", few_digits, recipe)
        with pytest.raises(Killed):
            train(tmp_path / "killed", few_digits, recipe, on_row=kill)
    train(tmp_path / "killed", few_digits, recipe, resume=True)
    assert json.loads((tmp_path / "killed" / "run.json").read_text())["kernels"] is None
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]
    with pytest.raises(Killed):
        train(tmp_path / "of others", few_digits, recipe, on_row=kill)
    monkeypatch.setattr(kernels, "version", lambda: "0123456789abcdef")
    with pytest.raises(InputError, match=r"was begun with kernels .*, and here are 0123456789abcdef: resume where"):
        train(tmp_path / "of others", few_digits, recipe, resume=True)
    with kernels.allowed(False), pytest.raises(InputError, match="was begun with kernels"):
        train(tmp_path / "of others", few_digits, recipe, resume=True)
