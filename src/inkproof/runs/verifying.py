"""Verify a run: is every file as it was written, and do its numbers follow from its weights and its data?"""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from safetensors.torch import load_file

from inkproof import kernels
from inkproof.errors import InputError
from inkproof.evaluation import score
from inkproof.images import ImageSet, Split, matching
from inkproof.recipes.building import build_loss
from inkproof.runs import directory
from inkproof.runs.environment import describe_environment
from inkproof.runs.predictions import read_predictions
from inkproof.runs.run import Run, open_run
from inkproof.runs.sides import data_options, open_sides
from inkproof.runs.submitting import check_submitted
from inkproof.runs.training import TrainingOptions, over_seeds, train_run
from inkproof.runs.verdict import Verdict

FLOAT_TOLERANCE = 1e-4  # relative: losses, on another machine or with another number of threads
_SAME_MACHINE = ("packages", "processor", "threads", "cpu_capability", "kernels", "cuda", "deterministic_algorithms")


def verify_run(
    path: Path, *, data: str | None = None, test: str | None = None, retrain: bool = False
) -> Iterator[Verdict]:
    """Verify a run directory, thing by thing.

    Args:
        path: the run.
        data: where its data is now, if it was moved.
        test: where its test images are now, if they were moved.
        retrain: also train it again, and compare the weights.

    Raises:
        InputError: no run, or its data cannot be opened.
    """
    yield from _verify_files(path)
    try:
        run = open_run(path, device="cpu")
        manifest = directory.read_json(path / directory.RUN)
    except InputError as error:  # a damaged file is a difference, and was named as one already
        if not path.is_dir():
            raise
        yield Verdict("run", False, str(error))
        return
    moved = {name: value for name, value in (("data", data), ("test", test)) if value is not None}
    command = manifest["command"] | moved
    sides = open_sides(data_options(command, run.recipe.classes))
    sides = Split(
        sides.train, *(None if one is None else matching(one, sides.train) for one in (sides.valid, sides.test))
    )
    named = {"train": sides.train, "valid": sides.valid, "test": sides.test}
    same_data = True
    for verdict in _verify_sides(manifest["sides"], named):
        same_data &= verdict.holds
        yield verdict
    if not same_data:
        return  # numbers from other data say nothing
    yield from _verify_scores(run, manifest, named)
    yield from check_submitted(run, test)
    if retrain:
        yield _verify_retrained(run, manifest, command, sides)


def _verify_files(path: Path) -> Iterator[Verdict]:
    if not (path / directory.SEAL).exists():
        yield Verdict(directory.SEAL, False, "is not there: nothing says what the files were")
        return
    sealed, found = directory.read_json(path / directory.SEAL)["files"], directory.hashes_of(path)
    for name in sorted(sealed.keys() | found.keys()):
        if name not in found:
            yield Verdict(name, False, "is missing")
        elif name not in sealed:
            yield Verdict(name, False, "was added later")
        else:
            same = sealed[name] == found[name]
            yield Verdict(name, same, "as written" if same else "was changed after the run was written")


def _verify_sides(recorded: dict[str, Any], sides: dict[str, ImageSet | None]) -> Iterator[Verdict]:
    for name, about in recorded.items():
        side = sides[name]
        same = side is not None and side.fingerprint == about["fingerprint"]
        images = 0 if side is None else len(side)
        detail = f"{images:,} images, by content" if same else f"{images:,} images that are not those of the run"
        yield Verdict(f"{name} images", same, detail)


def _verify_scores(run: Run, manifest: dict[str, Any], sides: dict[str, ImageSet | None]) -> Iterator[Verdict]:
    by_seed = {}
    loss = build_loss(run.recipe)
    folders = directory.seed_folders(run.path, manifest["seeds"])
    for (seed, folder), member in zip(folders.items(), run.members, strict=True):
        recorded = directory.read_json(folder / directory.SCORES)
        by_seed[seed] = recorded
        for name in ("valid", "test"):
            side = sides[name]
            if recorded[name] is None or side is None:
                continue
            outputs, labels = member.outputs(side)
            again = score(member.head, loss, outputs, labels, activation=member.activation)
            differs = list(_differences(recorded[name], _as_stored(again), f"{name} scores"))
            what = f"{name} scores" + (f" of seed {seed}" if len(folders) > 1 else "")
            yield Verdict(what, not differs, differs[0] if differs else f"recomputed from {len(side):,} images")
            yield _verify_predictions(folder, name, side, member.decode(outputs), what.replace("scores", "predictions"))
    if len(folders) > 1:
        recorded = directory.read_json(run.path / directory.SCORES)
        together = {name: run.score(sides[name]) for name in ("valid", "test")}
        differs = list(_differences(_without_version(recorded), _as_stored(over_seeds(by_seed, together)), "scores"))
        detail = differs[0] if differs else "recomputed from those of the seeds, and of the seeds together"
        yield Verdict("scores over seeds", not differs, detail)


