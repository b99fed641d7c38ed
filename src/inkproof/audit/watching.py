"""`watch`: the audit in a loop of one's own. It listens to the model and its optimiser and changes neither.

with inkproof.audit.watch(model, optimizer, loss=F.cross_entropy, loader=loader) as watched:
    for x, y in loader:
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()
watched.findings
"""

import math
from collections.abc import Callable, Collection, Iterable
from functools import partial
from types import TracebackType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, SequentialSampler

from inkproof.audit.catalogue import Check, Seen, declare, explain, look
from inkproof.audit.findings import Finding, OnFinding, act_on
from inkproof.audit.ledger import record_steps, weights_hash
from inkproof.audit.reading import Reading
from inkproof.audit.setup import Inspection, Setup
from inkproof.audit.sides import Sides, side_of
from inkproof.audit.training import never_moved, never_stepped, not_finite
from inkproof.heads import choose_head, find_activation
from inkproof.objective import name_of
from inkproof.steps import evaluating

_NOT_CLEARED = declare(
    "gradients-not-cleared",
    code="F1",
    moment="loop",
    severity="warn",
    means="Gradients of the step before are still there when the next ones come: they add up, and steps go astray.",
    detected="At the first backward pass after a step, a parameter's gradient is neither None nor zero.",
    misfires="Momentum that is made this way on purpose. Several backward passes before one step are let be.",
)
_EVALUATION_MODE = declare(
    "trained-in-evaluation-mode",
    code="G6",
    moment="loop",
    severity="warn",
    means="Steps are taken with dropout off and batch normalisation at rest: model.train() is missing.",
    detected="At a step, a dropout or batch normalisation with parameters that train is in evaluation mode.",
    misfires="Statistics that are frozen on purpose.",
)
_TRAINING_MODE = declare(
    "evaluated-in-training-mode",
    code="H1",
    moment="loop",
    severity="warn",
    means="The model is evaluated while dropout is on and batch normalisation learns from what it sees: model.eval() "
    "is missing, and scores are noisy or worse.",
    detected="A forward pass without gradients, in training mode, of a model with dropout or batch normalisation.",
    misfires="Uncertainty by dropout, and statistics that are estimated anew on purpose.",
)
_SCHEDULE = declare(
    "schedule-not-followed",
    code="F7",
    moment="loop",
    severity="warn",
    means="The learning rate did not go the way that its schedule was made for: the scheduler is stepped once an "
    "epoch, and was made for one step a batch.",
    detected="When the loop ends: a scheduler that knows its length (total_steps, T_max, total_iters) and was given to "
    "`watch` was stepped less than a quarter of it while the optimiser took half of it or more, or ran past its end to "
    "four times its length. Without `scheduler`, a OneCycleLR is seen by the rates of the steps.",
    misfires="Warm-up that was left unfinished on purpose; schedulers of unknown length, of which nothing is said.",
)
_MODAL = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._BatchNorm)
_SAMPLE = 128
_PAST_END = 4
_ACCUMULATED = 20  # backward passes without a step: more than is accumulated on purpose


