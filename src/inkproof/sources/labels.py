"""From the label numbers of a file to class names: shared by the sources whose labels are numbers."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Int64, Integer

from inkproof.errors import InputError

LARGEST_LABEL = 999


def name_classes(
    numbers: Integer[np.ndarray, " n"], declared: Sequence[str] | None, *, where: str
) -> tuple[Int64[np.ndarray, " n"], tuple[str, ...]]:
    """Class indices and names for label numbers; the names are the numbers that occur, in order.

    Args:
        numbers: a label each image, 0..999.
        declared: the class names to count in, instead of those that occur.
        where: the file, for messages.

    Raises:
        InputError: a label outside 0..999 or outside the declared classes; the message names the row.
    """
    wrong = np.flatnonzero((numbers < 0) | (numbers > LARGEST_LABEL))
    if len(wrong):
        row = int(wrong[0])
        range_broken = f"the label {numbers[row]} is outside 0..{LARGEST_LABEL}"
        raise InputError(f"{where}: row {row + 1}: {range_broken}", finding="label-not-usable")
    present, labels = np.unique(numbers, return_inverse=True)
    names = tuple(str(number) for number in present)
    if declared is None:
        return labels.astype(np.int64), names
    index = {name: number for number, name in enumerate(declared)}
    translation = np.array([index.get(name, -1) for name in names], dtype=np.int64)
    translated = translation[labels]
    outside = np.flatnonzero(translated < 0)
    if len(outside):
        row = int(outside[0])
        raise InputError(
            f"{where}: row {row + 1}: the label {numbers[row]} is outside the classes {', '.join(declared)}",
            finding="label-not-usable",
        )
    return translated, tuple(declared)
