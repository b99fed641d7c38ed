"""A loss that is not known, such as a notebook's own: autograd differentiates it for the outputs, and nothing else."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from inkproof.heads import Loss


class OwnLoss:
    """Any loss of one net's outputs, as a `LossGradient`.

    One that asks for more than the outputs, such as the weights to penalise them, or that does not work here, is left
    to autograd from then on, with the whole step.

    Args:
        loss: takes outputs and targets, gives a scalar.
        parameters: of the net.

    Raises:
        RuntimeError: the step is autograd's.
    """

    def __init__(self, loss: Loss, parameters: Sequence[nn.Parameter]):
        self._loss: Any = loss
        self._parameters = parameters
        self._is_left = False

    def __call__(
        self, outputs: Float[Tensor, "outputs n"], targets: Shaped[Tensor, "..."]
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "outputs n"]]:
        """The loss, and n times its gradient."""
        if self._is_left:
            raise RuntimeError("this loss is left to autograd")
        self._is_left = True  # unless all of this works
        with torch.inference_mode(False), torch.enable_grad():
            rows = outputs.T.clone(memory_format=torch.contiguous_format).requires_grad_()
            loss = self._loss(rows, targets.clone() if targets.is_inference() else targets)
            if not isinstance(loss, Tensor):
                raise RuntimeError(f"this loss gives no tensor, but {type(loss).__name__}")
            gradient, *others = torch.autograd.grad(loss, [rows, *self._parameters], allow_unused=True)
        if gradient is None or any(other is not None for other in others):
            raise RuntimeError("this loss asks for more than the outputs")
        self._is_left = False
        return loss.detach(), gradient.T * len(rows)
