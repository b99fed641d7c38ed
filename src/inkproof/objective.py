"""What a training minimises and what it is judged by: the loss, the metrics, and the targets that both take."""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from inkproof.heads import Activation, Head, Loss, check_pairing
from inkproof.metrics import Metric, accuracy


@dataclass(frozen=True)
class Objective:
    """Loss and metrics of a model's outputs.

    Args:
        head: what the outputs mean.
        loss: takes outputs and targets of a batch, gives a scalar.
        metrics: take outputs and targets of a whole side, give a number each.
        activation: what the model does to its outputs itself.
        targets_as_given: a user's own loss on a user's own loader gets the targets as they come; all else goes
            through the head, whose targets have the shape its losses need, and must pair with outputs row by row.
    """

    head: Head
    loss: Loss
    metrics: tuple[Metric, ...] = (accuracy,)
    activation: Activation = "none"
    targets_as_given: bool = False

    def targets(self, labels: Tensor, outputs: Tensor) -> Tensor:
        """The labels of some rows in the form that the loss takes beside their outputs."""
        if self.targets_as_given or (labels.is_floating_point() and labels.shape == outputs.shape):
            return labels
        return self.head.targets(labels, outputs)

    def all_targets(self, labels: Tensor, dtype: torch.dtype) -> Tensor:
        """`targets` of a whole side, beside outputs (n, k): made once, and not in each step."""
        outputs = torch.empty((), dtype=dtype, device=labels.device)
        return self.targets(labels, outputs.expand(len(labels), self.head.outputs))

    def paired_targets(self, labels: Tensor, outputs: Tensor) -> Tensor:
        """`targets`, or ShapeMismatch where the loss would broadcast them against the outputs."""
        targets = self.targets(labels, outputs)
        if not self.targets_as_given:
            check_pairing(outputs, targets, where=self._loss_in_messages)
        return targets

    @cached_property
    def _loss_in_messages(self) -> str:
        """Put together once, and not in each step."""
        return f"the loss {name_of(self.loss)}"

    def judge(self, outputs: Tensor, labels: Tensor) -> tuple[float, dict[str, float]]:
        """Loss and metrics by name, from the outputs for all rows of a side and their labels."""
        targets = self.targets(labels, outputs)
        metrics = {name_of(metric): float(self._measure(metric, outputs, targets, labels)) for metric in self.metrics}
        return float(self.loss(outputs, targets)), metrics

    def _measure(self, metric: Metric, outputs: Tensor, targets: Tensor, labels: Tensor) -> Tensor | float:
        if metric is accuracy and labels.shape == outputs.shape[:1]:
            return (self.head.decode(outputs, self.activation) == labels).double().mean()
        if not self.targets_as_given:
            check_pairing(outputs, targets, where=f"the metric {name_of(metric)}")
        return metric(outputs, targets)


def name_of(function: object) -> str:
    """How a user would call a loss or metric: its function or class name."""
    target = getattr(function, "func", function)  # a partial is known by what it calls
    return str(getattr(target, "__name__", type(target).__name__))
