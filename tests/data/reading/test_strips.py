"""Strips of a scaled photo against scaling the whole of it."""

from itertools import pairwise

import numpy as np
import pytest
from PIL import Image

from slotseg.data.reading.strips import scaled_strips
from slotseg.data.reading.windows import ArrayWindows


@pytest.mark.parametrize(
    "size_hw", [(301, 203), (97, 60), (300, 100), (7, 5), (1, 1), (400, 250), (903, 609), (302, 203)]
)
def test_strips_are_the_scaled_photo(monkeypatch: pytest.MonkeyPatch, size_hw: tuple[int, int]) -> None:
    monkeypatch.setattr(ArrayWindows, "band", 64)
    photo = np.random.default_rng(0).integers(0, 256, (301, 203, 3), np.uint8)
    parts = list(scaled_strips(ArrayWindows(photo), size_hw))
    assert len(parts) > 1 or size_hw[0] < 20
    expected = np.asarray(Image.fromarray(photo).resize(size_hw[::-1], Image.Resampling.BILINEAR)).astype(int)
    difference = np.abs(np.concatenate(parts) - expected)
    assert difference.max() <= 1
    assert difference.mean() < 0.01


def test_every_row_is_read_once_from_the_top_down() -> None:
    photo = np.zeros((3000, 20, 3), np.uint8)
    windows, asked = ArrayWindows(photo), []
    read = windows.read
    windows.read = lambda top, bottom: asked.append((top, bottom)) or read(top, bottom)  # type: ignore[method-assign]
    for _ in scaled_strips(windows, (700, 5)):
        pass
    assert asked[0][0] == 0
    assert asked[-1][1] == 3000
    assert all(one[1] == two[0] for one, two in pairwise(asked))
