"""Recipe and data become a run: train, score, write. One seed or several, one after another."""

import math
import shutil
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from jaxtyping import Int64
from safetensors.torch import save_file
from torch import Tensor

from inkproof import kernels
from inkproof.audit import act_on, check_images, explain
from inkproof.errors import InkproofError, InputError, Refused
from inkproof.evaluation import score
from inkproof.files import atomic_path, write_text
from inkproof.history import History, Row, ending_on_ctrl_c
from inkproof.images import ImageSet, Split, matching
from inkproof.learner import Learner
from inkproof.recipes import Recipe, load_recipe
from inkproof.recipes.building import build_learner, build_schedule, resolve_precision, shares_order
from inkproof.runs import directory
from inkproof.runs.checkpoint import load_checkpoint, save_checkpoint
from inkproof.runs.environment import describe_environment
from inkproof.runs.predictions import write_predictions
from inkproof.runs.run import open_run
from inkproof.runtime import DeviceName, Precision
from inkproof.seeds import can_train_together, train_together

_CHECKPOINT_PAUSE = 20  # times what writing one takes: epochs of milliseconds do not spend their time on the disk


@dataclass(frozen=True)
class TrainingOptions:
    """How a recipe is trained, apart from what is trained on what.

    Args:
        seeds: one or more; several give error bars.
        device: where to compute.
        allow: ids of findings that may pass.
        patience: stop after this many epochs without a smaller validation loss.
        keep_best: end with the weights of the epoch with the smallest validation loss.
        precision: in place of the recipe's, or of what the processor chooses where that is "auto".
    """

    seeds: tuple[int, ...] = (0,)
    device: DeviceName = "auto"
    allow: frozenset[str] = frozenset()
    patience: int | None = None
    keep_best: bool = False
    precision: Precision | None = None


@dataclass(frozen=True)
class TrainedRun:
    """What a training left.

    Args:
        path: the run directory.
        scores: content of scores.json.
        by_seed: the scores of each seed, with the confusion of its predictions.
        history: rows of each seed.
        findings: what the audit saw.
        interrupted: Ctrl-C ended it early; the run holds the last whole epoch.
    """

    path: Path
    scores: dict[str, Any]
    by_seed: dict[int, dict[str, Any]]
    history: dict[int, list[dict[str, Any]]]
    findings: list[dict[str, Any]]
    interrupted: bool


def train_run(
    recipe: Recipe,
    sides: Split,
    run: Path,
    *,
    options: TrainingOptions,
    command: dict[str, Any],
    resume: bool = False,
    on_row: Callable[[int, Row], None] = lambda seed, row: None,
) -> TrainedRun:
    """Train a recipe on the sides of a split and leave a run directory.

    Args:
        recipe: what to train.
        sides: train, and where there are valid and test; a test side without labels is only checked.
        run: the directory to make; nothing is ever overwritten.
        options: seeds, device and the like.
        command: how the sides came about, for the record and for resuming: the command line's options as plain data.
        resume: go on with a training of the same recipe, data and seeds that was killed; one that is whole is read.
        on_row: told each epoch's seed and row.

    Raises:
        Refused: by the audit, before anything is trained or written.
        InputError: the run exists, or does not fit what is to be resumed.
    """
    sides = _matching_sides(sides)
    findings = [found.as_dict() for found in act_on(check_images(*_three(sides)), allow=options.allow)]
    manifest = _manifest(recipe, sides, command, options)
    if resume and run.exists():
        _check_same(run, recipe, manifest)
        return read_trained(run)
    folder = directory.start_run(run, resume=resume)
    begun = _check_same(folder, recipe, manifest) if resume else {}
    # What was chosen for the machine is recorded, and taken again where it would now be chosen otherwise.
    precision = options.precision or begun.get("precision") or resolve_precision(recipe, options.device)
    with kernels.allowed(not resume or begun.get("kernels") is not None):
        manifest["kernels"] = kernels.version()
        if resume and manifest["kernels"] != begun.get("kernels"):
            raise InputError(
                f"{folder}: was begun with kernels {begun['kernels']}, and here are {manifest['kernels'] or 'none'}: "
                "resume where the same are installed, or train anew"
            )
        manifest["precision"] = precision
        if not resume:
            directory.write_json(folder / directory.RUN, manifest)
            write_text(folder / directory.RECIPE, recipe.to_toml())
        scores, seen, interrupted = {}, findings, False
        chosen = recipe.model_copy(update={"precision": precision})
        together = _train_together(chosen, sides, options)
        for seed in options.seeds:
            own = folder if len(options.seeds) == 1 else folder / directory.SEEDS / str(seed)
            if not _is_finished(own):
                own.mkdir(parents=True, exist_ok=True)
                try:
                    learner = together.get(seed) or _train_seed(chosen, sides, own, seed, options, on_row)
                except InkproofError as error:
                    if isinstance(error, Refused) or not resume:
                        shutil.rmtree(folder)  # resuming would only meet the same error
                    raise
                if seed in together:
                    for row in learner.history:
                        on_row(seed, row)
                _write_seed(own, learner, recipe, sides, {**manifest, "seeds": [seed]}, findings)
            about = directory.read_json(own / directory.RUN)
            scores[seed] = directory.read_json(own / directory.SCORES)
            seen = seen + directory.read_json(own / directory.FINDINGS)["findings"]
            if about["interrupted"]:
                interrupted = True
                break
        if len(options.seeds) > 1:
            of_all = {"seeds": list(scores), "precision": about["precision"], "device": about["device"]}
            directory.write_json(folder / directory.RUN, {**manifest, **of_all, "interrupted": interrupted})
            directory.write_json(folder / directory.SCORES, over_seeds(scores, {"valid": None, "test": None}))
            trained = open_run(folder, device=options.device)
            as_one = {name: trained.score(side) for name, side in (("valid", sides.valid), ("test", sides.test))}
            directory.write_json(folder / directory.SCORES, over_seeds(scores, as_one))
            directory.write_json(folder / directory.FINDINGS, {"findings": _once(seen)})
            directory.write_json(folder / directory.ENVIRONMENT, describe_environment())
        directory.finish_run(run)
        return read_trained(run)


