"""The jobs of the ladder by other libraries: seconds an epoch, whole process, memory, accuracy, paired with inkproof.

    python benchmarks/peers.py --data DIR [--rounds 3] [--peers fastai,sklearn] [--jobs conv] [--json FILE]

fastai comes twice, imported as its notebooks do and, "fastai by module", with no more of it than a job needs. Each peer
runs in an environment of its own, made at the first call from benchmarks/requirements/ (fastai's takes 5 GB);
`--python fastai=ENV/bin/python` takes one that is there. In every round each library does each job of `jobs.py` once,
in a process of its own, in turn; figures are medians over rounds, ratios are taken within each round and their median
is printed. Ten digits are 33,600 rows of MNIST's training images (IDX files in DIR) with 8,400 to validate on after
each epoch, threes and sevens 10,358 with 2,038. inkproof's bytecode is written first, as pip writes the peers'.
"""

import argparse
import compileall
import gzip
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from jobs import JOBS, can_do

TRAIN, VALID = 33_600, 8_400
VALID_PAIR = 2_038  # of threes and sevens: as many as MNIST's test images have
HERE = ("inkproof", "torch loop")
BY_MODULE = "fastai by module"  # in fastai's environment
PEERS = ("fastai", BY_MODULE, "lightning", "keras", "skorch", "sklearn")
FOLDER = Path(__file__).parent


def read_mnist(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    """The arrays of each kind of job."""
    names = ("images-idx3", "labels-idx1")
    raw = {name: gzip.decompress((folder / f"train-{name}-ubyte.gz").read_bytes()) for name in names}
    x = np.frombuffer(raw["images-idx3"], np.uint8, offset=16).reshape(-1, 28, 28)
    y = np.frombuffer(raw["labels-idx1"], np.uint8, offset=8).astype(np.int64)
    pair = (y == 3) | (y == 7)
    threes_and_sevens = x[pair], (y[pair] == 7).astype(np.int64)
    return {
        "digits": _sides(x[: TRAIN + VALID], y[: TRAIN + VALID], VALID),
        "threes and sevens": _sides(*threes_and_sevens, VALID_PAIR),
    }


def _sides(x: np.ndarray, y: np.ndarray, valid: int) -> dict[str, np.ndarray]:
    return {"x_train": x[:-valid], "y_train": y[:-valid], "x_valid": x[-valid:], "y_valid": y[-valid:]}


def environment(peer: str) -> str:
    """The peer's Python, in an environment made from its pinned versions where there is none yet."""
    place = FOLDER / "environments" / peer
    python = place / "bin" / "python"
    if not (place / "complete").exists():
        print(f"making {place}", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        requirements = str(FOLDER / "requirements" / f"{peer}.txt")
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--requirement", requirements], check=True)
        (place / "complete").touch()
    return str(python)


def compile_inkproof() -> None:
    """Write inkproof's bytecode, as pip does for all that it installs but for what is editable."""
    import inkproof

    compileall.compile_dir(inkproof.__path__[0], quiet=1)


def run(command: list[str]) -> dict[str, Any]:
    """What a job prints, and the seconds of its process."""
    started = time.perf_counter()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - started
    if result.returncode:
        raise SystemExit(f"{' '.join(command)}: {result.stderr[-800:]}")
    return json.loads(result.stdout.strip().splitlines()[-1]) | {"process": seconds}


def measure(pythons: dict[str, str], folder: Path, jobs: Sequence[str], rounds: int) -> list[dict[str, Any]]:
    """Every library on every job, in turn, so many times."""
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as place:
        folders = {}
        for data, arrays in read_mnist(folder).items():
            folders[data] = Path(place) / data
            folders[data].mkdir()
            for name, array in arrays.items():
                np.save(folders[data] / f"{name}.npy", array)
        for _ in range(rounds):
            for job, (library, python) in product(jobs, pythons.items()):
                if can_do(library, job):
                    row = run([python, str(FOLDER / "jobs.py"), library, job, str(folders[JOBS[job].data])])
                    found.setdefault((job, library), []).append(row)
                    print(
                        f"{job:8} {library:16} {row['epoch']:8.3f} s an epoch, {row['process']:6.1f} s in all",
                        file=sys.stderr, flush=True,
                    )  # fmt: skip
    return [
        {"job": job, "library": library}
        | {key: statistics.median(row[key] for row in rows) for key in ("epoch", "process", "megabytes", "accuracy")}
        | {
            f"{key}_ratio": statistics.median(
                row[key] / own[key] for row, own in zip(rows, found[job, "inkproof"], strict=True)
            )
            for key in ("epoch", "process")
        }
        for (job, library), rows in found.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="directory of MNIST's IDX files, gzipped")
    parser.add_argument("--peers", default=",".join(PEERS), help="which, with commas between")
    parser.add_argument("--jobs", default=",".join(JOBS), help="which, with commas between")
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PYTHON", help="a peer's environment")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--machine", help="how the machine is named in what is written")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    jobs, peers = (
        [name.strip() for name in names.split(",") if name.strip()] for names in (options.jobs, options.peers)
    )
    if options.data is None:
        parser.error("--data is needed: the directory of MNIST's IDX files")
    if unknown := set(peers) - set(PEERS):
        parser.error(f"no peer is called {', '.join(sorted(unknown))}; known: {', '.join(PEERS)}")
    if unknown := set(jobs) - set(JOBS):
        parser.error(f"no job is called {', '.join(sorted(unknown))}; known: {', '.join(JOBS)}")
    given = dict(pair.partition("=")[::2] for pair in options.python)
    if not all(given.values()):
        parser.error("--python takes NAME=PYTHON")
    environments = [peer for peer in PEERS if peer != BY_MODULE]
    if unknown := set(given) - set(environments):
        parser.error(f"no environment is called {', '.join(sorted(unknown))}; known: {', '.join(environments)}")
    compile_inkproof()
    pythons = dict.fromkeys(HERE, sys.executable)
    homes = {peer: "fastai" if peer == BY_MODULE else peer for peer in peers}
    pythons |= {peer: given.get(home) or environment(home) for peer, home in homes.items()}
    rows = measure(pythons, options.data, jobs, options.rounds)
    print(
        f"{'job':8} {'library':16} {'epoch s':>8} {'ratio':>6} {'process s':>9} {'ratio':>6} {'MB':>6} {'accuracy':>8}"
    )
    for row in rows:
        print(
            f"{row['job']:8} {row['library']:16} {row['epoch']:8.3f} {row['epoch_ratio']:5.1f}x "
            f"{row['process']:9.1f} {row['process_ratio']:5.1f}x {row['megabytes']:6.0f} "
            f"{row['accuracy']:8.2%}"
        )
    if options.json:
        machine = options.machine or platform.platform()
        options.json.write_text(
            json.dumps({"machine": machine, "rounds": options.rounds, "rows": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
