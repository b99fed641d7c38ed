"""A linear net's guess at what is hard, and a first epoch that leaves out most of what is easy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from inkproof import linear_guess, models
from inkproof.batches import Batches, epoch_lengths
from inkproof.hard_examples import Difficulties, HardExamples
from inkproof.images import ImageSet, Split
from inkproof.learner import Learner
from inkproof.linear_guess import linear_certainty

CPU = torch.device("cpu")


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def certainty(images: ImageSet, seed: int = 0) -> Tensor:
    rows = torch.from_numpy(images.pixels.reshape(len(images), -1).copy())
    labels = torch.from_numpy(images.require_labels("guessing").copy())
    return linear_certainty(lambda positions: rows[positions], labels, generator(seed))


def batches(images: ImageSet, settings: HardExamples, seed: int = 0) -> Batches:
    return Batches(images, batch_size=32, device=CPU, shuffle=generator(seed), hard_examples=settings)


def given_by(of: Batches) -> list[Tensor]:
    assert of.difficulties is not None
    return [of.difficulties.given for _ in of]


def test_it_is_sure_of_most_digits_and_not_of_those_that_are_labelled_wrong(digits: ImageSet) -> None:
    labels = digits.require_labels("guessing").copy()
    wrong = np.arange(0, len(labels), 50)
    labels[wrong] = (labels[wrong] + 5) % 10
    sure = certainty(ImageSet(digits.pixels, labels))
    assert ((sure >= 0) & (sure <= 1)).all()
    others = np.setdiff1d(np.arange(len(labels)), wrong)
    assert sure[others].mean() > 0.8
    assert sure[wrong].mean() < 0.1


def test_it_is_softmax_regression_by_autograd(digits: ImageSet) -> None:
    x = torch.from_numpy(digits.pixels.reshape(len(digits), -1) / np.float32(255))
    y = torch.from_numpy(digits.require_labels("guessing").copy())
    net = torch.nn.Linear(64, 10)
    torch.nn.init.zeros_(net.weight)
    torch.nn.init.zeros_(net.bias)
    parts = torch.randperm(len(y), generator=generator()).split(9)  # two hundred steps
    rate = 12.5 * 3 / (1 + float(x[torch.cat(parts)[:200]].square().sum(dim=1).mean()))
    optimizer = torch.optim.SGD(net.parameters(), lr=rate)
    for number, part in enumerate(parts):
        optimizer.param_groups[0]["lr"] = rate * (1 - number / len(parts))
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(x[part]), y[part]).backward()
        optimizer.step()
    expected = net(x).softmax(dim=1).gather(1, y.unsqueeze(1)).squeeze(1)
    torch.testing.assert_close(certainty(digits), expected.detach(), atol=1e-3, rtol=0)


def test_a_users_autocast_does_not_reach_it(digits: ImageSet) -> None:
    alone = certainty(digits)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(certainty(digits), alone)


def test_a_white_background_is_no_harder_to_learn_on(digits: ImageSet) -> None:
    sure = certainty(ImageSet(255 - digits.pixels, digits.labels))
    assert sure.mean() > 0.7
    assert ((sure > 0) & (sure < 1)).float().mean() > 0.9


def test_no_more_is_learnt_from_a_million_images(digits: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    rows, labels = torch.from_numpy(digits.pixels.reshape(-1, 64).copy()), torch.zeros(len(digits), dtype=torch.int64)
    monkeypatch.setattr(linear_guess, "_LEARNT_FROM", 400)

    def rows_at(positions: Tensor) -> Tensor:
        asked.append(len(positions))
        return rows[positions]

    given = linear_certainty(rows_at, labels, generator())
    assert asked[:201] == [200, *[2] * 200], "some to know the rate by, and the steps"
    assert sum(asked[201:]) == len(given) == len(digits)


@given(rows=st.integers(1, 60), first=st.floats(0.3, 0.99), seed=st.integers(0, 9))
def test_a_first_epoch_of_some_gives_most_of_the_hardest_and_each_once(rows: int, first: float, seed: int) -> None:
    settings = HardExamples(0.3, 0.1, first)
    difficulties = Difficulties(rows, settings, device=CPU)
    sizes = difficulties.epoch_sizes(3)
    assert difficulties.want_a_guess == (sizes[0] < rows)
    sure = torch.rand(rows, generator=generator(seed))
    difficulties.leave_out_easy(sure, generator(seed))
    assert not difficulties.want_a_guess
    order = difficulties.order(generator(seed))
    assert len(set(order.tolist())) == len(order) == settings.count_first(rows) == sizes[0]
    assert set(sure.argsort()[: round(0.7 * len(order))].tolist()) <= set(order.tolist())
    assert difficulties.epoch_sizes(3) == sizes
    difficulties.given = order
    difficulties.learn(torch.rand(len(order), generator=generator(seed)))
    assert len(difficulties.order(generator(seed))) == sizes[1] == sizes[2] == sum(settings.count(rows))


def test_images_that_look_alike_are_drawn_and_not_taken_in_the_order_of_the_file() -> None:
    difficulties = Difficulties(1000, HardExamples(0.1, 0.1, 0.2), device=CPU)
    difficulties.leave_out_easy(torch.ones(1000), generator())
    assert 350 < difficulties.order(generator()).float().mean() < 650


def test_batches_of_the_first_pass_are_mostly_what_a_linear_net_is_unsure_of(digits: ImageSet) -> None:
    some = batches(digits, HardExamples(0.2, 0.1, first=0.3))
    lengths = epoch_lengths(some, 2)
    parts = given_by(some)
    seen = torch.cat(parts)
    assert len(parts) == lengths[0]
    assert len(set(seen.tolist())) == len(seen) == round(0.3 * len(digits))
    hardest = certainty(digits, seed=5).argsort()[: round(0.15 * len(digits))]  # by a net that saw another order
    assert torch.isin(hardest, seen).float().mean() > 0.9
    assert set(digits.require_labels("looking")[seen].tolist()) == set(range(10))


def test_the_seed_decides_the_first_pass_whatever_was_drawn_before(digits: ImageSet) -> None:
    settings = HardExamples(0.2, 0.1, first=0.3)
    once, later, other = (batches(digits, settings, seed) for seed in (0, 0, 1))
    assert later.shuffle is not None
    torch.randperm(5, generator=later.shuffle)
    seen = [sorted(torch.cat(given_by(each)).tolist()) for each in (once, later, other)]
    assert seen[0] == seen[1] != seen[2]


def test_a_subset_is_guessed_at_like_a_copy_of_its_images(digits: ImageSet) -> None:
    settings = HardExamples(0.2, 0.1, first=0.3)
    subset = digits.subset(np.arange(1, len(digits), 3)[::-1].copy())
    copied = ImageSet(subset.pixels.copy(), subset.require_labels("copying").copy())
    seen = [torch.cat(given_by(batches(images, settings))) for images in (subset, copied)]
    assert torch.equal(*seen)


def learner(sides: Split) -> Learner:
    return Learner(
        lambda: models.strong(sides.train.shape, 10, widths=(4, 8)),
        sides.train,
        sides.valid,
        hard_examples=HardExamples(0.3, 0.1, first=0.5),
    )


@pytest.mark.parametrize("found", [False, True])
def test_a_training_that_is_put_back_goes_on_to_the_same_bits(few_digits: Split, found: bool) -> None:
    whole, begun, other = (learner(few_digits) for _ in range(3))
    whole.fit(3, lr=0.05, verbose=False)
    if found:
        before = begun.state_dict()
        begun.lr_find(steps=60, plot=False)
        assert torch.equal(before["difficulty"], begun.state_dict()["difficulty"])
    begun.fit(1, lr=0.05, verbose=False)
    other.load_state_dict(begun.state_dict())
    other.fit(2, lr=0.05, verbose=False)
    for one, two in zip(whole.model.parameters(), other.model.parameters(), strict=True):
        assert torch.equal(one, two)
