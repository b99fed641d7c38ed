"""Pictures for people: what is in a source and which label each example carries; how the rungs of a ladder compare."""

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


def draw_ladder(table: dict[str, Any], path: Path) -> None:
    """Draw the accuracy of each rung with its error bar, beside the published one, into an image file.

    Args:
        table: content of ladder.json.
        path: of the picture; its ending names the kind.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator

    rows = [row for row in reversed(table["rungs"]) if row["test"] or row["valid"]]
    figure = Figure(figsize=(8, 1.2 + 0.3 * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    colours = {"sound": "#2e7d6b", "wrong": "#c0563f"}
    for place, row in enumerate(rows):
        score = row["test"] or row["valid"]
        low, high = score["interval"]
        if score["accuracy_sd"] is not None:
            low, high = score["accuracy"] - score["accuracy_sd"], score["accuracy"] + score["accuracy_sd"]
        axes.plot([_shown(low), _shown(high)], [place, place], color=colours[row["kind"]], linewidth=2)
        axes.plot(_shown(score["accuracy"]), place, "o", color=colours[row["kind"]])
        for published in row["published"].values():
            if published is not None:
                axes.plot(_shown(published), place, "D", markerfacecolor="none", markeredgecolor="#888888")
    axes.plot([], [], "o", color=colours["sound"], label="measured")
    axes.plot([], [], "o", color=colours["wrong"], label="measured, wrong on purpose")
    axes.plot([], [], "D", markerfacecolor="none", markeredgecolor="#888888", label="published")
    axes.set_yticks(range(len(rows)), [row["rung"] for row in rows])
    axes.set_xscale("logit")
    axes.set_xlim(0.05, 0.9995)
    axes.xaxis.set_major_locator(FixedLocator([0.1, 0.2, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.998]))
    axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:.3g} %")
    axes.xaxis.set_minor_locator(FixedLocator([]))
    axes.grid(axis="x", alpha=0.3)
    seeds = len(table["seeds"])
    spread = "standard deviation" if seeds > 1 else "95 % interval"
    side = "test" if rows and rows[0]["test"] else "validation"
    axes.set_xlabel(f"accuracy on the {side} images of {table['data']}, {seeds} seed{'s' * (seeds > 1)}, {spread}")
    figure.legend(loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)


def _shown(share: float) -> float:
    """Within the axis of the chart, which has no place for 0 and 1."""
    return min(max(share, 0.05), 0.9995)


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
