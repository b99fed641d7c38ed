"""The commands, end to end: output, files, exit codes, messages."""

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import MNIST, Result, needs_mnist

from inkproof.images import ImageSet

Command = Callable[..., Result]
QUICK = ("--recipe", "linear-cross-entropy", "--epochs", 2)


def test_train_prints_table_score_and_where_the_run_is(inkproof: Command) -> None:
    result = inkproof("train", *QUICK)
    assert result.code == 0
    assert "epoch  train_loss  valid_loss  accuracy   seconds" in result.err
    assert "1,258 train, 180 valid, 359 test images of 1x8x8, 10 classes; 2 epochs, seed 0" in result.err
    assert "test accuracy" in result.out
    run = Path(result.out.split("run: ")[1].strip())
    assert run.parent == Path("runs")
    assert (run / "weights.safetensors").exists()


def test_json_is_one_object_and_nothing_else(inkproof: Command) -> None:
    result = inkproof("train", *QUICK, "--json", "--out", "run")
    assert result.json["run"] == "run"
    assert 0 < result.json["scores"]["test"]["accuracy"] <= 1
    assert [row["epoch"] for row in result.json["history"]] == [1, 2]
    assert result.json["findings"] == []


def test_the_default_recipe_is_right_about_the_digits(inkproof: Command) -> None:
    result = inkproof("train", "--json")
    assert result.json["recipe"] == "accurate"
    assert result.json["scores"]["test"]["accuracy"] >= 0.98


def test_several_seeds_give_mean_and_deviation(inkproof: Command) -> None:
    result = inkproof("train", *QUICK, "--seeds", 3, "--seed", 5, "--json", "--out", "run")
    assert set(result.json["history"]) == {"5", "6", "7"}
    assert result.json["scores"]["test"]["accuracy_sd"] > 0
    assert sorted(path.name for path in Path("run/seeds").iterdir()) == ["5", "6", "7"]
    assert "mean and standard deviation of 3 seeds" in inkproof("train", *QUICK, "--seeds", 3).out


def test_classes_choose_and_a_binary_recipe_takes_two(inkproof: Command) -> None:
    result = inkproof("train", "--recipe", "logistic-torch", "--classes", "3,8", "--json", "--out", "run")
    assert result.json["scores"]["test"]["accuracy"] > 0.9
    assert json.loads(Path("run/run.json").read_text())["classes"] == ["3", "8"]
    of_ten = inkproof("train", "--recipe", "logistic-torch", "--json").json
    assert json.loads((Path(of_ten["run"]) / "run.json").read_text())["classes"] == ["3", "7"], "what the recipe is for"
    refused = inkproof("train", "--recipe", "logistic-torch", "--classes", "3,7,8")
    assert refused.code == 2
    assert "a binary head tells two classes apart and the data has 3: choose two with --classes" in refused.err


def test_sizes_log_and_best_epoch_are_options(inkproof: Command) -> None:
    result = inkproof(
        "train", *QUICK, "--valid-size", 100, "--test-size", 0.1, "--log", "log.csv", "--keep-best", "--patience", 3,
        "--json",
    )  # fmt: skip
    assert (result.json["scores"]["valid"]["images"], result.json["scores"]["test"]["images"]) == (100, 180)
    assert len(Path("log.csv").read_text().splitlines()) == 3


def test_all_rows_are_trained_on_and_nothing_is_claimed(inkproof: Command) -> None:
    result = inkproof("train", *QUICK, "--all-rows", "--json")
    assert result.json["scores"]["test"] is None
    assert result.json["scores"]["training"]["images"] == 1797
    assert "nothing here says how good the model is" in inkproof("train", *QUICK, "--all-rows").err


# -- Kaggle, end to end ------------------------------------------------------------------------------------------------


