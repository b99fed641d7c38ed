"""What is looked at before the first step: loss, metrics, model and optimiser, on a few rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from inkproof.audit.catalogue import Seen, declare, explain, look
from inkproof.audit.findings import Finding
from inkproof.audit.functions import PROBE_ROWS, Functions, ideal_outputs, value_of
from inkproof.audit.ledger import Role, weights_hash
from inkproof.audit.lineage import check_use
from inkproof.audit.model import Trainee
from inkproof.audit.progress import check_history
from inkproof.audit.sides import Side
from inkproof.audit.training import Outcome
from inkproof.errors import ShapeMismatch
from inkproof.heads import Activation, Head
from inkproof.models import MeanImage

OUTPUTS_DO_NOT_FIT = declare(
    "outputs-do-not-fit",
    code="E6",
    moment="model",
    severity="refuse",
    means="The model does not give as many numbers an image as the classes of the data need.",
    detected="The shape of its outputs for a few images, against the classes of an ImageSet and the head.",
    misfires="A head that is shared with other data: count in its classes, with `with_classes`.",
).id


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


def check_outputs(head: Head, outputs: Float[Tensor, "n ..."]) -> None:
    """Raise ShapeMismatch, with its finding, unless outputs have the shape that the head needs."""
    try:
        head.check_outputs(outputs)
    except ShapeMismatch as error:
        one_number = outputs[0].numel() == 1 and head.classes > 2
        found = explain("one-output-for-classes" if one_number else OUTPUTS_DO_NOT_FIT)
        raise ShapeMismatch(f"{error} [{found.id}]", [found.found(Seen(str(error), severity="refuse"))]) from None


class Inspection:
    """Looks at a setup before its first step and after its last, on the same few rows.

    Args:
        sides: the training side and the validation side; None each where its rows are not known.
        setup: what is to be trained.
        inputs: of a few training rows.
        labels: of these rows.
        outputs: of the model for them, before the first step.
        loss_name: as the user calls it.
    """

    def __init__(
        self,
        sides: tuple[Side | None, Side | None],
        setup: Setup,
        inputs: Shaped[Tensor, "n ..."],
        labels: Shaped[Tensor, "n ..."],
        outputs: Float[Tensor, "n ..."],
        loss_name: str,
    ):
        self.inputs = inputs
        self._train, self._valid = sides
        self._setup = setup
        self._labels = labels
        self._outputs = outputs
        self._loss_name = loss_name
        self.begun_with = weights_hash(setup.model)
        self._first_loss = self._loss_of(outputs)

    def before(self) -> list[Finding]:
        """All checks of functions, model and optimiser."""
        setup, side = self._setup, self._train
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

    def after(
        self,
        outputs: Float[Tensor, "n ..."],
        predicted: Int64[Tensor, " n"],
        steps: int,
        history: Sequence[Mapping[str, Any]],
    ) -> list[Finding]:
        """All checks of what a training came to.

        Args:
            outputs: of the model for the same rows, after the last step.
            predicted: the class that it says of each.
            steps: that were taken.
            history: its rows.
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
        return look("training", outcome) + check_history(history) + self._used(self._valid, "chosen on")

    def scored(self, side: Side | None) -> list[Finding]:
        """What the ledger says of labelled rows, neither trained nor validated on, that the model is scored on."""
        known = {one.rows_hash for one in (self._train, self._valid) if one is not None}
        if side is None or side.labels is None or side.rows_hash in known:
            return []
        return self._used(side, "scored")

    def _used(self, side: Side | None, role: Role) -> list[Finding]:
        return check_use(self._train, side, role, weights_hash(self._setup.model))

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
