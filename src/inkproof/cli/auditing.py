"""The commands of the audit: `audit` looks at data and submissions, `findings` explains what there is to find."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from inkproof import console
from inkproof.cli.options import Classes, TorchCommand, allow_option, json_option, no_cache_option, shape_option

if TYPE_CHECKING:
    from inkproof.audit import Finding
    from inkproof.images import ImageSet

_SHOWN = 20


@click.command(cls=TorchCommand)
@click.argument("source")
@click.option("--valid", metavar="SOURCE", help="Images to choose on.")
@click.option("--test", metavar="SOURCE", help="Images to score or predict.")
@click.option(
    "--submission",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="CSV",
    help="A submission for the test images.",
)
@click.option("--sample", type=click.Path(path_type=Path, dir_okay=False), metavar="CSV", help="Sample submission.")
@click.option("--labels", is_flag=True, help="Rank likely wrong labels of SOURCE, by nets that did not see them.")
@click.option("--classes", type=Classes(), metavar="3,7", help="Look at these classes only.")
@allow_option
@shape_option
@no_cache_option
@json_option
def audit(source: str, *, labels: bool, as_json: bool, allow: tuple[str, ...], **options: Any) -> int:
    """Look at data, and at a submission, before anything is made of them."""
    from inkproof.audit import act_on, check_copies, check_images, check_submission

    train = _open(source, options)
    valid, test = (_open(options[name], options) if options[name] else None for name in ("valid", "test"))
    found = check_images(train, valid, test) + check_copies(train, valid, test)
    if options["submission"] is not None:
        if test is None:
            raise click.UsageError("--submission needs --test, the images that it labels")
        found += check_submission(options["submission"], test, sample=options["sample"], train=train)
    suspects: list[dict[str, Any]] = []
    if labels:
        of_labels, suspects = _rank_labels(train)
        found += of_labels
    found = act_on(found, on_finding="record", allow=allow)
    refused = any(one.severity == "refuse" and not one.allowed for one in found)
    if as_json:
        looked_at = {"source": source} | {name: options[name] for name in ("valid", "test") if options[name]}
        summary: dict[str, Any] = {"data": looked_at, "findings": [one.as_dict() for one in found], "refused": refused}
        console.print_json(summary | ({"labels": suspects} if labels else {}))
    else:
        _print(found, suspects, labels=labels)
    return int(refused)


@click.command()
@click.argument("identity", required=False, metavar="[ID]")
@json_option
def findings(identity: str | None, *, as_json: bool) -> None:
    """List what the audit can find, or explain one finding."""
    from inkproof.audit import catalogue, explain, measured

    chosen = catalogue() if identity is None else (explain(identity),)
    if as_json:
        names = ("id", "code", "moment", "severity", "means", "detected", "misfires")
        console.print_json(
            {one.id: {name: getattr(one, name) for name in names} | {"measured": measured(one.id)} for one in chosen}
        )
    elif identity is None:
        rows = [(one.id, one.severity, one.moment, one.means.split(": ")[0].rstrip(".")) for one in chosen]
        console.print_table(["finding", "severity", "looks at", "what it means"], rows)
        print("`inkproof findings ID` explains one; `--allow ID`, or allow=[ID], lets it pass and records that")
    else:
        (one,) = chosen
        print(f"{one.id} ({one.severity}, looks at {one.moment})\n\n{one.means}\n\nSeen by: {one.detected}")
        print(f"Wrong or silent: {one.misfires or 'no case is known.'}")
        print(f"Measured: {measured(one.id)}")
        print(f"To let it pass, on the record: --allow {one.id}, or allow=['{one.id}'] in Python")


def _open(source: str, options: dict[str, Any]) -> "ImageSet":
    from inkproof.sources import open_one

    images = open_one(source, shape=options["shape"], cache=not options["no_cache"])
    return images if options["classes"] is None else images.with_classes(options["classes"], rest="drop")


def _rank_labels(images: "ImageSet") -> "tuple[list[Finding], list[dict[str, Any]]]":
    from inkproof.label_errors import check_labels, find_label_errors

    console.say(f"training {len(images):,} images in four parts to see which labels the others contradict")
    errors = find_label_errors(images)
    labels = images.require_labels("the search for wrong labels")
    ranked = [
        {
            "id": str(images.ids[row]),
            "label": images.classes[labels[row]],
            "suggested": images.classes[suggested],
            "confidence": confidence,
        }
        for row, suggested, confidence in zip(
            errors.rows.tolist(), errors.suggested.tolist(), errors.confidence.tolist(), strict=True
        )
    ]
    return check_labels(images, errors), ranked


def _print(found: list["Finding"], suspects: list[dict[str, Any]], *, labels: bool) -> None:
    for one in found:
        passed = " (allowed)" if one.allowed else ""
        print(f"{one.severity}{passed}: {one.id}: {one.message} {one.remedy}")
    if not found:
        print("no finding")
    if labels:
        print(f"{console.count(len(suspects), 'label')} contradicted by nets that did not see the image:")
        rows = [(one["id"], one["label"], one["suggested"], f"{one['confidence']:.2f}") for one in suspects[:_SHOWN]]
        console.print_table(["image", "label", "rather", "confidence"], rows, numbers=["confidence"])
        if len(suspects) > _SHOWN:
            print(f"and {len(suspects) - _SHOWN:,} more: --json lists all")
