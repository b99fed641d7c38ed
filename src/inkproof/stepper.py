"""The steps of one training: the fastest way there is for its model and device, and an end where numbers break."""

import copy
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import chain, repeat

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkproof.audit import Record
from inkproof.batches import BatchSource, trial_batches
from inkproof.captured import CapturedStep, can_be_captured
from inkproof.errors import NotFinite
from inkproof.finite import DeviceGuard
from inkproof.hard_examples import Difficulties
from inkproof.objective import Objective
from inkproof.optimizers import set_step_values
from inkproof.runtime import Precision
from inkproof.steps import PLAIN, StepPlan, train_step
from inkproof.written_out import ConvolutionalStep, LinearStep, NormalisedNet, normalised_net, write_out


@dataclass(frozen=True)
class Stepper:
    """Takes steps of a training.

    Args:
        model: in training mode, on its device.
        optimizer: over its parameters.
        objective: what is minimised.
        precision: of the model's computation.
        record: what is done about a loss or gradient that is not finite.
        difficulties: told how sure the model was of each image, where hard examples are wanted.
        captured: the step as a graph, for GPUs.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    objective: Objective
    precision: Precision
    record: Record
    difficulties: Difficulties | None = None
    captured: CapturedStep | None = None

    @property
    def written_out(self) -> LinearStep | ConvolutionalStep | None:
        """The step without autograd, where model, loss, optimiser and precision have one; its outputs are not seen."""
        if self.difficulties is not None:
            return None
        return write_out(self.model, self.objective.loss, self.optimizer, self.precision)

    @property
    def gradients(self) -> NormalisedNet | None:
        """What computes loss and gradients without autograd, where model, loss and precision let it."""
        return normalised_net(self.model, self.objective.loss) if self.precision == "float32" else None

    def plan(self, device: torch.device) -> StepPlan:
        """How the steps of an epoch are computed on this device."""
        watch = None if self.difficulties is None else self._learn_difficulties
        if device.type != "cuda":
            return StepPlan(written_out=self.written_out, gradients=self.gradients, watch=watch)
        guard = DeviceGuard(device) if self.record.stops_on_not_finite else None
        captured = self.captured if can_be_captured(self.model, self.objective.loss) else None
        return StepPlan(guard=guard, captured=captured, watch=watch)

    def quickest(
        self, batches: BatchSource, device: torch.device, losses: list[Tensor], *, again: bool
    ) -> AbstractContextManager[tuple[StepPlan, Iterable[tuple[Tensor, Tensor]]]]:
        """The plan of an epoch with its batches, as `StepPlan.quickest` has it.

        Args:
            batches: of the epoch.
            device: of the model.
            losses: where those of the steps will be.
            again: the pass can be taken again: numbers that would stop the training may be looked at when it ends.
        """
        together = again and self.record.stops_on_not_finite
        return self.plan(device).quickest(batches, self.objective, again=again, losses=losses if together else None)

    def step(self, inputs: Tensor, labels: Tensor, number: int, plan: StepPlan = PLAIN) -> Float[Tensor, ""]:
        """Take a step; returns the loss before the update.

        Args:
            inputs, labels: of a batch.
            number: of the step, for messages.
            plan: of this epoch.

        Raises:
            NotFinite: the loss or a gradient is, and nobody allowed it.
        """
        try:
            return train_step(
                self.model,
                self.objective,
                self.optimizer,
                inputs,
                labels,
                precision=self.precision,
                check_finite=self.record.stops_on_not_finite and not plan.looks_together,
                plan=plan,
            )
        except NotFinite as error:
            raise self.record.not_finite(str(error), f"step {number}, before the update") from None

    def mock_training(self, batches: BatchSource) -> Callable[[float], float]:
        """Steps on copies of model and optimiser, over the batches again and again.

        Returns:
            Takes a step at a learning rate; returns the loss before its update.
        """
        model, optimizer = copy.deepcopy((self.model, self.optimizer))
        model.train()
        mock = replace(self, model=model, optimizer=optimizer)
        given = chain.from_iterable(repeat(trial_batches(batches)))

        def step(lr: float) -> float:
            set_step_values(optimizer, lr)
            return float(mock.step(*next(given), 0))

        return step

    @torch.no_grad()
    def _learn_difficulties(self, outputs: Tensor, labels: Tensor) -> None:
        """Remember how sure the model was of the batch that was given last."""
        assert self.difficulties is not None, "watched only where they are kept"
        probabilities = self.objective.head.probabilities(outputs, self.objective.activation)
        self.difficulties.learn(probabilities.gather(1, labels.unsqueeze(1)).squeeze(1))