class Watched:
    """A training that is listened to; what `watch` gives.

    Args:
        model: that trains.
        optimizer: that steps.
        loss: takes outputs and targets; None leaves it unlooked at.
        loader: gives (inputs, targets) batches as often as it is asked; None leaves data, model and loss unlooked at.
        valid: what is validated on: a loader, dataset or (inputs, targets); None leaves it unlooked at.
        scheduler: one of torch's, that sets the optimiser's learning rate; None leaves it unlooked at.
        pretrained: the model brings trained weights.
        on_finding: as for `Learner`.
        allow: ids of findings that may pass.

    Attributes:
        findings: what was seen so far.
        steps: how many were taken.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        *,
        loss: Callable[[Tensor, Tensor], Any] | None,
        loader: Iterable[Any] | None,
        valid: object,
        scheduler: Any,
        pretrained: bool,
        on_finding: OnFinding,
        allow: Collection[str],
    ):
        self.findings: list[Finding] = []
        self.steps = 0
        self._passes = 0  # backward passes since the last step
        self._model, self._optimizer = model, optimizer
        self._on_finding, self._allow = on_finding, allow
        self._scheduler = scheduler
        self._rates: list[float] = []  # as they changed, from step to step
        self._begun_with = weights_hash(model)
        self._counted = next((one for one in model.parameters() if one.requires_grad), None)
        self._waiting: set[int] = set()  # parameters whose first gradient since the last step has not come
        self._handles: list[Any] = []
        self._modal = [module for module in model.modules() if isinstance(module, _MODAL)]
        if loader is not None:
            self._look_before(loss, loader, valid, pretrained=pretrained)

    def __enter__(self) -> "Watched":
        self._handles = [
            self._optimizer.register_step_pre_hook(self._before_step),
            self._optimizer.register_step_post_hook(self._after_step),
            self._model.register_forward_pre_hook(self._before_forward),
            *(
                parameter.register_hook(partial(self._on_gradient, parameter))
                for parameter in self._model.parameters()
                if parameter.requires_grad
            ),
        ]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()
        if not self.steps:
            if self._passes > _ACCUMULATED:
                self._act([explain("weights-never-moved").found(never_stepped(self._passes))])
            return
        self._check_schedule()
        record_steps(self._model, self.steps, begun_with=self._begun_with)
        if weights_hash(self._model) == self._begun_with:
            self._act([explain("weights-never-moved").found(never_moved(self.steps))])

    def _look_before(
        self, loss: Callable[[Tensor, Tensor], Any] | None, loader: Iterable[Any], valid: object, *, pretrained: bool
    ) -> None:
        device = next((parameter.device for parameter in self._model.parameters()), torch.device("cpu"))
        with torch.random.fork_rng():
            inputs, labels = next(iter(loader))
            inputs, labels = inputs[:_SAMPLE].to(device), labels[:_SAMPLE].to(device)
            with torch.no_grad(), evaluating(self._model):
                outputs = self._model(inputs)
        in_order = isinstance(loader, DataLoader) and isinstance(loader.sampler, SequentialSampler)
        known = loss if loss is not None else lambda outputs, targets: outputs.sum() * math.nan
        setup = Setup(
            self._model,
            self._optimizer,
            known,
            {},
            choose_head(None, None, outputs),
            find_activation(self._model, outputs, loss),
            pretrained=pretrained,
            targets_as_given=True,
            shuffled=None if in_order else True,
            batch_size=len(inputs),
        )
        train = side_of(loader)
        self._act(look("data", Sides(train, side_of(valid))) + look("reading", Reading(loader, valid, train)))
        self._act(Inspection((train, None), setup, inputs, labels, outputs, name_of(known)).before())

    def _check_schedule(self) -> None:
        group, scheduler = self._optimizer.param_groups[0], self._scheduler
        names = ("total_steps", "T_max", "total_iters")
        length = next((getattr(scheduler, name) for name in names if getattr(scheduler, name, None)), None)
        if length is not None:
            done = scheduler.last_epoch
            astray = (done < length / 4 and self.steps >= max(length / 2, 4 * done)) or done > _PAST_END * length
        else:  # a OneCycleLR leaves its highest rate in the group
            length, done = self.steps, len(self._rates)
            astray = "max_lr" in group and self.steps >= 20 and 4 * done < self.steps
            astray = astray and max(self._rates) < 0.5 * group["max_lr"]
        if astray:
            remedy = "Step it where its length says: a OneCycleLR after each batch, others as they were made for."
            message = f"the scheduler was stepped {done:,} times in {self.steps:,} steps, and was made for {length:,}."
            self._see(_SCHEDULE, message, remedy)

    def _before_forward(self, module: nn.Module, inputs: Any) -> None:
        if self._modal and module.training and not torch.is_grad_enabled():
            remedy = "Call model.eval() before, and model.train() after."
            self._see(_TRAINING_MODE, "the model is evaluated in training mode.", remedy)

    def _on_gradient(self, parameter: nn.Parameter, _: Tensor) -> None:
        if parameter is self._counted:
            self._passes += 1
        first = id(parameter) in self._waiting
        self._waiting.discard(id(parameter))
        if first and parameter.grad is not None and bool(parameter.grad.any()):
            self._see(
                _NOT_CLEARED,
                f"gradients of step {self.steps} are still there when the next ones come.",
                "Call optimizer.zero_grad() before each backward pass.",
            )

    def _before_step(self, *_: object) -> None:
        gradients = [one.grad for one in self._model.parameters() if one.grad is not None]
        if gradients and not all(bool(torch.isfinite(gradient).all()) for gradient in gradients):
            self._act([not_finite("a gradient became NaN or infinite", f"step {self.steps}, before the update")])
        if any(not module.training for module in self._modal) and not self._model.training:
            self._see(_EVALUATION_MODE, "steps are taken in evaluation mode.", "Call model.train() before the loop.")

    def _after_step(self, *_: object) -> None:
        self.steps += 1
        rate = float(self._optimizer.param_groups[0]["lr"])
        if not self._rates or rate != self._rates[-1]:
            self._rates.append(rate)
        self._waiting = {id(parameter) for parameter in self._model.parameters()}

    def _see(self, what: Check, message: str, remedy: str) -> None:
        self._act([what.found(Seen(message, {"steps": self.steps}, remedy))])

    def _act(self, findings: list[Finding]) -> None:
        known = {finding.id for finding in self.findings}
        new = [finding for finding in findings if finding.id not in known]
        self.findings += new
        act_on(new, on_finding=self._on_finding, allow=self._allow)


def watch(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Tensor, Tensor], Any] | None = None,
    loader: Iterable[Any] | None = None,
    *,
    valid: object = None,
    scheduler: Any = None,
    pretrained: bool = False,
    on_finding: OnFinding = "warn",
    allow: Collection[str] = (),
) -> Watched:
    """Watch a loop of one's own: a context manager around it. The arguments are those of `Watched`.

    Example:
        >>> import torch
        >>> model = torch.nn.Linear(20, 2)
        >>> optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        >>> with watch(model, optimizer, on_finding="record") as watched:
        ...     for _ in range(2):
        ...         model(torch.ones(4, 20)).square().mean().backward()
        ...         optimizer.step()
        >>> [finding.id for finding in watched.findings]
        ['gradients-not-cleared']
    """
    return Watched(
        model,
        optimizer,
        loss=loss,
        loader=loader,
        valid=valid,
        scheduler=scheduler,
        pretrained=pretrained,
        on_finding=on_finding,
        allow=allow,
    )
