"""Hard examples: all images once, then the hardest in every epoch and some of the others."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inkproof import models, schedules
from inkproof.batches import Batches, epoch_lengths, even_bounds
from inkproof.errors import InputError
from inkproof.hard_examples import Difficulties, HardExamples
from inkproof.images import ImageSet, Split
from inkproof.learner import Learner
from inkproof.recipes import load_recipe

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(rows=st.integers(1, 60), share=st.floats(0.01, 1), easy=st.floats(0, 1), seed=st.integers(0, 9))
def test_an_epoch_gives_all_of_the_hardest_and_a_part_of_the_others_each_once(
    rows: int, share: float, easy: float, seed: int
) -> None:
    settings = HardExamples(share, easy)
    difficulties = Difficulties(rows, settings, device=CPU)
    sizes = difficulties.epoch_sizes(3)
    first = difficulties.order(generator(seed))
    assert sorted(first.tolist()) == list(range(rows)), "the first epoch gives all"
    difficulties.given = torch.arange(rows)
    difficulties.learn(torch.rand(rows, generator=generator(seed)))
    hard, some = settings.count(rows)
    hardest = set(difficulties.difficulty.argsort(descending=True)[:hard].tolist())
    orders = [difficulties.order(generator(seed + number)) for number in range(2)]
    for order in orders:
        assert len(set(order.tolist())) == len(order) == hard + some
        assert hardest <= set(order.tolist())
    assert sizes == [rows, *map(len, orders)]
    assert difficulties.epoch_sizes(2) == [len(order) for order in orders], "all were seen"


def test_images_that_were_not_seen_yet_come_first() -> None:
    difficulties = Difficulties(4, HardExamples(0.5), device=CPU)
    difficulties.given = torch.tensor([0, 2])
    difficulties.learn(torch.tensor([0.9, 0.1]))
    assert sorted(difficulties.order(generator()).tolist()) == [1, 3]


def test_batches_know_where_their_images_stand(digits: ImageSet) -> None:
    images = digits.subset(np.arange(50))
    batches = Batches(images, batch_size=16, device=CPU, shuffle=generator(), hard_examples=HardExamples(0.2, 0.1))
    assert batches.difficulties is not None
    lengths = epoch_lengths(batches, 3)
    for length in lengths:
        given_ = []
        for _, labels in batches:
            given_.append(batches.difficulties.given)
            assert images.labels is not None
            assert labels.tolist() == images.labels[given_[-1]].tolist()
            batches.difficulties.learn(torch.linspace(0, 1, 50)[given_[-1]])
        assert len(given_) == length
    assert lengths == [4, 1, 1]
    assert set(range(10)) <= set(torch.cat(given_).tolist()), "the ten hardest"


@given(rows=st.integers(1, 3000), batch_size=st.integers(1, 300))
def test_batches_are_even_so_that_no_few_images_set_the_statistics(rows: int, batch_size: int) -> None:
    bounds = even_bounds(rows, batch_size)
    sizes = [stop - start for start, stop in bounds]
    assert [start for start, _ in bounds] == [0, *(stop for _, stop in bounds[:-1])]
    assert bounds[-1][1] == rows
    assert max(sizes) - min(sizes) <= 1
    assert max(sizes) <= batch_size + (batch_size == 2)
    assert min(sizes) > 1 or batch_size == 1 or rows == 1


def test_a_recipe_counts_the_shorter_epochs() -> None:
    recipe = load_recipe("fast")
    assert recipe.epochs_for(50_000) == 4
    assert recipe.epochs_for(60_000) == 3
    assert recipe.epochs_for(1_000) == recipe.epochs
    assert recipe.hard_examples is not None
    whole = recipe.model_copy(update={"hard_examples": recipe.hard_examples.model_copy(update={"first": 1.0})})
    assert whole.epochs_for(50_000) == 3


def learner(sides: Split, **options: object) -> Learner:
    return Learner(
        lambda: models.strong(sides.train.shape, 10, widths=(4, 8)),
        sides.train,
        sides.valid,
        hard_examples=HardExamples(0.3, 0.1),
        **options,
    )


def test_what_is_hard_is_what_the_model_is_least_sure_of(few_digits: Split) -> None:
    trained = learner(few_digits, batch_size=16)
    trained.fit(6, lr=0.1, verbose=False)
    batches = trained.training_batches
    assert isinstance(batches, Batches)
    assert batches.difficulties is not None
    difficulty = batches.difficulties.difficulty
    assert ((difficulty >= 0) & (difficulty <= 1)).all()
    probabilities, labels = trained.get_preds(few_digits.train)
    assert labels is not None
    now = 1 - probabilities[torch.arange(len(labels)), labels]
    hardest = difficulty.argsort(descending=True)
    assert now[hardest[:60]].mean() > 1.3 * now[hardest[60:]].mean()
    # Whether 100 images note overfitting after six epochs depends on the processor's last digits.
    assert [finding.id for finding in trained.findings if finding.severity != "note"] == []


def test_a_training_that_is_put_back_goes_on_to_the_same_bits(few_digits: Split) -> None:
    def weights(of: Learner) -> Tensor:
        return torch.cat([parameter.detach().flatten() for parameter in of.model.parameters()])

    whole, begun = learner(few_digits), learner(few_digits)
    whole.fit(3, lr=0.05, verbose=False)
    begun.fit(2, lr=0.05, verbose=False)
    other = learner(few_digits)
    other.load_state_dict(begun.state_dict())
    other.fit(1, lr=0.05, verbose=False)
    assert torch.equal(weights(whole), weights(other))


def test_a_second_training_that_is_put_back_goes_on_to_the_same_bits(few_digits: Split) -> None:
    whole, schedule = learner(few_digits), schedules.one_cycle(0.1)
    whole.fit(1, lr=0.05, verbose=False)
    rows, states = whole.epochs(3, schedule), []
    for _ in rows:
        states.append(whole.state_dict())
    other = learner(few_digits)
    other.load_state_dict(states[1])
    list(other.epochs(3, schedule, done=2))
    for one, two in zip(whole.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, two)


def test_a_finder_of_learning_rates_leaves_what_is_hard_alone(few_digits: Split) -> None:
    trained = learner(few_digits)
    trained.fit(1, lr=0.05, verbose=False)
    before = trained.state_dict()
    trained.lr_find(steps=60, plot=False)
    assert torch.equal(before["difficulty"], trained.state_dict()["difficulty"])


def test_hard_examples_need_images_and_an_order_of_their_own(few_digits: Split) -> None:
    with pytest.raises(InputError, match="hard_examples choose and shuffle rows of ImageSets alone: take shuffle=True"):
        learner(few_digits, shuffle=False)
    rule = "a share above 0 and at most 1, not 0, easy ones of 0 to 1, not 2, and a first epoch of at least the share"
    with pytest.raises(InputError, match=f"{rule} and at most 1, not 1.5"):
        HardExamples(0, 2, 1.5)
    with pytest.raises(InputError, match=r"a first epoch of at least the share and at most 1, not 0\.2"):
        HardExamples(0.3, 0.1, 0.2)


def test_a_mean_image_takes_none(few_digits: Split) -> None:
    averaged = Learner(
        lambda: models.mean_image(few_digits.train.shape, 10), few_digits.train, hard_examples=HardExamples(0.3)
    )
    with pytest.raises(InputError, match="a mean image is the mean of all images: it takes no hard_examples"):
        averaged.fit(1, lr=0.1, verbose=False)


def test_a_recipe_of_hard_examples_in_file_order_is_refused(tmp_path: Path) -> None:
    text = load_recipe("fast").to_toml().replace("shuffle = true", "shuffle = false")
    file = tmp_path / "own.toml"
    file.write_text(text.replace('name = "fast"', 'name = "own"'))
    with pytest.raises(InputError, match="hard_examples choose the order of the images: they need shuffle = true"):
        load_recipe(file)
