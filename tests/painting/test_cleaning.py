"""Leaving out unsure pixels and small parts."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from slotseg.errors import ConfigError
from slotseg.painting.cleaning import AS_PAINTED, CleaningOptions, absorb_small_parts

IGNORE = 255


def ids(text: str) -> NDArray[np.uint8]:
    """A class map from rows of digits; a dot is ignored."""
    return np.array([[IGNORE if c == "." else int(c) for c in row] for row in text.split()], np.uint8)


def test_small_parts_take_the_class_around_them() -> None:
    before = ids("""
        0000011111
        0200011111
        0022011111
        0000011131
        ..00011113
        ..00011111
    """)
    after = ids("""
        0000011111
        0000011111
        0000011111
        0000011111
        ..00011111
        ..00011111
    """)
    assert np.array_equal(absorb_small_parts(before, 4, IGNORE), after)  # 2 and 3 touch by corners
    kept = absorb_small_parts(before, 3, IGNORE)
    assert np.array_equal(kept == 2, before == 2)
    assert not (kept == 3).any()


def test_a_class_may_have_large_and_small_parts() -> None:
    after = absorb_small_parts(ids("1000 0000 0000 0011 0011"), 2, IGNORE)
    assert np.array_equal(after, ids("0000 0000 0000 0011 0011"))


def test_nothing_to_do_changes_nothing() -> None:
    class_map = ids("0011 0011")
    assert absorb_small_parts(class_map, 4, IGNORE) is class_map
    assert absorb_small_parts(class_map, 100, IGNORE) is class_map  # all are small
    assert AS_PAINTED(class_map, None, IGNORE) is class_map


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_no_small_part_is_left_and_large_parts_stay(seed: int, dtype: type) -> None:
    noise = np.random.default_rng(seed).standard_normal((4, 60, 80))
    before = ndimage.gaussian_filter(noise, (0, 2, 2)).argmax(axis=0).astype(dtype)
    ignore = 255 if dtype == np.uint8 else 65535
    before[:5, :5] = ignore
    after = absorb_small_parts(before, 60, ignore)
    assert after.dtype == dtype
    eight = np.ones((3, 3))
    for class_id in range(4):
        parts, count = ndimage.label(before == class_id, eight)
        large = np.isin(parts, 1 + np.flatnonzero(np.bincount(parts.ravel(), minlength=count + 1)[1:] >= 60))
        assert (after[large] == class_id).all()
        parts, count = ndimage.label(after == class_id, eight)
        assert (np.bincount(parts.ravel(), minlength=count + 1)[1:] >= 60).all()
    assert (after[before == ignore] == ignore).all()


def test_unsure_pixels_are_left_out_before_parts_are_measured() -> None:
    class_map = ids("0000 0110 0110 0000")
    confidence = np.full((4, 4), 200, np.uint8)
    confidence[1, 1:3] = 100
    assert (CleaningOptions(min_area=3)(class_map, confidence, IGNORE) == 1).sum() == 4
    cleaned = CleaningOptions(min_area=3, ignore_below=0.5)(class_map, confidence, IGNORE)
    assert (cleaned[confidence == 100] == IGNORE).all()
    assert not (cleaned == 1).any()
    assert np.array_equal(class_map, ids("0000 0110 0110 0000")), "the map that is given stays as it is"


@pytest.mark.parametrize("wrong", [{"min_area": -1}, {"ignore_below": 1.5}, {"ignore_below": -0.1}])
def test_values_out_of_range_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        CleaningOptions(**wrong)  # type: ignore[arg-type]
