"""The kernels' library: made where a compiler is there, loaded where the processor has what it takes, told of."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from conftest import Result

from inkproof import kernels
from inkproof.kernels import library
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
    assert (library.__wrapped__() is not None) == there


def test_a_run_tells_whether_kernels_were_there() -> None:
    assert describe_environment()["kernels"] is True


def test_a_training_without_kernels_says_so(inkproof: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def said(recipe: str, name: str) -> str:
        return inkproof("train", "--recipe", recipe, "--epochs", "1", "--out", tmp_path / name).err

    assert "C compiler" not in said("linear-cross-entropy", "with")
    monkeypatch.setattr(kernels, "are_there", lambda: False)
    assert "note: no C compiler was found when inkproof was installed" in said("linear-cross-entropy", "without")
    assert "C compiler" not in said("fast", "convolutions")
