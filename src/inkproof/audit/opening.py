"""Findings that opening a source meets: the file itself is not what it should be. `sources` raises them as errors."""

from inkproof.audit.catalogue import declare

_MISFIRES = "Nothing is known: each is an exact rule of the format."

declare(
    "file-damaged",
    code="A1",
    moment="opening",
    severity="refuse",
    means="A file is cut off, empty, or not of its kind: half a download, an error page, a pointer to the data.",
    detected="Magic numbers, and sizes that headers claim against sizes that files have; rows with as many cells as "
    "the header has columns.",
    misfires=_MISFIRES,
)
declare(
    "header-wrong",
    code="A2",
    moment="opening",
    severity="refuse",
    means="The first line of a CSV does not name the columns: it was cut away, so that a row of data would be lost in "
    "its place, or it names other columns.",
    detected="The columns must be label (or none), then pixel0, pixel1, … in order.",
    misfires=_MISFIRES,
)
declare(
    "pixel-not-usable",
    code="A4",
    moment="opening",
    severity="refuse",
    means="A pixel is empty, no whole number, NaN, or outside 0..255: values were wrapped, scaled or lost on the way.",
    detected="Every value is looked at; the message names file, row and column.",
    misfires=_MISFIRES,
)
declare(
    "label-not-usable",
    code="C7",
    moment="opening",
    severity="refuse",
    means="A label is empty, no whole number, negative, or outside the classes that were declared.",
    detected="Every label is looked at; the message names the row.",
    misfires=_MISFIRES,
)
declare(
    "images-and-labels-differ",
    code="A2",
    moment="opening",
    severity="refuse",
    means="There are not as many labels as images: the two belong to different files, or a row was lost in one.",
    detected="The counts of both.",
    misfires=_MISFIRES,
)
