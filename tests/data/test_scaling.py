"""A photo scaled in bands: the antialiased triangle filter, at least as exact as ``F.interpolate`` of the whole."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from slotseg.data import scaling
from slotseg.data.scaling import scaled_photo
from slotseg.data.windows import ArrayWindows

SIZES = [(301, 203), (97, 60), (300, 100), (7, 5), (1, 1), (400, 250), (903, 609), (302, 203)]


def weights(number: int, of: int) -> NDArray[np.float64]:
    """What each of ``of`` pixels counts for each of ``number`` scaled ones, ``(number, of)``."""
    factor = of / number
    distance = np.abs(np.arange(of) + 0.5 - (np.arange(number)[:, None] + 0.5) * factor)
    triangle = np.clip(1 - distance / max(factor, 1), 0, None)
    return triangle / triangle.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(("band", "rows"), [(64, 16), (50, 30), (512, 128)])
def test_at_least_as_exact_as_interpolation_of_the_whole(monkeypatch: pytest.MonkeyPatch, band: int, rows: int) -> None:
    monkeypatch.setattr(ArrayWindows, "band", band)
    monkeypatch.setattr(scaling, "_ROWS", rows)
    photo = np.random.default_rng(0).integers(0, 256, (301, 203, 3), np.uint8)
    whole = torch.from_numpy(photo).permute(2, 0, 1).float() / 255
    for size_hw, found in zip(SIZES, scaled_photo(ArrayWindows(photo), SIZES), strict=True):
        exact = weights(size_hw[0], 301) @ (photo.transpose(2, 0, 1) / 255) @ weights(size_hw[1], 203).T
        plain = F.interpolate(whole[None], size_hw, mode="bilinear", antialias=True)[0]
        error, plain_error = (np.abs(image.numpy() - exact).max() for image in (found, plain))
        assert error < 5e-5
        assert error <= plain_error + 1e-6
