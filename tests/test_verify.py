"""`inkproof verify`: a run that was not touched holds, one changed byte, digit, pixel, label or row does not."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Result

from inkproof.recipes import building

Command = Callable[..., Result]


@pytest.fixture
def run(inkproof: Command, kaggle: Path) -> Path:
    """A run on a CSV, with a submission of its test file."""
    data = ("--data", kaggle / "train.csv", "--test", kaggle / "test.csv")
    assert inkproof("train", "--recipe", "hidden-cross-entropy", "--epochs", 3, *data, "--out", "run").code == 0
    sample = kaggle / "sample_submission.csv"
    assert inkproof("submit", "run", kaggle / "test.csv", "--out", "mine.csv", "--sample", sample).code == 0
    return Path("run")


def test_a_run_that_was_not_touched_holds(run: Path, inkproof: Command) -> None:
    result = inkproof("verify", run, "--retrain")
    assert result.code == 0, result.out
    assert "holds: train images: 270 images, by content" in result.out
    assert "holds: valid scores: recomputed from 30 images" in result.out
    assert "holds: submission mine.csv: 40 labels predicted again" in result.out
    assert "holds: retrained: the same weights, bit for bit" in result.out
    assert "the run holds" in result.out
    assert inkproof("verify", run, "--json").json["holds"] is True


def change_byte(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)


def change_digit(path: Path) -> None:
    scores = json.loads(path.read_text())
    scores["valid"]["correct"] += 1
    path.write_text(json.dumps(scores))


def change_first_pixel(path: Path) -> None:
    header, first, *rest = path.read_text().splitlines()
    cells = first.split(",")
    cells[-20] = str((int(cells[-20]) + 1) % 256)
    path.write_text("\n".join([header, ",".join(cells), *rest]) + "\n")


def change_first_label(path: Path) -> None:
    header, first, *rest = path.read_text().splitlines()
    label, _, pixels = first.partition(",")
    path.write_text("\n".join([header, f"{(int(label) + 1) % 10},{pixels}", *rest]) + "\n")


def change_row(path: Path) -> None:
    lines = path.read_text().splitlines()
    identity, _, label = lines[7].partition(",")
    lines[7] = f"{identity},{(int(label) + 1) % 10}"
    path.write_text("\n".join(lines) + "\n")


CHANGES: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "a byte of the weights": ("run/weights.safetensors", change_byte, "weights.safetensors: was changed"),
    "a digit of a score": ("run/scores.json", change_digit, "scores.json: was changed"),
    "a byte of the history": ("run/history.csv", change_byte, "history.csv: was changed"),
    "a pixel of the data": ("kaggle/train.csv", change_first_pixel, "images that are not those of the run"),
    "a label of the data": ("kaggle/train.csv", change_first_label, "images that are not those of the run"),
    "a pixel of the test images": ("kaggle/test.csv", change_first_pixel, "images that are not those of the run"),
    "a row of the submission": ("mine.csv", change_row, "submission mine.csv: was changed"),
    "a file is gone": ("run/findings.json", Path.unlink, "findings.json: is missing"),
    "a file was added": ("run/run.json", lambda path: path.with_name("x").touch(), "x: was added later"),
    "the seal is gone": ("run/seal.json", Path.unlink, "seal.json: is not there"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_change_is_named_and_ends_with_1(change: str, run: Path, inkproof: Command) -> None:
    path, make, message = CHANGES[change]
    make(Path(path))
    result = inkproof("verify", run)
    assert result.code == 1
    assert message in result.out
    assert "the run does not hold" in result.out


def test_a_score_that_was_sealed_anew_does_not_follow_from_the_weights(run: Path, inkproof: Command) -> None:
    from inkproof.runs.directory import hashes_of, write_json

    change_digit(run / "scores.json")
    write_json(run / "seal.json", {"files": hashes_of(run)})
    result = inkproof("verify", run)
    assert result.code == 1
    assert "DIFFERS: valid scores: valid scores: correct is" in result.out


def test_a_submission_that_was_sealed_anew_does_not_follow_from_the_weights(run: Path, inkproof: Command) -> None:
    from inkproof.files import sha256_of

    change_row(Path("mine.csv"))
    known = run / "submissions.json"
    proofs = json.loads(known.read_text())
    proofs["submissions"][0]["sha256"] = sha256_of(Path("mine.csv"))
    known.write_text(json.dumps(proofs))
    result = inkproof("verify", run)
    assert result.code == 1
    assert "submission mine.csv: 1 differ" in result.out


def test_data_that_was_moved_is_named(run: Path, inkproof: Command) -> None:
    Path("kaggle").rename("elsewhere")
    assert inkproof("verify", run).code == 2
    moved = inkproof("verify", run, "--data", "elsewhere/train.csv", "--test", "elsewhere/test.csv")
    assert moved.code == 0, moved.out


def test_a_sidecar_ties_a_submission_to_weights_and_test_images(run: Path) -> None:
    proof = json.loads(Path("mine.csv.proof.json").read_text())
    seal = json.loads((run / "seal.json").read_text())["files"]
    assert proof["weights_sha256"] == {"0": seal["weights.safetensors"]}
    assert proof["test_fingerprint"] == json.loads((run / "run.json").read_text())["sides"]["test"]["fingerprint"]


def test_a_run_is_trained_again_in_the_precision_that_was_chosen_for_it(
    inkproof: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(building, "choose_precision", lambda device, channels: "bfloat16")
    assert inkproof("train", "--recipe", "fast", "--epochs", 1, "--out", "run").code == 0
    monkeypatch.setattr(building, "choose_precision", lambda device, channels: "float32")
    result = inkproof("verify", "run", "--retrain")
    assert "holds: retrained: the same weights, bit for bit" in result.out, result.out


def test_every_seed_is_verified(inkproof: Command) -> None:
    inkproof("train", "--recipe", "hidden-cross-entropy", "--epochs", 2, "--seeds", 2, "--out", "run")
    assert inkproof("verify", "run", "--retrain").code == 0
    change_byte(Path("run/seeds/1/weights.safetensors"))
    assert "DIFFERS: seeds/1/weights.safetensors" in inkproof("verify", "run").out
    assert inkproof("verify", "nothing").code == 2
