"""Nets of one form trained side by side on the same batches: one wide product in place of many narrow ones.

Each net gets the step that `written_out` would give it alone, to the rounding of another order of sums. Nets that are
small leave most of a processor idle; sixteen side by side take a few times one's time.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from inkproof.written_out import in_parts, parts_of
from inkproof.written_out.linear import LinearStep, relu_backward_


class StackedNets:
    """Linear layers with ReLU between, of several nets.

    No step looks at its numbers: what becomes NaN or infinite stays so, and is found in `numbers` after many.

    Args:
        nets: the written-out step of each; their layers, losses and learning rates must be alike.

    Attributes:
        parts: in which the columns of the inputs are shared out among threads, as `written_out.shared_out` has it.
    """

    def __init__(self, nets: Sequence[LinearStep]):
        self._nets = nets
        self._flatten = nets[0].flatten
        self._loss_gradient = nets[0].loss_gradient
        first = nets[0].layers[0]
        self.parts = parts_of(first.in_features, first.weight.device) if self._flatten else 1
        units, columns = len(nets) * first.out_features, first.in_features // self.parts
        self._first = first.weight.detach().new_empty(self.parts, units, columns)
        self._first.copy_(in_parts(torch.cat([net.layers[0].weight.detach() for net in nets]), self.parts))
        # Beside the first layer's products, its bias beside those of the first part.
        self._beside = self._first.new_zeros(self.parts, units, 1)
        above = range(1, len(nets[0].layers))
        self._weights = [torch.stack([net.layers[at].weight.detach() for net in nets]) for at in above]
        self._biases: list[Tensor | None] = [
            torch.stack([net.layers[at].bias.detach() for net in nets]) if nets[0].layers[at].bias is not None else None
            for at in above
        ]
        self._first_bias = None if first.bias is None else self._beside[0].view(len(nets), -1)
        if self._first_bias is not None:
            self._first_bias.copy_(torch.stack([net.layers[0].bias.detach() for net in nets]))

    @torch.inference_mode()
    def step(
        self, inputs: Float[Tensor, "n ..."], targets: Shaped[Tensor, "n ..."], lr: float, *, unit: float = 1.0
    ) -> Float[Tensor, " nets"] | None:
        """Forward, backward, update of all nets.

        Args:
            inputs: of one batch: (n, parts, columns), or as the layers take them.
            targets: in the form that the loss takes beside one net's outputs.
            lr: learning rate.
            unit: what inputs are multiplied by, within the products that take them; other than 1 for bytes alone.

        Returns:
            The loss of each net before the update; None for an empty batch.
        """
        split = self._split(inputs)
        if not split.shape[1]:
            return None
        outputs = self._lowest(split, unit)
        seen: list[Tensor] = []  # behind each ReLU
        for weight, bias in zip(self._weights, self._biases, strict=True):
            seen.append(outputs.relu_())
            outputs = _layer(weight, bias, seen[-1])
        loss, gradient = self._loss_gradient(outputs, targets)
        gradients = [gradient]
        for weight, hidden in zip(reversed(self._weights), reversed(seen), strict=True):
            gradients.append(relu_backward_(weight.mT @ gradients[-1], hidden))
        gradients.reverse()
        rate = lr / split.shape[1]  # for gradients that are n times theirs
        for weight, gradient, hidden in zip(self._weights, gradients[1:], seen, strict=True):
            weight.baddbmm_(gradient, hidden.mT, alpha=-rate)
        for bias, gradient in zip([self._first_bias, *self._biases], gradients, strict=True):
            if bias is not None:
                bias.sub_(gradient.sum(dim=2), alpha=rate)
        self._first.baddbmm_(gradients[0].flatten(0, 1).expand(self.parts, -1, -1), split, alpha=-rate * unit)
        return loss

    @torch.no_grad()
    def outputs(self, inputs: Float[Tensor, "n ..."], *, unit: float = 1.0) -> Float[Tensor, "nets n outputs"]:
        """What each net gives for these rows, multiplied by a unit."""
        outputs = self._lowest(self._split(inputs), unit)
        for weight, bias in zip(self._weights, self._biases, strict=True):
            outputs = _layer(weight, bias, outputs.relu_())
        return outputs.transpose(1, 2)

    @property
    def numbers(self) -> list[Tensor]:
        """All weights and biases."""
        return [self._first, self._beside, *self._weights, *(bias for bias in self._biases if bias is not None)]

    @torch.no_grad()
    def write_back(self) -> None:
        """Give each net its weights."""
        shape = len(self._nets), *self._nets[0].layers[0].weight.shape
        weights = [self._first.transpose(0, 1).reshape(shape), *self._weights]
        biases = [self._first_bias, *self._biases]
        for number, net in enumerate(self._nets):
            for layer, weight, bias in zip(net.layers, weights, biases, strict=True):
                layer.weight.copy_(weight[number])
                if bias is not None:
                    layer.bias.copy_(bias[number])

    def _split(self, inputs: Float[Tensor, "n ..."]) -> Float[Tensor, "parts n columns"]:
        if self._flatten and inputs.shape[1:] == (self.parts, self._first.shape[2]):
            return inputs.transpose(0, 1)
        return in_parts(inputs.flatten(1) if self._flatten else inputs, self.parts)

    def _lowest(self, split: Float[Tensor, "parts n columns"], unit: float) -> Float[Tensor, "nets units n"]:
        """What the first layers give: one product for all nets and each part of the inputs' columns."""
        total, *others = torch.baddbmm(
            self._beside.expand(-1, -1, split.shape[1]), self._first, split.mT, alpha=unit
        ).unbind()
        for part in others:
            total.add_(part)
        return total.view(len(self._nets), -1, split.shape[1])


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
