"""The command `verify`: does a run hold?"""

from dataclasses import asdict
from pathlib import Path

import click

from inkproof import console
from inkproof.cli.options import TorchCommand, json_option


@click.command(cls=TorchCommand)
@click.argument("run", type=click.Path(path_type=Path))
@click.option("--data", metavar="SOURCE", help="Where its data is now, if it was moved.")
@click.option("--test", metavar="SOURCE", help="Where its test images are now, if they were moved.")
@click.option("--retrain", is_flag=True, help="Train it again too, and compare the weights.")
@json_option
def verify(run: Path, *, data: str | None, test: str | None, retrain: bool, as_json: bool) -> int:
    """Verify a run: its files, its data, every number recomputed from weights and data, its submissions."""
    from inkproof.runs import verify_run

    verdicts = []
    for verdict in verify_run(run, data=data, test=test, retrain=retrain):
        verdicts.append(verdict)
        if not as_json and (not verdict.holds or verdict.detail != "as written"):
            print(f"{'holds' if verdict.holds else 'DIFFERS'}: {verdict.what}: {verdict.detail}")
    failed = [verdict for verdict in verdicts if not verdict.holds]
    if as_json:
        console.print_json({"run": str(run), "holds": not failed, "verdicts": [asdict(one) for one in verdicts]})
    else:
        files = sum(verdict.detail == "as written" for verdict in verdicts)
        print(
            f"{console.count(files, 'file')} as written; {'the run holds' if not failed else 'the run does not hold'}"
        )
    return int(bool(failed))
