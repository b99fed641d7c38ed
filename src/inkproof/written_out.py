"""Training steps with the gradients written out: for stacks of linear layers under plain SGD.

The step of so small a net is mostly what autograd and the optimiser keep books about; written out it takes half the
time. What is taught in `by_hand` is done here with torch's own operations, updating in place.
"""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from inkproof import heads
from inkproof.heads import Loss
from inkproof.hooks import has_hooks
from inkproof.optimizers import is_plain_sgd
from inkproof.runtime import one_thread

_LARGE = 1e15  # float32 ends at 3e38: the product of two norms below this is finite
_SMALL = 4096  # weights: a product with fewer takes longer shared by threads than on one
_FEW = 16  # outputs: with more, adding up the parts' gradients takes longer than sharing rows out saves
_ROWS = 64  # of a batch: a thread with fewer gets no part of its own

_relu_backward = torch.ops.aten.threshold_backward.default  # looked up once: each step calls it

LossGradient = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Takes a batch's outputs, (outputs, n) of one net or (nets, outputs, n) of several, and its targets as the loss takes
them; gives the loss of each net, a mean over n rows, and n times its gradient for the outputs: the learning rate is
divided by n in place of so many numbers. Raises a RuntimeError for targets it cannot take."""


class WrittenOut:
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
        hidden: list[Tensor] = []  # behind each ReLU
        with self._threads():
            for weight, _, bias in self._upper:
                hidden.append(outputs.relu_())
                outputs = _layer(weight, bias, hidden[-1])
            targets = to_targets(outputs.T)
            try:
                loss, gradient = self.loss_gradient(outputs, targets)
            except (
                RuntimeError
            ):  # targets that this loss cannot take, or marks of rows to leave out: autograd's to judge
                return None
            gradients = [gradient]
            for (_, transposed, _), seen in zip(reversed(self._upper), reversed(hidden), strict=True):
                gradients.append(_relu_backward(transposed @ gradients[-1], seen, 0))
            gradients.reverse()
            sums = [gradient.sum(dim=1, keepdim=True) for gradient in gradients]
            # A number that is not finite, in any net before this step, is not finite in these sums either.
            if check_finite and not abs(torch.cat([loss.view(1, 1), *sums]).sum().item()) < _LARGE:
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


def write_out(model: nn.Module, loss: Loss, optimizer: torch.optim.Optimizer) -> WrittenOut | None:
    """The written-out step of a model, where it has one: without hooks, all of it trained."""
    parts = list(model) if type(model) is nn.Sequential else [model]
    flatten = type(parts[0]) is nn.Flatten and (parts[0].start_dim, parts[0].end_dim) == (1, -1)
    layers = _linear_layers(parts[1:] if flatten else parts)
    loss_gradient = _loss_gradient(loss)
    if layers is None or loss_gradient is None or any(map(has_hooks, model.modules())):
        return None
    if not is_plain_sgd(optimizer) or len({group["lr"] for group in optimizer.param_groups}) > 1:
        return None
    parameters = [parameter for layer in layers for parameter in layer.parameters()]
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    whole = {id(parameter) for parameter in parameters} == {id(parameter) for parameter in trained}
    simple = all(
        parameter.dtype in (torch.float32, torch.float64) and parameter.requires_grad for parameter in parameters
    )
    return WrittenOut(layers, optimizer, loss_gradient, flatten=flatten) if whole and simple else None


def _linear_layers(parts: list[nn.Module]) -> list[nn.Linear] | None:
    """The linear layers of `Linear (ReLU Linear)*`, each used once; None for any other model."""
    layers, between = parts[0::2], parts[1::2]
    if len(parts) % 2 == 0 or len(set(map(id, layers))) < len(layers):
        return None
    if not all(type(layer) is nn.Linear for layer in layers) or not all(type(part) is nn.ReLU for part in between):
        return None
    fits = all(first.out_features == second.in_features for first, second in pairwise(layers))
    return [layer for layer in layers if isinstance(layer, nn.Linear)] if fits else None


# -- losses ------------------------------------------------------------------------------------------------------------


def _loss_gradient(loss: Any) -> LossGradient | None:
    """The known gradient of a loss; None for one that only autograd can differentiate."""
    if type(loss) is nn.CrossEntropyLoss and loss.weight is None and loss.ignore_index == -100:  # torch's default
        return partial(_cross_entropy, smoothing=loss.label_smoothing) if loss.reduction == "mean" else None
    if type(loss) is nn.BCEWithLogitsLoss and loss.weight is None and loss.pos_weight is None:
        return _binary_cross_entropy if loss.reduction == "mean" else None
    smoothed = isinstance(loss, partial) and loss.func is heads.cross_entropy and not loss.args
    if smoothed and set(loss.keywords) <= {"label_smoothing"}:
        return partial(_cross_entropy, smoothing=loss.keywords.get("label_smoothing", 0.0))
    known: dict[Any, LossGradient] = {
        heads.cross_entropy: _cross_entropy,
        F.cross_entropy: _cross_entropy,
        heads.binary_cross_entropy: _binary_cross_entropy,
        F.binary_cross_entropy_with_logits: _binary_cross_entropy,
        heads.rmse_softmax: _rmse_softmax,
    }
    try:
        return known.get(loss)
    except TypeError:  # a loss that cannot be hashed is none of these
        return None


def _require_shape(targets: Shaped[Tensor, "..."], *shape: int) -> None:
    """Raise a RuntimeError unless targets have this shape: operations would broadcast them, or leave rows out."""
    if targets.shape != shape:
        raise RuntimeError(f"the loss takes targets of shape {shape} here, not {tuple(targets.shape)}")


def _cross_entropy(
    outputs: Float[Tensor, "*nets classes n"], targets: Shaped[Tensor, "..."], *, smoothing: float = 0.0
) -> tuple[Tensor, Tensor]:
    """n times its gradient is the probabilities minus the (smoothed) one-hot targets."""
    classes, count = outputs.shape[-2:]
    logarithms = outputs.log_softmax(dim=-2)
    if targets.is_floating_point():  # probabilities a class
        _require_shape(targets, count, classes)
        wanted = targets.T * (1 - smoothing) + smoothing / classes
        loss = -(wanted * logarithms).sum(dim=(-2, -1)) / count
        return loss, logarithms.exp_().mul_(wanted.sum(dim=0)).sub_(wanted)
    _require_shape(targets, count)
    places = targets.unsqueeze(0) if outputs.ndim == 2 else targets.expand(*outputs.shape[:-2], 1, count)
    loss = logarithms.gather(-2, places).sum(dim=(-2, -1)).div_(-count)  # twice as fast as the mean
    if smoothing:
        loss = (1 - smoothing) * loss - smoothing * logarithms.mean(dim=(-2, -1))
    gradient = logarithms.exp_()
    if smoothing:
        gradient -= smoothing / classes
    return loss, gradient.scatter_(-2, places, smoothing - 1.0, reduce="add")


def _binary_cross_entropy(
    outputs: Float[Tensor, "*nets k n"], targets: Float[Tensor, "..."]
) -> tuple[Tensor, Float[Tensor, "*nets k n"]]:
    """n times its gradient is the probability minus the target, over k."""
    _require_shape(targets, outputs.shape[-1], outputs.shape[-2])
    wanted = targets.T.expand_as(outputs)
    loss = F.binary_cross_entropy_with_logits(outputs, wanted, reduction="none").mean(dim=(-2, -1))
    return loss, (outputs.sigmoid() - wanted).div_(outputs.shape[-2])


def _rmse_softmax(
    outputs: Float[Tensor, "*nets classes n"], targets: Int64[Tensor, "..."]
) -> tuple[Tensor, Float[Tensor, "*nets classes n"]]:
    """As `by_hand.numpy_gradients.rmse_softmax` derives it, n times."""
    classes, count = outputs.shape[-2:]
    _require_shape(targets, count)
    probabilities = outputs.softmax(dim=-2)
    difference = probabilities - F.one_hot(targets, classes).T
    loss = difference.square().mean(dim=(-2, -1)).sqrt()
    of_probabilities = difference / (classes * loss[..., None, None])
    weighted = of_probabilities * probabilities
    return loss, weighted - probabilities * weighted.sum(dim=-2, keepdim=True)
