"""Scores of a model on labelled images, from its outputs: pure functions."""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from inkproof.heads import Activation, Head, Loss
from inkproof.images import ImageSet
from inkproof.metrics import wilson_interval


def score(
    head: Head,
    loss: Loss,
    outputs: Float[Tensor, "n ..."],
    labels: Int64[Tensor, " n"],
    *,
    activation: Activation = "none",
) -> dict[str, Any]:
    """Accuracy with its interval, loss, confusion and accuracy of each class, as plain numbers.

    Args:
        head: what the outputs mean.
        loss: taken on all rows at once.
        outputs: raw outputs.
        labels: class indices.
        activation: what the model did to its outputs itself.

    Returns:
        images, correct, accuracy, interval (Wilson, 95 %, over the images drawn), loss, per_class (accuracy, None
        for a class without images), confusion[true][predicted].
    """
    predicted = head.decode(outputs, activation)
    correct = int((predicted == labels).sum())
    table = confusion(predicted, labels, head.classes)
    totals = table.sum(dim=1)
    return {
        "images": len(labels),
        "correct": correct,
        "accuracy": correct / len(labels),
        "interval": list(wilson_interval(correct, len(labels))),
        "loss": float(loss(outputs, head.targets(labels, outputs))),
        "per_class": [int(table[label, label]) / int(total) if total else None for label, total in enumerate(totals)],
        "confusion": table.tolist(),
    }


def confusion(
    predicted: Int64[Tensor, " n"], labels: Int64[Tensor, " n"], classes: int
) -> Int64[Tensor, "classes classes"]:
    """How often each true class (row) was predicted as each class (column)."""
    return torch.bincount(labels * classes + predicted, minlength=classes * classes).view(classes, classes)


def top_losses(
    images: ImageSet, probabilities: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"], *, count: int = 9
) -> list[dict[str, Any]]:
    """The images whose true class got the least probability, worst first.

    Returns:
        One dictionary an image: id, label, predicted, probability (of the true class), row.
    """
    of_truth = probabilities[torch.arange(len(labels)), labels]
    worst = of_truth.argsort()[:count].tolist()
    return [
        {
            "id": images.ids[row].item(),
            "row": row,
            "label": images.classes[int(labels[row])],
            "predicted": images.classes[int(probabilities[row].argmax())],
            "probability": float(of_truth[row]),
        }
        for row in worst
    ]
