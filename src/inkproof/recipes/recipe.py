"""Recipe: everything that decides a training, as data. No torch here: recipes are listed and checked without it."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inkproof.errors import InputError

FORMAT_VERSION: Literal[5] = 5  # 1 to 4: other nets `strong`


class _Data(BaseModel):
    """Frozen, and unknown keys are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class MeanImageModel(_Data):
    """Nearest mean image of each class."""

    name: Literal["mean-image"] = "mean-image"


class _Dense(_Data):
    """What linear models and those with one hidden layer share."""

    initialisation: Literal["torch", "normal", "uniform"] = "torch"
    output_range: tuple[float, float] | None = Field(None, description="of a scaled sigmoid over the outputs")


class LinearModel(_Dense):
    """One linear layer."""

    name: Literal["linear"] = "linear"


class HiddenModel(_Dense):
    """One hidden layer."""

    name: Literal["hidden"] = "hidden"
    units: int = Field(30, ge=1)


class DeepModel(_Data):
    """Several hidden layers."""

    name: Literal["deep"] = "deep"
    units: tuple[Annotated[int, Field(ge=1)], ...] = Field((256, 128, 64, 32), min_length=1)


class ConvModel(_Data):
    """Five small convolutions of stride 2."""

    name: Literal["conv"] = "conv"
    channels: tuple[Annotated[int, Field(ge=1)], ...] = Field((4, 16, 32, 64), min_length=1)
    initialisation: Literal["he", "torch"] = "he"


class StrongModel(_Data):
    """Convolutional blocks with batch normalisation."""

    name: Literal["strong"] = "strong"
    widths: tuple[Annotated[int, Field(ge=1)], ...] = Field((16, 32, 48, 64), min_length=1)
    activation: Literal["relu", "silu"] = "relu"
    stem: Literal["stride", "pool"] = "stride"
    pools: Literal["early", "late"] = "early"


LossName = Literal[
    "cross-entropy",
    "binary-cross-entropy",
    "clamped-binary-cross-entropy",
    "mean-squared-error",
    "root-mean-squared-error",
    "rmse-softmax",
]
Model = MeanImageModel | LinearModel | HiddenModel | DeepModel | ConvModel | StrongModel


class Optimizer(_Data):
    """The optimiser. Weight decay acts on weight matrices and kernels, not on biases and norms."""

    name: Literal["sgd", "adam", "adamw"] = "sgd"
    lr: float = Field(gt=0)
    momentum: float = Field(0.0, ge=0, lt=1, description="of sgd; adam and adamw keep their own")
    nesterov: bool = False
    weight_decay: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> "Optimizer":
        if self.nesterov and (self.name != "sgd" or not self.momentum):
            raise ValueError("nesterov needs sgd with a momentum")
        if self.momentum and self.name != "sgd":
            raise ValueError(f"momentum belongs to sgd, not to {self.name}")
        return self


class ScheduleSettings(_Data):
    """How the learning rate moves: constant, one cosine cycle, or up and down in straight lines."""

    name: Literal["constant", "one-cycle", "linear"] = "constant"
    warm_up: float | None = Field(default=None, ge=0, lt=1, description="share of the steps that go up")

    @model_validator(mode="after")
    def _fits(self) -> "ScheduleSettings":
        if self.warm_up is not None and self.name == "constant":
            raise ValueError("a constant schedule has no warm_up")
        if self.warm_up == 0 and self.name == "one-cycle":
            raise ValueError("one-cycle needs a warm_up above 0")
        return self


class Augmentation(_Data):
    """Random deformation of training images; distances as shares of the image side."""

    rotate: float = Field(0.0, ge=0, le=180, description="degrees either way")
    scale: float = Field(0.0, ge=0, lt=1)
    shear: float = Field(0.0, ge=0, lt=1)
    shift: float = Field(0.0, ge=0, lt=1)
    elastic: float = Field(0.0, ge=0, lt=1)


class HardExamples(_Data):
    """Epochs after the first train on the hardest images and some of the others; the first on all, or on some too."""

    share: float = Field(gt=0, le=1, description="of all images, the hardest, in each epoch")
    easy: float = Field(0.1, ge=0, le=1, description="share of the others, drawn anew for each epoch")
    first: float = Field(1.0, gt=0, le=1, description="share in the first epoch, mostly the hardest for a linear net")

    @model_validator(mode="after")
    def _fits(self) -> "HardExamples":
        if self.share > self.first:
            raise ValueError("a first epoch gives as many images as the share of the hardest in later ones, at least")
        return self