def test_a_competition_from_csv_to_submission(inkproof: Command, kaggle: Path, digits: ImageSet) -> None:
    trained = inkproof(
        "train", "--data", kaggle / "train.csv", "--test", kaggle / "test.csv", "--recipe", "fast", "--out", "run"
    )
    assert trained.code == 0
    assert "the test images have no labels: they are not scored" in trained.err
    result = inkproof("submit", "run", kaggle / "test.csv", "--out", "submission.csv")
    assert result.code == 0
    lines = Path("submission.csv").read_text().splitlines()
    assert lines[0] == "ImageId,Label"
    assert [line.split(",")[0] for line in lines[1:]] == [str(number) for number in range(1, 41)]
    labels = np.array([int(line.split(",")[1]) for line in lines[1:]])
    assert (labels == digits.labels[300:340]).mean() > 0.9
    for options in (["--sample", kaggle / "sample_submission.csv"], ["--tta"]):
        again = inkproof("submit", "run", kaggle / "test.csv", "--out", "again.csv", *options)
        assert again.code == 0
        assert len(Path("again.csv").read_text().splitlines()) == 41


def test_predictions_of_other_rows_than_the_samples_are_refused_and_nothing_is_written(
    inkproof: Command, kaggle: Path
) -> None:
    inkproof("train", "--data", kaggle / "train.csv", *QUICK, "--out", "run")
    sample = kaggle / "sample_submission.csv"
    result = inkproof("submit", "run", kaggle / "train.csv", "--out", "submission.csv", "--sample", sample)
    assert result.code == 1
    assert "300 predictions for the 40 rows of the sample submission" in result.err
    assert not Path("submission.csv").exists()
    (kaggle / "bad.csv").write_text("ImageId,Label\n1,0,0\n")
    bad = inkproof("submit", "run", kaggle / "test.csv", "--out", "s.csv", "--sample", kaggle / "bad.csv")
    assert (bad.code, "line 2 has 3 columns" in bad.err) == (2, True)


def test_test_rows_that_are_training_rows_are_refused_before_training(inkproof: Command, kaggle: Path) -> None:
    result = inkproof("train", "--data", kaggle / "train.csv", "--test", kaggle / "train.csv", "--out", "run")
    assert result.code == 1
    assert "300 test images" in result.err
    assert "are identical to training images" in result.err
    assert "allow 'test-overlaps-train'" in result.err
    assert not Path("run").exists()
    allow = ("--allow", "test-overlaps-train", "--allow", "test-overlaps-valid")
    allowed = inkproof(
        "train", "--data", kaggle / "train.csv", "--test", kaggle / "train.csv", *QUICK, *allow, "--out", "run"
    )
    assert allowed.code == 0
    assert "refuse (allowed): test-overlaps-train" in allowed.err


def test_predict_writes_labels_and_probabilities(inkproof: Command, kaggle: Path) -> None:
    inkproof("train", "--data", kaggle / "train.csv", *QUICK, "--out", "run")
    printed = inkproof("predict", "run", kaggle / "test.csv")
    rows = list(csv.DictReader(printed.out.splitlines()))
    assert [row["id"] for row in rows] == [str(number) for number in range(1, 41)]
    inkproof("predict", "run", kaggle / "test.csv", "--proba", "--out", "p.csv")
    with Path("p.csv").open() as file:
        with_probabilities = list(csv.DictReader(file))
    for plain, row in zip(rows, with_probabilities, strict=True):
        shares = {name: float(row[f"p_{name}"]) for name in "0123456789"}
        assert max(shares, key=shares.__getitem__) == row["label"] == plain["label"]
        assert sum(shares.values()) == pytest.approx(1, abs=1e-4)
    assert "agree with the labels" in inkproof("predict", "run", kaggle / "train.csv", "--out", "t.csv").err


def test_images_of_another_shape_than_the_runs_are_refused(inkproof: Command, kaggle: Path, tmp_path: Path) -> None:
    inkproof("train", *QUICK, "--out", "run")
    (tmp_path / "other.csv").write_text("pixel0,pixel1,pixel2,pixel3\n1,2,3,4\n")
    result = inkproof("predict", "run", tmp_path / "other.csv")
    assert result.code == 2
    assert "images of shape (1, 2, 2)" in result.err
    assert "(1, 8, 8)" in result.err


