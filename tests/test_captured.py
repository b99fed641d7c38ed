"""A captured step replays the same numbers; the recorder here replays in Python what CUDA would replay as a graph."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from inkproof.captured import Capture, CapturedStep, Numbers, can_be_captured
from inkproof.heads import Head, cross_entropy
from inkproof.models import strong
from inkproof.objective import Objective
from inkproof.steps import PLAIN, StepPlan, train_step

torch.manual_seed(0)
BATCHES = [(torch.rand(n, 1, 8, 8), torch.randint(0, 3, (n,))) for n in (6, 6, 4, 6, 6)]

OBJECTIVE = Objective(Head("classes", 3), F.cross_entropy)


def recorder(model: nn.Module) -> Capture:
    """Does in Python what CUDA does as a graph: warms up, then computes anew into the same places."""

    def record(function: Callable[[], Numbers]) -> tuple[Callable[[], None], Numbers]:
        results = tuple(number.clone() for number in function())
        places = [parameter.grad for parameter in model.parameters()]

        def replay() -> None:
            for result, number in zip(results, function(), strict=True):
                result.copy_(number)
            for parameter, place in zip(model.parameters(), places, strict=True):
                assert place is not None
                assert parameter.grad is not None
                place.copy_(parameter.grad)

        return replay, (results[0], results[1])

    return record


def counted(model: nn.Module) -> tuple[Capture, list[int]]:
    """A recorder, and a list that grows by each recording."""
    recorded: list[int] = []

    def capture(function: Callable[[], Numbers]) -> tuple[Callable[[], None], Numbers]:
        recorded.append(1)
        return recorder(model)(function)

    return capture, recorded


def trained(model: nn.Module, make: Callable[[nn.Module], StepPlan]) -> tuple[list[float], list[Tensor]]:
    model = copy.deepcopy(model)
    plan = make(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = [
        train_step(
            model, OBJECTIVE, optimizer, x, y,
            precision="float32", plan=plan,
        )
        for x, y in BATCHES
    ]  # fmt: skip
    return [float(loss) for loss in losses], list(model.state_dict().values())


def test_a_captured_training_equals_the_ordinary_one_also_where_a_batch_is_smaller() -> None:
    model = strong((1, 8, 8), 3, widths=(4, 8))
    losses, weights = trained(model, lambda model: StepPlan(captured=CapturedStep(model, recorder(model))))
    expected_losses, expected = trained(model, lambda _: PLAIN)
    assert losses == expected_losses
    assert all(map(torch.equal, weights, expected)), "running statistics included"


def test_a_model_that_cannot_be_captured_is_trained_as_usual_and_says_so_once() -> None:
    def fails(function: Callable[[], Numbers]) -> tuple[Callable[[], None], Numbers]:
        function()  # the warm-up
        try:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        finally:
            raise RuntimeError("capture was broken off")

    model = strong((1, 8, 8), 3, widths=(4, 8))
    with pytest.warns(UserWarning, match="without a captured graph.*not permitted when stream is capturing$") as told:
        losses, weights = trained(model, lambda model: StepPlan(captured=CapturedStep(model, fails)))
    expected_losses, expected = trained(model, lambda _: PLAIN)
    assert len(told) == 1
    assert losses == expected_losses
    assert all(map(torch.equal, weights, expected)), "running statistics included"


def test_a_step_is_captured_anew_where_other_parameters_are_trained() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    inputs, labels = BATCHES[0]
    capture, recorded = counted(model)
    plan = StepPlan(captured=CapturedStep(model, capture))
    weight = model.get_parameter("1.weight")
    for optimizer in (
        torch.optim.SGD(model.parameters(), lr=0.1),
        torch.optim.SGD(model.parameters(), lr=0.1),
        torch.optim.SGD([weight], lr=0.1),
    ):
        before = weight.detach().clone()
        train_step(model, OBJECTIVE, optimizer, inputs, labels, precision="float32", plan=plan)
        assert not torch.equal(before, weight)
    assert len(recorded) == 2


def test_a_step_is_captured_anew_where_parameters_or_a_batch_lie_elsewhere_or_are_of_another_type() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    inputs, labels = BATCHES[0]
    capture, recorded = counted(model)
    plan, optimizer = StepPlan(captured=CapturedStep(model, capture)), torch.optim.SGD(model.parameters(), lr=0.1)

    def step(inputs: Tensor) -> None:
        train_step(model, OBJECTIVE, optimizer, inputs, labels, precision="float32", plan=plan)

    step(inputs)
    weight = model.get_parameter("1.weight")
    weight.data = weight.data.clone()  # as `model.cpu()` and `model.cuda()` do
    step(inputs)
    assert len(recorded) == 2
    with (
        pytest.warns(UserWarning, match="without a captured graph"),
        pytest.raises(RuntimeError, match="same dtype"),
    ):
        step(inputs.double())  # which a linear layer refuses, and a copy to where float32 lies would not
    assert len(recorded) == 3


def test_each_of_four_shapes_is_captured_once_and_further_ones_are_computed_as_usual() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    capture, recorded = counted(model)
    plan = StepPlan(captured=CapturedStep(model, capture))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for rows in (6, 5, 6, 4, 3, 2, 6, 2):
        before = model.get_parameter("1.weight").detach().clone()
        batch = torch.rand(rows, 1, 8, 8), torch.randint(0, 3, (rows,))
        train_step(model, OBJECTIVE, optimizer, *batch, precision="float32", plan=plan)
        assert not torch.equal(before, model.get_parameter("1.weight"))
    assert len(recorded) == 4


class _Halves(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / 2


def test_only_what_decides_nothing_in_python_is_captured() -> None:
    model = strong((1, 8, 8), 3, widths=(4, 8))
    for loss in (F.cross_entropy, nn.CrossEntropyLoss(), partial(cross_entropy, label_smoothing=0.1)):
        assert can_be_captured(model, loss)
    assert not can_be_captured(model, lambda outputs, labels: F.cross_entropy(outputs, labels) / 2)
    assert not can_be_captured(nn.Sequential(model, _Halves()), F.cross_entropy)
    model[0].register_forward_hook(lambda *seen: None)
    assert not can_be_captured(model, F.cross_entropy)
