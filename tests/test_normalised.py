"""Loss and gradients of blocks with batch normalisation equal autograd's, and are taken only where they are sure to."""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from inkproof import heads, models
from inkproof.errors import NotFinite
from inkproof.objective import Objective
from inkproof.steps import StepPlan, train_step
from inkproof.written_out import NormalisedNet, normalised_net
from inkproof.written_out.winograd import transforms

smoothed = partial(heads.cross_entropy, label_smoothing=0.1)


@pytest.fixture(autouse=True, params=["AVX2", "DEFAULT"])
def with_and_without_winograds_way(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, two_threads: None
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: request.param)


def uneven() -> nn.Sequential:
    """For images of 2×9×11: pools that leave a row out, a padding of two, an activation each."""
    return nn.Sequential(
        nn.Conv2d(2, 4, (3, 2), stride=(1, 2), padding=(2, 0), bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(4, momentum=0.3, eps=1e-3),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3, padding=1, bias=False),
        nn.BatchNorm2d(5),
        nn.SiLU(),
        nn.Conv2d(5, 3, (5, 2)),
        nn.Flatten(),
    )


MODELS: list[tuple[Callable[[], nn.Sequential], tuple[int, ...]]] = [
    (uneven, (2, 9, 11)),
    (lambda: models.strong((1, 28, 28), 3, widths=(4, 6, 5, 7), activation="silu"), (1, 28, 28)),
    (lambda: models.strong((1, 28, 28), 3, widths=(4, 6, 5, 7), stem="pool", pools="late"), (1, 28, 28)),
    (lambda: models.strong((1, 8, 8), 3, widths=(4, 6, 5, 7), activation="silu"), (1, 8, 8)),
    (lambda: models.strong((3, 11, 11), 3, widths=(4, 6, 5)), (3, 11, 11)),
]


def net_of(model: nn.Module) -> NormalisedNet:
    net = normalised_net(model, smoothed)
    assert net is not None
    return net


def differentiate(net: NormalisedNet, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor] | None:
    return net.differentiate(x, lambda _: y, lambda outputs: smoothed(outputs, y))


def fix(model: nn.Sequential, blocks: int, *, statistics: bool) -> None:
    """Let the first blocks learn no more, and perhaps keep their statistics."""
    for layer in [*model[: [at for at, each in enumerate(model) if isinstance(each, nn.Conv2d)][blocks]]]:
        layer.requires_grad_(False)
        layer.train(not statistics)


def after_three_steps(model: nn.Module, x: Tensor, y: Tensor, *, written_out: bool) -> dict[str, Tensor]:
    model = copy.deepcopy(model)
    optimizer = torch.optim.SGD(
        [each for each in model.parameters() if each.requires_grad],
        lr=0.1,
        momentum=0.9,
        nesterov=True,
        weight_decay=0.01,
        fused=True,
    )
    seen: list[Tensor] = []
    plan = StepPlan(
        gradients=net_of(model) if written_out else None, watch=lambda outputs, labels: seen.append(outputs.clone())
    )
    objective = Objective(heads.Head("classes", 3), smoothed)
    losses = [train_step(model, objective, optimizer, x, y, precision="float32", plan=plan) for _ in range(3)]
    assert all(each.grad is None or each.grad.stride() == each.stride() for each in model.parameters())
    return {**copy.deepcopy(model.state_dict()), "losses": torch.stack(losses), "outputs": torch.stack(seen)}


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("rows", [2, 5, 32])
@pytest.mark.parametrize(("make", "shape"), MODELS)
def test_three_steps_equal_those_of_autograd(
    make: Callable[[], nn.Sequential], shape: tuple[int, ...], rows: int, memory_format: torch.memory_format
) -> None:
    torch.manual_seed(0)
    model = make().double().to(memory_format=memory_format)
    x, y = torch.randn(rows, *shape, dtype=torch.float64), torch.randint(3, (rows,))
    mine, torchs = (after_three_steps(model, x, y, written_out=own) for own in (True, False))
    for name, reference in torchs.items():
        torch.testing.assert_close(
            mine[name], reference, rtol=1e-7, atol=1e-10, msg=lambda text, of=name: f"{of}: {text}"
        )


