"""Clean statistics: those of training images as they are, whatever the net was trained on."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from inkproof import models
from inkproof.batch_norm import clean_batches, measure_statistics
from inkproof.errors import InputError
from inkproof.images import ImageSet, Split
from inkproof.learner import Learner
from inkproof.recipes import load_recipe
from inkproof.recipes.building import build_learner, build_schedule

CPU = torch.device("cpu")


def inverted(images: Tensor, generator: torch.Generator) -> Tensor:
    """An augmentation whose images have another mean than those they were made of."""
    return 1 - images


def net_of_a_norm() -> nn.Sequential:
    """A norm that sees the images themselves, unless the dropout before it is at work."""
    return nn.Sequential(nn.Dropout(0.5), nn.BatchNorm2d(1, momentum=0.2), nn.Flatten(), nn.Linear(64, 10))


@pytest.mark.parametrize("clean", [True, False])
def test_a_net_ends_with_the_statistics_of_images_as_they_are(few_digits: Split, clean: bool) -> None:
    train, valid, _ = few_digits
    assert train is not None
    learner = Learner(net_of_a_norm, train, valid, augment=inverted, clean_statistics=clean, on_finding="record")
    learner.fit(2, lr=0.01, verbose=False)
    found = learner.model.state_dict()
    mean, deviation = (train.pixels / 255).mean(), (train.pixels / 255).std()
    agrees = abs(found["1.running_mean"].item() - mean) < 1e-4, abs(found["1.running_var"].sqrt() - deviation) < 1e-3
    assert agrees == (clean, clean)


def test_nothing_but_the_statistics_changes(digits: ImageSet) -> None:
    model = models.strong(digits.shape, 10, widths=(4, 8))
    model.eval()
    model[1].train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    measure_statistics(model, clean_batches(model, digits, device=CPU), precision="float32")
    for name, tensor in model.state_dict().items():
        of_a_norm = "running" in name or "tracked" in name
        assert torch.equal(tensor, before[name]) != of_a_norm, name
    assert [module.training for module in model] == [at == 1 for at in range(len(model))]
    assert all(module.momentum == 0.3 for module in model if isinstance(module, nn.BatchNorm2d))


@pytest.mark.parametrize(("count", "sizes"), [(9000, [500] * 4), (1501, [376, 376, 376, 373]), (501, [251, 250])])
def test_batches_are_of_a_size_and_mixed_where_the_data_is_sorted(
    digits: ImageSet, count: int, sizes: list[int]
) -> None:
    pixels, labels = np.resize(digits.pixels, (count, 1, 8, 8)), np.sort(np.arange(count) % 10)
    model = models.strong(digits.shape, 10, widths=(4, 8))
    batches = [labels for _, labels in clean_batches(model, ImageSet(pixels, labels), device=CPU)]
    assert [len(labels) for labels in batches] == sizes
    assert all(torch.bincount(labels).min() > len(labels) // 12 for labels in batches)


def test_a_measurement_that_breaks_off_leaves_the_momentum(digits: ImageSet) -> None:
    class Broken(nn.Module):
        def forward(self, inputs: Tensor) -> Tensor:
            raise KeyboardInterrupt

    model = nn.Sequential(nn.BatchNorm2d(1, momentum=0.2), Broken())
    with pytest.raises(KeyboardInterrupt):
        measure_statistics(model, clean_batches(model, digits, device=CPU), precision="float32")
    assert model[0].momentum == 0.2
    assert model[0].training


def test_a_norm_that_keeps_no_statistics_is_none(digits: ImageSet) -> None:
    model = nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(64, 10))
    with pytest.raises(InputError, match="the model has none"):
        clean_batches(model, digits, device=CPU)


def test_the_recipe_best_measures_them(few_digits: Split) -> None:
    train, _, _ = few_digits
    assert train is not None
    recipe = load_recipe("best").model_copy(update={"augment": None, "precision": "float32"})
    learner = build_learner(recipe, train, None)
    list(learner.epochs(1, build_schedule(recipe)))
    once = {name: tensor.clone() for name, tensor in learner.model.state_dict().items() if "running" in name}
    measure_statistics(learner.model, clean_batches(learner.model, train, device=CPU), precision="float32")
    for name, tensor in once.items():
        torch.testing.assert_close(tensor, learner.model.state_dict()[name])


def test_a_training_with_them_that_is_put_back_goes_on_to_the_same_bits(few_digits: Split) -> None:
    def learner() -> Learner:
        return Learner(
            lambda: models.strong((1, 8, 8), 10, widths=(4, 8)),
            few_digits.train,
            few_digits.valid,
            clean_statistics=True,
        )

    whole, begun, other = learner(), learner(), learner()
    whole.fit(3, lr=0.05, verbose=False)
    begun.fit(2, lr=0.05, verbose=False)
    other.load_state_dict(begun.state_dict())
    other.fit(1, lr=0.05, verbose=False)
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, other.model.state_dict()[name]), name


def test_they_need_batch_normalisation_and_images(few_digits: Split) -> None:
    with pytest.raises(InputError, match="are those of batch normalisation, and the model has none: leave them out"):
        Learner(lambda: models.linear((1, 8, 8), 10), few_digits.train, clean_statistics=True)
    data = TensorDataset(torch.rand(20, 1, 8, 8), torch.arange(20) % 10)
    with pytest.raises(InputError, match="clean_statistics are measured on ImageSets alone"):
        Learner(net_of_a_norm, data, clean_statistics=True, on_finding="record")
