"""`digits`: the 1,797 scanned digits of 8×8 that come with scikit-learn. Always there, no download."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from jaxtyping import Float

from inkproof.images import ImageSet

_LARGEST = 16


def open_digits() -> ImageSet:
    """The embedded digits: 1,797 images of 1×8×8 in 10 classes, 0..16 scaled to 0..255.

    Source: Alpaydin & Kaynak 1998, the test part of the UCI "Optical Recognition of Handwritten Digits".
    """
    table = _read_table()
    pixels = (table[:, :-1] * (255 / _LARGEST)).round().astype(np.uint8).reshape(-1, 1, 8, 8)
    return ImageSet(
        pixels,
        table[:, -1].astype(np.int64),
        classes=[str(digit) for digit in range(10)],
        source="digits",
        notes=[f"pixels 0..{_LARGEST} scaled to 0..255"],
    )


def _read_table() -> Float[np.ndarray, "images 65"]:
    """64 pixels and the label of each image; read from scikit-learn's file, as importing it takes 1.5 s."""
    package = find_spec("sklearn")
    if package is not None and package.origin is not None:
        path = Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz"
        if path.exists():
            with gzip.open(path, "rt") as file:
                return np.loadtxt(file, delimiter=",")
    from sklearn.datasets import load_digits

    loaded = load_digits()
    return np.column_stack([loaded.data, loaded.target])
