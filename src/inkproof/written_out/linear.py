"""The step of linear layers: what is taught in `by_hand`, with torch's own operations, updating in place.

The step of so small a net is mostly what autograd and the optimiser keep books about; written out it takes half the
time.
"""

from collections.abc import Callable
from contextlib import nullcontext

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkproof.runtime import one_thread
from inkproof.written_out.losses import LossGradient
from inkproof.written_out.overflow import is_far_from_overflow

_SMALL = 4096  # weights: a product with fewer takes longer shared by threads than on one
_FEW = 16  # outputs: with more, adding up the parts' gradients takes longer than sharing rows out saves
_ROWS = 64  # of a batch: a thread with fewer gets no part of its own

relu_backward = torch.ops.aten.threshold_backward.default  # looked up once: each step calls it


class LinearStep:
    """One training step of linear layers with ReLU between, a known loss and plain SGD.

    Args:
        layers: the linear layers, first to last.
        optimizer: plain SGD over exactly their parameters.
        loss_gradient: the loss and n times its gradient.
        flatten: the first layer takes flattened inputs.

    Attributes:
        layers, optimizer, loss_gradient, flatten: as given.
    """

    def __init__(
        self, layers: list[nn.Linear], optimizer: torch.optim.Optimizer, loss_gradient: LossGradient, *, flatten: bool
    ):
        self.layers = layers
        self.flatten = flatten
        self.optimizer = optimizer
        self.loss_gradient = loss_gradient
        # The same memory without autograd's view of it, biases as columns; found once, since a step is short.
        self._weights = [layer.weight.detach() for layer in layers]
        self._biases = [None if layer.bias is None else layer.bias.detach().unsqueeze(1) for layer in layers]
        self._few = self._weights[0].shape[0] <= _FEW
        weights, biases = self._weights[1:], self._biases[1:]
        self._upper = [(weight, weight.T, bias) for weight, bias in zip(weights, biases, strict=True)]
        small = all(weight.numel() <= _SMALL for weight in weights)
        self._threads = one_thread if small else nullcontext  # for all but the first layer, whose inputs are many

    @torch.inference_mode()
    def step(
        self, inputs: Float[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        """Forward, backward, update.

        Args:
            inputs: of one batch.
            to_targets: gives the targets beside the outputs, or raises where the two do not pair.
            check_finite: look for numbers near the end of what float32 holds before the update.

        Returns:
            The loss before the update, an inference tensor; None where such numbers were found, or data of another
            form, and nothing was updated.
        """
        flat = inputs.flatten(1) if self.flatten else inputs
        if flat.ndim != 2 or not flat.shape[0]:
            return None
        weights, biases = self._weights, self._biases
        # Units by rows: the product in which its few outputs are the rows is up to twice as fast as `F.linear`, and a
        # softmax over rows ten times as fast as one over columns.
        parts = _by_threads(flat) if self._few else None
        if parts is None:
            outputs = _layer(weights[0], biases[0], flat.T)
        else:
            outputs = _layer_by_parts(weights[0], biases[0], parts)
        entering = outputs.sum() if check_finite else None
        hidden: list[Tensor] = []  # behind each ReLU
        with self._threads():
            for weight, _, bias in self._upper:
                hidden.append(outputs.relu_())
                outputs = _layer(weight, bias, hidden[-1])
            targets = to_targets(outputs.T)
            try:
                loss, gradient = self.loss_gradient(outputs, targets)
            except RuntimeError:  # targets that this loss cannot take, or marks of rows to leave out
                return None  # autograd's to judge
            gradients = [gradient]
            for (_, transposed, _), seen in zip(reversed(self._upper), reversed(hidden), strict=True):
                gradients.append(relu_backward(transposed @ gradients[-1], seen, 0))
            gradients.reverse()
            sums = [gradient.sum(dim=1, keepdim=True) for gradient in gradients]
            if entering is not None and not is_far_from_overflow(entering, loss, sums):
                return None
            lr = self.optimizer.param_groups[0]["lr"] / flat.shape[0]  # for gradients that are n times theirs
            for (weight, _, _), seen, gradient in zip(self._upper, hidden, gradients[1:], strict=True):
                weight.addmm_(gradient, seen.T, alpha=-lr)
            for bias, total in zip(biases, sums, strict=True):
                if bias is not None:
                    bias.sub_(total, alpha=lr)
        if parts is None:
            weights[0].addmm_(gradients[0], flat, alpha=-lr)
        else:
            by_part = gradients[0].view(-1, *parts.shape[:2]).transpose(0, 1)
            weights[0].sub_(torch.bmm(by_part, parts).sum(dim=0), alpha=lr)
        return loss


def _by_threads(flat: Float[Tensor, "n inputs"]) -> Float[Tensor, "parts rows inputs"] | None:
    """The rows of a batch in a part for each thread; None where they do not divide evenly, or are few.

    Each thread then computes with its own rows forward and backward, and they stay in its core's cache. One product of
    the whole batch is shared along other dimensions forward than backward, and the rows travel between the cores.
    """
    rows, threads = flat.shape[0], torch.get_num_threads()
    if threads == 1 or rows % threads or rows < threads * _ROWS:
        return None
    return flat.view(threads, rows // threads, flat.shape[1])


def _layer_by_parts(
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, "outputs 1"] | None,
    parts: Float[Tensor, "parts rows inputs"],
) -> Float[Tensor, "outputs n"]:
    product = torch.bmm(weight.expand(parts.shape[0], -1, -1), parts.mT)
    outputs = product.transpose(0, 1).reshape(weight.shape[0], -1)
    return outputs if bias is None else outputs.add_(bias)


def _layer(
    weight: Float[Tensor, "outputs inputs"], bias: Float[Tensor, "outputs 1"] | None, inputs: Float[Tensor, "inputs n"]
) -> Float[Tensor, "outputs n"]:
    return weight @ inputs if bias is None else torch.addmm(bias, weight, inputs)
