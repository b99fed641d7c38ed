"""The notebook surface: fastai's names and call shapes, trained from memory, audited as data passes."""

from collections.abc import Iterator
from pathlib import Path as PlainPath
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from matplotlib import pyplot
from torch import Tensor, nn
from torch.utils.data import DataLoader as TorchLoader
from torch.utils.data import Dataset, TensorDataset

from inkproof import notebook
from inkproof.errors import AuditWarning, InputError, ShapeMismatch
from inkproof.images import ImageSet
from inkproof.notebook import (
    SGD,
    Adam,
    BCEWithLogitsLossFlat,
    CrossEntropyLossFlat,
    DataLoader,
    DataLoaders,
    Flatten,
    Learner,
    MSELossFlat,
    accuracy,
    error_rate,
    first,
    minimum,
    mse,
    pd,
    rmse,
    set_seed,
    show_image,
    show_images,
    tensor,
    valley,
)
from inkproof.pairs import row_hashes

Pairs = list[tuple[Tensor, Tensor]]


@pytest.fixture(autouse=True)
def _close_figures() -> Iterator[None]:
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def sides(digits: ImageSet) -> tuple[Pairs, Pairs]:
    x, y = tensor(digits.pixels).reshape(-1, 64).float() / 255, tensor(digits.labels)
    return list(zip(x[:500], y[:500], strict=True)), list(zip(x[500:700], y[500:700], strict=True))


def loaders(sides: tuple[Pairs, Pairs]) -> DataLoaders:
    return DataLoaders(DataLoader(sides[0], bs=64, shuffle=True), DataLoader(sides[1], bs=64))


def net(outputs: int = 10) -> nn.Module:
    return nn.Sequential(nn.Linear(64, 30), nn.ReLU(), nn.Linear(30, outputs))


def learner(sides: tuple[Pairs, Pairs], **keywords: Any) -> Learner:
    set_seed(0)
    return Learner(loaders(sides), net(), **({"opt_func": SGD, "loss_func": F.cross_entropy} | keywords))


# -- what is looked at once --------------------------------------------------------------------------------------------


