"""The Learner: training, reproducibility, what it refuses, what it leaves untouched."""

import copy
from functools import partial
from itertools import pairwise
from math import nan
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from inkproof import models, schedules
from inkproof.augment import Deformation
from inkproof.errors import AuditWarning, InputError, NotFinite, Refused, ShapeMismatch
from inkproof.images import ImageSet, Split
from inkproof.learner import Learner

SHAPE = (1, 8, 8)
PlainSGD = torch.optim.SGD


def strong() -> nn.Module:
    return models.strong(SHAPE, 10, widths=(8, 16))


def linear() -> nn.Module:
    return models.linear(SHAPE, 10)


def weights(learner: Learner) -> Tensor:
    return torch.cat([tensor.double().flatten() for tensor in learner.model.state_dict().values()])


def equal(first: object, second: object) -> bool:
    """Whether two nested states are the same to the bit."""
    if isinstance(first, Tensor):
        return isinstance(second, Tensor) and torch.equal(first, second)
    if isinstance(first, dict):
        return (
            isinstance(second, dict)
            and first.keys() == second.keys()
            and all(equal(first[key], second[key]) for key in first)
        )
    if isinstance(first, list | tuple):
        return len(first) == len(second) and all(map(equal, first, second))
    return first == second


# -- training ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [linear, partial(models.hidden, SHAPE, 10), strong, partial(models.conv, SHAPE, 10)])
def test_every_model_learns_the_digits(make, digits: ImageSet) -> None:
    train, valid = digits.split(valid=0.2)
    learner = Learner(make, train, valid, batch_size=32)
    history = learner.fit_one_cycle(6, lr=0.1, verbose=False)
    assert [row.epoch for row in history] == [1, 2, 3, 4, 5, 6]
    assert history[-1].train_loss < history[0].train_loss
    assert history[-1].metrics["accuracy"] > 0.85


def test_the_mean_image_is_fitted_in_one_pass_without_an_optimizer(digits: ImageSet) -> None:
    train, valid = digits.split(valid=0.2)
    learner = Learner(lambda: models.mean_image(SHAPE, 10), train, valid)
    assert learner.optimizer is None
    assert learner.fit(1, lr=1.0, verbose=False)[0].metrics["accuracy"] > 0.8
    with pytest.raises(InputError, match="a mean image has none"):
        learner.lr_find()


def test_a_binary_head_and_a_value_head_learn(digits: ImageSet) -> None:
    train, valid = digits.with_classes(("3", "7"), rest="drop").split(valid=0.2)
    binary = Learner(lambda: models.linear(SHAPE, 1), train, valid)
    assert binary.head.name == "binary"
    assert binary.fit(5, lr=0.1, verbose=False)[-1].metrics["accuracy"] > 0.95
    value = Learner(lambda: models.linear(SHAPE, 1), train, valid, head="value")
    assert value.fit(5, lr=0.01, verbose=False)[-1].metrics["accuracy"] > 0.9


def test_the_loop_equals_one_written_by_hand(few_digits: Split) -> None:
    train = few_digits.train
    torch.manual_seed(5)
    model = models.hidden(SHAPE, 10)
    by_hand = copy.deepcopy(model)
    learner = Learner(model, train, few_digits.valid, batch_size=64, shuffle=False, optimizer=PlainSGD)
    row = learner.fit(2, lr=0.1, verbose=False)[-1]

    inputs, labels = torch.from_numpy(train.pixels).float() / 255, torch.from_numpy(train.labels.copy())
    for _ in range(2):
        total = 0.0
        for x, y in zip(inputs.split(64), labels.split(64), strict=True):
            loss = F.cross_entropy(by_hand(x), y)
            total += loss.item() * len(y)
            by_hand.zero_grad()
            loss.backward()
            with torch.no_grad():
                for parameter in by_hand.parameters():
                    parameter.sub_(0.1 * parameter.grad)
    for mine, theirs in zip(model.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-6)
    assert row.train_loss == pytest.approx(total / len(train), rel=1e-5)


def test_the_validation_loss_is_that_of_all_rows_at_once(few_digits: Split) -> None:
    assert few_digits.valid is not None
    learner = Learner(linear, few_digits.train, few_digits.valid)
    row = learner.fit(1, lr=0.1, verbose=False)[0]
    with torch.no_grad():
        outputs = learner.model(torch.from_numpy(few_digits.valid.pixels).float() / 255)
    expected = F.cross_entropy(outputs, torch.from_numpy(few_digits.valid.labels.copy()))
    assert row.valid_loss == pytest.approx(float(expected), rel=1e-5)


