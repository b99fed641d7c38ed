"""Pictures and summaries of images, for people: what is in a source, which label does each example carry."""

from pathlib import Path
from typing import Any

import numpy as np

from inkproof.images import ImageSet

_PER_CLASS = 10
_MOST_CLASSES = 20


def summarise(images: ImageSet) -> dict[str, Any]:
    """Counts and sizes as plain data."""
    summary: dict[str, Any] = {
        "source": images.source,
        "images": len(images),
        "shape": list(images.shape),
        "classes": list(images.classes),
        "fingerprint": images.fingerprint,
        "notes": list(images.notes),
    }
    if images.labels is not None:
        counts = np.bincount(images.labels, minlength=len(images.classes))
        summary["per_class"] = dict(zip(images.classes, counts.tolist(), strict=True))
    return summary


def draw_examples(images: ImageSet, path: Path) -> None:
    """Draw a grid of examples into an image file: a row a class with its name, or just the first images."""
    from matplotlib.figure import Figure

    rows = _example_rows(images)
    figure = Figure(figsize=(0.8 * _PER_CLASS, 0.85 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), _PER_CLASS, squeeze=False)
    for line, (name, members) in zip(grid, rows, strict=True):
        for axes in line:
            axes.set_axis_off()
        for axes, row in zip(line, members, strict=False):
            pixels = images.storage[row if images.rows is None else images.rows[row]]
            axes.imshow(pixels.transpose(1, 2, 0).squeeze(), cmap="gray_r", vmin=0, vmax=255)
            axes.set_title(name, fontsize=8)
    figure.savefig(path, dpi=110)


def _example_rows(images: ImageSet) -> list[tuple[str, list[int]]]:
    """For each line of the grid its title and the rows of its images, the first of each class in file order."""
    if images.labels is None:
        count = min(len(images), _PER_CLASS * _PER_CLASS)
        return [("", list(range(start, min(start + _PER_CLASS, count)))) for start in range(0, count, _PER_CLASS)]
    present = [label for label in range(len(images.classes)) if (images.labels == label).any()]
    return [
        (images.classes[label], np.flatnonzero(images.labels == label)[:_PER_CLASS].tolist())
        for label in present[:_MOST_CLASSES]
    ]