@pytest.mark.parametrize("statistics", [True, False])
@pytest.mark.parametrize("blocks", [1, 2])
@pytest.mark.parametrize(("make", "shape"), MODELS)
def test_blocks_that_are_not_trained_stay_as_they_are(
    make: Callable[[], nn.Sequential], shape: tuple[int, ...], blocks: int, statistics: bool
) -> None:
    torch.manual_seed(0)
    model = make().double()
    x, y = torch.randn(6, *shape, dtype=torch.float64), torch.randint(3, (6,))
    model(x)  # statistics to keep
    fix(model, blocks, statistics=statistics)
    mine, torchs = (after_three_steps(model, x, y, written_out=own) for own in (True, False))
    for name, reference in torchs.items():
        torch.testing.assert_close(
            mine[name], reference, rtol=1e-7, atol=1e-10, msg=lambda text, of=name: f"{of}: {text}"
        )


def test_a_block_may_cease_to_learn_between_two_batches() -> None:
    torch.manual_seed(0)
    make, shape = MODELS[1]
    model, x, y = make(), torch.rand(4, *shape), torch.tensor([0, 1, 2, 0])
    net = net_of(model)
    assert differentiate(net, x, y) is not None
    fix(model, 1, statistics=True)
    assert differentiate(net, x, y) is not None
    assert [each.grad is None for each in model.parameters()] == [True] * 3 + [False] * 11


@given(outputs=st.integers(2, 5), padding=st.integers(0, 2), seed=st.integers(0, 99))
def test_winograds_way_leads_where_a_convolution_does(outputs: int, padding: int, seed: int) -> None:
    torch.manual_seed(seed)
    side = max(1, outputs + 2 - 2 * padding)
    image, kernel = torch.randn(side, side, dtype=torch.float64), torch.randn(3, 3, dtype=torch.float64)
    wanted = F.conv2d(image[None, None], kernel[None, None], padding=padding).flatten()
    there = transforms(side, padding, torch.float64)
    got = there.back @ ((there.of_images @ image.flatten()) * (there.of_kernels @ kernel.flatten()))
    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-12)


def test_in_float32_gradients_are_about_as_exact_as_autograds() -> None:
    torch.manual_seed(0)
    model = models.strong((1, 28, 28), 10, activation="silu")
    x, y = torch.rand(32, 1, 28, 28), torch.randint(10, (32,))

    def gradients(dtype: torch.dtype, *, written_out: bool) -> Tensor:
        each = copy.deepcopy(model).to(dtype)
        if written_out:
            assert differentiate(net_of(each), x.to(dtype), y) is not None
        else:
            smoothed(each(x.to(dtype)), y).backward()
        numbers = [parameter.grad for parameter in each.parameters() if parameter.grad is not None]
        return torch.cat([(number / number.norm()).flatten() for number in numbers]).double()

    exact = gradients(torch.float64, written_out=False)
    errors = [(gradients(torch.float32, written_out=own) - exact).norm() for own in (True, False)]
    assert errors[0] < 5 * errors[1] < 1e-3


def changed(change: Callable[[nn.Sequential], object]) -> nn.Sequential:
    model = MODELS[1][0]()
    change(model)
    return model


