"""A photo scaled in bands: as the whole of it by ``F.interpolate`` in 8 bits, and near the exact triangle filter."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from slotseg.data.reading import scaling
from slotseg.data.reading.scaling import scaled_photo
from slotseg.data.reading.windows import ArrayWindows

SIZES = [(301, 203), (97, 60), (300, 100), (7, 5), (1, 1), (400, 250), (903, 609), (302, 203), (200, 203), (301, 101)]


def weights(number: int, of: int) -> NDArray[np.float64]:
    """What each of ``of`` pixels counts for each of ``number`` scaled ones, ``(number, of)``."""
    factor = of / number
    distance = np.abs(np.arange(of) + 0.5 - (np.arange(number)[:, None] + 0.5) * factor)
    triangle = np.clip(1 - distance / max(factor, 1), 0, None)
    return triangle / triangle.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("band", "rows"), [(64, 16), (50, 30), (512, 128)])
def test_in_bands_as_the_whole_of_it(monkeypatch: pytest.MonkeyPatch, band: int, rows: int) -> None:
    monkeypatch.setattr(ArrayWindows, "band", band)
    monkeypatch.setattr(scaling, "_ROWS", rows)
    photo = np.random.default_rng(0).integers(0, 256, (301, 203, 3), np.uint8)
    for size_hw, found in zip(SIZES, scaled_photo(ArrayWindows(photo), SIZES), strict=True):
        exact = weights(size_hw[0], 301) @ photo.transpose(2, 0, 1) @ weights(size_hw[1], 203).T
        assert np.abs(255 * found.numpy() - exact).max() < 1.03, "rounded once in each direction"
        whole = F.interpolate(torch.from_numpy(photo).permute(2, 0, 1)[None], size_hw, mode="bilinear", antialias=True)
        assert torch.equal((255 * found).round().byte(), whole[0]), size_hw


def test_a_very_large_photo_too() -> None:
    photo = np.random.default_rng(0).integers(0, 256, (6001, 40, 3), np.uint8)
    (found,) = scaled_photo(ArrayWindows(photo), [(23, 31)])
    whole = F.interpolate(torch.from_numpy(photo).permute(2, 0, 1)[None], (23, 31), mode="bilinear", antialias=True)
    assert torch.equal((255 * found).round().byte(), whole[0])