# -- other commands ----------------------------------------------------------------------------------------------------


def test_lr_find_suggests_and_draws(inkproof: Command) -> None:
    result = inkproof("lr-find", "--recipe", "linear-cross-entropy", "--out", "lr.png")
    assert result.code == 0
    assert {"valley", "steep", "minimum", "slide"} <= set(result.out.split())
    assert Path("lr.png").read_bytes().startswith(b"\x89PNG")
    suggested = inkproof("lr-find", "--recipe", "linear-cross-entropy", "--json").json["suggested"]
    assert 1e-7 < suggested["valley"] < 10


def test_show_counts_and_draws(inkproof: Command, kaggle: Path) -> None:
    result = inkproof("show", "digits", "--out", "show.png")
    assert "1,797 images of 1×8×8, 10 classes" in result.out
    assert "pixels 0..16 scaled to 0..255" in result.out
    assert Path("show.png").read_bytes().startswith(b"\x89PNG")
    assert inkproof("show", "digits", "--json").json["per_class"]["3"] == 183
    assert "no labels" in inkproof("show", kaggle / "test.csv", "--out", "t.png").out
    assert inkproof("show", "digits", "--classes", "3,7", "--json").json["images"] == 362


def test_recipes_lists_and_prints_one_to_start_from(inkproof: Command) -> None:
    assert "accurate (default)" in inkproof("recipes").out
    toml = inkproof("recipes", "hidden-raw").out
    Path("mine.toml").write_text(toml.replace("units = 30", "units = 12"))
    assert inkproof("train", "--recipe", "mine.toml", "--epochs", 1, "--out", "run").code == 0
    assert "units = 12" in Path("run/recipe.toml").read_text()
    assert inkproof("recipes", "--json").json["hidden-raw"]["model"]["units"] == 30


# -- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "nowhere"], "nowhere: there is no such file or folder"),
        (["train", "--recipe", "acurate"], "unknown recipe 'acurate': did you mean 'accurate'?"),
        (["train", "--epoch", "3"], "No such option"),
        (["train", "--classes", "3"], "give two or more different class names"),
        (["train", "--classes", "3,x"], "digits: has no class 'x'"),
        (["train", "--valid-size", "1.5"], "neither a share below 1 nor a whole number"),
        (["train", "--shape", "28"], "give height x width"),
        (["train", "--valid-size", "0", "--patience", "3"], "patience and keep_best compare validation losses"),
        (["train", "--split-seed", "-1"], "the seed of a split must not be negative"),
        (["show", "digits", "--out", "x.doc"], "the name must end in one of .png"),
        (["lr-find", "--out", "x"], "the name must end in one of .png"),
        (["train", "--seeds", "0"], "--seeds"),
        (["train", "--resume"], "nothing to resume"),
        (["train", "--recipe", "mean-image", "--lr", "1"], "is fitted without a learning rate"),
        (["predict", "nowhere", "digits"], "nowhere: no run directory of that name"),
        (["frain"], "No such command"),
    ],
)
def test_a_users_mistake_is_one_line_and_exit_code_2(inkproof: Command, arguments: list[str], message: str) -> None:
    result = inkproof(*arguments)
    assert result.code == 2
    assert message in result.err
    assert "Traceback" not in result.err
    assert len([line for line in result.err.splitlines() if line.startswith("error:")]) == 1
    assert not Path("runs").exists() or list(Path("runs").iterdir()) == []


