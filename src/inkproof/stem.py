"""The stem: a net's first convolution and its normalisation, which soon know what strokes look like.

Once it learns no more, the gradient ends above it: of a step of the recipe `fast` a fifth is left out.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from inkproof.errors import InputError


@dataclass(frozen=True)
class Stem:
    """The first layer of a chain and the normalisation behind it, and how long they learn.

    Args:
        layers: in front of the second layer with kernels; none where the first learns as long as all others.
        learns: share of the steps of a training.

    Source: layers that stop to learn one by one (Brock et al. 2017), of which only the first pays here.
    """

    layers: tuple[nn.Module, ...]
    learns: float

    @contextmanager
    def learning(
        self, batches: Iterable[tuple[Tensor, Tensor]], first_step: int, steps: int
    ) -> Iterator[Iterable[tuple[Tensor, Tensor]]]:
        """The batches of a pass, during which the stem ceases to learn; afterwards it can learn again.

        From then on its normalisation keeps the statistics that it has.

        Args:
            batches: of the pass, in training mode.
            first_step: the number of the pass's first step within the training.
            steps: of the whole training.
        """
        if not self.layers:
            yield batches
            return
        parameters = [each for layer in self.layers for each in layer.parameters() if each.requires_grad]
        norms = [layer for layer in self.layers if isinstance(layer, _BatchNorm) and layer.training]
        left = max(0, round(self.learns * steps) - first_step)

        def given() -> Iterator[tuple[Tensor, Tensor]]:
            for number, batch in enumerate(batches):
                if number == left:
                    _let_learn(parameters, norms, learn=False)
                yield batch

        try:
            yield given()
        finally:
            _let_learn(parameters, norms, learn=True)


def _let_learn(parameters: Iterable[nn.Parameter], norms: Iterable[_BatchNorm], *, learn: bool) -> None:
    for parameter in parameters:
        parameter.requires_grad_(learn)
    for norm in norms:
        norm.train(learn)


def stem_of(model: nn.Module, learns: float) -> Stem:
    """The stem of a chain of layers.

    Args:
        model: an `nn.Sequential`.
        learns: share of the steps of a training in which the stem learns.

    Raises:
        InputError: a share that is not above 0 and at most 1, or a model that is no chain of convolutions.
    """
    if not 0 < learns <= 1:
        raise InputError(f"stem_learns is a share of the steps, above 0 and at most 1, not {learns}")
    if learns == 1:
        return Stem((), learns)
    layers = list(model) if isinstance(model, nn.Sequential) else []
    kernels = [at for at, layer in enumerate(layers) if isinstance(layer, nn.Conv2d)]
    if not kernels or kernels[0] != 0 or len(kernels) < 2:
        raise InputError(
            f"stem_learns = {learns} is for an nn.Sequential that begins with a convolution and has more: leave it out"
        )
    return Stem(tuple(layers[: kernels[1]]), learns)