def test_one_cycle_moves_learning_rate_and_momentum(few_digits: Split) -> None:
    seen: list[tuple[float, float]] = []

    class Watched(torch.optim.SGD):
        def step(self, closure=None):
            seen.append((self.param_groups[0]["lr"], self.param_groups[0]["momentum"]))
            super().step()

    Learner(linear, few_digits.train, optimizer=partial(Watched, momentum=0.9)).fit_one_cycle(4, lr=0.1, verbose=False)
    schedule = schedules.one_cycle(0.1)
    assert seen == [tuple(schedule(step, len(seen))) for step in range(len(seen))]


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.RMSprop, torch.optim.AdamW, torch.optim.Adagrad])
def test_any_torch_optimizer_trains(make, few_digits: Split) -> None:
    learner = Learner(linear, few_digits.train, few_digits.valid, optimizer=make)
    history = learner.fit_one_cycle(3, lr=0.01, verbose=False)
    assert history[-1].train_loss < history[0].train_loss


def test_parameter_groups_keep_the_ratio_of_their_rates(few_digits: Split) -> None:
    def make(parameters: list[Tensor], lr: float) -> torch.optim.Optimizer:
        return torch.optim.SGD([{"params": parameters[:1], "lr": lr / 10}, {"params": parameters[1:]}], lr=lr)

    learner = Learner(linear, few_digits.train, optimizer=make)
    learner.fit(1, lr=0.5, verbose=False)
    assert learner.optimizer is not None
    assert [group["lr"] for group in learner.optimizer.param_groups] == pytest.approx([0.05, 0.5])


def test_any_loss_metric_and_module_of_the_users_work(few_digits: Split) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(64, 10)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x.flatten(1)).log_softmax(dim=1)

    def top_two(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.topk(2, dim=1).indices == targets[:, None]).any(1).float().mean()

    learner = Learner(Net, few_digits.train, few_digits.valid, loss=nn.NLLLoss(), metrics=[top_two])
    row = learner.fit(3, lr=0.1, verbose=False)[-1]
    assert list(row.metrics) == ["top_two"]
    probabilities, labels = learner.get_preds()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(len(probabilities)))
    assert labels is not None
    assert learner.findings == []


# -- the same seed, the same bits ------------------------------------------------------------------------------------


def trained(few_digits: Split, seed: int, **options: object) -> Learner:
    learner = Learner(strong, few_digits.train, few_digits.valid, seed=seed, augment=Deformation(shift=0.1), **options)
    learner.fit(2, lr=0.1, verbose=False)
    return learner


def test_the_same_seed_gives_the_same_bits_and_another_seed_others(few_digits: Split) -> None:
    first, again, other = trained(few_digits, 1), trained(few_digits, 1), trained(few_digits, 2)
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_training_neither_reads_nor_moves_the_global_random_state(few_digits: Split) -> None:
    torch.manual_seed(1)
    first = trained(few_digits, 0)
    torch.manual_seed(2)
    before = torch.get_rng_state()
    again = trained(few_digits, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(weights(first), weights(again))


def test_augmentation_leaves_the_order_of_the_rows(few_digits: Split) -> None:
    plain = Learner(linear, few_digits.train, seed=3)
    augmented = Learner(linear, few_digits.train, seed=3, augment=Deformation(rotate=10))
    for (_, labels), (_, other) in zip(plain.training_batches, augmented.training_batches, strict=True):
        assert torch.equal(labels, other)


def test_a_state_taken_after_an_epoch_goes_on_to_the_same_bits(few_digits: Split) -> None:
    def fresh() -> Learner:
        model = lambda: nn.Sequential(nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 10))  # noqa: E731
        return Learner(model, few_digits.train, few_digits.valid, augment=Deformation(shift=0.1))

    schedule = schedules.one_cycle(0.1)
    whole = fresh()
    list(whole.epochs(4, schedule))
    killed = fresh()
    rows = killed.epochs(4, schedule)
    next(rows), next(rows)
    resumed = fresh()
    resumed.load_state_dict(killed.state_dict())
    list(resumed.epochs(4, schedule, done=2))
    assert torch.equal(weights(whole), weights(resumed))
    assert [row.train_loss for row in whole.history] == [row.train_loss for row in resumed.history]


def test_loss_and_metrics_are_chosen_once_and_checked_then(few_digits: Split) -> None:
    made = Learner(strong, few_digits.train)
    for name in ("head", "loss", "metrics"):
        with pytest.raises(AttributeError):
            setattr(made, name, None)
    assert isinstance(made.metrics, tuple)


