"""Fingerprints stay what they are: runs of other days are compared by them."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from inkproof.fingerprints import fingerprints, hashes

ROWS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_a_fingerprint_is_blake2b_of_the_rows_bytes() -> None:
    expected = [hashlib.blake2b(row.tobytes(), digest_size=8, person=b"[1, 2, 2]").digest() for row in ROWS]
    assert fingerprints(ROWS, of="[1, 2, 2]").tobytes() == b"".join(expected)


def test_fingerprints_are_those_of_earlier_versions() -> None:
    assert fingerprints(ROWS).tolist() == [11009417550903347706, 16868647369657737666, 18138174599818722504]


def test_other_kinds_of_rows_have_other_fingerprints() -> None:
    assert not set(fingerprints(ROWS).tolist()) & set(fingerprints(ROWS, of="[1, 4, 1]").tolist())


def test_no_rows_have_no_fingerprints() -> None:
    assert len(fingerprints(ROWS[:0])) == 0


def test_rows_with_gaps_are_refused() -> None:
    with pytest.raises(BufferError):
        fingerprints(ROWS[:, ::2])


def test_hashes_are_equal_exactly_for_equal_rows() -> None:
    found = hashes(ROWS[[0, 1, 0, 2, 1]])
    assert found.dtype == np.uint64
    assert [list(found).index(each) for each in found] == [0, 1, 0, 3, 1]
    assert hashes(ROWS[:, ::2].copy()).tolist() == hashes(ROWS[:, ::2]).tolist(), "gaps in memory are no matter"


def test_each_process_has_hashes_of_its_own() -> None:
    code = "import numpy; from inkproof.fingerprints import hashes; print(hashes(numpy.ones((1, 4))))"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONHASHSEED"}
    said = {subprocess.check_output([sys.executable, "-c", code], env=environment) for _ in range(2)}
    assert len(said) == 2
