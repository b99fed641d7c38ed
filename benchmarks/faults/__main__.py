"""How often the audit names planted faults, and how often it cries wolf on clean trainings.

    python benchmarks/faults [--seeds 4] [--mnist DIR] [--json FILE]

Clean trainings: 77 set-ups that frighten many auditors (learning rates of 1 behind batch normalisation, dropout of 0.6,
zero-initialised heads and branches, tanh and sigmoid nets, 10:1 imbalance, natural duplicates, one epoch, two classes,
declared fine-tuning, strong augmentation, gradient accumulation, …) over five sources, or six with MNIST.

Planted faults: each of the catalogue, by the call that meets it, with the id that should name it. A fault counts as
named when its id is the first finding of the severity that it has, or a more severe one. Thresholds were set on
`digits`, `3 and 7` and MNIST; letters, shapes and textures only judge them.
"""

import argparse
import json
import platform
import statistics
import time
import warnings
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import nets  # noqa: F401  # what it plants is registered as it is imported
import rows  # noqa: F401
import torch
from claims import NOT_PLANTED
from clean import clean_runs, setups
from fault import FAULTS, Fault
from sources import TUNED_ON, sources

from inkproof import ImageSet, audit
from inkproof.metrics import wilson_interval

ORDER = {"note": 0, "warn": 1, "refuse": 2}


def identities(fault: Fault, images: ImageSet, seed: int) -> list[tuple[str, str]] | None:
    """(id, severity) of what was found, in order; a file that is refused as it is opened carries its id.

    None where the source cannot have the fault.
    """
    audit.forget()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = fault.plant(images, seed)
    if found is None:
        return None
    return [(one.id, one.severity) if hasattr(one, "severity") else (one.finding or "no id", "refuse") for one in found]


def named(fault: Fault, found: list[tuple[str, str]]) -> tuple[bool, bool, str]:
    """Whether a wanted id comes first, whether it comes at all, and with what severity."""
    wanted = [place for place, (one, _) in enumerate(found) if one in fault.wanted]
    if not wanted:
        return False, False, "-"
    severity = found[wanted[0]][1]
    louder = [one for one in found if ORDER[one[1]] >= ORDER[severity]]
    return louder[0][0] in fault.wanted, True, severity


def measure_clean(seeds: int, mnist: Path | None) -> dict[str, Any]:
    """Alarms per clean training; each is printed."""
    alarms: Counter[str] = Counter()
    runs = refused = warned = 0
    for source, name, found in clean_runs(seeds, mnist):
        audit.forget()
        runs += 1
        refused += any(one.severity == "refuse" for one in found)
        warned += any(one.severity == "warn" for one in found)
        for one in found:
            alarms[one.id] += 1
            print(f"alarm: {source}: {name}: {one.id}: {one.message}", flush=True)
    low, high = wilson_interval(warned, runs)
    print(f"clean: {runs} trainings of {len(setups())} set-ups and loops")
    print(f"refused {refused} (95 % below {wilson_interval(refused, runs)[1]:.1%}), ", end="")
    print(f"warned of {warned} ({warned / runs:.1%}, {low:.1%} to {high:.1%})")
    return {"runs": runs, "refused": refused, "warned": warned, "alarms": dict(alarms)}


def measure_faults(seeds: int, mnist: Path | None) -> list[dict[str, Any]]:
    """For each fault how often its id came first, on tuned and on held-out sources."""
    results = []
    known = sources(mnist)
    for fault in FAULTS:
        hits: dict[bool, list[tuple[bool, bool]]] = defaultdict(list)
        severities: Counter[str] = Counter()
        for source, images in known.items():
            if min(images.shape[1:]) < fault.smallest:
                continue
            for seed in range(1 if fault.slow else seeds):
                found = identities(fault, images, seed)
                if found is None:
                    continue
                first, seen, severity = named(fault, found)
                severities[severity] += 1
                hits[source in (*TUNED_ON, "MNIST")].append((first, seen))
                if not first:
                    print(f"missed: {fault.code} {fault.name} on {source}: {found[:4]}", flush=True)
        row: dict[str, Any] = {"code": fault.code, "fault": fault.name, "wanted": list(fault.wanted)}
        for label, tuned in (("tuned", True), ("held_out", False)):
            row[label] = [sum(first for first, _ in hits[tuned]), len(hits[tuned])]
        row["severity"] = severities.most_common(1)[0][0]
        results.append(row)
        print(f"{fault.code} {fault.name:55} {row['tuned']} {row['held_out']} {row['severity']}", flush=True)
    return results


def share(results: list[dict[str, Any]], label: str) -> float:
    """Detection averaged over faults."""
    return statistics.mean(row[label][0] / row[label][1] for row in results if row[label][1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=4, help="of each clean set-up; faults are planted with two")
    parser.add_argument("--mnist", type=Path, help="a directory of MNIST's IDX files: a source more")
    parser.add_argument("--only", choices=["clean", "faults"], help="one half alone")
    parser.add_argument("--machine", help="how the machine is named in what is written")
    parser.add_argument("--json", type=Path, help="write what was measured")
    arguments = parser.parse_args()
    started = time.perf_counter()
    print(f"{platform.platform()}, torch {torch.__version__}")
    measured: dict[str, Any] = {"machine": arguments.machine or platform.platform(), "torch": torch.__version__}
    if arguments.only != "clean":
        measured["faults"] = measure_faults(2, arguments.mnist)
        for label, what in (("tuned", "sources that thresholds were set on"), ("held_out", "other sources")):
            measured[label] = share(measured["faults"], label)
            print(f"{what}: {measured[label]:.1%} named first by the right id, averaged over {len(FAULTS)} faults")
        for code, why in NOT_PLANTED.items():
            print(f"not planted: {code}: {why}")
    if arguments.only != "faults":
        measured["clean"] = measure_clean(arguments.seeds, arguments.mnist)
    print(f"{time.perf_counter() - started:.0f} s")
    if arguments.json:
        arguments.json.write_text(json.dumps(measured, indent=1) + "\n")


if __name__ == "__main__":
    main()