def read_trained(run: Path) -> TrainedRun:
    """What a training left, from its directory."""
    about = directory.read_json(run / directory.RUN)
    folders = directory.seed_folders(run, about["seeds"])
    return TrainedRun(
        path=run,
        scores=directory.read_json(run / directory.SCORES),
        by_seed={seed: directory.read_json(folder / directory.SCORES) for seed, folder in folders.items()},
        history={seed: History.from_csv(folder / directory.HISTORY).as_dicts() for seed, folder in folders.items()},
        findings=directory.read_json(run / directory.FINDINGS)["findings"],
        interrupted=about["interrupted"],
    )


def _train_together(recipe: Recipe, sides: Split, options: TrainingOptions) -> dict[int, Learner]:
    """All seeds trained side by side, by seed; none where they are better trained one after another."""
    whole = options.patience is None and not options.keep_best
    if len(options.seeds) == 1 or not whole or not shares_order(recipe):
        return {}
    learners = {
        seed: build_learner(recipe, sides.train, sides.valid, seed=seed, device=options.device, allow=options.allow)
        for seed in options.seeds
    }
    every = list(learners.values())
    if not can_train_together(every):
        return {}
    done = train_together(every, recipe.epochs_for(len(sides.train)), build_schedule(recipe))
    return learners if done else {}


def _train_seed(
    recipe: Recipe,
    sides: Split,
    folder: Path,
    seed: int,
    options: TrainingOptions,
    on_row: Callable[[int, Row], None],
) -> Learner:
    """Train one seed to its end, from its checkpoint where there is one."""
    learner = build_learner(recipe, sides.train, sides.valid, seed=seed, device=options.device, allow=options.allow)
    checkpoint = folder / directory.CHECKPOINT
    if checkpoint.exists():
        learner.load_state_dict(load_checkpoint(checkpoint))
    epochs = recipe.epochs_for(len(sides.train))

    trained = learner.epochs(epochs, build_schedule(recipe), done=len(learner.history))
    rows = learner.follow(trained, patience=options.patience, keep_best=options.keep_best)
    saved, cost = -math.inf, 0.0
    with ending_on_ctrl_c(rows):
        for row in rows:
            started = perf_counter()
            if started - saved > _CHECKPOINT_PAUSE * cost:
                save_checkpoint(checkpoint, learner.state_dict())
                saved = perf_counter()
                cost = saved - started
            on_row(seed, row)
    return learner


def _is_finished(folder: Path) -> bool:
    """Whether a seed's directory is whole: its weights are written last, and its checkpoint is then removed."""
    return (folder / directory.WEIGHTS).exists() and not (folder / directory.CHECKPOINT).exists()


def _write_seed(
    folder: Path,
    learner: Learner,
    recipe: Recipe,
    sides: Split,
    manifest: dict[str, Any],
    findings: list[dict[str, Any]],
) -> None:
    """Write all files of one seed's run; the checkpoint goes last, when nothing needs it any more."""
    about_seed = {"precision": learner.precision, "device": learner.device.type, "interrupted": learner.interrupted}
    directory.write_json(folder / directory.RUN, {**manifest, **about_seed})
    write_text(folder / directory.RECIPE, recipe.to_toml())
    learner.history.to_csv(folder / directory.HISTORY)
    scores, predicted = _scores(learner, sides)
    directory.write_json(folder / directory.SCORES, scores)
    write_predictions(folder / directory.PREDICTIONS, predicted)
    # A run reports every seed that it trained: that they were judged by the same images is no finding of it.
    of_learner = [found.as_dict() for found in learner.findings if explain(found.id).moment != "lineage"]
    directory.write_json(folder / directory.FINDINGS, {"findings": _once(findings + of_learner)})
    directory.write_json(folder / directory.ENVIRONMENT, describe_environment())
    with atomic_path(folder / directory.WEIGHTS) as temporary:
        weights = {name: tensor.contiguous() for name, tensor in learner.model.state_dict().items()}
        save_file(weights, temporary)
    (folder / directory.CHECKPOINT).unlink(missing_ok=True)


