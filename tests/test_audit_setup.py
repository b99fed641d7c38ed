"""Checks of loss, metrics, model, optimiser and training: each fault by its name, frightening but right work let be."""

import copy
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inkproof import models
from inkproof.audit import explain
from inkproof.errors import AuditWarning, Refused
from inkproof.images import ImageSet, Split
from inkproof.learner import Learner

SHAPE = (1, 8, 8)
SGD = torch.optim.SGD


@pytest.fixture(scope="module")
def split(digits: ImageSet) -> Split:
    return digits.split(valid=300, test=300)


def hidden(*, last: nn.Module | None = None, outputs: int = 10) -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, outputs)]
    return nn.Sequential(*layers, *([] if last is None else [last]))


def found(split: Split, model: Any = hidden, *, epochs: int = 0, lr: float = 0.1, **options: Any) -> dict[str, str]:
    """The findings of a setup, and of its training; none stops it."""
    learner = Learner(model, split.train, split.valid, on_finding="record", **options)
    if epochs:
        learner.fit(epochs, lr=lr, verbose=False)
    return {finding.id: finding.severity for finding in learner.findings}


# -- functions ---------------------------------------------------------------------------------------------------------


def accuracy_of_first(p: Tensor, y: Tensor) -> Tensor:
    return (p.argmax(dim=1) == y[0]).float().mean()


def accuracy_of_errors(p: Tensor, y: Tensor) -> Tensor:
    return (p.argmax(dim=1) != y).float().mean()


def accuracy_in_per_cent(p: Tensor, y: Tensor) -> Tensor:
    return 100 * (p.argmax(dim=1) == y).float().mean()


def rmse_without_root(p: Tensor, y: Tensor) -> Tensor:
    return ((p - y) ** 2).mean()


def mse_with_root(p: Tensor, y: Tensor) -> Tensor:
    return ((p - y) ** 2).mean().sqrt()


def rmse(p: Tensor, y: Tensor) -> Tensor:
    return ((p - y) ** 2).mean().sqrt()


def always_the_same(p: Tensor, y: Tensor) -> Tensor:
    return p.softmax(dim=1).max(dim=1).values.mean()


def nll_of_raw(p: Tensor, y: Tensor) -> Tensor:
    return -p[torch.arange(len(y)), y].mean()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"metrics": [accuracy_of_first]}, "accuracy-misses-perfect"),
        ({"metrics": [accuracy_of_errors]}, "accuracy-misses-perfect"),
        ({"loss": F.nll_loss}, "loss-of-raw-outputs"),
        ({"loss": nn.NLLLoss()}, "loss-of-raw-outputs"),
        ({"loss": nll_of_raw}, "loss-of-raw-outputs"),
        ({"loss": always_the_same}, "loss-ignores-targets"),
        ({"model": partial(hidden, last=nn.Softmax(dim=1)), "loss": F.cross_entropy}, "outputs-activated-twice"),
        ({"model": partial(hidden, last=nn.Sigmoid()), "loss": F.cross_entropy}, "outputs-activated-twice"),
        ({"head": "value", "model": partial(hidden, outputs=1), "loss": rmse_without_root}, "misnamed"),
        ({"head": "value", "model": partial(hidden, outputs=1), "loss": mse_with_root}, "misnamed"),
    ],
)
def test_a_wrong_function_is_named(options: dict[str, Any], name: str, split: Split) -> None:
    seen = found(split, **options)
    assert seen == {name: explain(name).severity}


@pytest.mark.parametrize(
    "options",
    [
        {"metrics": [accuracy_in_per_cent]},
        {"loss": nn.CrossEntropyLoss(label_smoothing=0.2)},
        {"model": partial(hidden, last=nn.LogSoftmax(dim=1)), "loss": F.nll_loss},
        {"model": partial(hidden, last=nn.LogSoftmax(dim=1)), "loss": F.cross_entropy},
        {"loss": F.multi_margin_loss},
        {"loss": lambda p, y: F.cross_entropy(p, y) + 0.01 * p.square().mean()},
        {"model": partial(hidden, last=nn.Softmax(dim=1)), "loss": lambda p, y: F.nll_loss((p + 1e-9).log(), y)},
        {"head": "value", "model": partial(hidden, outputs=1), "loss": rmse},
        {"metrics": [lambda p, y: p.softmax(dim=1).max(dim=1).values.mean()]},
    ],
)
def test_a_right_function_is_let_be(options: dict[str, Any], split: Split) -> None:
    assert found(split, **options) == {}


# -- models ------------------------------------------------------------------------------------------------------------


class Through(nn.Module):
    """Puts a function behind a net."""

    def __init__(self, function: Callable[[Tensor], Tensor], body: nn.Module | None = None):
        super().__init__()
        self.body = body or hidden()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.body(x))


