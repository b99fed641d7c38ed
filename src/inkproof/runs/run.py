"""A finished run: open it, predict with it."""

import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int64
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from inkproof.errors import InputError
from inkproof.images import ImageSet
from inkproof.metrics import wilson_interval
from inkproof.prediction import Predictor
from inkproof.recipes import Recipe, parse_recipe
from inkproof.recipes.building import build_head, build_model
from inkproof.runs import directory
from inkproof.runtime import DeviceName, Precision, choose_device, place


@dataclass(frozen=True, eq=False)
class Run:
    """A trained recipe on disk. Made by `open_run`.

    Args:
        path: the run directory.
        recipe: what it trained.
        shape: (channels, height, width) of the images it was trained on.
        classes: names of its classes.
        scores: content of scores.json.
        members: a predictor for each of its seeds.
    """

    path: Path
    recipe: Recipe
    shape: tuple[int, int, int]
    classes: tuple[str, ...]
    scores: dict[str, Any]
    members: tuple[Predictor, ...]

    def probabilities(self, images: ImageSet, *, tta: bool = False) -> Float[Tensor, "n classes"]:
        """The probability of each class for each image; of several seeds, their mean.

        Args:
            images: of the shape and within the classes that the run was trained on.
            tta: average over each image and its shifts by one pixel in four directions.

        Raises:
            InputError: images of another shape, or with a label outside the run's classes.
        """
        images = self.check(images)
        return torch.stack([member.probabilities(images, tta=tta)[0] for member in self.members]).mean(dim=0)

    def predict(self, images: ImageSet, *, tta: bool = False) -> Int64[Tensor, " n"]:
        """The predicted class index of each image, in their order; `classes` names them."""
        if len(self.members) == 1:
            return self.members[0].predict(self.check(images), tta=tta)
        return self.probabilities(images, tta=tta).argmax(dim=1)

    def score(self, images: ImageSet | None) -> dict[str, Any] | None:
        """Accuracy of `predict`, that of all seeds together; None without images or labels.

        Returns:
            images, correct, accuracy, interval (Wilson, 95 %, over the images drawn).
        """
        if images is None or images.labels is None:
            return None
        labels = torch.from_numpy(self.check(images).require_labels("scoring").copy())
        correct = int((self.predict(images) == labels).sum())
        count = len(labels)
        interval = list(wilson_interval(correct, count))
        return {"images": count, "correct": correct, "accuracy": correct / count, "interval": interval}

    def check(self, images: ImageSet) -> ImageSet:
        """The images with labels counted in the run's classes; an InputError where shape or classes differ."""
        if images.shape != self.shape:
            raise InputError(
                f"{images.source}: images of shape {images.shape} (channels, height, width), but the run {self.path} "
                f"was trained on {self.shape}"
            )
        return images.with_classes(self.classes)


def open_run(path: Path | str, *, device: DeviceName = "auto") -> Run:
    """Open a run directory to predict with it.

    Args:
        path: what `inkproof train` named as the run.
        device: where to compute.

    Raises:
        InputError: no such run, or a damaged one.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path}: no run directory of that name")
    manifest = directory.read_json(path / directory.RUN)
    try:
        recipe = parse_recipe(tomllib.loads((path / directory.RECIPE).read_text(encoding="utf-8")), where=str(path))
    except (OSError, ValueError) as error:
        raise InputError(f"{path / directory.RECIPE}: damaged: {error}") from None
    channels, height, width = manifest["shape"]
    shape, classes = (channels, height, width), tuple(manifest["classes"])
    folders = directory.seed_folders(path, manifest["seeds"]).values()
    return Run(
        path=path,
        recipe=recipe,
        shape=shape,
        classes=classes,
        scores=directory.read_json(path / directory.SCORES),
        members=tuple(_load_member(folder, recipe, shape, classes, device) for folder in folders),
    )


def _load_member(
    folder: Path, recipe: Recipe, shape: tuple[int, int, int], classes: tuple[str, ...], device: DeviceName
) -> Predictor:
    head = build_head(recipe, classes)
    model = build_model(recipe, shape, head)
    weights = folder / directory.WEIGHTS
    try:
        model.load_state_dict(load_file(weights))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split("\n", 2)[:2]).replace("\t", "")
        raise InputError(f"{weights}: not the weights of the recipe {recipe.name!r}: {reason}") from None
    where = choose_device(device)
    place(model, where).eval()
    precision: Precision = directory.read_json(folder / directory.RUN)["precision"]
    return Predictor(model, head, where, precision)
