"""Seconds and memory (on Linux) to open a Kaggle CSV of 42,000 × 785, from the text and from its converted copy.

    python benchmarks/opening.py [--runs 5]

Each run is a process of its own. The rows are made up, with as many zeros as MNIST's.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

ROWS, PIXELS = 42_000, 784

OPEN = """
import json, re, sys, time
from pathlib import Path
from inkproof.sources import open_images
def peak():  # getrusage would count what the parent had when it forked
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024
before, started = peak(), time.perf_counter()
images = open_images(sys.argv[1], cache=sys.argv[2] == "cached")
int(images.pixels[-1].sum())
print(json.dumps({"seconds": time.perf_counter() - started, "megabytes": peak() - before}))
"""


def write_csv(path: Path) -> None:
    random = np.random.default_rng(0)
    pixels = random.integers(1, 256, (ROWS, PIXELS)) * (random.random((ROWS, PIXELS)) < 0.19)
    table = np.column_stack([random.integers(0, 10, ROWS), pixels])
    names = ",".join(f"pixel{number}" for number in range(PIXELS))
    np.savetxt(path, table, fmt="%d", delimiter=",", header=f"label,{names}", comments="")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "train.csv"
        write_csv(path)
        environment = {**os.environ, "INKPROOF_CACHE": str(Path(folder) / "cache")}

        def measure(cached: str) -> dict[str, float]:
            command = [sys.executable, "-c", OPEN, str(path), cached]
            result: dict[str, float] = json.loads(subprocess.check_output(command, env=environment))
            return result

        print(f"{platform.platform()}; {ROWS:,} x {PIXELS + 1}, {path.stat().st_size / 1e6:.0f} MB of text")
        for name, cached in (("from the text", "uncached"), ("from the converted copy", "cached")):
            measure(cached)
            measured = [measure(cached) for _ in range(runs)]
            seconds = statistics.median(one["seconds"] for one in measured)
            megabytes = statistics.median(one["megabytes"] for one in measured)
            times = megabytes * 1e6 / (ROWS * PIXELS)
            print(f"{name:24} {seconds:6.3f} s (median of {runs}), {megabytes:4.0f} MB more = {times:.1f} x the pixels")


if __name__ == "__main__":
    main()
