"""Linear layers on a copy of their weights, inputs shared out among threads: what is learnt is what it was."""

import contextlib
import copy
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_written_out import CASES, CLASSES, net, plain, sharing_weights, without_bias
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from inkproof import ImageSet, Learner, heads, steps
from inkproof.batches import BYTE, Batches
from inkproof.objective import Objective
from inkproof.written_out import LinearStep, SharedOut, StepOnCopy, can_be_copied, on_copy, parts_of, write_out

CPU = torch.device("cpu")


def shared_out(step: LinearStep, parts: int) -> contextlib.AbstractContextManager[StepOnCopy]:
    return on_copy(step, SharedOut(step, parts, unit=1.0))


def images(count: int = 50) -> ImageSet:
    random = np.random.default_rng(0)
    return ImageSet(random.integers(0, 256, (count, 1, 12, 12)).astype(np.uint8), np.arange(count) % 3)


def in_one_memory(model: nn.Sequential) -> nn.Sequential:
    """The net, its weights slices of one tensor that begin elsewhere."""
    memory = torch.randn(144 * 100)
    model[1].weight = nn.Parameter(memory[: 144 * 80].view(80, 144))
    model[3].weight = nn.Parameter(memory[80 : 80 + 240].view(3, 80))
    return model


# -- batches -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parts", [1, 2, 3])
def test_inputs_lie_part_by_part(parts: int) -> None:
    passes = Batches(images(), batch_size=8, device=CPU)
    for (wanted, labels), (inputs, same) in zip(passes, passes.in_bytes(parts=parts), strict=True):
        assert torch.equal(labels, same)
        torch.testing.assert_close(inputs.flatten(1) * BYTE, wanted.flatten(1))
        if parts > 1:
            assert inputs.shape[1:] == (parts, 144 // parts)
            assert all(part.is_contiguous() for part in inputs.unbind(1))
        else:
            assert inputs.shape == wanted.shape


def test_labels_become_targets_of_the_same_images() -> None:
    passes = Batches(images(), batch_size=8, device=CPU, shuffle=torch.Generator().manual_seed(0))
    given = passes.with_targets(lambda labels: labels.float()[:, None])
    labels = torch.cat([labels for _, labels in passes])
    assert passes.shuffle is not None
    passes.shuffle.manual_seed(0)
    targets = torch.cat([targets for _, targets in given])
    assert torch.equal(targets, labels.float()[:, None])


# -- the step ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "can"),
    [
        (net(144, 80, 3), True),
        (net(144, 80), True),
        (net(144, 80, 3)[1:], True),
        (net(144, 80, 3).double(), False),
        (without_bias(net(144, 80, 3)), False),
        (sharing_weights(net(144, 144, 144)), False),
        (in_one_memory(net(144, 80, 3)), False),
    ],
)
def test_which_nets_learn_on_a_copy(model: nn.Module, can: bool) -> None:
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    assert can_be_copied(step) == can


