"""Nets of one form trained side by side on the same batches: one wide product in place of many narrow ones.

Each net gets the step that `written_out` would give it alone, to the rounding of another order of sums. Nets that are
small leave most of a processor idle; sixteen side by side take a few times one's time.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from inkproof.written_out.linear import LinearStep, relu_backward_
from inkproof.written_out.products import by_onednn, is_sooner, product


class StackedNets:
    """Linear layers with ReLU between, of several nets.

    No step looks at its numbers: what becomes NaN or infinite stays so, and is found in `numbers` after many.

    Args:
        nets: the written-out step of each; their layers, losses and learning rates must be alike.
    """

    def __init__(self, nets: Sequence[LinearStep]):
        self._nets = nets
        self._flatten = nets[0].flatten
        self._loss_gradient = nets[0].loss_gradient
        depth = range(len(nets[0].layers))
        self._onednn = is_sooner(len(nets) * nets[0].layers[0].out_features)
        self._weights = [torch.stack([net.layers[at].weight.detach() for net in nets]) for at in depth]
        self._biases = [
            torch.stack([net.layers[at].bias.detach() for net in nets]) if nets[0].layers[at].bias is not None else None
            for at in depth
        ]

    @torch.inference_mode()
    def step(
        self, inputs: Float[Tensor, "n ..."], targets: Shaped[Tensor, "n ..."], lr: float, *, unit: float = 1.0
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
        flat = inputs.flatten(1) if self._flatten else inputs
        if not flat.shape[0]:
            return None
        outputs = self._first(flat, unit)
        seen: list[Tensor] = []  # behind each ReLU
        for at in range(1, len(self._weights)):
            seen.append(outputs.relu_())
            outputs = self._upper(at, seen[-1])
        loss, gradient = self._loss_gradient(outputs, targets)
        gradients = [gradient]
        for weight, hidden in zip(self._weights[:0:-1], reversed(seen), strict=True):
            gradients.append(relu_backward_(weight.mT @ gradients[-1], hidden))
        gradients.reverse()
        rate = lr / flat.shape[0]  # for gradients that are n times theirs
        for weight, gradient, hidden in zip(self._weights[1:], gradients[1:], seen, strict=True):
            weight.baddbmm_(gradient, hidden.mT, alpha=-rate)
        for bias, gradient in zip(self._biases, gradients, strict=True):
            if bias is not None:
                bias.sub_(gradient.sum(dim=2), alpha=rate)
        wide, gradient = self._weights[0].view(-1, flat.shape[1]), gradients[0].flatten(0, 1)
        if self._onednn and by_onednn(gradient, flat):
            wide.sub_(product(gradient, flat.T), alpha=rate * unit)
        else:
            wide.addmm_(gradient, flat, alpha=-rate * unit)
        return loss

    @torch.no_grad()
    def outputs(self, inputs: Float[Tensor, "n ..."], *, unit: float = 1.0) -> Float[Tensor, "nets n outputs"]:
        """What each net gives for these rows, multiplied by a unit."""
        flat = inputs.flatten(1) if self._flatten else inputs
        outputs = self._first(flat, unit)
        for at in range(1, len(self._weights)):
            outputs = self._upper(at, outputs.relu_())
        return outputs.transpose(1, 2)

    @property
    def numbers(self) -> list[Tensor]:
        """All weights and biases."""
        return [*self._weights, *(bias for bias in self._biases if bias is not None)]

    @torch.no_grad()
    def write_back(self) -> None:
        """Give each net its weights."""
        for number, net in enumerate(self._nets):
            for layer, weight, bias in zip(net.layers, self._weights, self._biases, strict=True):
                layer.weight.copy_(weight[number])
                if bias is not None:
                    layer.bias.copy_(bias[number])

    def _first(self, flat: Float[Tensor, "n inputs"], unit: float) -> Float[Tensor, "nets units n"]:
        """What the first layers give: one product for all nets."""
        weight, bias = self._weights[0], self._biases[0]
        wide, form = weight.view(-1, flat.shape[1]), (weight.shape[0], weight.shape[1], len(flat))
        if self._onednn and by_onednn(wide, flat):
            outputs = product(wide, flat).view(form)
        elif bias is not None:
            return torch.addmm(bias.view(-1, 1), wide, flat.T, alpha=unit).view(form)
        else:
            outputs = (wide @ flat.T).view(form)
        if unit != 1:
            outputs.mul_(unit)
        return outputs if bias is None else outputs.add_(bias.unsqueeze(2))

    def _upper(self, at: int, seen: Float[Tensor, "nets inputs n"]) -> Float[Tensor, "nets units n"]:
        """What layers above the first give, net by net."""
        weight, bias = self._weights[at], self._biases[at]
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
