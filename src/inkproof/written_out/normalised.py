"""Loss and gradients of convolutional blocks with batch normalisation, without autograd."""

from collections.abc import Callable
from itertools import groupby

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from inkproof.heads import Loss
from inkproof.written_out.blocks import Block, Blocks, blocks_of
from inkproof.written_out.losses import LossGradient, judge, known_gradient
from inkproof.written_out.normalisation import Normalisation, take_gradient, with_norm
from inkproof.written_out.winograd import WinogradBlocks, takes_less

_convolution_backward = torch.ops.aten.convolution_backward
_max_pool_backward = torch.ops.aten.max_pool2d_with_indices_backward


class NormalisedNet:
    """Computes what a training step needs of a net of blocks, during one pass.

    Args:
        net: its parts.
        loss_gradient: the loss and n times its gradient.
    """

    def __init__(self, net: Blocks, loss_gradient: LossGradient):
        self._net, self._loss_gradient = net, loss_gradient
        self._stages: list[FixedBlock | DirectBlock | WinogradBlocks] = []
        self._planned_for: tuple[object, ...] | None = None

    @torch.no_grad()
    def differentiate(
        self,
        inputs: Shaped[Tensor, "n ..."],
        to_targets: Callable[[Tensor], Tensor],
        to_loss: Callable[[Tensor], Tensor],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, "n classes"]] | None:
        """Leave gradients in the parameters' `grad`, and give loss and outputs.

        Running statistics move as in training; parameters that are not trained have no gradient.

        Args:
            inputs: images (n, channels, height, width) of one batch, or what else a batch may be.
            to_targets: gives the targets beside the outputs.
            to_loss: gives the loss of the outputs, by operations that autograd records; it may raise.

        Returns:
            None for a batch of another form, with which nothing was done.
        """
        last = self._net.last
        assert last.bias is not None, "`blocks_of` takes no other"
        if not self._fit(inputs):
            return None
        self._plan(inputs)
        for parameter in self._net.parameters:
            parameter.grad = None
        values = inputs
        for stage in self._stages:
            values = stage.forward(values)
        flat, weight = _flat(values), _flat(last.weight)
        outputs = torch.addmm(last.bias.unsqueeze(1), weight, flat.T)
        judged = judge(self._loss_gradient, outputs, to_targets(outputs.T))
        loss, gradient = _by_autograd(outputs, to_loss) if judged is None else judged
        gradient.div_(len(inputs))
        last.bias.grad = gradient.sum(dim=1)
        take_gradient(last.weight, _shaped(gradient @ flat, last.weight))
        of_values: Tensor | None = _shaped(gradient.T @ weight, values)
        learning = [stage for stage in self._stages if not isinstance(stage, FixedBlock)]
        for stage in reversed(learning):
            assert of_values is not None, "it goes on until the first"
            of_values = stage.backward(of_values, goes_on=stage is not learning[0])
        return loss, outputs.T

    def _fit(self, inputs: Tensor) -> bool:
        """Whether a batch is one of images that the net takes, two at least: one has no variance."""
        first, last = self._net.blocks[0].convolution, self._net.last
        if inputs.layout is not torch.strided or inputs.ndim != 4 or len(inputs) < 2 or inputs.requires_grad:
            return False
        shape = tuple(inputs.shape[2:])
        for block in self._net.blocks:
            shape = block.shape_after(shape)
        fits = inputs.shape[1] == first.in_channels and shape == last.kernel_size
        return fits and inputs.dtype == last.weight.dtype and inputs.is_cpu

    def _plan(self, inputs: Float[Tensor, "n channels height width"]) -> None:
        """Choose how each block is computed, unless that is known."""
        training = [block.norm.training for block in self._net.blocks]
        now = (inputs.shape[1:], [block.learns for block in self._net.blocks], training)
        if now == self._planned_for:
            return
        self._planned_for, self._stages = now, []
        shape = tuple(inputs.shape[2:])
        kinds = []
        for block in self._net.blocks:
            kind = FixedBlock if not block.learns else WinogradBlocks if takes_less(block, shape) else DirectBlock
            kinds.append((kind, block))
            shape = block.shape_after(shape)
        for kind, group in groupby(kinds, key=lambda pair: pair[0]):
            blocks = [block for _, block in group]
            if kind is WinogradBlocks:
                self._stages.append(WinogradBlocks(blocks))
            else:
                self._stages += [FixedBlock(block) if kind is FixedBlock else DirectBlock(block) for block in blocks]


