"""The written-out step equals autograd's, and is taken only where it is sure to."""

import copy
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inkproof import heads
from inkproof.errors import NotFinite
from inkproof.objective import Objective
from inkproof.optimizers import take_step
from inkproof.steps import StepPlan, train_step
from inkproof.written_out import (
    LinearStep,
    in_place,
    write_out,
)
from inkproof.written_out.linear import ones
from inkproof.written_out.losses import known_gradient

plain = partial(torch.optim.SGD, lr=0.3)


def net(*widths: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [part for pair in pairwise(widths) for part in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(nn.Flatten(), *layers[:-1])


def parameters_after(model: nn.Module, loss: Any, x: Tensor, y: Tensor, *, written_out: bool) -> list[Tensor]:
    model = copy.deepcopy(model)
    optimizer = plain(model.parameters())
    step = write_out(model, loss, optimizer) if written_out else None
    assert (step is not None) == written_out
    objective, values = Objective(heads.Head("classes", 3), loss), []
    plan = StepPlan(written_out=step)
    for lr in (0.3, 0.2, 0.4):
        optimizer.param_groups[0]["lr"] = lr
        values.append(train_step(model, objective, optimizer, x, y, precision="float32", plan=plan))
    return [*(parameter.detach() for parameter in model.parameters()), torch.stack(values)]


CLASSES, ONES = torch.tensor([0, 2, 1, 2, 0]), torch.tensor([[0.0], [1.0], [1.0], [0.0], [1.0]])
CASES = [
    (F.cross_entropy, 3, CLASSES),
    (F.cross_entropy, 3, torch.rand(5, 3)),
    (nn.CrossEntropyLoss(), 3, CLASSES),
    (nn.CrossEntropyLoss(label_smoothing=0.2), 3, CLASSES),
    (heads.cross_entropy, 3, CLASSES),
    (partial(heads.cross_entropy, label_smoothing=0.1), 3, CLASSES),
    (heads.rmse_softmax, 3, CLASSES),
    (F.binary_cross_entropy_with_logits, 1, ONES),
    (nn.BCEWithLogitsLoss(), 1, ONES),
    (heads.binary_cross_entropy, 1, ONES),
]


@pytest.mark.parametrize("hidden", [(), (7,), (7, 4)])
@pytest.mark.parametrize(("loss", "outputs", "targets"), CASES)
def test_three_steps_equal_those_of_autograd(loss: Any, outputs: int, targets: Tensor, hidden: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    x = torch.randn(5, 1, 2, 3, dtype=torch.float64)
    model = net(6, *hidden, outputs).double()
    mine = parameters_after(
        model, loss, x, targets.double() if targets.is_floating_point() else targets, written_out=True
    )
    torchs = parameters_after(
        model, loss, x, targets.double() if targets.is_floating_point() else targets, written_out=False
    )
    for own, reference in zip(mine, torchs, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-12)


def without_bias(model: nn.Sequential) -> nn.Sequential:
    model[1].register_parameter("bias", None)
    return model


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("rows", [256, 129, 5])
@pytest.mark.parametrize(
    "model",
    [net(600, 3), without_bias(net(600, 3)), net(600, 30, 3), net(600, 80, 3), net(600, 30, 30, 3)],
    ids=["one layer", "without a bias", "one narrow hidden layer", "a wide one", "deep"],
)
def test_inputs_in_another_unit_are_scaled_within_the_products(model: nn.Sequential, rows: int) -> None:
    torch.manual_seed(1)
    x, y = torch.randint(0, 256, (rows, 1, 20, 30)).double(), torch.randint(0, 3, (rows,))
    parameters = []
    for inputs, unit in ((x / 255, 1.0), (x, 1 / 255)):
        own = copy.deepcopy(model).double()
        step = write_out(own, F.cross_entropy, torch.optim.SGD(own.parameters(), lr=0.3))
        assert isinstance(step, LinearStep)
        with in_place(step, unit=unit) as now:
            losses = [now.step(inputs, lambda _: y, check_finite=True) for _ in range(3)]
        parameters.append([*own.parameters(), *losses])
    for first, second in zip(*parameters, strict=True):
        torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_batch_that_is_left_to_autograd_is_scaled_before(dtype: torch.dtype) -> None:
    class Declining(LinearStep):
        def step(self, *given: Any, **named: Any) -> None:
            return None

    torch.manual_seed(1)
    model, x, y = net(6, 3), torch.randint(0, 256, (5, 1, 2, 3)).to(dtype), torch.tensor([0, 2, 1, 2, 0])
    twin = copy.deepcopy(model)
    for own, inputs, unit in ((model, x, 1 / 255), (twin, x / 255, 1.0)):
        optimizer = torch.optim.SGD(own.parameters(), lr=0.3)
        declining = Declining([own[1]], optimizer, known_gradient(F.cross_entropy), flatten=True, unit=unit)
        objective = Objective(heads.Head("classes", 3), F.cross_entropy)
        plan = StepPlan(written_out=declining, unit=unit)
        train_step(own, objective, optimizer, inputs, y, precision="float32", plan=plan)
    for first, second in zip(model.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(first, second)


def hooked(model: nn.Sequential) -> nn.Module:
    model[1].register_forward_hook(lambda *_: None)
    return model


def frozen(model: nn.Sequential) -> nn.Module:
    model[1].requires_grad_(False)
    return model


def tied(model: nn.Sequential) -> nn.Module:
    return nn.Sequential(model[1], nn.ReLU(), model[1])


def sharing_weights(model: nn.Sequential) -> nn.Module:
    model[3].weight = model[1].weight
    return model


def listened_to(loss: nn.Module) -> nn.Module:
    loss.register_forward_hook(lambda *_: None)
    return loss


class Own(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


@pytest.mark.parametrize(
    ("model", "loss", "optimizer"),
    [
        (hooked(net(6, 6, 3)), F.cross_entropy, plain),
        (frozen(net(6, 6, 3)), F.cross_entropy, plain),
        (tied(net(6, 6, 3)), F.cross_entropy, plain),
        (nn.Sequential(Own(6, 3)), F.cross_entropy, plain),
        (nn.Sequential(nn.Linear(6, 4), nn.Sigmoid(), nn.Linear(4, 3)), F.cross_entropy, plain),
        (nn.Sequential(nn.Linear(6, 4), nn.ReLU()), F.cross_entropy, plain),
        (net(6, 3), lambda p, y: F.cross_entropy(p, y) + p.square().mean(), plain),
        (net(6, 3), listened_to(nn.CrossEntropyLoss()), plain),
        (net(6, 3), nn.CrossEntropyLoss(weight=torch.ones(3)), plain),
        (net(6, 3), nn.CrossEntropyLoss(reduction="sum"), plain),
        (net(6, 3), nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), plain),
        (net(6, 3), F.cross_entropy, partial(plain, momentum=0.9)),
        (net(6, 3), F.cross_entropy, partial(plain, weight_decay=0.1)),
        (net(6, 3), F.cross_entropy, torch.optim.Adam),
        (net(6, 3), F.cross_entropy, lambda parameters: plain([next(iter(parameters))])),
    ],
)
def test_all_else_goes_through_autograd(model: nn.Module, loss: Any, optimizer: Any) -> None:
    assert write_out(model, loss, optimizer(model.parameters())) is None


def test_rows_that_torch_would_leave_out_are_left_to_torch() -> None:
    x, y = torch.randn(5, 6), torch.tensor([0, -100, 1, 2, -100])
    model = net(6, 3)
    mine = parameters_after(model, F.cross_entropy, x, y, written_out=True)
    torchs = parameters_after(model, F.cross_entropy, x, y, written_out=False)
    assert all(map(torch.equal, mine, torchs))


@pytest.mark.parametrize("rows", [0, 1, 4])
@pytest.mark.parametrize(("loss", "outputs", "targets"), CASES)
def test_fewer_targets_than_rows_are_left_to_torch(loss: Any, outputs: int, targets: Tensor, rows: int) -> None:
    model = net(6, outputs)
    before = copy.deepcopy(model.state_dict())
    step = write_out(model, loss, plain(model.parameters()))
    assert step is not None
    assert step.step(torch.randn(5, 6), lambda outputs: targets[:rows], check_finite=True) is None
    assert all(torch.equal(before[name], now) for name, now in model.state_dict().items())


@pytest.mark.parametrize(
    ("loss", "outputs", "targets"),
    [
        (F.cross_entropy, 3, CLASSES.int()),
        (F.cross_entropy, 3, torch.rand(5, 3, dtype=torch.float64)),
        (heads.rmse_softmax, 3, CLASSES.int()),
        (F.binary_cross_entropy_with_logits, 1, ONES.double()),
    ],
)
def test_targets_of_another_type_are_left_to_torch(loss: Any, outputs: int, targets: Tensor) -> None:
    model = net(6, outputs)
    step = write_out(model, loss, plain(model.parameters()))
    assert step is not None
    assert step.step(torch.randn(5, 6), lambda outputs: targets, check_finite=True) is None


FORMS = [(6, 3), (6, 30, 3), (6, 30, 30, 3)]


@pytest.mark.parametrize("check_finite", [True, False])
@pytest.mark.parametrize("widths", FORMS)
@pytest.mark.parametrize("flattens", [True, False])
def test_inputs_that_do_not_fit_are_left_to_torch(widths: tuple[int, ...], flattens: bool, check_finite: bool) -> None:
    whole = net(*widths)
    model = whole if flattens else whole[1:]
    before = [parameter.clone() for parameter in model.parameters()]
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    inputs = widths[0]
    odd = [torch.randn(0, inputs), torch.randn(5, inputs + 2), torch.randn(5, inputs).to_sparse(), torch.randn(inputs)]
    if not flattens:
        odd.append(torch.randn(5, 4, inputs))  # a linear layer over the last of three dimensions
    for x in odd:
        assert step.step(x, lambda outputs: CLASSES[: len(outputs)], check_finite=check_finite) is None
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("widths", FORMS)
def test_inputs_may_lie_in_memory_in_any_order(widths: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    x, y = torch.randn(widths[0], 128, dtype=torch.float64).T, torch.randint(0, 3, (128,))
    model = net(*widths).double()
    mine = parameters_after(model, F.cross_entropy, x, y, written_out=True)
    torchs = parameters_after(model, F.cross_entropy, x, y, written_out=False)
    for own, reference in zip(mine, torchs, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("widths", FORMS)
def test_a_class_that_there_is_not_is_left_to_torch(widths: tuple[int, ...]) -> None:
    model = net(*widths)
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    assert step.step(torch.randn(5, widths[0]), lambda outputs: CLASSES + 3, check_finite=True) is None


def test_ones_lie_on_the_processor_whatever_the_default_device_is() -> None:
    ones.cache_clear()
    with torch.device("meta"):
        assert ones(5, torch.float32).device.type == "cpu"


@pytest.mark.parametrize("broken", [float("nan"), float("inf"), 1e36])
def test_numbers_near_the_end_of_float32_are_looked_at_by_the_ordinary_step_before_the_update(broken: float) -> None:
    model = net(6, 4, 3)
    before = [parameter.clone() for parameter in model.parameters()]
    optimizer = plain(model.parameters())
    step = write_out(model, F.cross_entropy, optimizer)
    assert step is not None
    x = torch.randn(5, 6)
    x[2] = broken
    assert step.step(x, lambda outputs: CLASSES, check_finite=True) is None
    assert all(map(torch.equal, before, model.parameters()))
    objective, plan = Objective(heads.Head("classes", 3), F.cross_entropy), StepPlan(written_out=step)
    with pytest.raises(NotFinite):
        train_step(model, objective, optimizer, x * x, CLASSES, precision="float32", plan=plan)


@pytest.mark.parametrize("hidden", [(), (4,)])
def test_an_infinite_input_that_reaches_neither_loss_nor_gradients_is_seen_before_the_update(
    hidden: tuple[int, ...],
) -> None:
    model = net(6, *hidden, 3)
    with torch.no_grad():
        model[1].weight[:, 0] = -1.0 if hidden else torch.tensor([1.0, 0.5, -1.0])
    before = [parameter.clone() for parameter in model.parameters()]
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    x, y = torch.randn(5, 6), torch.zeros(5, dtype=torch.int64)
    x[2, 0] = float("inf")
    if hidden:
        assert torch.isfinite(model(x)).all()
    assert step.step(x, lambda outputs: y, check_finite=True) is None
    assert all(map(torch.equal, before, model.parameters()))


@pytest.mark.parametrize("hidden", [(4,), (30,)])
def test_a_gradient_that_is_too_large_for_the_hidden_layer_alone_is_seen(hidden: tuple[int, ...]) -> None:
    """Outputs, loss and their gradient are small numbers here."""
    model = net(6, *hidden, 3)
    with torch.no_grad():
        model[1].weight.zero_()
        model[1].bias.fill_(1e-20)
        model[3].weight.zero_()[0] = 1e20
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    assert step.step(torch.ones(5, 6), lambda outputs: CLASSES, check_finite=True) is None


def test_groups_of_one_rate_are_written_out_and_others_are_not() -> None:
    model = net(6, 3)
    weight, bias = model.parameters()
    groups = [{"params": [weight]}, {"params": [bias]}]
    assert write_out(model, F.cross_entropy, plain(groups)) is not None
    assert write_out(model, F.cross_entropy, plain([groups[0], {"params": [bias], "lr": 0.1}])) is None
    ended = [{**groups[0], "lr_ratio": 1.0}, {"params": [bias], "lr_ratio": 0.1}]  # their schedule ended at 0
    assert write_out(model, F.cross_entropy, plain(ended, lr=0.0)) is None


@pytest.mark.parametrize("extra", [{}, {"momentum": 0.9}, {"weight_decay": 0.1}, {"nesterov": True, "momentum": 0.9}])
def test_an_update_is_that_of_the_optimiser(extra: dict[str, Any]) -> None:
    def after(take: Any) -> list[Tensor]:
        model = net(6, 3)
        optimizer = plain(model.parameters(), **extra)
        for _ in range(3):
            optimizer.zero_grad()
            F.cross_entropy(model(torch.ones(5, 6)), CLASSES).backward()
            take(optimizer)
        return [parameter.detach() for parameter in model.parameters()]

    for own, reference in zip(after(take_step), after(lambda optimizer: optimizer.step()), strict=True):
        torch.testing.assert_close(own, reference)


def test_layers_without_a_bias_are_written_out_too() -> None:
    model = nn.Sequential(nn.Linear(6, 4, bias=False), nn.ReLU(), nn.Linear(4, 3, bias=False)).double()
    x = torch.randn(5, 6, dtype=torch.float64)
    mine = parameters_after(model, F.cross_entropy, x, CLASSES, written_out=True)
    torchs = parameters_after(model, F.cross_entropy, x, CLASSES, written_out=False)
    for own, reference in zip(mine, torchs, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-12)
