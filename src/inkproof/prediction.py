"""Predictions of a model on images: outputs, probabilities, labels, in the order of the data."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Tensor, nn

from inkproof.augment import one_pixel_views
from inkproof.batches import Data, ordered_batches
from inkproof.errors import InputError
from inkproof.heads import Activation, Head
from inkproof.images import ImageSet
from inkproof.runtime import Precision
from inkproof.steps import collect_outputs, evaluating, forward


@dataclass(frozen=True)
class Predictor:
    """A model together with what its outputs mean and how it computes.

    Args:
        model: on `device`; its training or evaluation mode is left as it is.
        head: what the outputs mean.
        device: where it computes.
        precision: as in training, so that scores are those of training.
        activation: what the model does to its outputs itself, so that nothing is activated twice.
    """

    model: nn.Module
    head: Head
    device: torch.device
    precision: Precision = "float32"
    activation: Activation = "none"

    def outputs(self, data: Data) -> tuple[Float[Tensor, "n ..."], Shaped[Tensor, "n ..."]]:
        """Raw outputs and labels of all rows, on the device; images without labels have label 0."""
        return collect_outputs(self.model, ordered_batches(data, device=self.device), precision=self.precision)

    def decode(self, outputs: Float[Tensor, "n ..."]) -> Int64[Tensor, " n"]:
        """The predicted class index of each row of outputs."""
        return self.head.decode(outputs, self.activation)

    def probabilities(
        self, data: Data, *, tta: bool = False
    ) -> tuple[Float[Tensor, "n classes"], Shaped[Tensor, "n ..."]]:
        """Probabilities and labels of all rows on the CPU.

        Args:
            data: the images; where they have no labels, each label is 0.
            tta: average over each image and its shifts by one pixel in four directions.

        Returns:
            Probabilities, activated once even where the model ends in a softmax; labels.
        """
        outputs, labels = self.outputs(data)
        averaged = self._averaged(data) if tta else self.head.probabilities(outputs, self.activation)
        return averaged.cpu(), labels.cpu()

    def predict(self, data: Data, *, tta: bool = False) -> Int64[Tensor, " n"]:
        """The predicted class index of each row, on the CPU."""
        if tta:
            return self._averaged(data).argmax(dim=1).cpu()
        outputs, _ = self.outputs(data)
        return self.decode(outputs).cpu()

    @torch.no_grad()
    def _averaged(self, data: Data) -> Float[Tensor, "n classes"]:
        if not isinstance(data, ImageSet):
            raise InputError("tta shifts images and works on ImageSets alone")
        averaged = []
        with evaluating(self.model):
            for inputs, _ in ordered_batches(data, device=self.device):
                views = [forward(self.model, view, self.precision) for view in one_pixel_views(inputs)]
                activated = [self.head.probabilities(view, self.activation) for view in views]
                averaged.append(torch.stack(activated).mean(dim=0))
        return torch.cat(averaged)