def _by_autograd(
    outputs: Float[Tensor, "classes n"], to_loss: Callable[[Tensor], Tensor]
) -> tuple[Float[Tensor, ""], Float[Tensor, "classes n"]]:
    """Loss and n times its gradient for targets of a form that only autograd takes, such as marks to leave rows out."""
    rows = outputs.T.contiguous().requires_grad_()
    with torch.enable_grad():
        loss = to_loss(rows)
        loss.backward()
    assert rows.grad is not None, "a known loss depends on them"
    return loss.detach(), rows.grad.T * len(rows)


def _flat(values: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n all"]:
    """Flattened with channels last, as they lie in memory."""
    return values.permute(0, 2, 3, 1).flatten(1)


def _shaped(flat: Float[Tensor, "n all"], like: Float[Tensor, "n channels height width"]) -> Tensor:
    """What `_flat` would flatten, in the shape of something like it."""
    return flat.view(like.permute(0, 2, 3, 1).shape).permute(0, 3, 1, 2)


class FixedBlock:
    """Forward pass of a block that is not trained.

    Args:
        block: its parts; none of its numbers changes while this is in use.
    """

    def __init__(self, block: Block):
        self._convolution, self._pools, self._normalisation = block.convolution, block.pools, Normalisation(block)
        # One operation for both, where the statistics stay and no pool stands between.
        self._both = None if block.norm.training or block.pools else with_norm(block)

    def forward(self, values: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n outputs rows columns"]:
        """Outputs for a batch."""
        stride, padding = self._convolution.stride, self._convolution.padding
        if self._both is not None:
            return self._normalisation.activate(torch.conv2d(values, *self._both, stride, padding))
        convolved = torch.conv2d(values, self._convolution.weight, None, stride, padding)
        return self._normalisation.forward(F.max_pool2d(convolved, 2) if self._pools else convolved)


class DirectBlock:
    """Forward and backward pass of a block, by the kernels that its modules would call.

    Args:
        block: its parts.
    """

    def __init__(self, block: Block):
        self._convolution, self._pools = block.convolution, block.pools
        self._normalisation = Normalisation(block)

    def forward(self, values: Float[Tensor, "n channels height width"]) -> Float[Tensor, "n outputs rows columns"]:
        """Outputs for a batch; what the backward pass needs is kept until then."""
        convolution = self._convolution
        self._inputs = values
        values = torch.conv2d(values, convolution.weight, None, convolution.stride, convolution.padding)
        if self._pools:
            self._convolved = values
            values, self._places = F.max_pool2d_with_indices(values, [2, 2], [2, 2])
        return self._normalisation.forward(values)

    def backward(
        self, gradient: Float[Tensor, "n outputs rows columns"], *, goes_on: bool
    ) -> Float[Tensor, "n channels height width"] | None:
        """Leave the parameters' gradients in their `grad`; the gradient for the inputs, where it `goes_on`."""
        weight = self._convolution.weight
        gradient = self._normalisation.backward(gradient)
        if self._pools:
            gradient = _max_pool_backward(
                gradient, self._convolved, [2, 2], [2, 2], [0, 0], [1, 1], False, self._places
            )
        of_inputs: Tensor | None
        of_inputs, of_weight, _ = _convolution_backward(
            gradient,
            self._inputs,
            weight,
            None,
            self._convolution.stride,
            self._convolution.padding,
            [1, 1],
            False,
            [0, 0],
            1,
            [goes_on, True, False],
        )
        take_gradient(weight, of_weight)
        return of_inputs


def normalised_net(model: nn.Module, loss: Loss) -> NormalisedNet | None:
    """What computes loss and gradients of a model without autograd, where it is a net of blocks; None for all others.

    Args:
        model: in training mode.
        loss: as a training calls it.
    """
    net, gradient = blocks_of(model), known_gradient(loss)
    return None if net is None or gradient is None else NormalisedNet(net, gradient)