def test_rows_are_looked_at_once_by_loaders_and_learner(
    sides: tuple[Pairs, Pairs], monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []
    monkeypatch.setattr("inkproof.audit.sides.row_hashes", lambda rows: counted.append(len(rows)) or row_hashes(rows))
    Learner(loaders(sides), net(), opt_func=SGD, loss_func=F.cross_entropy)
    assert counted == [500, 200]


def test_rows_that_were_written_to_since_are_looked_at_anew(sides: tuple[Pairs, Pairs]) -> None:
    given = loaders(sides)
    assert not given.findings
    inputs, _ = given.valid.one_batch()  # a view of what the loader keeps
    inputs[3] = torch.nan
    with pytest.warns(AuditWarning, match="inputs-not-finite"):
        Learner(given, net(), opt_func=SGD, loss_func=F.cross_entropy)


def test_rows_to_predict_are_compared_with_training_rows_as_they_are_by_then(sides: tuple[Pairs, Pairs]) -> None:
    given = DataLoaders(DataLoader(sides[0], 64, shuffle=False), DataLoader(sides[1], 64))
    inputs, _ = given.train.one_batch()
    inputs.copy_(torch.stack([x for x, _ in sides[1][: len(inputs)]]))  # the validation rows
    with pytest.warns(AuditWarning, match="test-overlaps-train"):
        given.test_dl(torch.stack([x for x, _ in sides[1]]))


def test_rows_made_in_inference_mode_are_looked_at_too(sides: tuple[Pairs, Pairs]) -> None:
    with torch.inference_mode():
        assert DataLoader(sides[0]).side is not None


# -- names and small functions -----------------------------------------------------------------------------------------


def test_one_star_import_gives_every_promised_name() -> None:
    scope: dict[str, Any] = {}
    exec("from inkproof.notebook import *", scope)
    promised = "pd np plt torch tensor nn F Path Image DataLoader DataLoaders first Learner accuracy Flatten"
    promised += " sigmoid_range show_image untar_data URLs setup_comp SGD"
    assert set(promised.split()) <= set(scope)
    assert scope["Image"].new("L", (2, 3)).size == (2, 3)


@pytest.mark.parametrize("given", [[1.5, 2.5], np.array([1.5, 2.5]), pd.Series([1.5, 2.5]), (1.5, 2.5)])
def test_tensor_takes_what_notebooks_have_and_gives_32_bit_floats(given: Any) -> None:
    made = tensor(given)
    assert made.dtype == torch.float32
    assert made.tolist() == [1.5, 2.5]


def test_tensor_takes_numbers_tables_pictures_and_lists_of_tensors() -> None:
    assert tensor(1, 2, 3).tolist() == [1, 2, 3]
    assert tensor(3).shape == ()
    assert tensor(pd.DataFrame([[1, 2], [3, 4]])).tolist() == [[1, 2], [3, 4]]
    assert tensor(notebook.Image.new("L", (3, 2))).shape == (2, 3)
    assert tensor([torch.ones(2), torch.zeros(2)]).tolist() == [[1, 1], [0, 0]]
    assert tensor(torch.ones(1, dtype=torch.float64)).dtype == torch.float64, "a tensor stays as it is"


def test_metrics_pair_row_by_row_whatever_the_shape_of_the_targets() -> None:
    outputs, targets = torch.eye(4)[[0, 1, 2, 2]], torch.tensor([0, 1, 2, 3])
    assert accuracy(outputs, targets) == accuracy(outputs, targets[:, None]) == 0.75
    assert error_rate(outputs, targets) == 0.25
    column = torch.tensor([[1.0], [3.0]])
    assert mse(column, torch.tensor([1.0, 1.0])) == 2
    assert rmse(column, torch.tensor([1.0, 1.0])) == pytest.approx(2**0.5)
    with pytest.raises(ShapeMismatch, match=r"accuracy got predictions of shape \(4,\) and targets of shape \(3,\)"):
        accuracy(outputs, targets[:3])


def test_accuracy_of_one_output_is_warned_of() -> None:
    with pytest.warns(AuditWarning, match="accuracy-of-one-output: .* always output 0"):
        accuracy(torch.ones(3, 1), torch.ones(3))


def test_flat_losses_are_torchs_and_know_what_their_outputs_mean() -> None:
    outputs, targets = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    loss = CrossEntropyLossFlat()
    assert loss(outputs, targets[:, None]) == F.cross_entropy(outputs, targets)
    assert loss.activation(outputs).sum(dim=1).allclose(torch.ones(6))
    assert loss.decodes(outputs).tolist() == outputs.argmax(dim=1).tolist()
    binary, ones = BCEWithLogitsLossFlat(), torch.ones(6)
    column = outputs[:, :1]
    assert binary(column, ones) == F.binary_cross_entropy_with_logits(column, ones[:, None])
    assert binary.decodes(binary.activation(column)).tolist() == (column > 0).tolist()
    assert MSELossFlat()(column, ones) == mse(column, ones)


def test_flatten_keeps_the_rows_unless_all_is_to_be_one() -> None:
    assert Flatten()(torch.ones(2, 3, 4)).shape == (2, 12)
    assert Flatten(full=True)(torch.ones(2, 3, 4)).shape == (24,)


def test_images_are_shown_alone_and_in_grids() -> None:
    axes = show_image(torch.rand(1, 8, 8), title=5)
    assert axes.get_title() == "5"
    assert axes.images[0].get_array().shape == (8, 8)
    assert show_image(np.zeros((3, 8, 8))).images[0].get_array().shape == (8, 8, 3)
    show_images([torch.rand(8, 8)] * 3, nrows=2, titles=[1, 2, 3])
    assert len(pyplot.gcf().axes) == 4


def test_first_gives_the_first_batch() -> None:
    assert first([3, 4]) == 3
    assert first([], default=7) == 7


# -- loaders -----------------------------------------------------------------------------------------------------------


class Rows(Dataset[tuple[Tensor, int]]):
    """A dataset as people write them; `noise` alters each item anew."""

    def __init__(self, x: Tensor, y: Tensor, noise: float = 0.0):
        self.x, self.y, self.noise = x, y, noise

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        x = self.x[row] + self.noise * torch.randn(64) if self.noise else self.x[row]
        return x, int(self.y[row])


def columns(pairs: Pairs) -> tuple[Tensor, Tensor]:
    return torch.stack([x for x, _ in pairs]), torch.stack([y for _, y in pairs])


@pytest.mark.parametrize("form", ["pairs", "zip", "dataset", "tensors", "torch loader"])
def test_all_forms_of_pairs_give_the_same_batches(form: str, sides: tuple[Pairs, Pairs]) -> None:
    x, y = columns(sides[0])
    loader = {
        "pairs": lambda: DataLoader(sides[0], batch_size=100),
        "zip": lambda: DataLoader(zip(x, y, strict=True), bs=100),
        "dataset": lambda: DataLoader(Rows(x, y), 100),
        "tensors": lambda: DataLoader(TensorDataset(x, y), bs=100),
        "torch loader": lambda: DataLoader.around(TorchLoader(Rows(x, y), batch_size=100)),
    }[form]()
    assert len(loader) == 5
    assert isinstance(loader.to_train(), TensorDataset), "kept in memory"
    inputs, targets = map(torch.cat, zip(*loader, strict=True))
    assert torch.equal(inputs, x)
    assert torch.equal(targets, y)


def test_a_dataset_that_alters_its_items_is_read_anew_in_every_epoch(sides: tuple[Pairs, Pairs]) -> None:
    loader = DataLoader(Rows(*columns(sides[0]), noise=0.1), bs=100)
    assert isinstance(loader.to_train(), TorchLoader)
    assert not torch.equal(first(loader)[0], first(loader)[0])


def test_shuffling_draws_from_torchs_generator(sides: tuple[Pairs, Pairs]) -> None:
    loader = DataLoader(sides[0], shuffle=True)
    set_seed(3)
    order = first(loader)[1].tolist()
    assert first(loader)[1].tolist() != order
    set_seed(3)
    assert first(loader)[1].tolist() == order


def test_inputs_alone_have_no_targets(sides: tuple[Pairs, Pairs]) -> None:
    x, _ = columns(sides[1])
    for inputs in (x, x.numpy(), list(x), [(row,) for row in x]):
        loader = DataLoader(inputs, bs=50)
        assert torch.equal(torch.cat(list(loader)), x)


def test_a_last_batch_that_is_smaller_can_be_left_out(sides: tuple[Pairs, Pairs]) -> None:
    loader = DataLoader(sides[0], bs=64, drop_last=True)
    assert [len(targets) for _, targets in loader] == [64] * 7
    assert len(loader) == 7


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DataLoader([]), "dataset is empty"),
        (lambda: DataLoader([(object(), 1)]), r"item 0 here is \(object, int\)"),
        (lambda: DataLoader([(torch.ones(2), 1), (torch.ones(3), 1)]), "all of one shape"),
        (lambda: DataLoader([(torch.ones(2), 1)], bs=3, batch_size=4), "bs=3 and batch_size=4 say two things"),
        (lambda: DataLoader([(torch.ones(2), 1)], bs=-1), "at least 1 row"),
        (lambda: DataLoader(TorchLoader([(torch.ones(2), 1)])), "is a loader already"),
        (DataLoaders, "needs a training loader"),
        (lambda: DataLoaders(DataLoader([(torch.ones(2), 1)])).valid, "have no validation loader"),
    ],
)
def test_what_cannot_be_loaded_is_said(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_loaders_know_each_other(sides: tuple[Pairs, Pairs]) -> None:
    dls = DataLoaders.from_dsets(*sides, bs=32)
    assert (dls.bs, dls.train.shuffle, dls.valid.shuffle, len(dls)) == (32, True, False, 2)
    assert dls.train_ds is sides[0]
    assert dls.valid_ds is sides[1]
    assert dls.one_batch()[0].shape == (32, 64)
    assert dls.test_dl([x for x, _ in sides[1]]).bs == 32


# -- the Learner -------------------------------------------------------------------------------------------------------


def test_a_notebooks_training_from_rate_finder_to_predictions(
    sides: tuple[Pairs, Pairs], capsys: pytest.CaptureFixture[str]
) -> None:
    learn = learner(sides, metrics=accuracy)
    suggested = learn.lr_find(suggest_funcs=(valley, minimum))
    assert f"SuggestedLRs(valley={suggested.valley}, minimum={suggested.minimum})" in capsys.readouterr().out
    assert pyplot.get_fignums(), "and a plot"
    learn.fit(8, 0.5)
    learn.fit_one_cycle(4, 0.5)
    assert [len(row) for row in learn.recorder.values] == [3] * 12
    assert learn.recorder.values[-1][2] > 0.8
    assert learn.recorder.metric_names == ["epoch", "train_loss", "valid_loss", "accuracy", "time"]
    assert len(learn.recorder.plot_loss().lines) == 2
    predictions, targets = learn.get_preds()
    assert predictions.sum(dim=1).allclose(torch.ones(200))
    assert torch.equal(targets, columns(sides[1])[1])
    assert learn.validate() == pytest.approx(learn.recorder.values[-1][1:])
    assert float(accuracy(predictions, targets)) == learn.validate()[1]
    assert learn.findings == []


def test_get_preds_of_rows_without_targets_gives_none_and_of_training_rows_all(sides: tuple[Pairs, Pairs]) -> None:
    learn = learner(sides)
    predictions, targets, decided = learn.get_preds(dl=learn.dls.test_dl(columns(sides[1])[0]), with_decoded=True)
    assert targets is None
    assert torch.equal(decided, predictions.argmax(dim=1))
    assert len(learn.get_preds(ds_idx=0)[0]) == 500
    assert torch.equal(learn.get_preds(ds_idx=0)[1], columns(sides[0])[1]), "in the order of the data, shuffled or not"


@pytest.mark.parametrize(
    ("loss", "activation"),
    [
        (BCEWithLogitsLossFlat(), torch.sigmoid),
        (F.binary_cross_entropy_with_logits, lambda outputs: outputs),
        (mse, lambda outputs: outputs),
    ],
)
def test_one_output_is_given_as_its_loss_means_it(loss: Any, activation: Any, sides: tuple[Pairs, Pairs]) -> None:
    train, valid = ([(x, (y > 4).float()[None]) for x, y in side] for side in sides)
    model = net(1)
    learn = Learner(loaders((train, valid)), model, loss_func=loss, opt_func=SGD)
    predictions, _ = learn.get_preds()
    assert predictions.shape == (200, 1)
    with torch.no_grad():
        assert predictions.allclose(activation(model(columns(sides[1])[0])), atol=1e-6)
    assert torch.equal(learn.get_preds(act=torch.tanh)[0], learn.get_preds(act=lambda outputs: outputs)[0].tanh())


def test_a_model_that_ends_in_a_softmax_is_not_activated_twice(sides: tuple[Pairs, Pairs]) -> None:
    model = nn.Sequential(net(), nn.Softmax(dim=1))
    with pytest.warns(AuditWarning, match="outputs-activated-twice: .* it cannot fall below 1.46"):
        learn = Learner(loaders(sides), model, loss_func=F.cross_entropy, opt_func=SGD)
    with torch.no_grad():
        assert learn.get_preds()[0].allclose(model(columns(sides[1])[0]))


def test_torchs_seed_decides_the_training(sides: tuple[Pairs, Pairs]) -> None:
    def loss(seed: int) -> float:
        set_seed(seed)
        learn = Learner(loaders(sides), net(), loss_func=F.cross_entropy, opt_func=SGD)
        learn.fit(2, 0.1)
        return learn.recorder.values[-1][0] or 0.0

    assert loss(1) == loss(1) != loss(2)


@pytest.mark.parametrize("opt_func", [SGD, Adam, torch.optim.SGD, torch.optim.AdamW])
def test_any_optimiser_trains(opt_func: Any, sides: tuple[Pairs, Pairs]) -> None:
    learn = learner(sides, opt_func=opt_func)
    learn.fit(2, 1e-2)
    losses = [row[0] for row in learn.recorder.values]
    assert losses[1] < losses[0]


def test_weight_decay_reaches_the_optimiser_and_sgd_is_plain(sides: tuple[Pairs, Pairs]) -> None:
    optimizer = learner(sides, wd=0.3).opt
    assert optimizer is not None
    assert optimizer.param_groups[0]["weight_decay"] == 0.3
    assert optimizer.param_groups[0]["momentum"] == 0


def test_weights_are_saved_without_code_and_loaded_again(sides: tuple[Pairs, Pairs], tmp_path: PlainPath) -> None:
    learn = learner(sides, path=tmp_path)
    before = learn.validate()
    assert learn.save("first") == tmp_path / "models" / "first.safetensors"
    learn.fit(1, 0.5)
    assert learn.validate() != before
    assert learn.load("first").validate() == before
    with pytest.raises(InputError, match="no such weights"):
        learn.load("second")
    with pytest.raises(InputError, match="give a plain name"):
        learn.save("../first")


def test_a_dataset_that_is_read_anew_trains_too(sides: tuple[Pairs, Pairs]) -> None:
    dls = DataLoaders(DataLoader(Rows(*columns(sides[0]), noise=0.1), shuffle=True), DataLoader(sides[1]))
    learn = Learner(dls, net(), loss_func=F.cross_entropy, metrics=[accuracy, error_rate])
    learn.fit(3, 1e-2)
    assert learn.recorder.values[-1][2] > 0.6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda sides: Learner(sides, net()), "a Learner takes DataLoaders"),
        (lambda sides: Learner(loaders(sides), net), "an nn.Module, not a function"),
        (lambda sides: learner(sides).lr_find(suggest_funcs=[max]), "valley, steep, minimum and slide, not max"),
    ],
)
def test_what_the_learner_cannot_use_is_said(make: Any, message: str, sides: tuple[Pairs, Pairs]) -> None:
    with pytest.raises(InputError, match=message):
        make(sides)


