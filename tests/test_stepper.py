"""A Stepper plans the fastest step there is, and plans a graph only where nothing would be passed by."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from inkproof import schedules
from inkproof.audit import Record
from inkproof.captured import CapturedStep
from inkproof.errors import InputError
from inkproof.hard_examples import HardExamples
from inkproof.heads import Head
from inkproof.images import Split
from inkproof.learner import Learner
from inkproof.objective import Objective
from inkproof.stepper import Stepper

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


def stepper(model: nn.Module) -> Stepper:
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    objective = Objective(Head("classes", 3), F.cross_entropy)
    return Stepper(model, optimizer, objective, "float32", Record("record", ()), captured=CapturedStep(model))


def test_on_a_processor_linear_layers_are_written_out_in_float32_alone() -> None:
    linear = stepper(nn.Linear(4, 3))
    assert linear.plan(CPU).written_out is not None
    assert replace(linear, precision="bfloat16").plan(CPU).written_out is None
    assert stepper(nn.Conv2d(1, 3, 3)).plan(CPU).written_out is None


def test_on_a_gpu_a_graph_is_planned_until_somebody_listens() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 3))
    planned = stepper(model)
    assert planned.plan(CUDA).captured is not None
    assert planned.plan(CUDA).guard is None, "a loss that is not finite was allowed"
    hook = model[1].register_forward_hook(lambda *seen: None)
    assert planned.plan(CUDA).captured is None
    hook.remove()
    assert planned.plan(CUDA).captured is not None
    nn.Module.register_forward_hook(model, lambda *seen: None)
    assert planned.plan(CUDA).captured is None


def test_what_was_not_done_by_this_learner_is_not_gone_on_with(few_digits: Split) -> None:
    def learner(hard_examples: HardExamples | None) -> Learner:
        model = lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 10))  # noqa: E731
        return Learner(model, few_digits.train, hard_examples=hard_examples)

    hard = learner(HardExamples(0.3)).epochs(4, schedules.constant(0.1), done=2)
    with pytest.raises(InputError, match="2 epochs are said to be done, 0 are known: load their state"):
        next(iter(hard))
    plain = learner(None)
    seen = []

    def schedule(step: int, steps: int) -> float:
        seen.append((step, steps))
        return 0.1

    list(plain.epochs(4, schedule, done=3))
    assert seen[0] == (3 * len(plain.training_batches), 4 * len(plain.training_batches))
