"""Nets of one form trained side by side on the same batches: one wide product in place of many narrow ones.

Each net gets the step that `written_out` would give it alone, to the rounding of another order of sums. Nets that are
small leave most of a processor idle; sixteen side by side take a few times one's time.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from inkproof.wide_layers import Inputs, WideInkLayer, WideLayer
from inkproof.written_out.linear import LinearStep, relu_backward_


class StackedNets:
    """Linear layers with ReLU between, of several nets.

    No step looks at its numbers: what becomes NaN or infinite stays so, and is found in `numbers` after many.

    Args:
        nets: the written-out step of each; their layers, losses and learning rates must be alike.
        of_ink: batches are rows of images' ink, whose bytes are multiplied by this unit; None for inputs.

    Attributes:
        takes_ink: whether batches are.
        parts: in which the columns of inputs are shared out among threads.
    """

    def __init__(self, nets: Sequence[LinearStep], *, of_ink: float | None = None):
        self._nets = nets
        self._loss_gradient = nets[0].loss_gradient
        weights, biases = zip(*(self._stacked(at) for at in range(len(nets[0].layers))), strict=True)
        weight, bias = weights[0].flatten(0, 1), None if biases[0] is None else biases[0].flatten()
        self._first: WideLayer | WideInkLayer
        if of_ink is None:
            self._first = WideLayer(weight, bias, flatten=nets[0].flatten)
        else:
            assert bias is not None, "layers without a bias take no ink"
            self._first = WideInkLayer(weight, bias, unit=of_ink)
        self.takes_ink, self.parts = of_ink is not None, self._first.parts
        self._weights, self._biases = weights[1:], biases[1:]

    @torch.inference_mode()
    def step(
        self,
        inputs: Inputs,
        targets: Shaped[Tensor, "n ..."],
        lr: float,
        *,
        unit: float = 1.0,
    ) -> Float[Tensor, " nets"] | None:
        """Forward, backward, update of all nets.

        Args:
            inputs: of one batch.
            targets: in the form that the loss takes beside one net's outputs.
            lr: learning rate.
            unit: what inputs are multiplied by, within the products that take them; other than 1 for bytes alone.

        Returns:
            The loss of each net before the update; None for an empty batch.
        """
        rows = len(inputs)
        if not rows:
            return None
        outputs = self._lowest(inputs, unit)
        seen: list[Tensor] = []  # behind each ReLU
        for weight, bias in zip(self._weights, self._biases, strict=True):
            seen.append(outputs.relu_())
            outputs = _layer(weight, bias, seen[-1])
        loss, gradient = self._loss_gradient(outputs, targets)
        gradients = [gradient]
        for weight, hidden in zip(reversed(self._weights), reversed(seen), strict=True):
            gradients.append(weight.mT @ gradients[-1])
            if hidden is not seen[0]:  # that one is the first layers' own
                relu_backward_(gradients[-1], hidden)
        gradients.reverse()
        rate = lr / rows  # for gradients that are n times theirs
        for weight, gradient, hidden in zip(self._weights, gradients[1:], seen, strict=True):
            weight.baddbmm_(gradient, hidden.mT, alpha=-rate)
        for bias, gradient in zip(self._biases, gradients[1:], strict=True):
            if bias is not None:
                bias.sub_(gradient.sum(dim=2), alpha=rate)
        self._first.learn(inputs, unit, gradients[0].flatten(0, 1), rate, behind_relu=len(seen) > 0)
        return loss

    @torch.no_grad()
    def outputs(self, inputs: Inputs, *, unit: float = 1.0) -> Float[Tensor, "nets n outputs"]:
        """What each net gives for these rows, multiplied by a unit."""
        outputs = self._lowest(inputs, unit)
        for weight, bias in zip(self._weights, self._biases, strict=True):
            outputs = _layer(weight, bias, outputs.relu_())
        if not self._weights:
            outputs = outputs.clone()  # the first layers' own memory
        return outputs.transpose(1, 2)

    @property
    def numbers(self) -> list[Tensor]:
        """All weights and biases."""
        return [*self._first.numbers, *self._weights, *(bias for bias in self._biases if bias is not None)]

    @torch.no_grad()
    def write_back(self) -> None:
        """Give each net its weights."""
        nets, shape = len(self._nets), self._nets[0].layers[0].weight.shape
        weights = [self._first.weight.reshape(nets, *shape), *self._weights]
        biases = [self._first.bias.reshape(nets, -1), *self._biases]
        for number, net in enumerate(self._nets):
            for layer, weight, bias in zip(net.layers, weights, biases, strict=True):
                layer.weight.copy_(weight[number])
                if layer.bias is not None and bias is not None:
                    layer.bias.copy_(bias[number])

    def _stacked(self, at: int) -> tuple[Float[Tensor, "nets units inputs"], Float[Tensor, "nets units"] | None]:
        """Weights and biases of one layer of all nets."""
        layers = [net.layers[at] for net in self._nets]
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        return torch.stack([layer.weight.detach() for layer in layers]), torch.stack(biases) if biases else None

    def _lowest(self, inputs: Inputs, unit: float) -> Float[Tensor, "nets units n"]:
        """What the first layers give."""
        by_net: Tensor = self._first.forward(inputs, unit).unflatten(0, (len(self._nets), -1))
        return by_net


def _layer(
    weight: Float[Tensor, "nets units inputs"],
    bias: Float[Tensor, "nets units"] | None,
    seen: Float[Tensor, "nets inputs n"],
) -> Float[Tensor, "nets units n"]:
    """What layers above the first give, net by net."""
    return weight @ seen if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, seen)


def can_be_stacked(nets: Sequence[LinearStep | None]) -> bool:
    """Whether nets have a written-out step each, layers of the same sizes, and losses alike."""
    known = [net for net in nets if net is not None]
    if len(known) < len(nets) or len(known) < 2:
        return False
    forms = {
        (net.flatten, *((layer.weight.shape, layer.bias is None, layer.weight.dtype) for layer in net.layers))
        for net in known
    }
    return len(forms) == 1
