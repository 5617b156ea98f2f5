"""Rows that are given back: the others stay, and the memory is really freed where the system can do that."""

import sys
from pathlib import Path

import numpy as np
import pytest

from slotseg.data.reading.releasing import ReleasedRows


def test_rows_below_stay_as_they_are() -> None:
    rows = ReleasedRows(500, 101)
    expected = np.random.default_rng(0).integers(0, 256, (500, 101, 3), np.uint8)
    rows.pixels[:] = expected
    for row in (0, 1, 200, 130, 499, 500):
        rows.release(row)
        assert rows.first == max(row, 200 if row == 130 else 0)
        assert np.array_equal(rows.pixels[rows.first :], expected[rows.first :])


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_is_given_back() -> None:
    rows = ReleasedRows(10_000, 10_000)
    rows.pixels[:] = 1
    before = resident()
    rows.release(9_000)
    assert before - resident() > 250e6


def resident() -> int:
    """Bytes of this process."""
    pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[1]
    return int(pages) * 4096
