"""Photos of any size: in tiles, in windows, in bands, and the same maps as the whole at once."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from slotseg.data.reading.scaling import scaled_photo
from slotseg.data.reading.window_formats import open_windows
from slotseg.data.reading.windows import ArrayWindows
from slotseg.data.scenes import draw_scene
from slotseg.errors import ConfigError
from slotseg.labels.label_map import LabelMap
from slotseg.segmenting import scorer as scorer_module
from slotseg.segmenting import segmenter as segmenter_module
from slotseg.segmenting.looks import scaled
from slotseg.segmenting.segmenter import Segmenter

Photo = NDArray[np.uint8]
Make = Callable[..., Segmenter]
LOOKS = {"segment.scales": (0.75, 1.5), "segment.mirror": True}
REFINED = {**LOOKS, "segment.edges": "field"}
NAMED = LabelMap(classes=(255, 1, 0, 1, 0, 1), names=("a", "b"), colors=((1, 2, 3), (4, 5, 6)), origin="hungarian")


def scene(height: int, width: int) -> Photo:
    """A built-in scene, enlarged."""
    return np.array(Image.fromarray(draw_scene(3)[0]).resize((width, height), Image.Resampling.BICUBIC))


def agreement(one: NDArray[Any], two: NDArray[Any]) -> float:
    assert one.shape == two.shape
    assert len(np.unique(one)) > 1
    return float((one == two).mean())


def test_tiles_equal_the_whole_away_from_their_borders(make_segmenter: Make) -> None:
    """Two tiles of 64 cells, of which 16 are shared: beyond, no cell looks as far as the border of its tile."""
    image = scene(256, 896)
    whole, covered = make_segmenter(size="full").scores(image)
    tiled = make_segmenter(size="full", tile=512)
    stripes, num_rows, its_covered = tiled.scorer.stripes(image)
    scores = torch.cat(list(stripes), dim=1)
    assert (its_covered, num_rows, scores.shape) == (covered, whole.shape[1], whole.shape)
    torch.testing.assert_close(scores[:, :, :48], whole[:, :, :48], atol=1e-5, rtol=0)
    torch.testing.assert_close(scores[:, :, 64:], whole[:, :, 64:], atol=1e-5, rtol=0)
    assert not torch.allclose(scores[:, :, 48:64], whole[:, :, 48:64], atol=1e-5, rtol=0)
    assert agreement(tiled(image).class_map, make_segmenter(size="full")(image).class_map) > 0.97


@pytest.mark.parametrize("values", [None, LOOKS, REFINED], ids=["plain", "looks", "refined"])
@pytest.mark.parametrize("size_hw", [(300, 500), (500, 300), (40, 900)])
def test_looks_and_refinement_work_within_tiles(
    make_segmenter: Make, values: dict[str, Any] | None, size_hw: tuple[int, int]
) -> None:
    image = scene(*size_hw)
    whole, tiled = (
        make_segmenter(values, size=min(size_hw), tile=tile, confidence=True)(image) for tile in (None, 256)
    )
    assert agreement(tiled.class_map, whole.class_map) > 0.85
    assert tiled.class_map.shape == tiled.confidence.shape == size_hw
    assert np.abs(tiled.confidence.astype(int) - whole.confidence).mean() < 10


def test_a_photo_that_fits_into_a_tile_is_seen_whole(make_segmenter: Make) -> None:
    image = scene(100, 256)
    assert np.array_equal(
        make_segmenter(size=100, tile=256).prototype_map(image), make_segmenter(size=100).prototype_map(image)
    )
    assert make_segmenter(size=100, tile=256).tiled((100, 257))


def test_nothing_is_capped_silently(make_segmenter: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = make_segmenter(size=4096)
    assert not ours.tiled((1000, 1000)), "is enlarged to 4 M pixels only"
    assert ours.tiled((4096, 4096))
    assert make_segmenter(size="full").tiled((3000, 2000))
    assert not make_segmenter(size="full").tiled((2000, 2000))
    monkeypatch.setattr(scorer_module, "MAX_WORKING_PIXELS", 300 * 500 - 1)
    monkeypatch.setattr(scorer_module, "TILE", 256)
    image = scene(300, 500)
    assert np.array_equal(
        make_segmenter(size="full")(image).class_map, make_segmenter(size="full", tile=256)(image).class_map
    )


@pytest.mark.parametrize("tile", [1, 31])
def test_a_tile_of_a_few_cells_is_refused(make_segmenter: Make, tile: int) -> None:
    with pytest.raises(ConfigError, match=f"tile is {tile}; expected at least 4 times the backbone's stride, 8"):
        make_segmenter(tile=tile)


@pytest.mark.parametrize("suffix", ["png", "tif", "jpg", "bmp"])
@pytest.mark.parametrize("tile", [None, 128])
@pytest.mark.parametrize("size_hw", [(150, 200), (900, 1200)])
def test_windows_give_the_maps_of_the_photo(
    make_segmenter: Make, tmp_path: Path, suffix: str, tile: int | None, size_hw: tuple[int, int]
) -> None:
    """All pixels but those where two classes are equal up to the rounding of sums."""
    path = tmp_path / f"x.{suffix}"
    Image.fromarray(scene(*size_hw)).save(path)
    ours = make_segmenter(size=150, tile=tile, confidence=True, labels=NAMED)
    one, two = ours(path), ours.segment_windows(open_windows(path))
    assert agreement(one.class_map, two.class_map) > 0.999
    assert np.abs(one.confidence.astype(int) - two.confidence).max() <= 1


def test_huge_photos_are_read_in_windows(make_segmenter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(scene(200, 300)).save(tmp_path / "x.png")
    expected = make_segmenter(size=100)(tmp_path / "x.png")
    monkeypatch.setattr(segmenter_module, "HUGE", 200 * 300 - 1)
    monkeypatch.setattr(segmenter_module, "read_with_notes", None)
    huge = make_segmenter(size=100)(tmp_path / "x.png")
    assert huge.prototype_map is None
    assert expected.prototype_map is not None
    assert agreement(huge.class_map, expected.class_map) > 0.999


@pytest.mark.parametrize("size_hw", [(100, 150), (200, 300), (401, 600), (600, 900), (700, 1000)])
def test_photos_are_scaled_in_8_bits_whole_or_in_windows(size_hw: tuple[int, int]) -> None:
    image = scene(600, 900)
    pixels = torch.from_numpy(image).permute(2, 0, 1)[None].float() / 255
    exact = F.interpolate(pixels, size_hw, mode="bilinear", antialias=True)
    whole = scaled([image, image], size_hw, torch.device("cpu"))
    torch.testing.assert_close(whole, exact.repeat(2, 1, 1, 1), atol=1.03 / 255, rtol=0)  # rounded twice
    assert torch.equal(scaled_photo(ArrayWindows(image), [size_hw])[0], whole[0])


def test_tiles_of_the_same_row_are_seen_together_up_to_a_bound(
    make_segmenter: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, batches = scene(200, 700), []
    ours = make_segmenter(size="full", tile=128)
    expected = ours.prototype_map(image)
    ours.encoder.register_forward_pre_hook(lambda _, inputs: batches.append(len(inputs[0])))
    monkeypatch.setattr(scorer_module, "PIXELS_AT_ONCE", 3 * 128 * 128)
    assert agreement(ours.prototype_map(image), expected) > 0.999
    assert set(batches) == {3, 1} or max(batches) == 3


def test_memory_does_not_grow_with_the_height(make_segmenter: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the maps; NumPy reports what it allocates, Pillow and torch do not."""
    monkeypatch.setattr(segmenter_module, "HUGE", 0)
    ours = make_segmenter(size=100, tile=128)
    peaks = []
    for height in (2000, 8000):
        windows = ArrayWindows(np.broadcast_to(np.arange(height, dtype=np.uint8)[:, None, None], (height, 700, 3)))
        tracemalloc.start()
        try:
            class_map = ours.segment_windows(windows).class_map
            peaks.append(tracemalloc.get_traced_memory()[1] - class_map.nbytes)
        finally:
            tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0], peaks