# -- the audit ---------------------------------------------------------------------------------------------------------


def trained_on(train: Any, valid: Any) -> Learner:
    learn = Learner(DataLoaders(DataLoader(train, shuffle=True), DataLoader(valid)), net(), loss_func=F.cross_entropy)
    learn.fit(1, 0.1)
    return learn


@pytest.mark.parametrize("form", ["pairs", "dataset", "tensors"])
def test_validation_rows_that_are_training_rows_are_warned_of_once(form: str, sides: tuple[Pairs, Pairs]) -> None:
    x, y = columns(sides[0])
    train, valid = {
        "pairs": lambda: (sides[0], sides[0][:100]),
        "dataset": lambda: (Rows(x, y), Rows(x[:100], y[:100])),
        "tensors": lambda: (TensorDataset(x, y), TensorDataset(x[:100], y[:100])),
    }[form]()
    with pytest.warns(AuditWarning, match=r"valid-overlaps-train: 100 of 100 valid images \(100.0%\)") as warned:
        learn = trained_on(train, valid)
    assert len(warned) == 1
    assert [finding.id for finding in learn.findings] == ["valid-overlaps-train"]


def test_test_rows_that_were_trained_on_are_warned_of_once(sides: tuple[Pairs, Pairs]) -> None:
    learn = learner(sides)
    with pytest.warns(AuditWarning, match="test-overlaps-train: 50 of 50 test images") as warned:
        loader = learn.dls.test_dl(columns(sides[0])[0][:50])
    assert len(warned) == 1
    learn.get_preds(dl=loader)  # it was said: no second warning, which would be an error here
    with pytest.warns(AuditWarning, match="test-overlaps-train"):
        learn.get_preds(dl=DataLoader(sides[0][:50]))
    learn.get_preds(dl=learn.dls.train)  # asked for by name: no warning, which would be an error here


