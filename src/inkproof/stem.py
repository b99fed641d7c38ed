"""The stem: a net's first convolution and its normalisation, which soon know what strokes look like.

Once it learns no more, the gradient ends above it: a step of the recipe `fast` takes 0.8 of the time (2 cores of an AMD
EPYC with AVX2 alone, November 2026).
"""

from collections.abc import Iterable
from math import ceil

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from inkproof.errors import InputError

_ROUNDING = 1e-9  # of a share times steps: 0.07 times 100 is a little more than 7


class Stem:
    """The first convolution of a chain and what stands behind it up to the second, and how long they learn.

    Within its `with` block, which is one pass of a training, it stops learning when it is told so; at the end of the
    block it can learn again, as at the beginning. What an optimiser remembers of it stays as it was.

    Args:
        layers: in front of the second convolution; none where the first learns as long as all others.
        learns: share of the steps of a training; at least one step.

    Source: layers that stop learning one by one (Brock et al. 2017), of which only the first pays here.
    """

    def __init__(self, layers: list[nn.Module], learns: float):
        self._layers, self._learns = layers, learns
        self._stopped: list[nn.Module | nn.Parameter] = []

    def before(self, step: int, steps: int) -> None:
        """Before each step of the pass: the stem stops learning, if it is time.

        From then on its normalisation keeps the statistics that it has, until `clean_statistics` measure them anew.

        Args:
            step: its number within the training.
            steps: of the whole training.
        """
        if not self._layers or self._stopped or step < ceil(self._learns * steps - _ROUNDING):
            return
        parameters = [each for layer in self._layers for each in layer.parameters() if each.requires_grad]
        norms = [norm for norm in _norms(self._layers) if norm.training]
        self._stopped = [*parameters, *norms]
        self._let_learn(False)

    def __enter__(self) -> None:
        self._stopped = []

    def __exit__(self, *error: object) -> None:
        self._let_learn(True)
        self._stopped = []

    def _let_learn(self, learn: bool) -> None:
        for each in self._stopped:
            if isinstance(each, nn.Module):
                each.train(learn)
            else:
                each.requires_grad_(learn)


def _norms(layers: Iterable[nn.Module]) -> list[_BatchNorm]:
    return [each for layer in layers for each in layer.modules() if isinstance(each, _BatchNorm)]


def stem_of(model: nn.Module, learns: float) -> Stem:
    """The stem of a chain of layers.

    Args:
        model: an `nn.Sequential` that begins with a convolution and its batch normalisation.
        learns: share of the steps of a training in which the stem learns.

    Raises:
        InputError: a share that is not above 0 and at most 1, or a model without such a stem.
    """
    if not 0 < learns <= 1:
        raise InputError(f"stem_learns is a share of the steps, above 0 and at most 1, not {learns}")
    if learns == 1:
        return Stem([], learns)
    layers = list(model) if isinstance(model, nn.Sequential) else []
    convolve = [at for at, layer in enumerate(layers) if any(isinstance(each, nn.Conv2d) for each in layer.modules())]
    begins = len(convolve) > 1 and isinstance(layers[0], nn.Conv2d)
    stem = layers[: convolve[1]] if begins else []
    if not _norms(stem):
        raise InputError(
            f"stem_learns = {learns} is for an nn.Sequential that begins with a convolution and batch normalisation, "
            "and has more convolutions: leave it out"
        )
    return Stem(stem, learns)
