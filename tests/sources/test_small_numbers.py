"""Plain tables are read as numpy.loadtxt reads them; all others are left to it."""

import io

import numpy as np
import pytest

from inkproof.sources import small_numbers
from inkproof.sources.small_numbers import read_small_numbers


def read(text: bytes, columns: int) -> np.ndarray | None:
    parts = list(read_small_numbers(io.BytesIO(text), columns))
    return None if not parts or parts[-1] is None else np.concatenate(parts)


@pytest.mark.parametrize("at_once", [1, 7, 64, 1 << 17])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (3, 1), (1, 9), (40, 5), (257, 12)])
def test_a_plain_table_is_what_loadtxt_reads(
    rows: int, columns: int, line_end: str, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(small_numbers, "_BYTES", at_once)
    table = np.random.default_rng(rows).choice([0, 1, 9, 10, 99, 100, 199, 200, 255], (rows, columns))
    text = line_end.join(",".join(map(str, row)) for row in table.tolist())
    for ended in (text, text + line_end):
        expected = np.loadtxt(io.StringIO(ended), dtype=np.uint8, delimiter=",", ndmin=2)
        found = read(ended.encode(), columns)
        assert found is not None
        assert found.dtype == np.uint8
        assert np.array_equal(found, expected)


def test_zeros_before_a_number_count_as_loadtxt_counts_them() -> None:
    assert np.array_equal(read(b"007,00,010\n", 3), [[7, 0, 10]])


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"\n",
        b"1,2\n\n",
        b"1,2\n\n3,4\n",
        b"1,2,3\n",
        b"1,2\n3\n4,5,6\n",
        b"1\n2\n",
        b"1,\n",
        b",1\n",
        b"1,256\n",
        b"1,300\n",
        b"1,0001\n",
        b"1," + b"1" * 257 + b"\n",  # as many digits as 8 bits count to, and one
        b"1,-2\n",
        b"1,+2\n",
        b"1, 2\n",
        b"1,2 \n",
        b"1,2.0\n",
        b"1;2\n",
        b"1,x\n",
        b'1,"2"\n',
        b"1,2\r3,4\r",
        b"1,2\x00\n",
        "1,２\n".encode(),
        b"1,2\n3,4\n5,nan\n",
    ],
)
def test_whatever_is_not_plain_is_left_to_others(text: bytes) -> None:
    assert read(text, 2) is None