@pytest.mark.usefixtures("two_threads")
def test_each_thread_has_a_part_where_columns_are_many_and_divide() -> None:
    assert [parts_of(width, CPU) for width in (784, 640, 256, 255, 254, 785)] == [2, 2, 2, 1, 1, 1]
    assert parts_of(784, torch.device("cuda")) == 1
    for threads, parts in ((1, 1), (3, 1), (4, 4), (7, 1), (16, 1)):
        torch.set_num_threads(threads)
        assert parts_of(784, CPU) == parts


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("lie_in_parts", [True, False])
@pytest.mark.parametrize("hidden", [(), (7,), (7, 4)])
@pytest.mark.parametrize(("loss", "outputs", "targets"), CASES)
def test_three_steps_equal_those_of_the_plain_step(
    loss: Any, outputs: int, targets: Tensor, hidden: tuple[int, ...], lie_in_parts: bool, parts: int
) -> None:
    torch.manual_seed(1)
    model = net(6, *hidden, outputs).double()
    reference = copy.deepcopy(model)
    y = targets.double() if targets.is_floating_point() else targets
    step, same = (write_out(each, loss, plain(each.parameters())) for each in (model, reference))
    assert isinstance(step, LinearStep)
    assert same is not None
    with shared_out(step, parts) as now:
        for lr in (0.3, 0.2, 0.4):
            step.optimizer.param_groups[0]["lr"] = same.optimizer.param_groups[0]["lr"] = lr
            x = torch.randn(5, parts, 6 // parts).double() if lie_in_parts else torch.randn(5, 1, 2, 3).double()
            own = now.step(x, lambda _: y, check_finite=False)
            torch.testing.assert_close(own, same.step(x, lambda _: y, check_finite=False))
    for own, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("leave", [None, KeyboardInterrupt])
def test_what_was_learnt_is_written_back_however_the_pass_ends(leave: type[BaseException] | None) -> None:
    model, x = net(6, 30, 3), torch.randn(5, 6)
    reference, parameters = copy.deepcopy(model), list(model.parameters())
    step = write_out(model, F.cross_entropy, plain(parameters))
    same = write_out(reference, F.cross_entropy, plain(reference.parameters()))
    assert isinstance(step, LinearStep)
    assert same is not None
    with contextlib.suppress(KeyboardInterrupt), shared_out(step, 2) as now:
        for _ in range(2):
            assert now.step(x, lambda _: CLASSES, check_finite=False) is not None
            assert same.step(x, lambda _: CLASSES, check_finite=False) is not None
        if leave is not None:
            raise leave
    for own, wanted in zip(parameters, reference.parameters(), strict=True):
        torch.testing.assert_close(own, wanted)


def test_batches_of_a_size_share_memory_and_no_numbers() -> None:
    """Batches of several sizes in turn, some in the memory of the one before, some laid out in another order."""
    model = net(784, 30, 3).double()
    reference = copy.deepcopy(model)
    step, same = (write_out(each, F.cross_entropy, plain(each.parameters())) for each in (model, reference))
    assert isinstance(step, LinearStep)
    assert same is not None
    first, second = (torch.randn(128, 1, 28, 28).double() for _ in range(2))
    by_columns = torch.randn(128, 2, 14, 28).double().to(memory_format=torch.channels_last)
    in_parts = torch.randn(2, 128, 392).double().transpose(0, 1)
    with shared_out(step, 2) as now:
        for inputs in (first, second, first[:5], second[:3], in_parts, first[:1], in_parts, first, by_columns):
            y = torch.arange(len(inputs)) % 3
            losses = [each.step(inputs, lambda _, y=y: y, check_finite=False) for each in (now, same)]
            torch.testing.assert_close(*losses)
            inputs.mul_(-0.5).add_(0.1)
    for own, wanted in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(own, wanted)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("flattens", [True, False])
def test_inputs_and_targets_that_do_not_fit_are_left_to_torch(flattens: bool, parts: int) -> None:
    whole = net(6, 30, 3)
    model = whole if flattens else whole[1:]
    before = [parameter.clone() for parameter in model.parameters()]
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    odd = [
        torch.randn(0, 6),
        torch.randn(5, 8),
        torch.randn(5, 6).to_sparse(),
        torch.randn(6),
        torch.randn(5, 6).double(),
    ]
    if not flattens:
        odd.append(torch.randn(5, 4, 6))  # a linear layer over the last of three dimensions
    with shared_out(step, parts) as now:
        for x in odd:
            assert now.step(x, lambda outputs: CLASSES[: len(outputs)], check_finite=False) is None
        assert now.step(torch.randn(5, 6), lambda _: CLASSES + 3, check_finite=False) is None
    assert all(map(torch.equal, before, model.parameters()))


def test_a_graph_over_weights_that_were_learnt_on_a_copy_is_refused_by_autograd() -> None:
    """Torch's own error for gradients of weights that are no longer those of the forward pass."""
    model, x = net(6, 30, 3), torch.randn(5, 6)
    step = write_out(model, F.cross_entropy, plain(model.parameters()))
    assert isinstance(step, LinearStep)
    loss = F.cross_entropy(model(x), CLASSES)
    with torch.inference_mode(), shared_out(step, 1) as now:
        now.step(x, lambda _: CLASSES, check_finite=False)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("kind", ["classes", "binary"])
def test_targets_of_a_whole_side_are_those_of_its_batches(kind: Any) -> None:
    objective = Objective(heads.Head(kind, 2), heads.cross_entropy)
    labels = torch.tensor([0, 1, 1])
    outputs = torch.rand(3, objective.head.outputs, dtype=torch.float64)
    whole = objective.all_targets(labels, torch.float64)
    assert torch.equal(whole, objective.targets(labels, outputs))
    assert objective.targets(whole, outputs) is whole


# -- a training --------------------------------------------------------------------------------------------------------


def framed(count: int = 150) -> ImageSet:
    """Images of 20×20 of three classes that tell by their brightness."""
    random = np.random.default_rng(0)
    labels = np.arange(count) % 3
    pixels = random.integers(0, 60, (count, 1, 20, 20)) + 60 * labels[:, None, None, None]
    return ImageSet(pixels.astype(np.uint8), labels)


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("on_finding", ["refuse", "record"])
@pytest.mark.parametrize("given", ["images", "tensors"])
@pytest.mark.parametrize("widths", [(400, 3), (400, 30, 3), (400, 80, 20, 3)])
def test_a_training_shared_out_among_threads_is_that_of_the_plain_step(
    widths: tuple[int, ...], given: str, on_finding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches that lie in parts, and others; the last one smaller."""
    images, parts = framed(), []
    init = SharedOut.__init__

    def noted(self: SharedOut, plain: LinearStep, in_parts: int, *, unit: float) -> None:
        parts.append(in_parts)
        init(self, plain, in_parts, unit=unit)

    monkeypatch.setattr(SharedOut, "__init__", noted)
    assert images.labels is not None
    pairs = TensorDataset(torch.from_numpy(images.pixels / np.float32(255)), torch.from_numpy(images.labels.copy()))
    found = []
    for shares in (True, False):
        if not shares:
            monkeypatch.setattr(steps, "can_be_copied", lambda step: False)
        learner = Learner(
            lambda: net(*widths),
            images if given == "images" else pairs,
            optimizer=torch.optim.SGD,
            batch_size=40,
            on_finding=on_finding,
        )
        learner.fit(2, lr=0.1, verbose=False)
        found.append((learner.model.state_dict(), [row.train_loss for row in learner.history]))
    assert parts == [2 if given == "images" else 1] * 2
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)