class Recipe(_Data):
    """Everything that decides a training apart from its data and its seed.

    `epochs` is the length, cut so that training sees at most `most_images` images (never below one epoch): one
    recipe serves 1,797 images and 60,000.
    """

    format_version: Literal[1, 2, 3, 4, 5] = FORMAT_VERSION
    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=60)
    summary: str = ""
    model: Annotated[Model, Field(discriminator="name")]
    head: Literal["classes", "binary", "value"] = "classes"
    loss: LossName = "cross-entropy"
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    classes: tuple[str, ...] | None = Field(
        None, min_length=2, description="keep these of more, if no others are chosen"
    )
    optimizer: Optimizer | None = None
    schedule: ScheduleSettings = ScheduleSettings()
    epochs: int = Field(ge=1)
    most_images: int | None = Field(None, ge=1)
    batch_size: int = Field(256, ge=1)
    shuffle: bool = True
    hard_examples: HardExamples | None = None
    augment: Augmentation | None = None
    clean_statistics: bool = Field(False, description="of batch normalisation, on images as they are, each epoch")
    stem_learns: float = Field(1.0, gt=0, le=1, description="share of the steps in which the first block learns")
    precision: Literal["auto", "float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _fits(self) -> "Recipe":
        losses = {
            "classes": ("cross-entropy", "mean-squared-error", "root-mean-squared-error", "rmse-softmax"),
            "binary": ("binary-cross-entropy", "clamped-binary-cross-entropy"),
            "value": ("mean-squared-error",),
        }
        if self.loss not in losses[self.head]:
            raise ValueError(f"the head {self.head!r} takes the loss {' or '.join(losses[self.head])}, not {self.loss}")
        if self.label_smoothing and self.loss != "cross-entropy":
            raise ValueError("label_smoothing belongs to the loss cross-entropy")
        if self.model.name == "mean-image" and (self.optimizer or self.hard_examples or self.head != "classes"):
            raise ValueError(
                "mean-image is fitted by averaging: it takes the head 'classes', no optimizer and no hard_examples"
            )
        if self.hard_examples is not None and not self.shuffle:
            raise ValueError("hard_examples choose the order of the images: they need shuffle = true")
        if self.clean_statistics and self.model.name != "strong":
            raise ValueError("clean_statistics are those of batch normalisation, which the model strong alone has")
        if self.stem_learns < 1 and self.model.name != "strong":
            raise ValueError("stem_learns is for the model strong, whose first block it is about")
        if self.model.name != "mean-image" and self.optimizer is None:
            raise ValueError("an [optimizer] with a learning rate is needed")
        return self

    def epochs_for(self, images: int) -> int:
        """Epochs of a training on so many images."""
        if self.most_images is None:
            return self.epochs
        first: float = images
        later: float = images
        if self.hard_examples is not None:
            first = images * self.hard_examples.first
            later = images * (self.hard_examples.share + self.hard_examples.easy * (1 - self.hard_examples.share))
        return max(1, min(self.epochs, 1 + int((self.most_images - first) // later)))

    def to_toml(self) -> str:
        """The recipe as a TOML file, with every setting spelled out."""
        return tomli_w.dumps(self.model_dump(mode="json", exclude_none=True))


def parse_recipe(data: dict[str, Any], *, where: str) -> Recipe:
    """Check a recipe's data.

    Args:
        data: what a TOML file holds.
        where: the file or name, for messages.

    Raises:
        InputError: names the key, the rule and, for an unknown key, the nearest valid one.
    """
    if isinstance(version := data.get("format_version"), int) and version > FORMAT_VERSION:
        raise InputError(f"{where}: made by a newer inkproof (format {version}, known: {FORMAT_VERSION}): upgrade")
    try:
        recipe = Recipe.model_validate(data)
    except ValidationError as error:
        problem = error.errors()[0]
        # A discriminated union puts the chosen model's name into the path; users see only their own keys.
        path = [str(part) for part in problem["loc"] if part not in _MODEL_NAMES]
        key = ".".join(path)
        if problem["type"] == "extra_forbidden":
            raise InputError(f"{where}: unknown key {key!r}{_nearest(path, data)}") from None
        message = problem["msg"].removeprefix("Value error, ")
        value = "" if isinstance(problem["input"], dict) else f" (it is {problem['input']!r})"
        raise InputError(f"{where}: {key + ': ' if key else ''}{message}{value}") from None
    if recipe.format_version < FORMAT_VERSION and recipe.model.name == "strong":
        raise InputError(
            f"{where}: made by an older inkproof (format {recipe.format_version}), whose net 'strong' was another: "
            f"train again; a recipe of your own takes today's with format_version = {FORMAT_VERSION}"
        )
    return recipe


_MODEL_NAMES = tuple(model.model_fields["name"].default for model in get_args(Model))
_TABLES: dict[str, type[BaseModel]] = {
    "optimizer": Optimizer,
    "schedule": ScheduleSettings,
    "hard_examples": HardExamples,
    "augment": Augmentation,
    **dict(zip(_MODEL_NAMES, get_args(Model), strict=True)),
}


def _nearest(path: list[str], data: dict[str, Any]) -> str:
    """ "; did you mean 'lr'? known: …" for an unknown key."""
    if len(path) == 1:
        table: type[BaseModel] = Recipe
    else:
        table = _TABLES[data["model"]["name"] if path[0] == "model" else path[0]]
    known = list(table.model_fields)
    close = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; known keys: {', '.join(known)}"


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file as data; an InputError names the file and the line that cannot be read."""
    import tomllib

    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a TOML file: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