# -- what explores changes nothing -----------------------------------------------------------------------------------


def test_lr_find_and_predictions_leave_every_bit_alone(few_digits: Split) -> None:
    def learner() -> Learner:
        made = Learner(strong, few_digits.train, few_digits.valid, augment=Deformation(shift=0.1))
        made.fit(1, lr=0.1, verbose=False)
        return made

    explored, left_alone = learner(), learner()
    before, random = explored.state_dict(), torch.get_rng_state()
    modes = [module.training for module in explored.model.modules()]
    suggested = explored.lr_find()
    explored.get_preds()
    explored.predict(few_digits.train, tta=True)
    assert equal(before, explored.state_dict())
    assert torch.equal(random, torch.get_rng_state())
    assert modes == [module.training for module in explored.model.modules()]
    assert 1e-7 <= suggested.valley <= 10
    explored.fit(1, lr=0.1, verbose=False)
    left_alone.fit(1, lr=0.1, verbose=False)
    assert torch.equal(weights(explored), weights(left_alone))


# -- predictions -----------------------------------------------------------------------------------------------------


def test_predictions_come_in_the_order_of_the_data(digits: ImageSet, few_digits: Split) -> None:
    learner = Learner(linear, few_digits.train, few_digits.valid)
    learner.fit(10, lr=0.1, verbose=False)
    probabilities, labels = learner.get_preds(digits)
    assert labels is not None
    assert labels.tolist() == digits.labels.tolist()
    backwards = digits.subset(np.arange(len(digits))[::-1])
    torch.testing.assert_close(learner.get_preds(backwards)[0], probabilities.flip(0))
    assert torch.equal(learner.predict(digits), probabilities.argmax(1))
    unlabelled = ImageSet(digits.pixels[:5].copy(), classes=digits.classes)
    assert learner.get_preds(unlabelled)[1] is None


def test_images_of_another_shape_or_class_are_refused(few_digits: Split) -> None:
    learner = Learner(linear, few_digits.train)
    with pytest.raises(InputError, match=r"images of shape \(1, 9, 9\).*trained on \(1, 8, 8\)"):
        learner.predict(ImageSet(np.zeros((2, 1, 9, 9), np.uint8)))
    with pytest.raises(InputError, match="image 2 has the label 'x', which is outside the classes 0, 1"):
        learner.predict(ImageSet(np.zeros((2, 1, 8, 8), np.uint8), np.array([0, 1]), classes=["0", "x"]))
    with pytest.raises(InputError, match="there is no validation side"):
        learner.get_preds()


def test_datasets_and_loaders_train_and_predict_in_order(few_digits: Split) -> None:
    x = torch.from_numpy(few_digits.train.pixels).float() / 255
    dataset = TensorDataset(x, torch.from_numpy(few_digits.train.labels.copy()))
    for data in (dataset, DataLoader(dataset, batch_size=32, shuffle=True, generator=torch.Generator())):
        learner = Learner(linear, data)
        learner.fit(3, lr=0.1, verbose=False)
        probabilities, labels = learner.get_preds(data)
        assert labels is not None
        assert torch.equal(labels, dataset.tensors[1])
        torch.testing.assert_close(probabilities, learner.model(x).softmax(1).detach())


# -- following a training --------------------------------------------------------------------------------------------