def _verify_predictions(
    folder: Path, name: str, side: ImageSet, predicted: Int64[torch.Tensor, " n"], what: str
) -> Verdict:
    recorded = read_predictions(folder / directory.PREDICTIONS).get(name)
    right = (predicted == torch.from_numpy(side.require_labels("verifying").copy())).numpy()
    same = recorded is not None and np.array_equal(recorded.right, right)
    return Verdict(what, same, f"{len(right):,} recomputed" if same else "are not what the weights say")


def _without_version(data: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != "format_version"}


def _as_stored(data: Any) -> Any:
    """As JSON keeps it: NaN is None, keys are text."""
    if isinstance(data, dict):
        return {str(key): _as_stored(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_as_stored(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def _differences(recorded: Any, again: Any, where: str) -> Iterator[str]:
    """Where two nested results differ: counts and names exactly, floats within the tolerance."""
    if isinstance(recorded, dict) and isinstance(again, dict) and recorded.keys() == again.keys():
        for key in recorded:
            yield from _differences(recorded[key], again[key], f"{where}: {key}")
    elif isinstance(recorded, list) and isinstance(again, list) and len(recorded) == len(again):
        for number, (one, other) in enumerate(zip(recorded, again, strict=True)):
            yield from _differences(one, other, f"{where} [{number}]")
    elif isinstance(recorded, float) and isinstance(again, float):
        if not math.isclose(recorded, again, rel_tol=FLOAT_TOLERANCE, abs_tol=1e-9):
            yield f"{where} is {recorded} in the run and {again} recomputed"
    elif recorded != again:
        yield f"{where} is {recorded} in the run and {again} recomputed"


def _verify_retrained(run: Run, manifest: dict[str, Any], command: dict[str, Any], sides: Split) -> Verdict:
    """Train again: to the same bits on the same machine, else to scores within the error bar."""
    if manifest["interrupted"]:
        return Verdict("retrained", False, "an interrupted training cannot be trained again to where it was left")
    options = TrainingOptions(
        seeds=tuple(manifest["seeds"]),
        device=manifest["device"],
        allow=frozenset(manifest["allowed"]),
        patience=manifest["patience"],
        keep_best=manifest["keep_best"],
        precision=manifest["precision"],
    )
    recorded = directory.read_json(run.path / directory.ENVIRONMENT)
    with kernels.allowed(manifest.get("kernels") is not None), tempfile.TemporaryDirectory() as folder:
        now = _as_stored(describe_environment())
        other = [name for name in _SAME_MACHINE if recorded.get(name) != now[name]]
        again = train_run(run.recipe, replace(sides), Path(folder) / "again", options=options, command=command)
        if not other:
            pairs = zip(_weights(run.path, manifest), _weights(again.path, manifest), strict=True)
            same = all(one.keys() == two.keys() and all(torch.equal(one[k], two[k]) for k in one) for one, two in pairs)
            return Verdict("retrained", same, "the same weights, bit for bit" if same else "other weights")
        inside = [_inside(run.scores[name], again.scores[name]) for name in ("valid", "test")]
    changed = ", ".join(other)
    detail = f"scores {'within' if all(inside) else 'outside'} the error bar (not the same bits: other {changed})"
    return Verdict("retrained", all(inside), detail)


def _weights(path: Path, manifest: dict[str, Any]) -> list[dict[str, torch.Tensor]]:
    folders = directory.seed_folders(path, manifest["seeds"]).values()
    return [load_file(folder / directory.WEIGHTS) for folder in folders]


def _inside(recorded: dict[str, Any] | None, again: dict[str, Any] | None) -> bool:
    if recorded is None or again is None:
        return recorded is again
    spread = recorded.get("accuracy_sd") or 0.0
    width = 1.96 * math.sqrt(2 * 0.25 / recorded["images"]) if not spread else 3 * spread
    return bool(abs(recorded["accuracy"] - again["accuracy"]) <= width)
