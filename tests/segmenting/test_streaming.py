"""Photos one after another: in order, in batches, with the results of one at a time, and with bounded memory."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slotseg.data.scenes import draw_scene
from slotseg.segmenting import streaming
from slotseg.segmenting.segmenter import Segmenter

SIZES = [(64, 96), (64, 96), (96, 64), (64, 96), (50, 50), (96, 64), (64, 96), (64, 96), (64, 96), (50, 50)]


@pytest.fixture
def photos(tmp_path: Path) -> list[Path]:
    """Ten photos of three sizes."""
    paths = []
    for i, (height, width) in enumerate(SIZES):
        paths.append(tmp_path / f"{i}.png")
        Image.fromarray(draw_scene(i)[0]).resize((width, height)).save(paths[-1])
    return paths


@pytest.mark.parametrize("batch_size", [1, 3, 8, 100])
def test_every_batch_size_gives_the_maps_of_one_photo_at_a_time(
    segmenter: Segmenter, photos: list[Path], batch_size: int
) -> None:
    results = list(segmenter.stream(photos, batch_size=batch_size))
    assert [result.photo for result in results] == photos
    for result in results:
        assert result.error is None
        assert result.image is not None
        assert result.segmentation is not None
        alone = segmenter(result.photo)
        assert result.image.shape[:2] == result.segmentation.prototype_map.shape
        assert (result.segmentation.prototype_map == alone.prototype_map).mean() > 0.999  # sums are rounded otherwise
        assert (result.segmentation.class_map == alone.class_map).mean() > 0.999


def test_photos_of_one_size_are_computed_together(
    segmenter: Segmenter, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches: list[int] = []
    compute = segmenter.batch_scores
    monkeypatch.setattr(segmenter, "batch_scores", lambda images: batches.append(len(images)) or compute(images))
    list(segmenter.stream(photos, batch_size=4))
    assert batches == [4, 2, 2, 2]  # six of the first size, two of each other


@pytest.mark.parametrize("threads", [1, 2, 64])
def test_on_few_cores_a_batch_is_painted_before_the_next_is_computed(
    segmenter: Segmenter, photos: list[Path], monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    expected = [segmenter(photo).class_map for photo in photos]
    computed, painted, unpainted = [0], [0], []
    compute, paint = segmenter.batch_scores, segmenter.segmentation

    def counted_compute(images: list[Any]) -> Any:
        unpainted.append(computed[0] - painted[0])
        computed[0] += len(images)
        return compute(images)

    def counted_paint(*arguments: Any) -> Any:
        time.sleep(0.1)
        painted[0] += 1
        return paint(*arguments)

    monkeypatch.setattr(segmenter, "batch_scores", counted_compute)
    monkeypatch.setattr(segmenter, "segmentation", counted_paint)
    monkeypatch.setattr("torch.get_num_threads", lambda: threads)
    results = list(segmenter.stream(photos, batch_size=4))
    assert (max(unpainted) == 0) == (threads <= streaming.READERS)
    for result, class_map in zip(results, expected, strict=True):
        assert result.segmentation is not None
        assert (result.segmentation.class_map == class_map).mean() > 0.999


def test_unreadable_files_yield_their_error_in_their_place(segmenter: Segmenter, photos: list[Path]) -> None:
    photos[0].write_bytes(b"")
    photos[4].write_bytes(photos[4].read_bytes()[:200])
    photos[9].unlink()
    results = list(segmenter.stream(photos, batch_size=4))
    assert [i for i, result in enumerate(results) if result.error] == [0, 4, 9]
    assert "is empty" in (results[0].error or "")
    assert "9.png is no file" in (results[9].error or "")
    assert all((result.segmentation is None) == bool(result.error) for result in results)


def test_no_more_photos_are_asked_for_than_are_worked_on(
    segmenter: Segmenter, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0

    def endless() -> Iterator[Path]:
        nonlocal asked
        while True:
            asked += 1
            yield photos[asked % len(photos)]

    results = segmenter.stream(endless(), batch_size=2)
    for _ in range(5):
        next(results)
    results.close()
    assert asked <= 5 + 3 * 2
    monkeypatch.setattr(streaming, "PIXELS_AHEAD", 1)  # every photo is a large one
    asked = 0
    results = segmenter.stream(endless(), batch_size=2)
    next(results)
    assert asked == 1


def test_an_error_that_is_not_of_a_file_is_raised(
    segmenter: Segmenter, photos: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(segmenter, "segmentation", broken)
    with pytest.raises(ZeroDivisionError):
        list(segmenter.stream(photos))
    monkeypatch.setattr(streaming, "_read", broken)
    with pytest.raises(ZeroDivisionError):
        list(segmenter.stream(photos))


def test_arrays_of_two_sizes_make_no_batch(segmenter: Segmenter) -> None:
    with pytest.raises(ValueError, match=r"shapes .* expected one size"):
        segmenter.batch_scores([np.zeros((64, 64, 3), np.uint8), np.zeros((64, 65, 3), np.uint8)])
