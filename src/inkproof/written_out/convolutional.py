"""The step of small convolutions, each a product of its weights with the windows of all images.

oneDNN's kernels are made for many channels and small strides: the step of the ladder's net takes them 2.4 times as long
with AVX2, 1.5 times with AVX-512 (2 cores of an AMD EPYC, before weights were joined), 2.7 times on 2 cores of an Intel
Xeon with AVX-512 (November 2026).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from inkproof.runtime import Precision, one_thread
from inkproof.written_out.joined import JoinedLayers, Memory
from inkproof.written_out.linear import relu_backward_
from inkproof.written_out.losses import LossGradient, judge
from inkproof.written_out.overflow import is_far_from_overflow
from inkproof.written_out.windows import Layer


class ConvolutionalStep:
    """One training step of convolutions, then perhaps linear layers, with ReLU between, a known loss and plain SGD.

    It learns on a copy of the weights.

    Args:
        layers: first to last, such as `is_worth_gathering` is true of.
        optimizer: plain SGD over exactly their parameters.
        loss_gradient: the loss and n times its gradient.
        precision: of products, as `JoinedLayers` has it.

    Attributes:
        optimizer: as given.
    """

    def __init__(
        self,
        layers: Sequence[Layer],
        optimizer: torch.optim.Optimizer,
        loss_gradient: LossGradient,
        precision: Precision = "float32",
    ):
        self._layers = JoinedLayers(layers, precision)
        self.optimizer, self._loss_gradient = optimizer, loss_gradient
        self._gradient = torch.zeros_like(self._layers.all)
        self._gradients = self._layers.split(self._gradient)
        self._unit = 1.0
        self._stays_ahead = self._is_ahead = False  # the copy of the parameters

    @contextmanager
    def on_copy(self, unit: float) -> Iterator["ConvolutionalStep"]:
        """Give the parameters what was learnt in the block at its end, however it ends, and not after each step.

        Args:
            unit: what inputs are multiplied by.
        """
        self._stays_ahead, self._unit = True, unit
        try:
            yield self
        finally:
            self._stays_ahead, self._unit = False, 1.0
            self._write_back()

    def _write_back(self) -> None:
        if self._is_ahead:
            self._layers.write_back()
            self._is_ahead = False

    def step(
        self, inputs: Shaped[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        """As `LinearStep.step`, for images (n, channels, height, width), of the weights' dtype or as bytes."""
        if not self._is_ahead:
            self._layers.read()
        loss = self._step(inputs, to_targets, check_finite=check_finite)
        self._is_ahead = self._is_ahead or loss is not None
        if loss is None or not self._stays_ahead:
            self._write_back()
        return loss

    def _step(
        self, inputs: Shaped[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        memory = self._layers.forward(inputs, self._unit)
        if memory is None:
            return None
        outputs = memory[-1].outputs
        parts, _, count = memory[0].seen.shape
        with one_thread():
            rows = outputs.view(parts, -1, count).transpose(0, 1).reshape(-1, parts * count).to(self._gradient.dtype)
            judged = judge(self._loss_gradient, rows, to_targets(rows.T))
            if judged is None:
                return None
            loss, gradient = judged
            gradient = (
                gradient.view(-1, parts, count).transpose(0, 1).reshape(outputs.shape).to(outputs.dtype).contiguous()
            )
        self._differentiate(gradient, memory)
        # In the gradient is all that may break a weight: infinite inputs that ReLU hides are NaN there, times zero.
        if check_finite and not is_far_from_overflow(loss, self._gradient):
            return None
        lr = self.optimizer.param_groups[0]["lr"] / (parts * count)  # for gradients that are n times theirs
        self._layers.learn(self._gradient, rate=lr)
        return loss

    def _differentiate(self, of_outputs: Float[Tensor, "parts units places"], memory: Sequence[Memory]) -> None:
        """Write the gradient for all layers, from that for the last one's outputs.

        What convolutions but the first gathered is lost: the gradient for it is written in its place.
        """
        for at in range(len(memory) - 1, -1, -1):
            layer, gradient, unit = memory[at], self._gradients[at], 1.0 if at else self._unit
            if layer.kernels is not None:
                layer.kernels.learn(of_outputs, gradient, unit=unit)
            else:
                torch.sum(torch.bmm(layer.gathered, of_outputs.mT), dim=0, dtype=gradient.dtype, out=gradient)
                if unit != 1:
                    gradient.mul_(unit)
            if at:
                of_outputs = _gradient_below(layer, of_outputs).view_as(memory[at - 1].outputs)


def _gradient_below(layer: Memory, of_outputs: Float[Tensor, "parts units places"]) -> Float[Tensor, "..."]:
    """The gradient for what ReLU took before it gave what a layer sees."""
    if layer.kernels is not None:
        return layer.kernels.gradient(of_outputs)
    if layer.windows is None:
        return relu_backward_(torch.bmm(layer.weights, of_outputs), layer.seen)
    torch.bmm(layer.matrix, of_outputs, out=layer.gathered)
    return relu_backward_(layer.windows.add_up(layer.gathered_rows).view_as(layer.seen), layer.seen)
