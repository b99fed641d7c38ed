"""The step of small convolutions: each a product of its weights with the windows of all images, images innermost.

A window is gathered as rows of as many numbers as there are images, so that gathering, and adding up the gradients of
windows that overlap, copies whole rows. oneDNN's kernels are made for many channels and small strides: the step of the
ladder's net takes them 2.4 times as long with AVX2, 1.5 times with AVX-512 (2 cores of an AMD EPYC, November 2026).
"""

import math
from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from inkproof.written_out.linear import relu_backward
from inkproof.written_out.losses import LossGradient, judge
from inkproof.written_out.overflow import is_far_from_overflow
from inkproof.written_out.windows import Layer, Windows, windows_of

_PARTS = 2  # of a batch for each thread: what a thread works on stays in its core's cache through all layers
_IMAGES = 32  # of a part: with fewer the rows that are gathered are short


class ConvolutionalStep:
    """One training step of convolutions, then perhaps linear layers, with ReLU between, a known loss and plain SGD.

    Args:
        layers: first to last, such as `is_worth_gathering` is true of.
        optimizer: plain SGD over exactly their parameters.
        loss_gradient: the loss and n times its gradient.

    Attributes:
        layers, optimizer, loss_gradient: as given.
    """

    def __init__(self, layers: Sequence[Layer], optimizer: torch.optim.Optimizer, loss_gradient: LossGradient):
        self.layers = layers
        self.optimizer = optimizer
        self.loss_gradient = loss_gradient
        # The same memory without autograd's view of it, as matrices and columns.
        self._weights = [_in_memory(layer.weight.detach()).flatten(1) for layer in layers]
        self._biases = [None if layer.bias is None else layer.bias.detach().unsqueeze(1) for layer in layers]

    @torch.inference_mode()
    def step(
        self, inputs: Float[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        """As `LinearStep.step`, for images (n, channels, height, width)."""
        count = inputs.shape[0]
        parts = _parts(count)
        windows = windows_of(self.layers, tuple(inputs.shape[1:]), parts) if count else None
        if windows is None:
            return None
        images = inputs.reshape(parts, count // parts, -1).mT
        seen, gathered, outputs = self._forward(images, windows)
        rows = outputs.view(parts, -1, count // parts).transpose(0, 1).reshape(-1, count)
        judged = judge(self.loss_gradient, rows, to_targets(rows.T))
        if judged is None:
            return None
        loss, gradient = judged
        gradient = gradient.view(-1, parts, count // parts).transpose(0, 1).reshape(outputs.shape)
        gradients = self._backward(gradient, seen, windows)
        sums = [gradient.sum(dim=(0, 2)) for gradient in gradients]
        if check_finite and not is_far_from_overflow(inputs.sum(), loss, sums):
            return None
        lr = self.optimizer.param_groups[0]["lr"] / count  # for gradients that are n times theirs
        for weight, bias, taps, gradient, total in zip(
            self._weights, self._biases, gathered, gradients, sums, strict=True
        ):
            weight.sub_(torch.bmm(gradient, taps.mT).sum(dim=0), alpha=lr)
            if bias is not None:
                bias.sub_(total.unsqueeze(1), alpha=lr)
        return loss

    def _forward(
        self, images: Float[Tensor, "parts pixels n"], windows: Sequence[Windows | None]
    ) -> tuple[list[Tensor], list[Tensor], Float[Tensor, "parts units places"]]:
        """What each layer sees, over a row of zeros; the same by windows; the last one's outputs."""
        seen, gathered = [_over_zeros(images)], []
        seen[0][:, :-1] = images
        outputs = images
        for at, (weight, bias, where) in enumerate(zip(self._weights, self._biases, windows, strict=True)):
            if at:
                units = outputs.view(len(images), -1, images.shape[2])
                seen.append(_over_zeros(units))
                torch.clamp_min(units, 0, out=seen[at][:, :-1])  # ReLU
            gathered.append(seen[at][:, :-1] if where is None else where.gather(seen[at], weight.shape[1]))
            beside = weight.expand(len(images), -1, -1)
            outputs = beside @ gathered[at] if bias is None else torch.baddbmm(bias, beside, gathered[at])
        return seen, gathered, outputs

    def _backward(
        self, gradient: Float[Tensor, "parts outputs _"], seen: list[Tensor], windows: Sequence[Windows | None]
    ) -> list[Float[Tensor, "parts units places"]]:
        """The gradient for each layer's outputs, first to last."""
        gradients = [gradient]
        for at in range(len(windows) - 1, 0, -1):
            of_inputs = self._weights[at].T.expand(len(gradient), -1, -1) @ gradients[-1]
            where, hidden = windows[at], seen[at][:, :-1]
            if where is not None:
                of_inputs = where.add_up(of_inputs.view(-1, hidden.shape[2])).view_as(hidden)
            gradients.append(relu_backward(of_inputs, hidden, 0).view(len(hidden), len(self._weights[at - 1]), -1))
        return gradients[::-1]


def _parts(images: int) -> int:
    """How many equal parts a batch is computed in."""
    return math.gcd(images, max(1, min(_PARTS * torch.get_num_threads(), images // _IMAGES)))


def _over_zeros(values: Float[Tensor, "parts features n"]) -> Float[Tensor, "parts features+1 n"]:
    """Memory for such numbers over a row of zeros, which windows see beyond the edge of an image."""
    parts, features, count = values.shape
    memory = values.new_empty(parts, features + 1, count)
    memory[:, -1] = 0
    return memory


def _in_memory(weight: Shaped[Tensor, "outputs ..."]) -> Shaped[Tensor, "outputs ..."]:
    """Weights with their dimensions in the order in which they lie in memory, channels first or last."""
    return weight if weight.ndim == 2 or weight.is_contiguous() else weight.permute(0, 2, 3, 1)
