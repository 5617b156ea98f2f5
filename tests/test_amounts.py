"""Numbers as people read them."""

import pytest

from slotseg.amounts import (
    about_duration,
    about_size,
    among_photos,
    count,
    duration,
    percent,
    percent_number,
    size,
    tenths,
)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0, "0 s"), (-5, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3_599, "1 h"), (7_800, "2 h 10 min"),
     (86_399, "1 d"), (100_800, "1 d 4 h"), (1e10, "115,740 d 17 h")],
)  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.2, "about 10 s"), (44, "about 40 s"), (56, "about 1 min"), (523, "about 9 min"), (1400, "about 25 min"),
        (5000, "about 1 h 30 min"), (40_000, "about 11 h"), (200_000, "about 2 d 8 h"),
    ],
)  # fmt: skip
def test_what_is_foretold_is_coarse(seconds: float, words: str) -> None:
    assert about_duration(seconds) == words


def test_counts() -> None:
    assert [count(n, "photo") for n in (0, 1, 2_000)] == ["0 photos", "1 photo", "2,000 photos"]
    assert count(2, "class") == "2 classes"
    assert [among_photos(n, "a.jpg") for n in (1, 2)] == ["a.jpg", "2 photos, the first a.jpg"]
    assert [tenths(n) for n in (9.74, 1234.5, 800)] == ["9.7", "1,234.5", "800"]


def test_sizes_have_one_unit_of_powers_of_ten() -> None:
    assert [size(n) for n in (12, 30_400_000, 3_200_000_000)] == ["0.0 kB", "30.4 MB", "3.2 GB"]
    assert [about_size(n) for n in (310_000_000, 950_000_000, 1_310_000_000)] == ["400 MB", "1.0 GB", "1.4 GB"]


def test_shares() -> None:
    assert [percent(s) for s in (0, 0.00421, 0.0312, 0.0996, 0.624)] == ["0 %", "0.42 %", "3.1 %", "10 %", "62 %"]
    assert [percent_number(0.18264), percent_number(0.18264, 2), percent_number(None)] == ["18.3", "18.26", "-"]
