"""The submission: the CSV that a competition takes, one row an image, in the order of its test file."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from inkproof.errors import InputError
from inkproof.files import write_text


@dataclass(frozen=True)
class Sample:
    """What a competition's sample submission prescribes: column names, and ids in order."""

    columns: tuple[str, str]
    ids: tuple[str, ...]


def read_sample(path: Path) -> Sample:
    """Columns and ids of a sample submission. Raises InputError as `read_submission` does."""
    return read_submission(path)[0]


def read_submission(path: Path) -> tuple[Sample, tuple[str, ...]]:
    """Read a submission of two columns with a header: its columns and ids, and the label of each id.

    Raises:
        InputError: not such a file; the message names the line.
    """
    try:
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8-sig"))))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    for number, row in enumerate(rows, start=1):
        if len(row) != 2:
            raise InputError(f"{path}: line {number} has {len(row)} columns; a submission has two, id and label")
    if len(rows) < 2:
        raise InputError(f"{path}: has no rows; a submission has a header and one row an image")
    sample = Sample((rows[0][0], rows[0][1]), tuple(row[0] for row in rows[1:]))
    return sample, tuple(row[1] for row in rows[1:])


def write_submission(path: Path, labels: Sequence[str], ids: Sequence[str], sample: Sample | None = None) -> None:
    """Write a submission, atomically.

    Args:
        path: the CSV to write.
        labels: the predicted class name of each image.
        ids: the id of each image, in the same order.
        sample: columns and ids that the file must have; None writes `ImageId,Label`.

    Raises:
        InputError: another number of labels than of ids, or other ids than the sample's.
    """
    if len(labels) != len(ids):
        raise InputError(f"{path}: {len(labels):,} predictions for {len(ids):,} images: a submission has one row each")
    if sample is not None and tuple(ids) != sample.ids:
        raise InputError(f"{path}: the ids are not those of the sample submission, in its order")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(sample.columns if sample is not None else ("ImageId", "Label"))
    writer.writerows(zip(ids, labels, strict=True))
    write_text(path, text.getvalue())
