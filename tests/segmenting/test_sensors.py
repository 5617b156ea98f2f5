"""Pictures from any sensor: a run's bands and range, and the ignore id where there is no picture."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from PIL import Image

from slotseg.data.scenes import draw_scene
from slotseg.errors import ConfigError, DataError
from slotseg.labels.label_map import IGNORE_16
from slotseg.segmenting import segmenter as segmenter_module
from slotseg.segmenting.segmenter import Segmenter

Make = Callable[..., Segmenter]
SCENE = draw_scene(3)[0]
H, W = SCENE.shape[:2]
CORNER = np.add.outer(np.arange(H), np.arange(W)) < 40
RANGE = (100.0, 2915.0)  # 11 values to a bin


def with_hole(path: Path) -> Path:
    alpha = np.where(CORNER, 0, 255).astype(np.uint8)
    if path.suffix == ".png":
        Image.fromarray(np.dstack([SCENE, alpha])).save(path)
    else:
        values = np.dstack([SCENE, alpha])
        tifffile.imwrite(
            path, values, photometric="rgb", extrasamples=["unassalpha"], compression="zlib", tile=(32, 32)
        )
    return path


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("tile", [None, 64])
def test_what_is_no_picture_gets_the_ignore_id(
    make_segmenter: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, tile: int | None
) -> None:
    """Whole, streamed and in windows."""
    path = with_hole(tmp_path / f"x.{suffix}")
    ours = make_segmenter(size=96, tile=tile)
    (streamed,) = ours.stream([path])
    assert streamed.segmentation is not None
    found = [ours(path), streamed.segmentation]
    assert all(f.prototype_map is not None and np.array_equal(f.prototype_map == IGNORE_16, CORNER) for f in found)
    monkeypatch.setattr(segmenter_module, "HUGE", H * W - 1)
    found.append(ours(path))
    for maps in found:
        assert np.array_equal(maps.class_map == ours.labels.ignore, CORNER)
        assert len(np.unique(maps.class_map[~CORNER])) > 1


def test_concepts_do_not_count_what_is_no_picture(make_segmenter: Make, tmp_path: Path) -> None:
    from slotseg.concepts.collecting import _PhotoReader

    reader = _PhotoReader(make_segmenter(size=96).scorer)
    scores, covered = reader.batch_scores([SCENE])
    maps = reader.segmentation(SCENE, scores[0], covered, CORNER)
    whole = reader.segmentation(SCENE, scores[0], covered)
    assert maps.seen.shape[2] == 1
    cells = maps.scores.shape[1] * maps.scores.shape[2]
    assert abs(maps.seen.shape[1] / cells - (~CORNER).mean()) < 0.05
    assert whole.seen.shape == whole.scores.shape
    assert np.array_equal(maps.prototype_map == IGNORE_16, CORNER)
    assert all(not (maps.prototype_map[CORNER] == k).any() for k in range(len(scores[0])))


def deep(path: Path) -> Path:
    values: NDArray[Any] = SCENE.astype(np.uint16) * 11 + 105
    tifffile.imwrite(path, np.dstack([values[:, :, ::-1], values[:, :, :1]]), photometric="minisblack",
                     planarconfig="contig", metadata=None)  # fmt: skip
    return path


def test_a_run_reads_photos_with_its_own_bands_and_range(make_segmenter: Make, tmp_path: Path) -> None:
    ours = make_segmenter({"reading.bands": (3, 2, 1), "reading.range": RANGE}, size=96)
    expected = ours(SCENE)
    path = deep(tmp_path / "x.tif")
    (streamed,) = ours.stream([path])
    assert streamed.segmentation is not None
    assert streamed.notes == ("bands 3, 2 and 1 of 4",)
    for maps in (ours(path), streamed.segmentation):
        assert np.array_equal(maps.class_map, expected.class_map)


def test_a_saved_segmenter_keeps_them_and_a_caller_may_change_them(make_segmenter: Make, tmp_path: Path) -> None:
    ours = make_segmenter({"reading.bands": (3, 2, 1), "reading.range": RANGE}, size=96)
    ours.save(tmp_path / "x.safetensors")
    loaded = Segmenter.load(tmp_path / "x.safetensors", size=96, device="cpu")
    assert loaded.reading == ours.reading
    path = deep(tmp_path / "x.tif")
    assert np.array_equal(loaded(path).class_map, ours(path).class_map)
    other = Segmenter.load(tmp_path / "x.safetensors", reading={"bands": (1, 2, 3)}, size=96, device="cpu")
    assert other.reading.range == RANGE
    assert np.array_equal(other(path).class_map, ours(np.ascontiguousarray(SCENE[:, :, ::-1])).class_map)


@pytest.mark.parametrize(
    ("reading", "sentence"),
    [
        ({"bands": (1, 2)}, "bands is .1, 2.; expected one or three whole numbers from 1"),
        ({"bands": (0,)}, "bands is .0,.; expected one or three whole numbers from 1"),
        ({"range": (5.0,)}, "range is .5.0,.; expected LOW,HIGH with LOW below HIGH, or three such pairs"),
        ({"range": (10.0, 2.0)}, "range is .10.0, 2.0.; expected LOW,HIGH with LOW below HIGH"),
    ],
)
def test_wrong_bands_and_ranges_are_one_sentence(
    make_segmenter: Make, tmp_path: Path, reading: dict[str, Any], sentence: str
) -> None:
    make_segmenter().save(tmp_path / "x.safetensors")
    with pytest.raises(ConfigError, match=sentence):
        Segmenter.load(tmp_path / "x.safetensors", reading=reading, device="cpu")


def test_floats_without_a_range_are_refused(make_segmenter: Make, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", SCENE[:, :, 0].astype(np.float32))
    with pytest.raises(DataError, match=r"holds 32-bit float values, whose range is unknown; .* --range LOW,HIGH"):
        make_segmenter()(tmp_path / "x.tif")
