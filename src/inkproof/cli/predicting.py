"""The commands that predict with a run: `predict` and `submit`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inkproof import console
from inkproof.cli.options import TorchCommand, allow_option, device_option, no_cache_option, shape_option, tta_option

if TYPE_CHECKING:
    from inkproof.images import ImageSet


@click.command(cls=TorchCommand)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), metavar="CSV", help="[default: printed]")
@click.option("--proba", is_flag=True, help="Add the probability of each class.")
@tta_option
@device_option
@shape_option
@no_cache_option
def predict(run: Path, source: str, *, out: Path | None, proba: bool, tta: bool, **options: Any) -> None:
    """Predict the class of each image of SOURCE with a run."""
    from inkproof.files import write_text
    from inkproof.runs import open_run

    opened = open_run(run, device=options["device"])
    images = opened.check(_images(source, options))
    probabilities = opened.probabilities(images, tta=tta)
    labels = probabilities.argmax(dim=1).tolist()
    columns = ["id", "label"] + [f"p_{name}" for name in opened.classes] * proba
    rows = [[str(identity), opened.classes[label]] for identity, label in zip(images.ids, labels, strict=True)]
    if proba:
        for row, shares in zip(rows, probabilities.tolist(), strict=True):
            row += [f"{share:.6f}" for share in shares]
    text = _csv([columns, *rows])
    if out is None:
        print(text, end="")
    else:
        write_text(out, text)
        console.say(f"{len(images):,} predictions: {out}")
    if images.labels is not None:
        correct = int((images.labels == labels).sum())
        console.say(f"{correct:,} of {len(images):,} agree with the labels of {source}: {correct / len(images):.2%}")


@click.command(cls=TorchCommand)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("source")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, metavar="CSV")
@click.option("--sample", type=click.Path(path_type=Path, dir_okay=False), metavar="CSV", help="Sample submission.")
@tta_option
@device_option
@allow_option
@shape_option
@no_cache_option
def submit(run: Path, source: str, *, out: Path, sample: Path | None, tta: bool, **options: Any) -> None:
    """Write the submission of a run for the test images SOURCE."""
    from inkproof.audit import act_on, check_rows
    from inkproof.runs import open_run, record_submission, sidecar_of
    from inkproof.submission import read_sample, write_submission

    opened = open_run(run, device=options["device"])
    images = _images(source, options)
    prescribed = None if sample is None else read_sample(sample)
    ids = [str(identity) for identity in images.ids]
    findings = act_on(check_rows(len(images), ids, prescribed), allow=options["allow"])
    labels = [opened.classes[label] for label in opened.predict(images, tta=tta).tolist()]
    write_submission(out, labels, ids, prescribed if not findings else None)
    console.print_findings(finding.as_dict() for finding in findings)
    record_submission(opened, out, images, source, tta=tta)
    print(f"submission: {out} ({len(labels):,} rows); what ties it to the run: {sidecar_of(out).name}")


def _images(source: str, options: dict[str, Any]) -> "ImageSet":
    from inkproof.sources import open_one

    return open_one(source, shape=options["shape"], cache=not options["no_cache"])


def _csv(rows: list[list[str]]) -> str:
    import csv
    import io

    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