def test_functions_that_compare_every_prediction_with_every_target_are_warned_of(sides: tuple[Pairs, Pairs]) -> None:
    def column_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(dim=1, keepdim=True) == targets).float().mean()

    with pytest.warns(AuditWarning, match="metric-broadcasts: the metric column_accuracy"):
        learner(sides, metrics=column_accuracy)

    def my_rmse(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - targets) ** 2).mean() ** 0.5

    set_seed(0)
    with pytest.warns(AuditWarning) as warned:
        learn = Learner(loaders(sides), net(1), loss_func=my_rmse, opt_func=SGD)
    assert "loss-broadcasts: the loss my_rmse compares every prediction" in str(warned[0].message)
    assert "one-output-for-classes: the model gives one number for 10 classes" in str(warned[1].message)
    learn.fit(1, 1e-3)  # warned, and done all the same
    assert len(learn.recorder.values) == 1


def test_a_finding_that_is_known_may_pass(sides: tuple[Pairs, Pairs]) -> None:
    learn = learner(sides, loss_func=lambda p, y: p.mean() * float("nan"), allow=["not-finite"])
    learn.fit(1, 0.1)
    assert [(finding.id, finding.allowed) for finding in learn.findings] == [("not-finite", True)]


def test_a_loss_that_is_not_finite_is_warned_of(sides: tuple[Pairs, Pairs]) -> None:
    learn = learner(sides, loss_func=lambda p, y: F.cross_entropy(p * 1e30, y))
    with pytest.warns(AuditWarning, match="not-finite"):
        learn.fit(2, 1e9)