@pytest.mark.parametrize(
    "model",
    [
        nn.Linear(4, 3),
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.Flatten()),
        changed(lambda model: model.insert(3, nn.Dropout(0.1))),
        changed(lambda model: model.__setitem__(0, nn.Conv2d(1, 4, 5, stride=2))),
        changed(lambda model: model.__setitem__(3, nn.Conv2d(4, 6, 3, bias=False, groups=2))),
        changed(lambda model: model.__setitem__(3, nn.Conv2d(4, 6, 3, bias=False, padding="same"))),
        changed(lambda model: model.__setitem__(4, nn.MaxPool2d(3, 2))),
        changed(lambda model: model.__setitem__(1, nn.BatchNorm2d(5))),
        changed(lambda model: model.__setitem__(13, nn.Conv2d(6, 3, 3))),
        changed(lambda model: model.__setitem__(1, nn.BatchNorm2d(4, momentum=None))),
        changed(lambda model: model.__setitem__(1, nn.BatchNorm2d(4, affine=False))),
        changed(lambda model: model.__setitem__(1, nn.BatchNorm2d(4, track_running_stats=False))),
        changed(lambda model: setattr(model[1], "track_running_stats", False)),
        changed(lambda model: model.__setitem__(13, nn.Conv2d(7, 3, 3, bias=False))),
        changed(lambda model: model.__setitem__(14, nn.Flatten(0))),
        changed(lambda model: model.half()),
        changed(lambda model: model[3].weight.requires_grad_(False)),
        changed(lambda model: model[5].bias.requires_grad_(False)),
        changed(lambda model: model.requires_grad_(False)),
        changed(lambda model: model[3].register_forward_hook(lambda *seen: None)),
        changed(lambda model: model[0].weight.register_hook(lambda gradient: None)),
        changed(lambda model: setattr(model[1], "weight", model[0].weight)),
    ],
)
def test_other_models_are_autograds(model: nn.Module) -> None:
    assert normalised_net(model, smoothed) is None


def test_a_loss_of_a_users_own_is_autograds() -> None:
    assert normalised_net(MODELS[1][0](), lambda outputs, targets: outputs.mean()) is None


@pytest.mark.parametrize(
    "x",
    [
        torch.rand(1, 1, 28, 28),
        torch.rand(4, 2, 28, 28),
        torch.rand(4, 1, 32, 32),
        torch.rand(4, 1, 4, 4),
        torch.rand(4, 28, 28),
        torch.rand(4, 1, 28, 28).double(),
        torch.rand(4, 1, 28, 28).requires_grad_(),
    ],
)
def test_batches_of_another_form_are_autograds_to_judge(x: Tensor) -> None:
    model = MODELS[1][0]()
    before = copy.deepcopy(model.state_dict())
    assert differentiate(net_of(model), x, torch.zeros(len(x), dtype=torch.int64)) is None
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_rows_to_leave_out_are_left_out_and_statistics_move_once() -> None:
    torch.manual_seed(0)
    model, x, y = MODELS[1][0]().double(), torch.rand(4, 1, 28, 28).double(), torch.tensor([0, -100, 2, 1])
    mine, torchs = (after_three_steps(model, x, y, written_out=own) for own in (True, False))
    for name, reference in torchs.items():
        torch.testing.assert_close(mine[name], reference, rtol=1e-7, atol=1e-10)


def test_targets_that_do_not_pair_are_refused_as_by_autograd() -> None:
    model, x, y = MODELS[1][0](), torch.rand(4, 1, 28, 28), torch.zeros(3).long()
    loss = nn.CrossEntropyLoss()
    objective = Objective(heads.Head("classes", 3), loss, targets_as_given=True)
    plan, optimizer = StepPlan(gradients=normalised_net(model, loss)), torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(ValueError, match=r"batch_size \(4\) to match target batch_size \(3\)"):
        train_step(model, objective, optimizer, x, y, precision="float32", plan=plan)


def test_a_gradient_that_is_not_finite_is_named_before_the_update() -> None:
    model, y = MODELS[1][0](), torch.tensor([0, 1])
    x = torch.full((2, 1, 28, 28), 1e38)
    weights = copy.deepcopy(list(model.parameters()))
    objective, plan = Objective(heads.Head("classes", 3), smoothed), StepPlan(gradients=net_of(model))
    with pytest.raises(NotFinite, match=r"the loss became nan|gradient of 0\.weight has NaN"):
        train_step(model, objective, torch.optim.SGD(model.parameters(), lr=0.1), x, y, precision="float32", plan=plan)
    assert all(torch.equal(a, b) for a, b in zip(weights, model.parameters(), strict=True))
