"""The quickest form of a step, for one epoch: which layers have one, what it keeps, and what it gives back."""

import contextlib
import copy

import pytest
import torch
import torch.nn.functional as F
from test_written_out import CLASSES, net, plain, sharing_weights, without_bias
from torch import nn

from inkproof import heads
from inkproof.objective import Objective
from inkproof.steps import StepPlan, train_step
from inkproof.written_out import ConvolutionalStep, LinearStep, OneHiddenStep, OneLayerStep, quickest, write_out


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        (net(600, 3), OneLayerStep),
        (net(600, 17), LinearStep),  # many outputs
        (net(6, 3), LinearStep),  # few inputs
        (without_bias(net(600, 3)), LinearStep),
        (net(6, 30, 3), OneHiddenStep),
        (net(6, 64, 64), OneHiddenStep),
        (net(6, 64, 65), LinearStep),
        (net(6, 80, 3), LinearStep),  # not narrow
        (net(6, 10, 3), LinearStep),  # six of sixteen would be computed for nothing
        (without_bias(net(6, 30, 3)), LinearStep),
        (net(6, 30, 30, 3), LinearStep),
        (sharing_weights(net(30, 30, 30)), LinearStep),
    ],
)
def test_one_layer_and_one_narrow_hidden_layer_have_steps_of_their_own(model: nn.Module, kind: type) -> None:
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    with quickest(step) as now:
        assert type(now) is kind


@pytest.mark.parametrize("leave", [None, KeyboardInterrupt])
def test_what_was_learnt_on_a_copy_is_written_back_however_the_epoch_ends(leave: type[BaseException] | None) -> None:
    model, x = net(6, 30, 3), torch.randn(5, 6)
    reference, parameters = copy.deepcopy(model), list(model.parameters())
    step = write_out(model, F.cross_entropy, plain(parameters))
    plain_step = write_out(reference, F.cross_entropy, plain(reference.parameters()))
    assert isinstance(step, LinearStep)
    assert plain_step is not None
    with contextlib.suppress(KeyboardInterrupt), quickest(step) as now:
        for _ in range(2):
            assert now.step(x, lambda outputs: CLASSES, check_finite=True) is not None
            assert plain_step.step(x, lambda outputs: CLASSES, check_finite=True) is not None
        if leave is not None:
            raise leave
    for own, wanted in zip(parameters, reference.parameters(), strict=True):
        torch.testing.assert_close(own, wanted)


@pytest.mark.usefixtures("two_threads")
def test_batches_of_a_size_share_memory_and_no_numbers() -> None:
    """Batches of several sizes in turn, some in the memory of the one before, some laid out so that rows are copies."""
    model = net(784, 30, 3).double()
    reference = copy.deepcopy(model)
    step, same = (write_out(each, F.cross_entropy, plain(each.parameters())) for each in (model, reference))
    assert isinstance(step, LinearStep)
    assert same is not None
    first, second = (torch.randn(128, 1, 28, 28).double() for _ in range(2))
    by_columns = torch.randn(128, 2, 14, 28).double().to(memory_format=torch.channels_last)
    with quickest(step) as now:
        for inputs in (first, second, first[:5], first[:64], second[:3], first[:2], first[:1], first, by_columns):
            for threads in (2, 1):
                torch.set_num_threads(threads)
                y = torch.arange(len(inputs)) % 3
                losses = [each.step(inputs, lambda _, y=y: y, check_finite=True) for each in (now, same)]
                torch.testing.assert_close(*losses)
                inputs.mul_(-0.5).add_(0.1)
    for own, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, wanted)


def test_a_graph_over_weights_that_were_learnt_on_a_copy_is_refused_by_autograd() -> None:
    """Torch's own error for gradients of weights that are no longer those of the forward pass."""
    model, x = net(6, 30, 3), torch.randn(5, 6)
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    loss = F.cross_entropy(model(x), CLASSES)
    with quickest(step) as now:
        now.step(x, lambda outputs: CLASSES, check_finite=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("start", "kind"),
    [
        (net(36, 30, 3), OneHiddenStep),
        (nn.Sequential(nn.Conv2d(1, 3, 2, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(27, 3)), ConvolutionalStep),
    ],
)
def test_what_autograd_must_judge_is_judged_with_what_was_learnt_on_a_copy(
    start: nn.Sequential, kind: type, fused: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A label to leave out is not the written-out step's; its neighbours go on from what autograd made of it."""
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    torch.manual_seed(1)
    x, left_out = torch.randn(5, 1, 6, 6, dtype=torch.float64), torch.tensor([0, -100, 1, 2, 0])
    objective, found = Objective(heads.Head("classes", 3), F.cross_entropy), []
    for written_out in (True, False):
        model = copy.deepcopy(start).double()
        optimizer = plain(model.parameters(), fused=fused)
        step = write_out(model, F.cross_entropy, optimizer)
        assert isinstance(step, LinearStep | ConvolutionalStep)
        with quickest(step) as now:
            assert type(now) is kind
            plan = StepPlan(written_out=now if written_out else None)
            for y in (CLASSES, left_out, CLASSES):
                train_step(model, objective, optimizer, x, y, precision="float32", plan=plan)
        found.append([parameter.detach() for parameter in model.parameters()])
    for own, reference in zip(*found, strict=True):
        torch.testing.assert_close(own, reference, rtol=1e-9, atol=1e-12)
