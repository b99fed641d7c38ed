"""The step of a single layer with few outputs: each thread computes with rows of its own, forward and backward.

They stay in its core's cache. One product of the whole batch is shared along other dimensions forward than backward,
and the rows travel between the cores. The step of 784-10 takes 0.86 of the time that `LinearStep` takes for batches of
256 that were just made from bytes, and 0.98 for float32 rows that lie in memory (2 cores of an AMD EPYC with AVX-512,
November 2026; 0.98 and 1.00 of an Intel Xeon).
"""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkproof.runtime import one_thread
from inkproof.written_out.linear import LinearStep, ones
from inkproof.written_out.losses import judge
from inkproof.written_out.overflow import is_far_from_overflow

_FEW = 16  # outputs: with more, adding up the threads' gradients takes longer than sharing rows out saves
_MANY = 512  # inputs: with fewer, 196 say, there is less to share out than it costs
ROWS = 64  # of a batch for each thread: with fewer it gets no part of its own


class OneLayerStep:
    """One training step of a single linear layer, such as `is_one_layer` is true of.

    Args:
        plain: the layer's `LinearStep`, which goes on taking batches that do not divide among threads.
    """

    def __init__(self, plain: LinearStep):
        (layer,) = plain.layers
        self._plain = plain
        self._optimizer, self._loss_gradient = plain.optimizer, plain.loss_gradient
        self._weight, self._bias = layer.weight.detach(), layer.bias.detach()
        self._column = self._bias.unsqueeze(1)

    def step(
        self, inputs: Float[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        """As `LinearStep.step`."""
        flat, threads = self._plain.rows_of(inputs), torch.get_num_threads()
        if flat is None:
            return None
        rows = flat.shape[0]
        if threads == 1 or rows % threads or rows < threads * ROWS:
            return self._plain.step(inputs, to_targets, check_finite=check_finite)
        parts, unit = flat.reshape(threads, rows // threads, -1), self._plain.unit
        beside = torch.bmm(self._weight.expand(threads, -1, -1), parts.mT)
        outputs = torch.add(self._column, beside.transpose(0, 1).reshape(-1, rows), alpha=unit)
        entering = [outputs] if check_finite and unit == 1 else []
        with one_thread():
            judged = judge(self._loss_gradient, outputs, to_targets(outputs.T))
            if judged is None:
                return None
            loss, gradient = judged
            if check_finite and not is_far_from_overflow(loss, gradient, *entering):
                return None
            rate = self._optimizer.param_groups[0]["lr"] / rows  # for a gradient that is n times its own
            self._bias.addmv_(gradient, ones(rows, gradient.dtype), alpha=-rate)
        by_part = gradient.view(-1, threads, rows // threads).transpose(0, 1)
        self._weight.sub_(torch.bmm(by_part, parts).sum(dim=0), alpha=rate * unit)
        return loss


def is_one_layer(layers: list[nn.Linear]) -> bool:
    """Whether there is one layer, of many inputs and few outputs, that adds a bias."""
    (layer, *others) = layers
    return not others and layer.bias is not None and layer.in_features >= _MANY and layer.out_features <= _FEW
