"""Random streams: named, independent, repeatable."""

import torch

from inkproof.randomness import Streams, seed_global


def draw(streams: Streams, name: str) -> list[float]:
    return torch.rand(5, generator=streams[name]).tolist()


def test_streams_of_a_seed_are_repeatable_and_differ_by_name_and_seed() -> None:
    names = ("init", "shuffle", "augment", "model")
    draws = [tuple(draw(Streams(seed), name)) for seed in (0, 1, -1, 2**70) for name in names]
    assert len(set(draws)) == len(draws)
    assert draw(Streams(3), "init") == draw(Streams(3), "init")


def test_using_one_stream_leaves_the_others() -> None:
    used, fresh = Streams(0), Streams(0)
    draw(used, "augment")
    assert draw(used, "shuffle") == draw(fresh, "shuffle")


def test_a_state_goes_back_to_its_place() -> None:
    streams = Streams(0)
    state = streams.state_dict()
    first = draw(streams, "model")
    streams.load_state_dict(state)
    assert draw(streams, "model") == first


def test_the_global_generator_draws_from_a_stream_and_is_put_back() -> None:
    streams, twin = Streams(0), Streams(0)
    before = torch.get_rng_state()
    with streams.as_global("init"):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, torch.rand(3, generator=twin["init"]))
    with streams.as_global("init"):
        assert not torch.equal(first, torch.rand(3))


def test_the_global_stream_can_be_seeded_as_torch_seeds_it() -> None:
    with torch.random.fork_rng():
        torch.manual_seed(5)
        wanted = torch.rand(3)
        seed_global(5)
        assert torch.equal(torch.rand(3), wanted)
