"""A photo scaled in bands against ``F.interpolate`` of the whole: within a two-hundredth of a grey level.

The weights of ``F.interpolate`` are themselves rounded to float32, by more the farther right or down.
"""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slotseg.data import scaling
from slotseg.data.scaling import scaled_photo
from slotseg.data.windows import ArrayWindows

SIZES = [(301, 203), (97, 60), (300, 100), (7, 5), (1, 1), (400, 250), (903, 609), (302, 203)]


@pytest.mark.parametrize(("band", "rows"), [(64, 16), (50, 30), (512, 128)])
def test_equals_interpolation_of_the_whole(monkeypatch: pytest.MonkeyPatch, band: int, rows: int) -> None:
    monkeypatch.setattr(scaling, "_BAND", band)
    monkeypatch.setattr(scaling, "_ROWS", rows)
    photo = np.random.default_rng(0).integers(0, 256, (301, 203, 3), np.uint8)
    whole = torch.from_numpy(photo).permute(2, 0, 1)[None].float() / 255
    for size_hw, found in zip(SIZES, scaled_photo(ArrayWindows(photo), SIZES), strict=True):
        expected = F.interpolate(whole, size_hw, mode="bilinear", antialias=True)[0]
        torch.testing.assert_close(found, expected, atol=2e-5, rtol=0)
