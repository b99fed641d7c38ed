"""The command `compare`: is one run better than another, or do they only look so?"""

from dataclasses import asdict
from pathlib import Path

import click

from inkproof import console
from inkproof.cli.options import TorchCommand, json_option


@click.command(cls=TorchCommand)
@click.argument("first", metavar="RUN", type=click.Path(path_type=Path))
@click.argument("second", metavar="RUN", type=click.Path(path_type=Path))
@json_option
def compare(first: Path, second: Path, *, as_json: bool) -> None:
    """Compare two runs on the held-out images that they share: over seeds, and over images, told apart."""
    from inkproof.runs import compare_runs

    side, found = compare_runs(first, second)
    if as_json:
        console.print_json({"first": str(first), "second": str(second), "side": side, **asdict(found)})
        return
    one, two = found.accuracies
    print(f"{found.images:,} shared {side} images: {one:.2%} for {first}, {two:.2%} for {second}")
    seeds = found.over_seeds
    if seeds is None:
        print("over seeds: one run has a single seed, so nothing is known of other seeds: train both with --seeds 5")
    else:
        shown = "shown" if seeds.p < 0.05 else "not shown"
        test = "paired t-test" if seeds.paired else "Welch's t-test"
        print(
            f"over seeds: {_points(seeds.difference)} points, 95 % interval {_points(seeds.interval[0])} to "
            f"{_points(seeds.interval[1])}; {test} p = {seeds.p:.2g}: a difference is {shown}"
        )
        if seeds.p >= 0.05 and seeds.needed is not None:
            print(f"  a difference of this size would take about {console.count(seeds.needed, 'seed')} to show")
        elif seeds.p >= 0.05:
            print("  no thousand seeds would show a difference of this size")
    typical = found.typical
    shown = "shown" if typical.p < 0.05 else "not shown"
    which = f" (seed {typical.seeds[0]}, the median of {len(found.over_images)})" if len(found.over_images) > 1 else ""
    print(
        f"over images{which}: the first alone is right on {typical.first_alone}, the second alone on "
        f"{typical.second_alone}: {_points(typical.difference)} points, 95 % interval {_points(typical.interval[0])} "
        f"to {_points(typical.interval[1])}; McNemar's exact test p = {typical.p:.2g}: a difference is {shown}"
    )


def _points(share: float) -> str:
    return f"{100 * share:+.2f}"
