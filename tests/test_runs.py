"""Runs: what is in the directory, atomic, resumable to the same bits, readable, never overwritten."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from inkproof.errors import InputError, NotFinite, Refused
from inkproof.history import Row
from inkproof.images import ImageSet, Split
from inkproof.recipes import Recipe, building, load_recipe, parse_recipe
from inkproof.runs import TrainedRun, TrainingOptions, open_run, train_run
from inkproof.runs.checkpoint import load_checkpoint, save_checkpoint

RECIPE = parse_recipe(
    {
        "name": "small",
        "epochs": 4,
        "batch_size": 32,
        "model": {"name": "strong", "widths": [8, 16]},
        "optimizer": {"lr": 0.1, "momentum": 0.9},
        "schedule": {"name": "one-cycle"},
        "augment": {"shift": 0.1},
    },
    where="test",
)


def train(path: Path, sides: Split, recipe: Recipe = RECIPE, **options: object) -> TrainedRun:
    resume, on_row = options.pop("resume", False), options.pop("on_row", lambda seed, row: None)
    return train_run(recipe, sides, path, options=TrainingOptions(**options), command={}, resume=resume, on_row=on_row)


def test_a_run_holds_all_that_was_done(few_digits: Split, tmp_path: Path) -> None:
    trained = train(tmp_path / "run", few_digits, seeds=(7,))
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {
        "run.json", "recipe.toml", "history.csv", "scores.json", "predictions.csv", "findings.json",
        "environment.json", "seal.json",
        "weights.safetensors",
    }  # fmt: skip
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert load_recipe(tmp_path / "run" / "recipe.toml") == RECIPE
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert about["seeds"] == [7]
    assert about["sides"]["test"]["fingerprint"] == few_digits.test.fingerprint
    assert json.loads((tmp_path / "run" / "findings.json").read_text())["findings"] == []
    environment = json.loads((tmp_path / "run" / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0] or torch.__version__
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 5
    assert trained.scores["test"]["images"] == 100


def test_scores_are_what_an_opened_run_predicts(few_digits: Split, tmp_path: Path) -> None:
    scores = train(tmp_path / "run", few_digits).scores
    run = open_run(tmp_path / "run")
    for name, side in (("valid", few_digits.valid), ("test", few_digits.test)):
        correct = int((run.predict(side).numpy() == side.labels).sum())
        assert correct == scores[name]["correct"]
        assert scores[name]["accuracy"] == correct / len(side)
        assert np.diag(scores[name]["confusion"]).sum() == correct
    probabilities = run.probabilities(few_digits.test)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(100))


def test_the_same_seed_gives_the_same_file_and_another_seed_another(few_digits: Split, tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(tmp_path / name, few_digits, seeds=(seed,))
    a, b, c = ((tmp_path / name / "weights.safetensors").read_bytes() for name in "abc")
    assert a == b != c


class Killed(BaseException):
    pass


@pytest.mark.parametrize("options", [{}, {"keep_best": True, "patience": 3}, {"seeds": (0, 1)}])
@pytest.mark.parametrize("after", [1, 3, 6])
def test_a_killed_run_resumes_to_the_same_bits(
    after: int, options: dict[str, object], few_digits: Split, tmp_path: Path
) -> None:
    if after == 6 and "seeds" not in options:
        return
    train(tmp_path / "whole", few_digits, **options)
    rows = 0

    def kill(seed: int, row: object) -> None:
        nonlocal rows
        rows += 1
        if rows == after:
            raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "killed", few_digits, on_row=kill, **options)
    assert not (tmp_path / "killed").exists()
    resumed: list[int] = []
    train(tmp_path / "killed", few_digits, resume=True, on_row=lambda seed, row: resumed.append(row.epoch), **options)
    assert resumed[-1] == 4
    for whole in (tmp_path / "whole").rglob("weights.safetensors"):
        other = tmp_path / "killed" / whole.relative_to(tmp_path / "whole")
        assert whole.read_bytes() == other.read_bytes()


def test_a_run_goes_on_in_the_precision_that_it_was_begun_in(
    few_digits: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = RECIPE.model_copy(update={"precision": "auto"})

    def kill(seed: int, row: Row) -> None:
        if row.epoch == 2:
            raise Killed

    monkeypatch.setattr(building, "choose_precision", lambda device, channels: "bfloat16")
    train(tmp_path / "whole", few_digits, recipe)
    with pytest.raises(Killed):
        train(tmp_path / "killed", few_digits, recipe, on_row=kill)
    monkeypatch.setattr(building, "choose_precision", lambda device, channels: "float32")
    train(tmp_path / "killed", few_digits, recipe, resume=True)
    about = json.loads((tmp_path / "killed" / "run.json").read_text())
    assert about["precision"] == "bfloat16"
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]


def test_resuming_something_else_is_refused(few_digits: Split, digits: ImageSet, tmp_path: Path) -> None:
    def kill(seed: int, row: object) -> None:
        raise Killed

    with pytest.raises(Killed):
        train(tmp_path / "run", few_digits, on_row=kill)
    with pytest.raises(InputError, match="was begun and did not end; go on with --resume, or remove"):
        train(tmp_path / "run", few_digits)
    with pytest.raises(InputError, match=r"was begun with other seeds \(\[0\], now \[1\]\)"):
        train(tmp_path / "run", few_digits, resume=True, seeds=(1,))
    with pytest.raises(InputError, match="was begun with other sides"):
        train(tmp_path / "run", digits.split(valid=100, test=100), resume=True)
    with pytest.raises(InputError, match="was begun with another recipe"):
        train(tmp_path / "run", few_digits, RECIPE.model_copy(update={"epochs": 9}), resume=True)


def test_a_run_is_never_overwritten(few_digits: Split, tmp_path: Path) -> None:
    train(tmp_path / "run", few_digits)
    before = (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns
    with pytest.raises(InputError, match="exists already; runs are never overwritten"):
        train(tmp_path / "run", few_digits, seeds=(1,))
    assert (tmp_path / "run" / "weights.safetensors").stat().st_mtime_ns == before


def test_what_the_audit_refuses_leaves_nothing(few_digits: Split, tmp_path: Path) -> None:
    leaking = Split(few_digits.train, few_digits.valid, few_digits.train)
    with pytest.raises(Refused, match=r"test images .* are identical to training images"):
        train(tmp_path / "run", leaking)
    assert list(tmp_path.iterdir()) == []
    allowed = train(tmp_path / "run", leaking, allow=frozenset({"test-overlaps-train"}))
    assert [finding["allowed"] for finding in allowed.findings] == [True]
    kept = json.loads((tmp_path / "run" / "findings.json").read_text())["findings"]
    assert [finding["id"] for finding in kept] == ["test-overlaps-train"]
    assert json.loads((tmp_path / "run" / "run.json").read_text())["allowed"] == ["test-overlaps-train"]


def test_a_training_that_explodes_leaves_nothing(few_digits: Split, tmp_path: Path) -> None:
    assert RECIPE.optimizer is not None
    wild = RECIPE.model_copy(update={"optimizer": RECIPE.optimizer.model_copy(update={"lr": 1e30})})
    with pytest.raises(NotFinite, match="At step"):
        train(tmp_path / "run", few_digits, wild)
    assert list(tmp_path.iterdir()) == []


def test_several_seeds_are_several_runs_with_an_error_bar(few_digits: Split, tmp_path: Path) -> None:
    scores = train(tmp_path / "run", few_digits, seeds=(3, 4, 5)).scores
    own = [open_run(tmp_path / "run" / "seeds" / str(seed)).scores["test"]["accuracy"] for seed in (3, 4, 5)]
    assert scores["test"]["accuracy"] == pytest.approx(np.mean(own))
    assert scores["test"]["accuracy_sd"] == pytest.approx(np.std(own, ddof=1))
    alone = train(tmp_path / "alone", few_digits, seeds=(4,)).scores
    assert alone["test"]["accuracy"] == own[1]
    run = open_run(tmp_path / "run")
    mean = sum(open_run(tmp_path / "run" / "seeds" / str(seed)).probabilities(few_digits.test) for seed in (3, 4, 5))
    torch.testing.assert_close(run.probabilities(few_digits.test), mean / 3)


def test_an_opened_run_refuses_images_it_was_not_made_for(few_digits: Split, tmp_path: Path) -> None:
    train(tmp_path / "run", few_digits)
    run = open_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"images of shape \(1, 2, 2\).*was trained on \(1, 8, 8\)"):
        run.predict(ImageSet(np.zeros((1, 1, 2, 2), np.uint8)))
    with pytest.raises(InputError, match="image 1 has the label 'x', which is outside the classes 0, 1"):
        run.predict(ImageSet(np.zeros((1, 1, 8, 8), np.uint8), np.array([0]), classes=["x"]))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("run.json", "{", "damaged"),
        ("run.json", "[]", "damaged"),
        ("run.json", '{"format_version": 99}', r"made by a newer inkproof \(format 99\)"),
        ("recipe.toml", "x =", "damaged"),
        ("weights.safetensors", "damaged", "not the weights of the recipe 'small'"),
        ("scores.json", None, "not a run that can be read: scores.json"),
        ("weights.safetensors", None, "not the weights of the recipe 'small'"),
    ],
)
def test_a_damaged_run_is_refused_by_file(
    name: str, content: str | None, message: str, few_digits: Split, tmp_path: Path
) -> None:
    train(tmp_path / "run", few_digits, RECIPE.model_copy(update={"epochs": 1}))
    path = tmp_path / "run" / name
    path.unlink() if content is None else path.write_text(content)
    with pytest.raises(InputError, match=message):
        open_run(tmp_path / "run")


def test_weights_of_another_model_are_refused(few_digits: Split, tmp_path: Path) -> None:
    train(tmp_path / "run", few_digits, RECIPE.model_copy(update={"epochs": 1}))
    text = (tmp_path / "run" / "recipe.toml").read_text()
    (tmp_path / "run" / "recipe.toml").write_text(text.replace("16", "17"))
    with pytest.raises(InputError, match="not the weights of the recipe"):
        open_run(tmp_path / "run")


def test_weights_are_safetensors_with_finite_numbers(few_digits: Split, tmp_path: Path) -> None:
    train(tmp_path / "run", few_digits)
    assert all(torch.isfinite(tensor).all() for tensor in load_file(tmp_path / "run" / "weights.safetensors").values())


def test_a_checkpoint_goes_round_to_the_bit(tmp_path: Path) -> None:
    channels_last = torch.randn(2, 3, 4, 4).contiguous(memory_format=torch.channels_last)
    state = {"a": {"x": torch.arange(3), 0: [1, 2.5, None, "text", True]}, "b": (channels_last, torch.tensor(1.5))}
    save_checkpoint(tmp_path / "c", state)
    loaded = load_checkpoint(tmp_path / "c")
    assert torch.equal(loaded["a"]["x"], state["a"]["x"])
    assert loaded["a"][0] == state["a"][0]
    assert torch.equal(loaded["b"][0], channels_last)
    assert loaded["b"][0].stride() == channels_last.stride()
    (tmp_path / "c").write_bytes(b"damaged")
    with pytest.raises(InputError, match="no checkpoint that can be read"):
        load_checkpoint(tmp_path / "c")
