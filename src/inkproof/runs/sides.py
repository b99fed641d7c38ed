"""From what a user names to the sides of a training: open, choose classes, split."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from inkproof.errors import InputError
from inkproof.images import ImageSet, Split
from inkproof.sources import open_images, open_one


@dataclass(frozen=True)
class DataOptions:
    """What to train on.

    Args:
        data: source of the labelled images.
        test: source of the test images, with or without labels; None cuts a test side from `data`.
        classes: names of the classes to keep; None keeps all.
        recipe_classes: names of the classes that the recipe is for: kept where `classes` is None and there are others.
        shape: (channels, height, width), where the source does not say.
        valid_size: validation side, a share of the images of `data` or their number; 0 trains without.
        test_size: test side, likewise; ignored where there are test images.
        split_seed: of the split; runs of different seeds share their held-out images.
        labelled_test: leave aside test images without labels, and cut a test side that can be scored.
        all_rows: train on every labelled image, before a submission.
        cache: keep a converted copy of a CSV file.
    """

    data: str = "digits"
    test: str | None = None
    classes: tuple[str, ...] | None = None
    recipe_classes: tuple[str, ...] | None = None
    shape: tuple[int, int, int] | None = None
    valid_size: float = 0.1
    test_size: float = 0.2
    split_seed: int = 0
    labelled_test: bool = False
    all_rows: bool = False
    cache: bool = True


def data_options(command: dict[str, Any], recipe_classes: tuple[str, ...] | None) -> DataOptions:
    """What a command line named, from its options by name.

    Args:
        command: the options, as a run keeps them.
        recipe_classes: names of the classes that the recipe is for.
    """
    given = {name: tuple(value) if isinstance(value, list) else value for name, value in command.items()}
    names = ("data", "test", "classes", "shape", "valid_size", "test_size", "split_seed", "all_rows", "labelled_test")
    known: dict[str, Any] = {name: given[name] for name in names if name in given}
    return DataOptions(**known, recipe_classes=recipe_classes, cache=not given.get("no_cache", False))


def open_sides(options: DataOptions) -> Split:
    """Open the sources and make the sides.

    Raises:
        InputError: sources that cannot be opened, have no labels, or do not fit together.
    """
    opened = open_images(options.data, shape=options.shape, cache=options.cache)
    sides = opened if isinstance(opened, Split) else Split(opened)
    sides.train.require_labels("training")
    test = sides.test
    if options.test is not None:
        test = open_one(options.test, shape=options.shape, cache=options.cache)
    if options.labelled_test and test is not None and test.labels is None:
        test = None
    sides = Split(sides.train, sides.valid, test)
    if options.classes is not None:
        sides = _with_classes(sides, options.classes)
    else:
        sides = sides_of_classes(sides, options.recipe_classes)
    train, valid, test = sides.train, sides.valid, sides.test
    if options.all_rows:
        return Split(_together([side for side in (train, valid) if side is not None]), None, test)
    cut = train.split(
        valid=options.valid_size if valid is None else 0,
        test=options.test_size if test is None else 0,
        seed=options.split_seed,
    )
    return Split(cut.train, valid or cut.valid, test or cut.test)


def sides_of_classes(sides: Split, classes: tuple[str, ...] | None) -> Split:
    """The sides with the classes that a recipe was made for; data of just as many classes is taken as it is."""
    if classes is None or len(sides.train.classes) == len(classes):
        return sides
    return _with_classes(sides, classes)


def _with_classes(sides: Split, classes: tuple[str, ...]) -> Split:
    train = sides.train.with_classes(classes, rest="drop")
    return Split(train, _only(sides.valid, classes), _only(sides.test, classes))


def _only(images: ImageSet | None, classes: tuple[str, ...]) -> ImageSet | None:
    return images if images is None or images.labels is None else images.with_classes(classes, rest="drop")


def _together(sides: list[ImageSet]) -> ImageSet:
    """All images of the sides as one set."""
    if len(sides) == 1:
        return sides[0]
    first = sides[0]
    if any(side.classes != first.classes or side.shape != first.shape for side in sides):
        raise InputError(f"{first.source}: its sides differ in classes or shape and cannot be trained on together")
    return ImageSet(
        np.concatenate([side.pixels for side in sides]),
        np.concatenate([side.require_labels("training") for side in sides]),
        classes=first.classes,
        ids=np.concatenate([side.ids.astype(str) for side in sides]),
        source=first.source,
        notes=first.notes,
    )