def test_a_bad_cell_ends_with_exit_code_2_and_its_place(inkproof: Command, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("label,pixel0\n3,1\n4,999\n")
    result = inkproof("train", "--data", "bad.csv")
    assert result.code == 2
    assert "bad.csv: line 3 (row 2), column 'pixel0': '999' is outside 0..255" in result.err


def test_missing_labels_end_with_exit_code_2(inkproof: Command, kaggle: Path) -> None:
    result = inkproof("train", "--data", kaggle / "test.csv")
    assert (result.code, "has no labels, and training needs them" in result.err) == (2, True)


def test_a_file_that_cannot_be_written_is_named(inkproof: Command) -> None:
    Path("file").write_text("in the way")
    inkproof("train", *QUICK, "--out", "run")
    for arguments in (["show", "digits", "--out", "file/x.png"], ["predict", "run", "digits", "--out", "file/x.csv"]):
        result = inkproof(*arguments)
        assert (result.code, "Traceback" in result.err) == (2, False)
        assert "file" in result.err.splitlines()[-1]


def test_a_mistake_of_inkproof_ends_with_exit_code_70(inkproof: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(options: object) -> None:
        raise AssertionError("broken inside")

    monkeypatch.setattr("inkproof.cli.training._recipe", broken)
    result = inkproof("train")
    assert result.code == 70
    assert "AssertionError: broken inside" in result.err
    assert "please report it" in result.err


# -- interrupted, killed, resumed --------------------------------------------------------------------------------------


def start_training(folder: Path, *more: str) -> subprocess.Popen[str]:
    """A long training in a process of its own, running at least its third epoch when this returns."""
    command = [
        sys.executable,
        "-m",
        "inkproof",
        "train",
        "--recipe",
        "linear-cross-entropy",
        "--epochs",
        "100000",
        "--out",
        "run",
    ]
    process = subprocess.Popen(
        [*command, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Tests that a shell runs in the background inherit that Ctrl-C is ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  # it takes no lock
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.split()[:1] == ["3"]:
            return process
    process.communicate()
    raise AssertionError("training ended too early")


def test_ctrl_c_saves_the_run_and_ends_with_130(tmp_path: Path) -> None:
    process = start_training(tmp_path)
    process.send_signal(signal.SIGINT)
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        raise AssertionError(process.communicate()[1][-2000:]) from None
    assert process.returncode == 130
    assert "Traceback" not in err
    assert "interrupted: kept the model as it was after epoch" in err
    assert "test accuracy" in out
    assert json.loads((tmp_path / "run" / "run.json").read_text())["interrupted"] is True
    rows = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert len(rows) >= 4


def test_a_killed_training_resumes_with_its_own_options(
    inkproof: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = start_training(tmp_path, "--classes", "3,7", "--seed", "4")
    process.kill()
    process.communicate(timeout=60)
    assert not (tmp_path / "run").exists()
    refused = inkproof("train", "--out", "run")
    assert (refused.code, "go on with --resume" in refused.err) == (2, True)
    other = inkproof("train", "--resume", "--out", "run", "--seed", 5)
    assert (other.code, "was begun with other seeds ([4], now [5])" in other.err) == (2, True)


@needs_mnist
def test_mnist_opens_and_trains_from_its_files(inkproof: Command) -> None:
    result = inkproof("train", "--data", MNIST, "--recipe", "mean-image", "--test-size", 10_000, "--json")
    assert result.json["scores"]["test"]["images"] == 10_000
    assert 0.6 < result.json["scores"]["test"]["accuracy"] < 0.7  # nearest mean by L1 distance


def test_a_loss_that_becomes_nan_is_scored_where_it_is_allowed(inkproof: Command) -> None:
    toml = inkproof("recipes", "deep-3-7-high-lr").out
    Path("steep.toml").write_text(toml.replace("lr = 1.0", "lr = 1e30"))
    asked = ("train", "--recipe", "steep.toml", "--epochs", 2)
    assert inkproof(*asked).code == 1
    trained = inkproof(*asked, "--seeds", 2, "--allow", "not-finite", "--json").json
    assert trained["scores"]["test"]["loss"] is None
    assert 0 < trained["scores"]["test"]["accuracy"] < 1
