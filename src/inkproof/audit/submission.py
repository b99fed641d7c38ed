"""Checks of a submission, before it is written: one prediction for each row of the test file, in its order."""

from collections.abc import Sequence

from inkproof.audit.findings import Finding
from inkproof.submission import Sample


def check_rows(predictions: int, ids: Sequence[str], sample: Sample | None) -> list[Finding]:
    """Compare the number of predictions and the ids of the images with what the competition's sample asks for.

    Args:
        predictions: how many there are.
        ids: of the images predicted, in order.
        sample: the competition's sample submission; None asks for 1..n.
    """
    wanted = sample.ids if sample is not None else tuple(str(number) for number in range(1, len(ids) + 1))
    asked_by = "the sample submission" if sample is not None else "the test file"
    if predictions != len(wanted):
        return [
            Finding(
                id="submission-row-count",
                code="I1",
                severity="refuse",
                message=f"{predictions:,} predictions for the {len(wanted):,} rows of {asked_by}.",
                evidence={"predictions": predictions, "rows": len(wanted)},
                remedy="Predict the competition's test file itself, all of it and nothing else.",
            )
        ]
    different = [place for place, (have, want) in enumerate(zip(ids, wanted, strict=True)) if have != want]
    if not different:
        return []
    place = different[0]
    return [
        Finding(
            id="submission-ids",
            code="I2",
            severity="refuse",
            message=(
                f"{len(different):,} of {len(wanted):,} ids differ from {asked_by}: row {place + 1} is the image "
                f"{ids[place]!r} and should be {wanted[place]!r}."
            ),
            evidence={
                "different": len(different),
                "first_row": place + 1,
                "is": ids[place],
                "should_be": wanted[place],
            },
            remedy="Give the test file with its rows in the order of the sample submission.",
        )
    ]
