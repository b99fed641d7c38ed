"""The step of linear layers: what is taught in `by_hand`, with torch's own operations, updating in place.

The step of so small a net is mostly what autograd and the optimiser keep books about; written out it takes half the
time.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import lru_cache

import torch
from jaxtyping import Float
from torch import Tensor, nn

from inkproof.runtime import Precision, one_thread
from inkproof.written_out.losses import LossGradient, judge
from inkproof.written_out.overflow import is_far_from_overflow

SMALL = 4096  # weights: a product with fewer takes longer shared by threads than on one

_threshold_backward = torch.ops.aten.threshold_backward.grad_input  # looked up once: each step calls it


def relu_backward_(gradient: Float[Tensor, "..."], seen: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """The gradient for what entered a ReLU, from that for what is seen behind it, in its place."""
    result: Tensor = _threshold_backward(gradient, seen, 0, grad_input=gradient)
    return result


@lru_cache(maxsize=8)
def ones(rows: int, dtype: torch.dtype) -> Float[Tensor, " rows"]:
    """As many as a batch has rows: a product with them adds rows up, and they are the same for each batch."""
    return torch.ones(rows, dtype=dtype, device="cpu")


class LinearStep:
    """One training step of linear layers with ReLU between, a known loss and plain SGD.

    Args:
        layers: the linear layers, first to last.
        optimizer: plain SGD over exactly their parameters.
        loss_gradient: the loss and n times its gradient.
        flatten: the first layer takes flattened inputs.
        unit: what inputs are multiplied by; other than 1 for bytes alone.
        precision: of products. A step in bfloat16 is there to be copied.

    Attributes:
        layers, optimizer, loss_gradient, flatten, unit, precision: as given.
        threads: the context for all that is computed above the first layer, whose inputs are many.
    """

    def __init__(
        self,
        layers: list[nn.Linear],
        optimizer: torch.optim.Optimizer,
        loss_gradient: LossGradient,
        *,
        flatten: bool,
        unit: float = 1.0,
        precision: Precision = "float32",
    ):
        self.layers = layers
        self.flatten = flatten
        self.optimizer = optimizer
        self.loss_gradient = loss_gradient
        self.unit = unit
        self.precision = precision
        # The same memory without autograd's view of it, biases as columns too; found once, since a step is short.
        self._weights = [layer.weight.detach() for layer in layers]
        self._biases = [None if layer.bias is None else layer.bias.detach() for layer in layers]
        self._columns = [None if bias is None else bias.unsqueeze(1) for bias in self._biases]
        weights, columns = self._weights[1:], self._columns[1:]
        self._upper = [(weight, weight.T, column) for weight, column in zip(weights, columns, strict=True)]
        small = all(weight.numel() <= SMALL for weight in weights)
        self.threads = one_thread if small else nullcontext

    def step(
        self, inputs: Float[Tensor, "n ..."], to_targets: Callable[[Tensor], Tensor], *, check_finite: bool
    ) -> Float[Tensor, ""] | None:
        """Forward, backward, update.

        Args:
            inputs: of one batch.
            to_targets: gives the targets beside the outputs, or raises where the two do not pair.
            check_finite: look for numbers near the end of what float32 holds before the update.

        Returns:
            The loss before the update; None where such numbers were found, or data of another
            form, and nothing was updated.
        """
        assert self.precision == "float32", "a step in bfloat16 is there to be copied"
        flat = rows_of(inputs, self.layers[0].in_features, flatten=self.flatten)
        if flat is None:
            return None
        # Units by rows: the product in which its few outputs are the rows is up to twice as fast as `F.linear`, and a
        # softmax over rows ten times as fast as one over columns.
        outputs = _layer(self._weights[0], self._columns[0], flat.T, unit=self.unit)
        entering = [outputs.sum()] if check_finite and self.unit == 1 else []
        hidden: list[Tensor] = []  # behind each ReLU
        with self.threads():
            for weight, _, column in self._upper:
                hidden.append(outputs.relu_())
                outputs = _layer(weight, column, hidden[-1])
            judged = judge(self.loss_gradient, outputs, to_targets(outputs.T))
            if judged is None:
                return None
            loss, gradient = judged
            gradients = [gradient]
            for (_, transposed, _), seen in zip(reversed(self._upper), reversed(hidden), strict=True):
                gradients.append(relu_backward_(transposed @ gradients[-1], seen))
            gradients.reverse()
            if check_finite and not is_far_from_overflow(loss, *gradients, *entering):
                return None
            rate = self.optimizer.param_groups[0]["lr"] / flat.shape[0]  # for gradients that are n times theirs
            for (weight, _, _), seen, gradient in zip(self._upper, hidden, gradients[1:], strict=True):
                weight.addmm_(gradient, seen.T, alpha=-rate)
            for bias, gradient in zip(self._biases, gradients, strict=True):
                if bias is not None:
                    bias.addmv_(gradient, ones(flat.shape[0], gradient.dtype), alpha=-rate)
        self._weights[0].addmm_(gradients[0], flat, alpha=-rate * self.unit)
        return loss


def rows_of(inputs: Float[Tensor, "n ..."], width: int, *, flatten: bool) -> Float[Tensor, "n width"] | None:
    """A batch as a first layer takes it; None where it is empty or does not fit, which is autograd's to judge.

    Args:
        width: the layer's inputs.
        flatten: it takes them flattened.
    """
    if inputs.layout is not torch.strided:
        return None
    flat = inputs.flatten(1) if flatten and inputs.ndim > 1 else inputs
    return flat if flat.ndim == 2 and flat.shape[0] > 0 and flat.shape[1] == width else None


def _layer(
    weight: Float[Tensor, "outputs inputs"],
    bias: Float[Tensor, "outputs 1"] | None,
    inputs: Float[Tensor, "inputs n"],
    *,
    unit: float = 1.0,
) -> Float[Tensor, "outputs n"]:
    if bias is not None:
        return torch.addmm(bias, weight, inputs, alpha=unit)
    outputs = weight @ inputs
    return outputs if unit == 1 else outputs.mul_(unit)
