"""The run directory: what its files are called, how they are written and read.

    RUN/
      run.json              what was trained on what: data, sides, classes, shape, seed, device, precision
      recipe.toml           the recipe, every setting spelled out
      history.csv           the table of the training
      scores.json           scores on the validation and test sides
      predictions.csv       what it said of each held-out image
      findings.json         what the audit saw, what was allowed
      environment.json      versions, processor, threads
      weights.safetensors   the model
      seal.json             the SHA-256 of each of these files
      submissions.json      what was submitted: file, hashes of it and of its test images
      seeds/3/…             a run of several seeds: one such directory a seed

While a training runs, its directory is called RUN.partial and holds checkpoint.safetensors; it gets its name when
all files are in it, so a directory called RUN is always a whole run.
"""

import json
import math
import re
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from inkproof.errors import InputError
from inkproof.files import sha256_of, write_text

FORMAT_VERSION = 1
RUN, RECIPE, HISTORY, SCORES = "run.json", "recipe.toml", "history.csv", "scores.json"
FINDINGS, ENVIRONMENT, WEIGHTS, CHECKPOINT = (
    "findings.json",
    "environment.json",
    "weights.safetensors",
    "checkpoint.safetensors",
)
PREDICTIONS = "predictions.csv"
SEEDS = "seeds"
SEAL, SUBMISSIONS = "seal.json", "submissions.json"


def partial_path(run: Path) -> Path:
    """Where a run lies until it is whole."""
    return run.with_name(run.name + ".partial")


def new_run_path(recipe: str, source: str) -> Path:
    """A name in `runs/` that says when, what and on what, and is not taken."""
    data = re.sub(r"[^A-Za-z0-9]+", "-", Path(source).name.split(".")[0]).strip("-") or "data"
    stem = f"{datetime.now():%Y%m%d-%H%M%S}-{recipe}-{data}"
    paths = (Path("runs") / (stem if number == 1 else f"{stem}-{number}") for number in range(1, 1000))
    return next(path for path in paths if not path.exists() and not partial_path(path).exists())


def start_run(run: Path, *, resume: bool) -> Path:
    """Make, or on resuming find, the partial directory of a run.

    Raises:
        InputError: the run exists, or was begun and `resume` was not asked for, or cannot be made.
    """
    partial = partial_path(run)
    if run.exists():
        raise InputError(f"{run}: exists already; runs are never overwritten: choose another --out or remove it")
    if partial.exists() and not resume:
        raise InputError(f"{run}: was begun and did not end; go on with --resume, or remove {partial}")
    assert partial.exists() or not resume, "resuming starts with begun_with"
    try:
        partial.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{run}: cannot be made: {error.strerror}") from None
    return partial


def finish_run(run: Path) -> None:
    """Seal a whole run, and give it its name."""
    partial = partial_path(run)
    write_json(partial / SEAL, {"files": hashes_of(partial)})
    partial.replace(run)


def hashes_of(run: Path) -> dict[str, str]:
    """The SHA-256 of each file of a run that its training wrote, by its path in the run."""
    later = {SEAL, SUBMISSIONS}
    files = sorted(path for path in run.rglob("*") if path.is_file() and path.relative_to(run).as_posix() not in later)
    return {path.relative_to(run).as_posix(): sha256_of(path) for path in files}


def seed_folders(run: Path, seeds: Sequence[int]) -> dict[int, Path]:
    """Where each seed of a run lies: in the run itself, or under `seeds/` where it was begun with several."""
    if not (run / SEEDS).exists():
        return dict.fromkeys(seeds, run)
    return {seed: run / SEEDS / str(seed) for seed in seeds}


def latest_partial() -> Path:
    """The run in `runs/` that was begun last and did not end.

    Raises:
        InputError: there is none.
    """
    begun = sorted(Path("runs").glob("*.partial"), key=lambda path: path.stat().st_mtime)
    if not begun:
        raise InputError("nothing to resume: no run in runs/ was begun and left; name one with --out")
    return begun[-1].with_name(begun[-1].name.removesuffix(".partial"))


def begun_with(run: Path) -> dict[str, Any]:
    """The options of the command that began a run which did not end, with names and values as the command line's.

    Raises:
        InputError: there is nothing to resume.
    """
    partial = partial_path(run)
    if not partial.exists():
        raise InputError(f"{run}: nothing to resume; there is no {partial}")
    command: dict[str, Any] = read_json(partial / RUN)["command"]
    return {name: tuple(value) if isinstance(value, list) else value for name, value in command.items()}


def write_json(path: Path, data: dict[str, Any]) -> None:
    """Write a JSON file of a run, atomically, with the format version first."""
    data = _without_nan({"format_version": FORMAT_VERSION, **data})
    write_text(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def _without_nan(value: Any) -> Any:
    """JSON knows no NaN or infinity: they become null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any]:
    """A JSON file of a run.

    Raises:
        InputError: missing, damaged, or of a newer format.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path.parent}: not a run that can be read: {path.name}: {error.strerror}") from None
    except ValueError as error:
        raise InputError(f"{path}: damaged: {error}") from None
    if not isinstance(data, dict) or not isinstance(data.get("format_version"), int):
        raise InputError(f"{path}: damaged: not a file of a run")
    if data["format_version"] > FORMAT_VERSION:
        raise InputError(f"{path}: made by a newer inkproof (format {data['format_version']}): upgrade to read it")
    return data
