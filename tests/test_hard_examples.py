"""Hard examples: all images once, then the hardest in every pass and some of the others."""

from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inkproof import models
from inkproof.batches import Batches
from inkproof.errors import InputError
from inkproof.hard_examples import Difficulties, HardExamples
from inkproof.images import ImageSet, Split
from inkproof.learner import Learner
from inkproof.recipes import load_recipe

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(rows=st.integers(1, 60), share=st.floats(0.01, 1), easy=st.floats(0, 1), seed=st.integers(0, 9))
def test_a_pass_gives_all_of_the_hardest_and_a_part_of_the_others_each_once(
    rows: int, share: float, easy: float, seed: int
) -> None:
    difficulties = Difficulties(rows, HardExamples(share, easy), device=CPU)
    orders = difficulties.orders(generator(seed))
    first = next(orders)
    assert sorted(first.tolist()) == list(range(rows)), "the first pass gives all"
    difficulties.given = torch.arange(rows)
    difficulties.learn(torch.rand(rows, generator=generator(seed)))
    hard = max(1, round(share * rows))
    hardest = set(difficulties.difficulty.argsort(descending=True)[:hard].tolist())
    for order in islice(orders, 2):
        counted = Counter(order.tolist())
        assert set(counted.values()) == {1}
        assert hardest <= set(counted)
        assert len(order) == hard + round(easy * (rows - hard))


def test_images_that_were_not_seen_yet_come_first() -> None:
    difficulties = Difficulties(4, HardExamples(0.5), device=CPU)
    difficulties.given = torch.tensor([0, 2])
    difficulties.learn(torch.tensor([0.9, 0.1]))
    assert sorted(next(difficulties.orders(generator())).tolist()) == [1, 3]


def test_an_epoch_has_as_many_images_as_before(digits: ImageSet) -> None:
    images = digits.subset(np.arange(50))
    batches = Batches(images, batch_size=16, device=CPU, shuffle=generator(), hard_examples=HardExamples(0.2, 0.1))
    assert batches.difficulties is not None
    for epoch in range(3):
        given_ = []
        for _, labels in batches:
            given_ += batches.difficulties.given.tolist()
            assert images.labels is not None
            assert labels.tolist() == images.labels[batches.difficulties.given].tolist()
            batches.difficulties.learn(torch.linspace(0, 1, 50)[batches.difficulties.given])
        assert len(given_) == 50
        counted = Counter(given_)
        if epoch:
            assert all(counted[hardest] >= 50 // (10 + 4) for hardest in range(10)), "in every pass of the epoch"
    assert len(counted) < 50


def learner(sides: Split, **options: object) -> Learner:
    return Learner(
        lambda: models.strong(sides.train.shape, 10, widths=(4, 8)),
        sides.train,
        sides.valid,
        hard_examples=HardExamples(0.3, 0.1),
        **options,  # type: ignore[arg-type]
    )


def test_what_is_hard_is_what_the_model_is_least_sure_of(few_digits: Split) -> None:
    trained = learner(few_digits)
    trained.fit(2, lr=0.05, verbose=False)
    batches = trained.training_batches
    assert isinstance(batches, Batches)
    assert batches.difficulties is not None
    difficulty = batches.difficulties.difficulty
    assert ((difficulty >= 0) & (difficulty <= 1)).all()
    probabilities, labels = trained.get_preds(few_digits.train)
    assert labels is not None
    now = 1 - probabilities[torch.arange(len(labels)), labels]
    assert torch.corrcoef(torch.stack([now, difficulty]))[0, 1] > 0.5
    assert not trained.findings


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


def test_a_finder_of_learning_rates_leaves_what_is_hard_alone(few_digits: Split) -> None:
    trained = learner(few_digits)
    trained.fit(1, lr=0.05, verbose=False)
    before = trained.state_dict()
    trained.lr_find(steps=60, plot=False)
    assert torch.equal(before["difficulty"], trained.state_dict()["difficulty"])


def test_hard_examples_need_images_and_an_order_of_their_own(few_digits: Split) -> None:
    with pytest.raises(InputError, match="hard_examples choose and shuffle rows of ImageSets alone: take shuffle=True"):
        learner(few_digits, shuffle=False)
    with pytest.raises(InputError, match="a share above 0 and at most 1, not 0, and easy ones of 0 to 1, not 2"):
        HardExamples(0, 2)


def test_a_recipe_of_hard_examples_in_file_order_is_refused(tmp_path: Path) -> None:
    text = load_recipe("fast").to_toml().replace("shuffle = true", "shuffle = false")
    file = tmp_path / "own.toml"
    file.write_text(text.replace('name = "fast"', 'name = "own"') + "\n[hard_examples]\nshare = 0.2\n")
    with pytest.raises(InputError, match="hard_examples choose the order of the images: they need shuffle = true"):
        load_recipe(file)
