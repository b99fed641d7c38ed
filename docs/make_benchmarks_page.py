"""Write docs/benchmarks.md and docs/growth.svg from what the benchmarks measured.

python benchmarks/peers.py --data DIR --json docs/benchmarks.json
python benchmarks/growth.py --json docs/growth.json
python benchmarks/accuracy.py --data DIR --aside --json docs/accuracy_aside.json
python benchmarks/accuracy.py --data DIR --usual --json docs/accuracy_bfloat16.json (with AVX2 alone: accuracy_float32)
python benchmarks/plain.py --data DIR --json docs/plain.json
python docs/make_benchmarks_page.py
"""

import json
from pathlib import Path
from statistics import mean, median
from typing import Any

from inkproof.console import count

HERE = Path(__file__).parent
PAGE, CHART = HERE / "benchmarks.md", HERE / "growth.svg"
JOBS = {
    "linear": "784-10, cross entropy, 20 epochs",
    "hidden": "784-30-10 with ReLU, cross entropy, 10 epochs",
    "conv": "five convolutions of stride 2, He initialisation, cross entropy, 5 epochs",
    "logistic": "threes and sevens, 784-1, binary cross entropy, 10 epochs",
    "deep": "threes and sevens, 784-256-128-64-32-1, binary cross entropy, 20 epochs",
}
NETS = {
    "linear": "784-10",
    "hidden": "784-30-10",
    "conv": "the convolutions",
    "logistic": "784-1",
    "deep": "the deep net",
}
ACCURACY = """# Benchmarks

## Seconds to an accuracy

Mean and standard deviation over seeds; seconds of training of one seed, median. An ensemble is the mean prediction of
all seeds, which takes the sum of their seconds. "Shifted" is test-time augmentation, the mean prediction for each image
and its shifts by a pixel: of a net, and of the ensemble; all other figures are without. "Wanted" is what the project
set out for.

`python benchmarks/accuracy.py --data DIR --usual`: trained on the first 50,000 of MNIST's training images and scored on
the last 10,000, which most figures of validation are for. "First" is the share of all images that the first epoch
gives, mostly those that a linear net is least sure of (`hard_examples`); "share" and "easy" are of all images too, in
the epochs after it. {bfloat16_machine}, in bfloat16:

{bfloat16}
How long each trains and how many images it is given was chosen on splits of the 49,999 images of below, most of which
are in both parts here; the last 10,000 had a say in the nets, in the stem that stops learning, and in that `fast` and
`middle` train no longer ([log](log.md)).

{float32_machine}, which cannot multiply in bfloat16, in
float32, for which the seconds wanted were not meant, with shares chosen by the last 10,000 too:

{float32}
`python benchmarks/accuracy.py --data DIR --aside`: trained on 49,999 of MNIST's training images, scored on the other
10,001, a random share of each class that was kept aside: no setting was chosen on them but one, that `accurate` pools
late, in which they had a say; earlier states of these recipes were scored on them too. They are harder than the last
10,000: `fast`, `middle` and `accurate` are below what was wanted, by 0.01, 0.02 and 0.06 points.
{aside_machine}, in bfloat16; `best` on 27 November:

{aside}
"""
PLAIN = """## Beside plain trainings

`python benchmarks/plain.py --data DIR --seeds 2`, {machine}, in bfloat16: the settings of above beside a good loop over
torch's own modules, with autograd, a fused optimiser and channels last, whose images are deformed by the same code and
nearly as much. Its nets and epochs were chosen for these accuracies on a processor with bfloat16 matrix units; of such
loops the seconds wanted above are 0.78 to 0.88. Each seed trains both, on the first 50,000 images, and scores them on
the last 10,000; accuracies are means, seconds and ratios medians. In float32, with AVX2 alone, earlier settings were
2.3, 2.3, 3.5 and 4.0 times as fast ([log](log.md)).

{rows}
"""
HEAD = """## Other libraries on the ladder's jobs

`python benchmarks/peers.py --data DIR`, {machine}: the
ladder's jobs with its epochs, on 33,600 rows of MNIST with 8,400 to validate on after each epoch, or on 10,358 threes
and sevens with 2,038. Each library runs in an environment and in processes of its own, in turn, {rounds} rounds;
figures are medians. Ratios are to inkproof in the same round. A process is a whole one: it starts, imports, reads the
arrays, trains and ends.

All compute in float32. inkproof's kernels were compiled, as they are where it is installed beside a C compiler; without
them its jobs took 1.2 to 1.9 times as long by the epoch ([log](log.md)).

`fastai` is imported as its documentation and its notebooks have it, `from fastai.vision.all import *`;
`fastai by module` imports no more of it than a job needs, 1.5 to 5 s less of import, which no notebook does. fastai
needs torchvision, and with it torch's build for CUDA, whose import takes 0.3 to 0.8 s more than that of the build for
processors, which all others have. inkproof is imported as its README has it; its own star import takes as long.

inkproof set out to be 8 times as fast as fastai by the epoch of a tiny net (784-10, 784-30-10, 784-1), 3 times by that
of the ladder's convolutions, and 4 times by the process. Here:

{lines}
All five processes together: {whole:.1f}; by module {by_module:.1f}.

With no more of fastai imported than a job needs, the convolutions, 784-1 and the deep net are below the line by the
process. Before there were kernels, with AVX2 alone (EPYC), 784-30-10 was 5.2 to 10.9 by the epoch, in five runs of 1 to
3 rounds, and on this machine 6.6 to 7.6; 784-10 12.2 to 13.7, 784-1 7.7 to 12.2, the convolutions 3.0 to 4.2; by the
process 5.2 to 6.7, 7.1 to 8.0, 5.0 to 5.6, 3.8 to 4.3, and 2.7 to 4.5 the deep net's. On 2 cores of an Intel Xeon with
AVX-512, four runs without them: by the epoch 8.5 to 9.4, 9.9 to 14.8, 8.4 to 11.9 and 3.6 to 4.5; by the process 6.2 to
6.5, 7.8 to 9.5, 4.7 to 5.7, 4.3 to 4.4 and 3.5 to 4.1.
"""
GROWTH = """## How cost grows

`python benchmarks/growth.py`, {machine}: the net of one hidden layer, batch 256, under plain SGD (for several seeds,
the recipe `hidden-cross-entropy`), on made-up images that are mostly blank; each size in a process of its own, which
also makes the images. Building is making a Learner with all checks of the audit.

![Seconds an epoch and memory by rows, by pixels, by seeds](growth.svg)
"""


