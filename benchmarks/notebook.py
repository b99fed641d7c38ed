"""Seconds of one and the same notebook, by the epoch and by the process, on fastai 2.8 and on inkproof.

    python benchmarks/notebook.py [--rounds 3] [--jobs conv,deep] [--environment FOLDER]

The notebook's text differs in its import line alone: lists of (x, y) pairs, batch 256, plain SGD, one metric, the
ladder's epochs. The jobs:

    linear       784-10, cross entropy, 33,600 rows in file order and 8,400 to validate on, as are the next three
    hidden       784-30-10, cross entropy
    hidden-rmse  784-30-10, root mean squared error of the softmax, a function of the notebook's own
    conv         five stride-2 convolutions, cross entropy
    logistic     784-1, binary cross entropy, 12,396 rows shuffled and 2,038 to validate on, as for 3 against 7
    deep         784-256-128-64-32-1, likewise

fastai is installed once into an environment of its own (several GB; its torch is the registry's build). The two take
turns, each in a process of its own, which starts, imports, makes the data, trains and ends; an epoch's seconds are the
median of all but the first, validation included, and fastai's progress bar is off. The rows are made up: noise, and a
pixel that tells the class.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
FASTAI = ("torch===2.13.0", "fastai==2.8.*")
IMPORTS = {"fastai": "from fastai.vision.all import *", "inkproof": "from inkproof.notebook import *"}

NOTEBOOK = """
torch.manual_seed(0)
binary = JOB in ("logistic", "deep")
rows, held_out = (12396, 2038) if binary else (33600, 8400)
x = torch.rand(rows + held_out, *((1, 28, 28) if JOB == "conv" else (784,)))
y = torch.randint(2, (len(x), 1)).float() if binary else torch.randint(10, (len(x),))
x.flatten(1)[range(len(x)), 400 + y.flatten().long()] = 1  # a pixel for each class
train, valid = list(zip(x[:rows], y[:rows])), list(zip(x[rows:], y[rows:]))
dls = DataLoaders(DataLoader(train, batch_size=256, shuffle=binary), DataLoader(valid, batch_size=256))

def rmse_loss(outputs, targets):
    return ((outputs.softmax(dim=1) - F.one_hot(targets, 10)) ** 2).mean().sqrt()

def sign_accuracy(outputs, targets):
    return ((outputs > 0) == targets).float().mean()

def conv(ins, outs):
    return nn.Conv2d(ins, outs, kernel_size=3, stride=2, padding=1)

metric, loss = accuracy, F.cross_entropy
if binary:
    metric, loss = sign_accuracy, F.binary_cross_entropy_with_logits
if JOB == "logistic":
    model = nn.Linear(784, 1)
elif JOB == "deep":
    widths = [784, 256, 128, 64, 32]
    layers = [part for ins, outs in zip(widths, widths[1:]) for part in (nn.Linear(ins, outs), nn.ReLU())]
    model = nn.Sequential(*layers, nn.Linear(32, 1))
elif JOB == "linear":
    model = nn.Linear(784, 10)
elif JOB.startswith("hidden"):
    model, loss = nn.Sequential(nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 10)), rmse_loss if "rmse" in JOB else loss
else:
    layers = [part for ins, outs in [(1, 4), (4, 16), (16, 32), (32, 64)] for part in (conv(ins, outs), nn.ReLU())]
    model = nn.Sequential(*layers, conv(64, 10), nn.Flatten())
learn = Learner(dls, model, opt_func=SGD, loss_func=loss, metrics=metric)
"""

TIMING = """
from contextlib import nullcontext
from time import perf_counter

seconds = []
with learn.no_bar() if hasattr(learn, "no_bar") else nullcontext():
    for _ in range(EPOCHS):
        started = perf_counter()
        learn.fit(1, 0.01)
        seconds.append(perf_counter() - started)
"""

JOBS = {"linear": 20, "hidden": 10, "hidden-rmse": 20, "conv": 5, "logistic": 10, "deep": 20}  # epochs


def run(python: Path, library: str, job: str) -> dict[str, float]:
    """Run the notebook in a process of its own: seconds of an epoch and of the process."""
    settings = f"JOB, EPOCHS = {job!r}, {JOBS[job]}"
    ending = "import json, sys; print(json.dumps(seconds[1:]), file=sys.stderr)"
    text = "\n".join([IMPORTS[library], settings, NOTEBOOK, TIMING, ending])
    started = time.perf_counter()
    done = subprocess.run([str(python), "-W", "ignore", "-c", text], capture_output=True, text=True, check=False)
    process = time.perf_counter() - started
    if done.returncode:
        sys.exit(f"the notebook failed on {library}:\n{done.stderr[-2000:]}")
    return {"epoch": statistics.median(json.loads(done.stderr.strip().splitlines()[-1])), "process": process}


def fastai_python(environment: Path) -> Path:
    """The interpreter of an environment with fastai, made where it is not there."""
    python = environment / "bin" / "python"
    if not python.exists():
        print(f"installing fastai into {environment}: several GB, some minutes", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *FASTAI], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="times that the two take turns")
    parser.add_argument("--jobs", default=",".join(JOBS), help="which, with commas between")
    parser.add_argument("--environment", type=Path, default=HERE / "environments" / "fastai", help="where fastai lives")
    arguments = parser.parse_args()
    pythons = {"fastai": fastai_python(arguments.environment), "inkproof": Path(sys.executable)}
    today = datetime.now(UTC).date()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {today}")
    for job in arguments.jobs.split(","):
        rounds = [
            {library: run(python, library, job) for library, python in pythons.items()} for _ in range(arguments.rounds)
        ]
        for what in ("epoch", "process"):
            seconds = {library: statistics.median(one[library][what] for one in rounds) for library in pythons}
            ratios = sorted(one["fastai"][what] / one["inkproof"][what] for one in rounds)
            print(
                f"{job:>11}: fastai {seconds['fastai']:6.3f} s by the {what:7}, inkproof {seconds['inkproof']:.3f} s, "
                f"ratio {statistics.median(ratios):.1f} (rounds: {', '.join(f'{ratio:.1f}' for ratio in ratios)})",
                flush=True,
            )


if __name__ == "__main__":
    main()
