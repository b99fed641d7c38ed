"""Compare two runs on the held-out images that they share."""

from pathlib import Path

import numpy as np
from jaxtyping import Bool

from inkproof.compare import Comparison, compare
from inkproof.errors import InputError
from inkproof.runs import directory
from inkproof.runs.predictions import Predictions, read_predictions

_FEWEST = 20


def compare_runs(first: Path, second: Path) -> tuple[str, Comparison]:
    """Compare two runs on the test images that they share, else on the validation images.

    Args:
        first: a run directory.
        second: another.

    Returns:
        Which side was compared, and the comparison.

    Raises:
        InputError: no run, or fewer than 20 shared images.
    """
    runs = [_by_seed(path) for path in (first, second)]
    for side in ("test", "valid"):
        seeds = [{seed: sides[side] for seed, sides in run.items() if side in sides} for run in runs]
        if all(seeds) and len(shared := _shared(seeds[0], seeds[1])) >= _FEWEST:
            one, two = ({seed: _aligned(found, shared) for seed, found in run.items()} for run in seeds)
            return side, compare(one, two)
    raise InputError(
        f"{first} and {second} share fewer than {_FEWEST} held-out images: train both on the same data with the same "
        "--split-seed"
    )


def _by_seed(path: Path) -> dict[int, dict[str, Predictions]]:
    if not path.is_dir():
        raise InputError(f"{path}: no run directory of that name")
    folders = directory.seed_folders(path, directory.read_json(path / directory.RUN)["seeds"])
    return {seed: read_predictions(folder / directory.PREDICTIONS) for seed, folder in folders.items()}


def _shared(first: dict[int, Predictions], second: dict[int, Predictions]) -> list[str]:
    """Images that both held out, in the order of the first; an image that stands there twice counts once."""
    others = set(next(iter(second.values())).images)
    return [image for image in dict.fromkeys(next(iter(first.values())).images) if image in others]


def _aligned(found: Predictions, images: list[str]) -> Bool[np.ndarray, " n"]:
    places = {image: place for place, image in reversed(list(enumerate(found.images)))}
    return found.right[[places[image] for image in images]]
