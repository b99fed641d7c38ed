"""The step of a single layer with few outputs: each thread computes with rows of its own, forward and backward.

They stay in its core's cache. One product of the whole batch is shared along other dimensions forward than backward,
and the rows travel between the cores. The step of 784-10 takes 0.8 to 0.9 of the time that `LinearStep` takes for it (2
cores of an AMD EPYC with AVX2, November 2026).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkproof.runtime import one_thread
from inkproof.written_out.linear import LinearStep, ones
from inkproof.written_out.overflow import is_far_from_overflow

_FEW = 16  # outputs: with more, adding up the threads' gradients takes longer than sharing rows out saves
_ROWS = 64  # of a batch for each thread: with fewer it gets no part of its own


class OneLayerStep:
    """One training step of a single linear layer, such as `is_one_layer` is true of.

    Args:
        plain: its step, which takes batches that do not divide among threads.
    """

    def __init__(self, plain: LinearStep):
        (layer,) = plain.layers
        self._plain = plain
        self._optimizer, self._loss_gradient = plain.optimizer, plain.loss_gradient
        self._weight, self._bias = layer.weight.detach(), layer.bias.detach()
        self._column = self._bias.unsqueeze(1)
        self._inference = torch.inference_mode()  # one for all steps: to make one takes longer than to enter it

    def step(
        self, inputs: Float[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        """As `LinearStep.step`."""
        flat = inputs.flatten(1) if self._plain.flatten else inputs
        rows, threads = flat.shape[0], torch.get_num_threads()
        if flat.ndim != 2 or threads == 1 or rows % threads or rows < threads * _ROWS:
            return self._plain.step(inputs, to_targets, check_finite=check_finite)
        with self._inference:
            parts = flat.reshape(threads, rows // threads, -1)
            beside = torch.bmm(self._weight.expand(threads, -1, -1), parts.mT)
            outputs = beside.transpose(0, 1).reshape(-1, rows).add_(self._column)
            entering = outputs.sum() if check_finite else None
            with one_thread():
                targets = to_targets(outputs.T)
                try:
                    loss, gradient = self._loss_gradient(outputs, targets)
                except (RuntimeError, IndexError):  # targets that this loss cannot take, or marks of rows to leave out
                    return None  # autograd's to judge
                if entering is not None and not is_far_from_overflow(entering, loss, (gradient,)):
                    return None
                rate = self._optimizer.param_groups[0]["lr"] / rows  # for a gradient that is n times its own
                self._bias.addmv_(gradient, ones(rows, gradient.dtype), alpha=-rate)
            by_part = gradient.view(-1, threads, rows // threads).transpose(0, 1)
            self._weight.sub_(torch.bmm(by_part, parts).sum(dim=0), alpha=rate)
            return loss


def is_one_layer(layers: list[nn.Linear]) -> bool:
    """Whether there is one layer, of few outputs, that adds a bias."""
    return len(layers) == 1 and layers[0].bias is not None and layers[0].out_features <= _FEW
