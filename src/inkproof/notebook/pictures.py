"""Showing images in a notebook."""

from collections.abc import Sequence
from typing import Any

import torch

from inkproof.notebook.libraries import plt


def show_image(
    im: Any,
    ax: Any = None,
    figsize: tuple[float, float] | None = None,
    title: Any = None,
    cmap: str | None = None,
    **keywords: Any,
) -> Any:
    """Show one image on matplotlib axes, and return these.

    Args:
        im: a tensor, array or PIL image of one image: (h, w), (h, w, c) or (c, h, w).
        ax: axes to draw on; None makes some.
        figsize: of the figure that is made, in inches.
        title: above the image.
        cmap: colours of a grey image; None is black on white.
        keywords: passed to `imshow`.
    """
    if isinstance(im, torch.Tensor):
        im = im.detach().cpu().numpy()
    if hasattr(im, "ndim") and im.ndim == 3 and im.shape[0] in (1, 3, 4) and im.shape[-1] not in (1, 3, 4):
        im = im.transpose(1, 2, 0)
    if hasattr(im, "ndim") and im.ndim == 3 and im.shape[-1] == 1:
        im = im[..., 0]
    if ax is None:
        _, ax = plt.subplots(figsize=figsize or (2, 2))
    ax.imshow(im, cmap=cmap or "Greys", **keywords)
    if title is not None:
        ax.set_title(str(title))
    ax.axis("off")
    return ax


def show_images(
    ims: Sequence[Any],
    nrows: int = 1,
    ncols: int | None = None,
    titles: Sequence[Any] | None = None,
    figsize: tuple[float, float] | None = None,
    **keywords: Any,
) -> None:
    """Show images in a grid.

    Args:
        ims: as `show_image` takes them.
        nrows: lines of the grid.
        ncols: images a line; None makes enough.
        titles: one above each image.
        figsize: of the figure, in inches.
        keywords: passed to `show_image`.
    """
    ncols = ncols or -(-len(ims) // nrows)
    _, grid = plt.subplots(nrows, ncols, figsize=figsize or (1.5 * ncols, 1.7 * nrows), squeeze=False)
    places = list(grid.flat)
    for number, im in enumerate(ims[: len(places)]):
        show_image(im, ax=places[number], title=None if titles is None else titles[number], **keywords)
    for empty in places[len(ims) :]:
        empty.axis("off")