class Residual(nn.Module):
    """A branch that begins at zero on purpose."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(64, 20), nn.Linear(20, 20), nn.Linear(20, 10)
        nn.init.zeros_(self.second.weight)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x.flatten(1)).relu()
        return self.last((hidden + self.second(hidden)).relu())


def with_equal_weights(value: float) -> nn.Module:
    model = hidden()
    nn.init.constant_(model[1].weight, value)
    nn.init.constant_(model[3].weight, value)
    return model


def with_zero_head() -> nn.Module:
    model = hidden()
    nn.init.zeros_(model[3].weight)
    return model


def frozen_below() -> nn.Module:
    model = hidden()
    model[1].requires_grad_(False)
    return model


def first_only(parameters: Any, lr: float) -> torch.optim.Optimizer:
    return SGD(list(parameters)[:2], lr=lr)


@pytest.mark.parametrize(
    ("model", "options", "name"),
    [
        (lambda: Through(lambda x: x.softmax(dim=0)), {}, "outputs-depend-on-batch"),
        (lambda: Through(lambda x: x - x.mean(dim=0)), {}, "outputs-depend-on-batch"),
        (lambda: Through(lambda x: F.dropout(x, 0.5)), {}, "outputs-random"),
        (lambda: Through(lambda x: x * 0), {}, "outputs-ignore-inputs"),
        (lambda: Through(torch.zeros_like), {}, "outputs-ignore-inputs"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Linear(20, 10)), {}, "layers-without-nonlinearity"),
        (lambda: with_equal_weights(0.0), {}, "weights-all-equal"),
        (lambda: with_equal_weights(0.1), {}, "weights-all-equal"),
        (hidden, {"optimizer": first_only}, "parameters-not-optimised"),
        (frozen_below, {}, "parameters-frozen"),
        (lambda: Through(nn.Linear(10, 10), Through(lambda x: x.detach())), {}, "parameters-without-gradient"),
    ],
)
def test_a_wrong_model_is_named(model: Any, options: dict[str, Any], name: str, split: Split) -> None:
    seen = found(split, model, **options)
    assert seen == {name: explain(name).severity}


@pytest.mark.filterwarnings("ignore:Implicit dimension choice")
def test_a_softmax_without_a_dimension_is_named(split: Split) -> None:
    seen = found(split, partial(hidden, last=nn.Softmax(dim=None)), loss=lambda p, y: F.nll_loss(p.log(), y))
    assert seen == {"softmax-without-dimension": "warn"}


@pytest.mark.parametrize(
    "model",
    [
        with_zero_head,
        Residual,
        lambda: models.strong(SHAPE, 10, widths=(8, 16)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Tanh(), nn.Linear(20, 10)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 20), nn.Sigmoid(), nn.Linear(20, 10)),
        lambda: nn.Sequential(nn.Flatten(), nn.BatchNorm1d(64), nn.Linear(64, 20), nn.ReLU(), nn.Linear(20, 10)),
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 80), nn.Dropout(0.6), nn.ReLU(), nn.Linear(80, 10)),
        lambda: nn.Sequential(nn.Flatten(), nn.LayerNorm(64), nn.Linear(64, 10)),
        lambda: models.conv(SHAPE, 10),
        lambda: models.linear(SHAPE, 10),
    ],
)
def test_a_right_model_is_let_be(model: Any, split: Split) -> None:
    assert found(split, model) == {}


def test_fresh_nets_are_never_taken_for_trained_ones(digits: ImageSet) -> None:
    two = digits.with_classes(("3", "7"), rest="drop").split(valid=60)
    for seed in range(30):
        for classes, sides in ((10, digits.split(valid=300)), (2, two)):
            makers: list[Callable[[], nn.Module]] = [
                lambda classes=classes: models.hidden(SHAPE, classes, units=30),
                lambda classes=classes: models.linear(SHAPE, classes),
                lambda classes=classes: models.conv(SHAPE, classes, initialisation="he"),
            ]
            for make in makers:
                assert found(sides, make, seed=seed) == {}


def test_a_trained_model_in_a_new_learner_is_named_by_the_ledger(split: Split) -> None:
    first = Learner(hidden, split.train)
    first.fit(1, lr=0.01, verbose=False)
    with pytest.warns(AuditWarning, match=r"model-already-trained: the model was trained for \d+ steps before"):
        Learner(copy.deepcopy(first.model), split.train)
    assert found(split, first.model, pretrained=True) == {}


def test_a_trained_model_from_elsewhere_is_named_by_what_it_knows(split: Split) -> None:
    model = hidden()
    x = torch.from_numpy(split.train.pixels).float() / 255
    y = torch.from_numpy(split.train.labels.copy())  # labelled
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    assert found(split, model) == {"model-already-trained": "warn"}


def test_what_is_looked_at_is_left_as_it_was(split: Split) -> None:
    torch.manual_seed(0)
    model = models.strong(SHAPE, 10, widths=(8, 16))
    before, state = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    Learner(model, split.train, split.valid)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training


@pytest.mark.parametrize(("outputs", "name"), [(1, "one-output-for-classes"), (9, "outputs-do-not-fit")])
def test_outputs_that_do_not_fit_carry_their_finding(outputs: int, name: str, split: Split) -> None:
    with pytest.raises(Refused, match=rf"10 classes .* need \(n, 10\).*\[{name}\]") as refused:
        Learner(partial(hidden, outputs=outputs), split.train, on_finding="record")
    assert [finding.id for finding in refused.value.findings] == [name]


# -- trainings ---------------------------------------------------------------------------------------------------------


def dead() -> nn.Module:
    model = hidden()
    nn.init.constant_(model[1].bias, -10.0)
    return model


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"lr": 0.0, "optimizer": SGD}, {"weights-never-moved", "loss-stands-still"}),
        ({"lr": 1e-7, "optimizer": SGD}, {"loss-stands-still"}),
        ({"lr": 300.0, "optimizer": SGD}, {"loss-rose"}),
        ({"model": dead}, {"units-dead"}),
        ({"model": lambda: models.conv(SHAPE, 10), "lr": 0.0003, "epochs": 7}, {"loss-stands-still"}),
    ],
)
def test_a_training_that_came_to_nothing_is_told(options: dict[str, Any], names: set[str], split: Split) -> None:
    seen = found(split, **({"epochs": 3} | options), allow=["not-finite"])
    assert names <= set(seen), seen


FRIGHTENING: list[dict[str, Any]] = [
    {"lr": 1.0, "optimizer": SGD, "model": lambda: models.strong(SHAPE, 10, widths=(8, 16))},
    {"lr": 0.3, "epochs": 1, "optimizer": SGD},
    {"lr": 0.05, "model": lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 99), nn.Dropout(0.6), nn.Linear(99, 10))},
    {"lr": 0.1, "model": with_zero_head},
    {"lr": 0.1, "model": Residual},
    {"lr": 1e-3, "optimizer": torch.optim.Adam, "epochs": 2},
    {"lr": 0.1, "loss": nn.CrossEntropyLoss(label_smoothing=0.3)},
    {"lr": 0.1, "shuffle": False},
    {"lr": 0.1, "batch_size": 500, "epochs": 4},
    {"lr": 0.1, "batch_size": 4, "epochs": 1, "optimizer": SGD},
]


@pytest.mark.parametrize("options", FRIGHTENING)
def test_a_right_training_is_let_be(options: dict[str, Any], split: Split) -> None:
    seen = found(split, **({"epochs": 3} | options))
    assert set(seen) <= {"layers-without-nonlinearity"}, "dropout alone does not bend"


def test_what_a_training_came_to_is_told_and_never_refused(split: Split) -> None:
    learner = Learner(hidden, split.train, split.valid, optimizer=SGD)
    with pytest.warns(AuditWarning, match="loss-stands-still") as warned:
        learner.fit(3, lr=1e-9, verbose=False)
    assert len(warned) == 1
    learner.fit(3, lr=1e-9, verbose=False)  # once


def test_a_refused_setup_says_how_to_go_on(split: Split) -> None:
    with pytest.raises(Refused, match=r"allow 'outputs-activated-twice'"):
        Learner(partial(hidden, last=nn.Softmax(dim=1)), split.train, loss=F.cross_entropy)


@pytest.fixture(autouse=True)
def _own_random_state() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


# -- order -------------------------------------------------------------------------------------------------------------


def test_rows_sorted_by_class_and_not_shuffled_are_named(split: Split) -> None:
    labels = split.train.require_labels("here")
    in_order = Split(split.train.subset(labels.argsort(kind="stable")), split.valid)
    assert found(in_order, shuffle=False) == {"batches-of-one-class": "warn"}
    assert found(in_order) == {}
    assert found(split, shuffle=False) == {}, "file order that is meant"
    assert found(split, shuffle=None) == {"not-shuffled": "warn"}


@pytest.mark.parametrize("sort", [True, False])
def test_two_classes_alternate_by_chance_without_a_word(sort: bool, digits: ImageSet) -> None:
    two = digits.with_classes(("3", "7"), rest="drop").split(valid=60)
    labels = two.train.require_labels("here")
    train = two.train.subset(labels.argsort(kind="stable")) if sort else two.train
    seen = found(Split(train, two.valid), partial(hidden, outputs=2), shuffle=False, batch_size=16)
    assert seen == ({"batches-of-one-class": "warn"} if sort else {})


class WithAScale(nn.Module):
    """Has a parameter without dimensions, and one in 16 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.scale = hidden(), nn.Parameter(torch.tensor(1.0))
        self.small = nn.Parameter(torch.zeros(2, dtype=torch.bfloat16))

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x) * self.scale + 0 * self.small.sum().float()


def test_parameters_of_any_shape_and_type_are_looked_at(split: Split) -> None:
    assert found(split, WithAScale, epochs=1) == {}
