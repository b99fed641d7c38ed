"""How hard images look to a linear net: a guess for the price of a few dozen steps of a small convolutional net."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

_LEARNT_FROM = 50_000  # images at most: 7,840 weights learn nothing from more
_STEPS = 200
# Times the root of the images a step, by the mean square of an image, falling to 0. On 50,000 images of MNIST it begins
# at 2, and the net gets 91 % of them right, where from 0.5 on it gets 89 %.
_RATE = 12.5
_TOGETHER = 2**18  # numbers: 256 images of 1,024 pixels stay in a core's second cache


@torch.inference_mode()
def linear_certainty(
    rows_at: Callable[[Int64[Tensor, " b"]], UInt8[Tensor, "b pixels"]],
    labels: Int64[Tensor, " n"],
    generator: torch.Generator,
) -> Float[Tensor, " n"]:
    """What softmax regression gives the true class of each image, 0 to 1, after one pass over the images.

    Args:
        rows_at: gives the flat images at some positions, on the labels' device.
        labels: class indices of all images.
        generator: a CPU generator, of the order of the pass.

    Source: choosing what to train on by a small net in place of the one trained (Coleman et al. 2020, "Selection via
    proxy").
    """
    order = torch.randperm(len(labels), generator=generator)[:_LEARNT_FROM].to(labels.device)
    some = rows_at(order[:_STEPS]).float().div_(255)
    pixels, square = some.shape[1], 1 + some.square().sum(dim=1).mean()  # 1: of the bias
    together = max(1, _TOGETHER // pixels)
    batches = order.split(min(together, -(-len(order) // _STEPS)))
    rate = _RATE * len(batches[0]) ** 0.5 / square
    weight = torch.zeros(pixels, int(labels.max()) + 1, device=labels.device)
    bias = weight.new_zeros(weight.shape[1])
    memory = weight.new_empty(together, pixels)

    def probabilities(positions: Int64[Tensor, " b"]) -> tuple[Float[Tensor, "b pixels"], Float[Tensor, "b classes"]]:
        inputs = memory[: len(positions)].copy_(rows_at(positions))
        return inputs, torch.addmm(bias, inputs, weight, alpha=1 / 255).softmax(dim=1)

    with torch.autocast(labels.device.type, enabled=False):  # a user's
        for number, positions in enumerate(batches):
            inputs, error = probabilities(positions)
            error.scatter_add_(1, labels[positions].unsqueeze(1), error.new_full((len(positions), 1), -1))
            error.mul_(rate * ((number / len(batches) - 1) / len(positions)))
            weight.addmm_(inputs.T, error, alpha=1 / 255)
            bias.add_(error.sum(dim=0))
        everywhere = torch.arange(len(labels), device=labels.device).split(together)
        certain = [probabilities(positions)[1].gather(1, labels[positions].unsqueeze(1)) for positions in everywhere]
    return torch.cat(certain).squeeze(1)