def test_ctrl_c_keeps_the_last_whole_epoch(few_digits: Split, capsys: pytest.CaptureFixture[str]) -> None:
    calls = 0

    def metric(outputs: Tensor, targets: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if outputs.shape[0] == 100 and len(learner.history) == 2:
            raise KeyboardInterrupt
        return (outputs.argmax(1) == targets).float().mean()

    learner = Learner(strong, few_digits.train, few_digits.valid, metrics=[metric])
    history = learner.fit(5, lr=0.1, verbose=False)
    reference = Learner(strong, few_digits.train, few_digits.valid)
    reference.fit(2, lr=0.1, verbose=False)
    assert len(history) == 2
    assert learner.interrupted
    assert torch.equal(weights(learner), weights(reference))
    assert "kept the model as it was after epoch 2" in capsys.readouterr().err


def test_early_stopping_waits_for_patience_and_the_best_epoch_is_kept(few_digits: Split) -> None:
    learner = Learner(linear, few_digits.train, few_digits.valid, allow=["loss-leapt"])
    learner.fit(3, lr=0.1, verbose=False)
    losses = []
    for lr in (0.05, 40.0, 40.0, 40.0):  # the validation loss falls once, then only rises
        losses.append(lr)
    rates = iter(np.repeat(losses, len(learner.training_batches)))
    history = list(
        learner.follow(learner.epochs(4, lambda step, steps: float(next(rates))), patience=2, keep_best=True)
    )
    assert len(history) == 3
    best = min(history, key=lambda row: row.valid_loss)
    assert best is history[0]
    outputs, labels = learner.predictor.outputs(few_digits.valid)
    assert float(learner.loss(outputs, labels)) == pytest.approx(best.valid_loss)


def test_patience_without_a_validation_side_is_refused(few_digits: Split) -> None:
    with pytest.raises(InputError, match="give the Learner a validation side"):
        Learner(linear, few_digits.train).fit(1, lr=0.1, patience=1)


def test_the_log_holds_the_history(few_digits: Split, tmp_path: Path) -> None:
    learner = Learner(linear, few_digits.train, few_digits.valid)
    learner.fit(2, lr=0.1, log=tmp_path / "log.csv", verbose=False)
    lines = (tmp_path / "log.csv").read_text().splitlines()
    assert lines[0] == "epoch,train_loss,valid_loss,accuracy,seconds,train_seconds"
    assert float(lines[2].split(",")[1]) == learner.history[1].train_loss


def test_the_table_shows_as_it_grows(few_digits: Split, capsys: pytest.CaptureFixture[str]) -> None:
    Learner(linear, few_digits.train, few_digits.valid).fit(2, lr=0.1)
    head, *rows = capsys.readouterr().err.splitlines()
    assert head.split() == ["epoch", "train_loss", "valid_loss", "accuracy", "seconds"]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert all(len(first) == len(second) for first, second in pairwise([head, *rows]))


# -- what is refused ---------------------------------------------------------------------------------------------------


def test_validation_rows_that_are_training_rows_are_refused(few_digits: Split) -> None:
    with pytest.raises(Refused, match=r"300 of 300 valid images \(100.0%\) are identical to training images") as caught:
        Learner(linear, few_digits.train, few_digits.train)
    (finding,) = caught.value.findings
    assert (finding.id, finding.code, finding.severity) == ("valid-overlaps-train", "B1", "refuse")
    allowed = Learner(linear, few_digits.train, few_digits.train, allow=["valid-overlaps-train"])
    assert allowed.findings[0].allowed
    with pytest.warns(AuditWarning, match="identical to training images"):
        Learner(linear, few_digits.train, few_digits.train, on_finding="warn")
    assert len(Learner(linear, few_digits.train, few_digits.train, on_finding="record").findings) == 1


def test_a_metric_that_broadcasts_inside_is_refused_by_name(few_digits: Split) -> None:
    def my_accuracy(outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(dim=1, keepdim=True) == targets).float().mean()

    with pytest.raises(Refused, match=r"the metric my_accuracy compares every prediction with every target.*`eq`"):
        Learner(linear, few_digits.train, few_digits.valid, metrics=[my_accuracy])


def test_a_loss_that_broadcasts_inside_is_refused_by_name(digits: ImageSet) -> None:
    def my_loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return ((outputs - targets.squeeze(1)) ** 2).mean()

    pair = digits.with_classes(("3", "7"), rest="drop")
    with pytest.raises(Refused, match="the loss my_loss compares every prediction with every target"):
        Learner(lambda: models.linear(SHAPE, 1), pair, loss=my_loss)


def test_a_loss_of_ones_own_beside_a_row_of_targets_is_refused_before_the_first_step(few_digits: Split) -> None:
    x = torch.from_numpy(few_digits.train.pixels).float() / 255
    loader = DataLoader(TensorDataset(x, torch.ones(len(x))), batch_size=32)
    with pytest.raises(Refused, match=r"inside it `sub` turned shapes \(n, 1\) and \(n,\) into \(n, n\)"):
        Learner(lambda: models.linear(SHAPE, 1), loader, loss=lambda p, y: ((p - y) ** 2).mean())


def test_a_loss_that_pairs_a_column_with_a_row_itself_is_let_be(few_digits: Split) -> None:
    x = torch.from_numpy(few_digits.train.pixels).float() / 255
    data = TensorDataset(x, torch.ones(len(x)))
    learner = Learner(lambda: models.linear(SHAPE, 1), data, loss=lambda p, y: ((p.squeeze(1) - y) ** 2).mean())
    assert learner.fit(1, lr=0.1, verbose=False)[0].train_loss > 0


def test_a_model_of_one_flat_output_learns_two_classes(digits: ImageSet) -> None:
    two = digits.with_classes(("3", "7"), rest="drop").split(valid=60)
    body = models.linear(SHAPE, 1)
    learner = Learner(nn.Sequential(body, nn.Flatten(0)), two.train, two.valid)
    assert learner.fit(3, lr=0.1, verbose=False)[-1].metrics["accuracy"] > 0.9


@pytest.mark.parametrize("outputs", [1, 9, 11])
def test_a_model_with_another_number_of_outputs_than_classes_is_refused(outputs: int, few_digits: Split) -> None:
    with pytest.raises(ShapeMismatch, match=r"10 classes with the head 'classes' need \(n, 10\)"):
        Learner(lambda: models.linear(SHAPE, outputs), few_digits.train)


def test_where_findings_only_warn_a_loss_that_is_not_finite_is_warned_of_once(few_digits: Split) -> None:
    learner = Learner(linear, few_digits.train, few_digits.valid, loss=lambda p, y: p.mean() * nan, on_finding="warn")
    with pytest.warns(AuditWarning, match="At step 0: the loss or a gradient became NaN or infinite") as warned:
        learner.fit(3, lr=0.1, verbose=False)
    assert len(warned) == 1
    assert len(learner.history) == 3


def test_a_loss_that_is_not_finite_stops_before_the_step_and_names_it(few_digits: Split) -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        value = F.cross_entropy(outputs, targets)
        return value / 0 if len(targets) == 44 else value  # only the last batch of an epoch has 44 rows

    learner = Learner(linear, few_digits.train, few_digits.valid, loss=loss)
    with pytest.raises(NotFinite, match="At step 4, before the update: the loss became inf"):
        learner.fit(1, lr=0.1, verbose=False)
    assert torch.isfinite(weights(learner)).all()
    assert learner.findings[-1].id == "not-finite"


def test_a_gradient_that_is_not_finite_stops_before_the_step(few_digits: Split) -> None:
    def loss(outputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(outputs, targets) + (outputs * 0).sum().sqrt()  # the slope of sqrt at 0

    learner = Learner(linear, few_digits.train, loss=loss)
    before = weights(learner)
    with pytest.raises(NotFinite, match=r"At step 0, before the update: the gradient of 1\.\w+ has NaN"):
        learner.fit(1, lr=0.1, verbose=False)
    assert torch.equal(before, weights(learner))


def test_cuda_is_refused_where_there_is_none(few_digits: Split) -> None:
    if torch.cuda.is_available():
        assert Learner(linear, few_digits.train).device.type == "cuda"
    else:
        with pytest.raises(InputError, match="torch sees no CUDA device here: use --device cpu or auto"):
            Learner(linear, few_digits.train, device="cuda")


@pytest.mark.parametrize("last", [nn.Softmax(dim=1), nn.LogSoftmax(dim=1), nn.Identity()])
def test_one_image_is_activated_as_many_are(last: nn.Module, few_digits: Split) -> None:
    assert few_digits.valid is not None
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), last)
    learner = Learner(model, few_digits.train, few_digits.valid, allow=["outputs-activated-twice"])
    learner.fit(1, lr=0.01, verbose=False)
    together, _ = learner.get_preds()
    alone = torch.cat([learner.get_preds(few_digits.valid.subset(np.array([row])))[0] for row in range(5)])
    torch.testing.assert_close(alone, together[:5])


def test_a_sigmoid_inside_the_model_is_known_by_its_loss(digits: ImageSet) -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Linear(64, 1)

        def forward(self, x: Tensor) -> Tensor:
            return self.body(x.flatten(1)).sigmoid()

    train, valid = digits.with_classes(("3", "7"), rest="drop").split(valid=0.2)
    learner = Learner(Net, train, valid, loss=nn.BCELoss())
    assert learner.fit(5, lr=0.1, verbose=False)[-1].metrics["accuracy"] > 0.95
    probabilities, labels = learner.get_preds()
    assert (probabilities.argmax(1) == labels).float().mean() > 0.95
    assert torch.equal(learner.predict(), probabilities.argmax(1))


def test_a_frozen_model_predicts_and_refuses_to_train(few_digits: Split) -> None:
    model = linear().requires_grad_(False)
    learner = Learner(model, few_digits.train, few_digits.valid)
    assert learner.get_preds()[0].shape == (100, 10)
    with pytest.raises(InputError, match="the model has no parameters that can be trained"):
        learner.fit(1, lr=0.1, verbose=False)
