"""The predictions of a run on its held-out images, as a CSV: what comparisons are made from."""

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64
from torch import Tensor

from inkproof.errors import InputError
from inkproof.files import write_text
from inkproof.images import ImageSet

_COLUMNS = ("side", "image", "fingerprint", "label", "predicted")


@dataclass(frozen=True)
class Predictions:
    """Predictions of one held-out side.

    Args:
        images: content hash of each image, as hex.
        right: whether its predicted class is its label.
    """

    images: tuple[str, ...]
    right: Bool[np.ndarray, " n"]


def write_predictions(path: Path, predicted: Mapping[str, tuple[ImageSet, Int64[Tensor, " n"]]]) -> None:
    """Write a row for each held-out image: side, id, content hash, label, predicted class.

    Args:
        path: the CSV.
        predicted: by side, its images with labels, and the predicted class index of each.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for side, (images, classes) in predicted.items():
        labels = images.require_labels("predictions")
        rows = zip(images.ids, images.fingerprints.tolist(), labels.tolist(), classes.tolist(), strict=True)
        for identity, fingerprint, label, said in rows:
            writer.writerow((side, identity, f"{fingerprint:016x}", images.classes[label], images.classes[said]))
    write_text(path, text.getvalue())


def read_predictions(path: Path) -> dict[str, Predictions]:
    """The predictions by side.

    Raises:
        InputError: no such file, or another table.
    """
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read ({error}): train the run again with this inkproof") from None
    if not rows or tuple(rows[0]) != _COLUMNS or any(len(row) != len(_COLUMNS) for row in rows):
        raise InputError(f"{path}: is no table of predictions: its columns are {', '.join(_COLUMNS)}")
    sides: dict[str, list[tuple[str, bool]]] = {}
    for side, _, fingerprint, label, predicted in rows[1:]:
        sides.setdefault(side, []).append((fingerprint, label == predicted))
    return {
        side: Predictions(tuple(image for image, _ in found), np.array([right for _, right in found]))
        for side, found in sides.items()
    }