def write_page() -> str:
    """The text of the page."""
    names = ("accuracy_bfloat16", "accuracy_float32", "accuracy_aside", "plain", "benchmarks", "growth")
    bfloat16, float32, aside, plain, peers, growth = (json.loads((HERE / f"{name}.json").read_text()) for name in names)
    accuracy = ACCURACY.format(
        aside_machine=aside["machine"],
        aside=_accuracy(aside["rows"]),
        bfloat16_machine=bfloat16["machine"],
        bfloat16=_accuracy(bfloat16["rows"]),
        float32_machine=float32["machine"],
        float32=_accuracy(float32["rows"]),
    )
    own = _process_of("inkproof", peers)
    whole, by_module = (_process_of(name, peers) / own for name in ("fastai", "fastai by module"))
    beside = PLAIN.format(machine=plain["machine"], rows=_plain(plain["rows"]))
    head = HEAD.format(**peers, lines=_lines(peers["rows"]), whole=whole, by_module=by_module)
    parts = [accuracy, beside, head]
    for job, about in JOBS.items():
        rows = [row for row in peers["rows"] if row["job"] == job]
        parts += [f"### {job}: {about}\n", _peers(rows), ""]
    parts += [GROWTH.format(**growth), _growth(growth)]
    return "\n".join(parts)


