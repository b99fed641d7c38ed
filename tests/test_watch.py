"""`audit.watch`: a loop of one's own is listened to, and nothing of it changes."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from inkproof import audit
from inkproof.errors import AuditWarning, Refused
from inkproof.images import ImageSet

Batches = DataLoader[tuple[Tensor, Tensor]]


@pytest.fixture
def loader(digits: ImageSet) -> Batches:
    x = torch.from_numpy(digits.pixels.copy()).float() / 255
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(x, torch.from_numpy(digits.require_labels("here").copy()))
    return DataLoader(data, batch_size=128, shuffle=True, generator=generator)


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 30), nn.BatchNorm1d(30), nn.ReLU(), nn.Linear(30, 10))


def right(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Batches) -> None:
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        model(x)
    model.train()


def cleared_after_the_forward_pass(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Batches) -> None:
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def accumulated_over_two_batches(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Batches) -> None:
    for number, (x, y) in enumerate(loader):
        (F.cross_entropy(model(x), y) / 2).backward()
        if number % 2:
            optimizer.step()
            optimizer.zero_grad()


def never_cleared(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Batches) -> None:
    for x, y in loader:
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def in_evaluation_mode(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Batches) -> None:
    model.eval()
    right_steps(model, optimizer, loader)


def right_steps(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Batches) -> None:
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()


def evaluated_in_training_mode(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Batches) -> None:
    right_steps(model, optimizer, loader)
    with torch.no_grad():
        model(next(iter(loader))[0])


def with_a_loss_that_is_nan(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Batches) -> None:
    for x, y in loader:
        optimizer.zero_grad()
        (F.cross_entropy(model(x), y) * float("nan")).backward()
        optimizer.step()


def without_a_rate(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Batches) -> None:
    optimizer.param_groups[0]["lr"] = 0.0
    right_steps(model, optimizer, loader)


Loop = Callable[[nn.Module, torch.optim.Optimizer, Batches], None]


@pytest.mark.parametrize(
    ("loop", "names"),
    [
        (right, []),
        (cleared_after_the_forward_pass, []),
        (accumulated_over_two_batches, []),
        (never_cleared, ["gradients-not-cleared"]),
        (in_evaluation_mode, ["trained-in-evaluation-mode"]),
        (evaluated_in_training_mode, ["evaluated-in-training-mode"]),
        (with_a_loss_that_is_nan, ["not-finite"]),
        (without_a_rate, ["weights-never-moved"]),
    ],
)
def test_a_loop_is_known_by_what_it_does(loop: Loop, names: list[str], loader: Batches) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with audit.watch(model, optimizer, F.cross_entropy, loader, on_finding="record") as watched:
        for _ in range(2):
            loop(model, optimizer, loader)
    assert [finding.id for finding in watched.findings] == names


@pytest.mark.parametrize(
    ("make", "loss", "names"),
    [
        (lambda: nn.Sequential(net(), nn.Softmax(dim=1)), F.cross_entropy, ["outputs-activated-twice"]),
        (net, F.nll_loss, ["loss-of-raw-outputs"]),
        (net, lambda p, y: ((p.argmax(1, keepdim=True) - y) ** 2).float().mean(), ["loss-broadcasts"]),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 1)), None, ["one-output-for-classes"]),
    ],
)
def test_model_and_loss_are_looked_at_before_the_loop(make: Any, loss: Any, names: list[str], loader: Batches) -> None:
    model = make()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert [one.id for one in audit.watch(model, optimizer, loss, loader, on_finding="record").findings] == names


def test_it_warns_once_or_refuses_as_it_is_told(loader: Batches) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.warns(AuditWarning, match="gradients-not-cleared") as warned, audit.watch(model, optimizer):
        never_cleared(model, optimizer, loader)
    assert len(warned) == 1
    softmax = nn.Sequential(net(), nn.Softmax(dim=1))
    with pytest.raises(Refused, match=r"cannot fall below 1\.46"):
        audit.watch(
            softmax, optimizer, F.cross_entropy, loader, on_finding="refuse", allow=["parameters-not-optimised"]
        )


def test_nothing_of_the_training_changes(loader: Batches) -> None:
    def weights(*, watched: bool) -> list[Tensor]:
        model = net()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        assert loader.generator is not None
        loader.generator.manual_seed(0)
        if watched:
            with audit.watch(model, optimizer):
                right(model, optimizer, loader)
        else:
            right(model, optimizer, loader)
        return [parameter.detach() for parameter in model.parameters()]

    assert all(map(torch.equal, weights(watched=True), weights(watched=False)))


def test_what_was_trained_in_a_loop_is_known_to_a_learner(loader: Batches, digits: ImageSet) -> None:
    from inkproof.learner import Learner

    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    with audit.watch(model, optimizer):
        right(model, optimizer, loader)
    learner = Learner(copy.deepcopy(model), digits, on_finding="record")
    assert [finding.id for finding in learner.findings] == ["model-already-trained"]


# -- rows, order, schedules --------------------------------------------------------------------------------------------


def found_by(loop: Callable[..., None], loader: Batches, **options: Any) -> list[str]:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    watching = audit.watch(
        model, optimizer, loss=F.cross_entropy, loader=loader, on_finding="record", **{"allow": [], **options}
    )
    with watching as watched:
        loop(model, optimizer, loader)
    return [finding.id for finding in watched.findings]


def backward_alone(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Batches) -> None:
    for _ in range(2):
        for x, y in loader:
            optimizer.zero_grad()
            F.cross_entropy(model(x), y).backward()


def test_a_loop_without_steps_is_named(loader: Batches) -> None:
    assert found_by(backward_alone, loader) == ["weights-never-moved"]


def test_rows_of_the_loaders_are_looked_at(loader: Batches) -> None:
    assert found_by(right, loader, valid=loader) == ["valid-overlaps-train"]
    in_order = DataLoader(loader.dataset, 128)
    assert found_by(right, in_order) == ["not-shuffled"]
    x, y = loader.dataset.tensors
    whole = DataLoader(TensorDataset(x[:1400], y[:1400]), 128, shuffle=True)
    dropping = DataLoader(TensorDataset(x[1400:], y[1400:]), 100, drop_last=True)
    assert found_by(right, whole, valid=dropping) == ["rows-left-out"]


def with_schedule(make: Callable[[torch.optim.Optimizer], Any], *, by_epoch: bool) -> Callable[..., None]:
    def loop(model: nn.Module, optimizer: torch.optim.Optimizer, loader: Batches) -> None:
        scheduler = make(optimizer)
        for _ in range(4):
            for x, y in loader:
                optimizer.zero_grad()
                F.cross_entropy(model(x), y).backward()
                optimizer.step()
                if not by_epoch:
                    scheduler.step()
            if by_epoch:
                scheduler.step()

    return loop


def one_cycle(optimizer: torch.optim.Optimizer) -> Any:
    return torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.5, total_steps=4 * 15)


@pytest.mark.parametrize(("by_epoch", "names"), [(True, ["schedule-not-followed"]), (False, [])])
def test_a_one_cycle_schedule_is_stepped_by_batch(by_epoch: bool, names: list[str], loader: Batches) -> None:
    assert found_by(with_schedule(one_cycle, by_epoch=by_epoch), loader) == names


@pytest.mark.parametrize(
    ("length", "by_epoch", "names"),
    [
        (4, True, []),
        (60, False, []),
        (60, True, ["schedule-not-followed"]),
        (4, False, ["schedule-not-followed"]),
    ],
)
def test_a_schedule_that_is_given_is_stepped_as_long_as_it_is(
    length: int, by_epoch: bool, names: list[str], loader: Batches
) -> None:
    model = net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, length)
    with audit.watch(model, optimizer, scheduler=scheduler, on_finding="record") as watched:
        with_schedule(lambda _: scheduler, by_epoch=by_epoch)(model, optimizer, loader)
    assert [finding.id for finding in watched.findings] == names