def _once(findings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Each finding once: run and Learner both look at the training images."""
    return list({finding["id"]: finding for finding in reversed(findings)}.values())[::-1]


def _scores(learner: Learner, sides: Split) -> tuple[dict[str, Any], dict[str, tuple[ImageSet, Int64[Tensor, " n"]]]]:
    """Scores and predictions on each held-out side with labels, and what the training took."""
    result: dict[str, Any] = {}
    predicted = {}
    for name, side in (("valid", sides.valid), ("test", sides.test)):
        result[name] = None
        if side is not None and side.labels is not None:
            outputs, labels = learner.predictor.outputs(side)
            result[name] = score(learner.head, learner.loss, outputs, labels, activation=learner.predictor.activation)
            predicted[name] = side, learner.predictor.decode(outputs)
    result["training"] = {
        "images": len(sides.train),
        "epochs": len(learner.history),
        "parameters": sum(parameter.numel() for parameter in learner.model.parameters() if parameter.requires_grad),
        "seconds": learner.history.train_seconds,
    }
    return result, predicted


def over_seeds(scores: dict[int, dict[str, Any]], together: dict[str, dict[str, Any] | None]) -> dict[str, Any]:
    """Mean and standard deviation over seeds, where the seed is the draw and not the images; and the seeds together.

    Args:
        scores: of each seed.
        together: by side, the score of the mean of their probabilities.
    """
    result: dict[str, Any] = {"seeds": list(scores)}
    for name in ("valid", "test"):
        sides = [score[name] for score in scores.values()]
        result[name] = None
        if all(side is not None for side in sides):
            accuracies = [side["accuracy"] for side in sides]
            result[name] = {
                "images": sides[0]["images"],
                "accuracy": statistics.mean(accuracies),
                "accuracy_sd": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
                "accuracy_by_seed": dict(zip(map(str, scores), accuracies, strict=True)),
                "loss": _mean_of_finite([side["loss"] for side in sides]),
                "together": together[name],
            }
    trainings = [score["training"] for score in scores.values()]
    result["training"] = {
        "images": trainings[0]["images"],
        "epochs": trainings[0]["epochs"],
        "parameters": trainings[0]["parameters"],
        "seconds": sum(training["seconds"] for training in trainings),
    }
    return result


def _mean_of_finite(numbers: list[float | None]) -> float | None:
    """The mean; None where a number is NaN or infinite, which a file holds as None."""
    finite = [number for number in numbers if number is not None and math.isfinite(number)]
    return statistics.mean(finite) if len(finite) == len(numbers) else None


def _manifest(recipe: Recipe, sides: Split, command: dict[str, Any], options: TrainingOptions) -> dict[str, Any]:
    """What the run is, as plain data: equal manifests are the same training."""
    named = {"train": sides.train, "valid": sides.valid, "test": sides.test}
    return {
        "recipe": recipe.name,
        "seeds": list(options.seeds),
        "shape": list(sides.train.shape),
        "classes": list(sides.train.classes),
        "command": command,
        "sides": {
            name: {
                "source": side.source,
                "images": len(side),
                "labelled": side.labels is not None,
                "fingerprint": side.fingerprint,
            }
            for name, side in named.items()
            if side is not None
        },
        "allowed": sorted(options.allow),
        "patience": options.patience,
        "keep_best": options.keep_best,
    }


def _check_same(folder: Path, recipe: Recipe, manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest of the training that was begun; refuse to resume another."""
    begun: dict[str, Any] = directory.read_json(folder / directory.RUN)
    same_format = {"format_version": recipe.format_version}
    if load_recipe(folder / directory.RECIPE).model_copy(update=same_format) != recipe:
        raise InputError(f"{folder}: was begun with another recipe: resume with the same options, or train anew")
    for key in ("seeds", "sides", "patience", "keep_best"):
        if begun.get(key) != manifest[key]:
            raise InputError(
                f"{folder}: was begun with other {key} ({begun.get(key)}, now {manifest[key]}): resume with the same "
                "options and data, or train anew"
            )
    return begun


def _matching_sides(sides: Split) -> Split:
    """All sides with labels counted in the classes of the training side."""
    train = sides.train
    return Split(train, *(None if side is None else matching(side, train) for side in (sides.valid, sides.test)))


def _three(sides: Split) -> tuple[ImageSet, ImageSet | None, ImageSet | None]:
    return sides.train, sides.valid, sides.test