def _accuracy(rows: list[dict[str, Any]]) -> str:
    lines = ["| setting | accuracy | seconds | wanted | ensemble | shifted |", "|---|---|---|---|---|---|"]
    for row in rows:
        name = "" if row["setting"] == row["recipe"] else f"{row['setting']}: "
        changes = ((key.rsplit(".", 1)[-1], value) for key, value in row["changes"].items())
        changed = "".join(f", no {key}" if value is None else f", {key} {value}" for key, value in changes)
        spread = "" if row["sd"] is None else f" ± {row['sd']:.2%}"
        accuracy = f"{row['accuracy']:.2%}{spread}, {row['seeds']} seeds"
        together = "" if row["together"] is None else f"{row['together']:.2%}"
        known = (row["shifted"], row["together_shifted"])
        shifted = ", ".join(f"{accuracy:.2%}" for accuracy in known if accuracy is not None)
        lines.append(
            f"| {name}`{row['recipe']}`, {count(row['epochs'], 'epoch')}{changed} | {accuracy} | {row['seconds']:.1f} "
            f"| {row['target']:.1%} in {row['wanted_seconds']:g} | {together} | {shifted} |"
        )
    return "\n".join([*lines, ""])


def _plain(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| setting | seeds | inkproof: accuracy | seconds | plain: accuracy | seconds | times as long |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        own, plain = (
            f"{mean(row[f'{key}accuracies']):.2%} | {median(row[f'{key}seconds']):.1f}" for key in ("", "plain_")
        )
        ratios = row["ratios"]
        lines.append(
            f"| {row['setting']} | {len(ratios)} | {own} | {plain} "
            f"| {median(ratios):.1f} ({min(ratios):.1f} to {max(ratios):.1f}) |"
        )
    return "\n".join(lines)


def _process_of(library: str, peers: dict[str, Any]) -> float:
    """Seconds of all its jobs' processes."""
    return sum(float(row["process"]) for row in peers["rows"] if row["library"] == library)


def _lines(rows: list[dict[str, Any]]) -> str:
    """fastai's ratios, a line a job."""
    about = [(row, _ratio(row, "epoch"), _ratio(row, "process")) for row in rows if row["library"] == "fastai"]
    return "".join(
        f"- `{row['job']}`, {NETS[row['job']]}: {epoch} by the epoch, {process} by the process\n"
        for row, epoch, process in about
    )


def _ratio(row: dict[str, Any], key: str) -> str:
    return f"{row[f'{key}_ratio']:.1f}×"


def _peers(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| library | seconds an epoch | ratio | seconds of a process | ratio | peak memory, MB | accuracy |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['library']} | {row['epoch']:.3f} | {_ratio(row, 'epoch')} | {row['process']:.1f} "
            f"| {_ratio(row, 'process')} | {row['megabytes']:.0f} | {row['accuracy']:.2%} |"
        )
    return "\n".join(lines)


def _growth(growth: dict[str, Any]) -> str:
    lines = [
        "| rows | image | seeds | seconds an epoch | building, seconds | peak memory, MB | of them pixels |",
        "|---|---|---|---|---|---|---|",
    ]
    seen = set()
    for row in [*growth["rows"], *growth["sides"], *growth["seeds"]]:
        key = row["rows"], row["side"], row["seeds"]
        if key not in seen:
            seen.add(key)
            lines.append(
                f"| {row['rows']:,} | {row['side']}×{row['side']} | {row['seeds']} | {row['epoch']:.3f} "
                f"| {row['built']:.1f} | {row['megabytes']:.0f} | {row['pixels_megabytes']:.0f} |"
            )
    return "\n".join([*lines, ""])


def draw() -> None:
    """The chart of growth."""
    from matplotlib.figure import Figure

    growth = json.loads((HERE / "growth.json").read_text())
    figure = Figure(figsize=(9, 3), layout="constrained")
    places = figure.subplots(1, 4)
    for axes, (name, key, value, label) in zip(
        places,
        (
            ("rows", "rows", "epoch", "seconds an epoch"),
            ("rows", "rows", "megabytes", "peak memory, MB"),
            ("sides", "side", "epoch", "seconds an epoch"),
            ("seeds", "seeds", "epoch", "seconds an epoch"),
        ),
        strict=True,
    ):
        across = [row[key] ** 2 if key == "side" else row[key] for row in growth[name]]
        axes.loglog(across, [row[value] for row in growth[name]], "o-")
        axes.set(xlabel="pixels" if key == "side" else key, ylabel=label)
        axes.grid(alpha=0.3)
    figure.savefig(CHART, metadata={"Date": None})


if __name__ == "__main__":
    PAGE.write_text(write_page(), encoding="utf-8")
    draw()
