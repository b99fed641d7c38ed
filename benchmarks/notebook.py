"""Seconds an epoch of one and the same notebook, on fastai 2.8 and on inkproof.

    python benchmarks/notebook.py [--rounds 3] [--epochs 3] [--environment FOLDER]

The notebook's text differs in its import line alone: lists of (x, y) pairs, batch 256, plain SGD, one metric. The jobs:

    logistic     784-1, binary cross entropy, 12,396 rows shuffled and 2,038 to validate on, as for 3 against 7
    linear       784-10, cross entropy, 33,600 rows in file order and 8,400 to validate on, as are those below
    hidden       784-30-10, cross entropy
    hidden-rmse  784-30-10, root mean squared error of the softmax, a function of the notebook's own
    conv         five stride-2 convolutions, cross entropy

 fastai is installed once into an environment of its own (several GB; its torch is the
registry's build). The two take turns, each in a process of its own; the first epoch of a process is not counted, and
fastai's progress bar is off. The rows are made up: time does not depend on what they show.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

HERE = Path(__file__).parent
FASTAI = ("torch===2.13.0", "fastai==2.8.*")
IMPORTS = {"fastai": "from fastai.vision.all import *", "inkproof": "from inkproof.notebook import *"}

NOTEBOOK = """
torch.manual_seed(0)
rows, held_out = (12396, 2038) if JOB == "logistic" else (33600, 8400)
x = torch.rand(rows + held_out, *((1, 28, 28) if JOB == "conv" else (784,)))
y = torch.randint(2, (len(x), 1)).float() if JOB == "logistic" else torch.randint(10, (len(x),))
train, valid = list(zip(x[:rows], y[:rows])), list(zip(x[rows:], y[rows:]))
dls = DataLoaders(DataLoader(train, batch_size=256, shuffle=JOB == "logistic"), DataLoader(valid, batch_size=256))

def rmse_loss(outputs, targets):
    return ((outputs.softmax(dim=1) - F.one_hot(targets, 10)) ** 2).mean().sqrt()

def sign_accuracy(outputs, targets):
    return ((outputs > 0) == targets).float().mean()

def conv(ins, outs):
    return nn.Conv2d(ins, outs, kernel_size=3, stride=2, padding=1)

metric, loss = accuracy, F.cross_entropy
if JOB == "logistic":
    model, loss, metric = nn.Linear(784, 1), F.binary_cross_entropy_with_logits, sign_accuracy
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
    for _ in range(EPOCHS + 1):
        started = perf_counter()
        learn.fit(1, 0.01)
        seconds.append(perf_counter() - started)
"""

JOBS = ("logistic", "linear", "hidden", "hidden-rmse", "conv")


def epoch_seconds(python: Path, library: str, job: str, epochs: int) -> list[float]:
    """Run the notebook in a process of its own; seconds of each counted epoch, validation included."""
    settings = f"JOB, EPOCHS = {job!r}, {epochs}"
    ending = "import json, sys; print(json.dumps(seconds[1:]), file=sys.stderr)"
    text = "\n".join([IMPORTS[library], settings, NOTEBOOK, TIMING, ending])
    done = subprocess.run([str(python), "-W", "ignore", "-c", text], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"the notebook failed on {library}:\n{done.stderr[-2000:]}")
    return json.loads(done.stderr.strip().splitlines()[-1])


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
    parser.add_argument("--epochs", type=int, default=3, help="counted epochs a process")
    parser.add_argument("--environment", type=Path, default=HERE / "environments" / "fastai", help="where fastai lives")
    arguments = parser.parse_args()
    pythons = {"fastai": fastai_python(arguments.environment), "inkproof": Path(sys.executable)}
    today = datetime.now(UTC).date()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {today}")
    for job in JOBS:
        rounds = [
            {library: epoch_seconds(python, library, job, arguments.epochs) for library, python in pythons.items()}
            for _ in range(arguments.rounds)
        ]
        medians = [{library: statistics.median(times) for library, times in one.items()} for one in rounds]
        ratios = sorted(one["fastai"] / one["inkproof"] for one in medians)
        seconds = {library: statistics.median(one[library] for one in medians) for library in pythons}
        print(
            f"{job:>11}: fastai {seconds['fastai']:.3f} s an epoch, inkproof {seconds['inkproof']:.3f} s, ratio "
            f"{statistics.median(ratios):.1f} (rounds: {', '.join(f'{ratio:.1f}' for ratio in ratios)})",
            flush=True,
        )


if __name__ == "__main__":
    main()
