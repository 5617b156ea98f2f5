"""Confidence against the plain way: softmax, sum over the prototypes of a class, upsample, take."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from slotseg.segmenting.confidence import confidence
from slotseg.segmenting.upsampling import bands

CLASSES = (0, 255, 1, 1, 0, 2, 255)


@pytest.mark.parametrize("temperature", [0.07, None])
@pytest.mark.parametrize(
    ("cells", "size"), [((5, 6), (57, 80)), ((1, 1), (9, 4)), ((20, 30), (20, 17)), ((3, 4), (700, 5))]
)
def test_equals_the_plain_way(cells: tuple[int, int], size: tuple[int, int], temperature: float | None) -> None:
    scores = torch.rand(7, *cells, generator=torch.Generator().manual_seed(0)) * 2 - 1
    if temperature is None:
        scores = (scores / 0.3).softmax(dim=0)
    shares = scores if temperature is None else (scores / temperature).softmax(dim=0)
    ids = torch.tensor(CLASSES)
    plain = F.interpolate(
        torch.stack([shares[ids == c].sum(dim=0) for c in (0, 1, 2, 255)])[None], size, mode="bilinear"
    )[0]
    found, labels = np.empty(size, np.uint8), np.empty(size, np.int64)
    for band in bands([scores[:, :1], scores[:, 1:]] if cells[0] > 1 else [scores], cells[0], cells, size):
        found[band.span] = confidence(band, CLASSES, temperature)
        labels[band.span] = np.array(CLASSES)[band.prototypes]
    row = np.searchsorted([0, 1, 2, 255], labels)
    expected = plain.gather(0, torch.from_numpy(row)[None])[0].numpy() * 255
    assert np.abs(found - expected).max() <= 0.51
    assert len(np.unique(found)) > 1 or size == (9, 4)


def test_one_class_is_certain() -> None:
    (band,) = bands([torch.rand(4, 3, 3)], 3, (3, 3), (30, 30))
    assert (confidence(band, (2, 2, 2, 2), 0.07) == 255).all()
