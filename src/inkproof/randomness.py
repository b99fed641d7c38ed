"""One seed, several named streams of random numbers: using one leaves the others where they are."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, get_args

import torch
from jaxtyping import UInt8
from torch import Tensor

StreamName = Literal["init", "shuffle", "augment", "model"]
"""init: initial weights. shuffle: order of the rows. augment: altered images. model: dropout and the like."""


class Streams:
    """The random streams of one training.

    Each stream has a generator of its own, seeded from the seed and the stream's name, so that switching
    augmentation on does not change the order of the rows.

    Args:
        seed: any integer.
        shuffle: seed of the stream `shuffle` alone; None takes `seed`.
    """

    def __init__(self, seed: int, *, shuffle: int | None = None):
        self.seed = seed
        self._generators = {
            name: torch.Generator().manual_seed(derived_seed(seed, name)) for name in get_args(StreamName)
        }
        if shuffle is not None:
            self._generators["shuffle"].manual_seed(derived_seed(shuffle, "shuffle"))

    def __getitem__(self, name: StreamName) -> torch.Generator:
        return self._generators[name]

    def state_dict(self) -> dict[str, UInt8[Tensor, " bytes"]]:
        """The position of every stream, as uint8 tensors."""
        return {name: generator.get_state() for name, generator in self._generators.items()}

    def load_state_dict(self, state: dict[str, UInt8[Tensor, " bytes"]]) -> None:
        """Go back to positions that `state_dict` gave."""
        for name, generator in self._generators.items():
            generator.set_state(state[name])

    @contextmanager
    def restored(self) -> Iterator[None]:
        """After the block every stream is where it was."""
        state = self.state_dict()
        try:
            yield
        finally:
            self.load_state_dict(state)

    @contextmanager
    def as_global(self, name: StreamName) -> Iterator[None]:
        """Let torch's global generator draw from a stream; afterwards the global one is as it was.

        Initialisers and dropout know no other generator. On CUDA devices the global generators are seeded from
        the stream for the time of the block.
        """
        generator = self._generators[name]
        with torch.random.fork_rng():
            if torch.cuda.is_available():
                torch.cuda.manual_seed_all(int(torch.randint(2**62, (1,), generator=generator)))
            torch.set_rng_state(generator.get_state())
            try:
                yield
            finally:
                generator.set_state(torch.get_rng_state())


def seed_global(seed: int) -> None:
    """Seed torch's global generators of the processor and of CUDA devices.

    `torch.manual_seed` takes 2 ms where there is no CUDA device: it keeps the seed for one that may be initialised
    later, with a stack trace.
    """
    torch.default_generator.manual_seed(seed)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(seed)


def derived_seed(seed: int, name: str) -> int:
    """A 63-bit seed for one use of many, unrelated to that for others and for neighbouring seeds."""
    return int.from_bytes(hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=8).digest(), "big") >> 1
