"""What is looked at before the first step: loss, metrics, model and optimiser, on a few rows."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from inkproof.audit.catalogue import look
from inkproof.audit.findings import Finding
from inkproof.audit.functions import PROBE_ROWS, Functions, ideal_outputs, value_of
from inkproof.audit.ledger import weights_fingerprint
from inkproof.audit.model import Trainee
from inkproof.audit.sides import Side
from inkproof.audit.training import Outcome
from inkproof.heads import Activation, Head
from inkproof.models import MeanImage


@dataclass(frozen=True)
class Setup:
    """What is trained, and how.

    Args:
        model: as it is before its first step.
        optimizer: None where there is nothing to train.
        loss: takes outputs and targets.
        metrics: by name.
        head: what the outputs mean.
        activation: what the model does to its outputs itself.
        pretrained: the user says that the model brings trained weights.
        shuffled: the training rows get a new order every epoch; None where nothing was said and they do not.
        batch_size: rows a step.
        targets_as_given: loss and metrics get the targets of the data as they are; otherwise in the form of the head.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer | None
    loss: Callable[[Tensor, Tensor], Any]
    metrics: dict[str, Callable[[Tensor, Tensor], Any]]
    head: Head
    activation: Activation
    pretrained: bool
    targets_as_given: bool
    shuffled: bool | None
    batch_size: int


class Inspection:
    """Looks at a setup before its first step and after its last, on the same few rows.

    Args:
        setup: what is to be trained.
        inputs: of a few training rows.
        labels: of these rows.
        outputs: of the model for them, before the first step.
        loss_name: as the user calls it.
    """

    def __init__(
        self,
        setup: Setup,
        inputs: Shaped[Tensor, "n ..."],
        labels: Shaped[Tensor, "n ..."],
        outputs: Float[Tensor, "n ..."],
        loss_name: str,
    ):
        self.inputs = inputs
        self._setup = setup
        self._labels = labels
        self._outputs = outputs
        self._loss_name = loss_name
        self.begun_with = weights_fingerprint(setup.model)
        self._first_loss = self._loss_of(outputs)

    def before(self, side: Side | None) -> list[Finding]:
        """All checks of functions, model and optimiser.

        Args:
            side: the whole training side, where its rows are known.
        """
        setup = self._setup
        if setup.targets_as_given:  # only the real shapes tell what such functions meet
            rows = torch.linspace(0, len(self._outputs) - 1, min(PROBE_ROWS, len(self._outputs))).long()
            probe = self._outputs[rows], self._labels[rows]
        else:
            probe = ideal_outputs(setup.head, flat=self._outputs.ndim == 1)
        found = look("functions", Functions(setup.loss, self._loss_name, setup.metrics, *probe, setup.activation))
        if isinstance(setup.model, MeanImage):
            return found
        known = None if side is None else side.labels
        declared = len(side.classes or ()) if side is not None else 0
        trainee = Trainee(
            setup.model,
            setup.optimizer,
            self.inputs,
            self._class_indices,
            self._outputs,
            setup.activation,
            kinds=0 if known is None else max(len(set(known.tolist())), declared),
            whole_numbers=self._class_indices is not None,
            decoded=setup.head.name == "value",
            pretrained=setup.pretrained,
            shuffled=setup.shuffled,
            in_order=known,
            batch_size=setup.batch_size,
        )
        return found + look("model", trainee)

    def after(self, outputs: Float[Tensor, "n ..."], predicted: Int64[Tensor, " n"], steps: int) -> list[Finding]:
        """All checks of what a training came to.

        Args:
            outputs: of the model for the same rows, after the last step.
            predicted: the class that it says of each.
            steps: that were taken.
        """
        known = self._class_indices is not None
        outcome = Outcome(
            self._setup.model,
            self.begun_with,
            self._first_loss,
            self._loss_of(outputs),
            steps,
            self.inputs,
            self._class_indices,
            predicted if known else None,
        )
        return look("training", outcome)

    @property
    def _class_indices(self) -> Int64[Tensor, " n"] | None:
        are_classes = self._labels.ndim == 1 and not self._labels.is_floating_point()
        return self._labels.long() if are_classes else None

    def _loss_of(self, outputs: Float[Tensor, "n ..."]) -> float | None:
        """The loss of these rows; None where the loss cannot take them."""
        labels = self._labels
        if not self._setup.targets_as_given and not (labels.shape == outputs.shape and labels.is_floating_point()):
            labels = self._setup.head.targets(labels, outputs)
        return value_of(self._setup.loss, outputs, labels)
