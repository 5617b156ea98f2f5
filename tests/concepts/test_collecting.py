"""Collecting what prototypes stand for, over photos of a folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slotseg.concepts.collecting import CollectResult, collect, suggested_merges
from slotseg.concepts.concept_figure import concept_figure, telling
from slotseg.concepts.retrieval import LEAST_SHARE, segment_scores
from slotseg.data.finding.inputs import Inputs
from slotseg.data.scenes import draw_scene
from slotseg.segmenting.segmenter import Segmenter

K = 6


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Eight photos, one of them broken."""
    for i in range(8):
        path = tmp_path / "photos" / ("deep" if i % 2 else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_scene(i)[0][: 96 - 4 * i]).save(path)
    (tmp_path / "photos" / "broken.jpg").write_bytes(b"no photo")
    return tmp_path


@pytest.fixture
def collected(segmenter: Segmenter, folder: Path) -> CollectResult:
    failures = folder / "failures.jsonl"
    return collect(segmenter, Inputs([folder / "photos"]), failures=failures, run="mine", checkpoint="0123", keep=3)


def test_segments_are_those_of_the_photos_one_by_one(
    segmenter: Segmenter, folder: Path, collected: CollectResult
) -> None:
    values: dict[int, list[tuple[float, str]]] = {k: [] for k in range(K)}
    shares = np.zeros(K)
    for path in sorted((folder / "photos").rglob("*.png")):
        image = np.array(Image.open(path))
        scores, covered = segmenter.scores(image)
        scores = scores[:, : int(np.ceil(covered[0])), : int(np.ceil(covered[1]))]
        winners = scores.argmax(0).flatten().numpy()
        share = np.bincount(winners, minlength=K) / winners.size
        shares += share / 8
        for k in np.flatnonzero(share >= LEAST_SHARE):
            values[k].append((float(segment_scores(scores[None])[0, k]), str(path.relative_to(folder / "photos"))))
    for k, concept in enumerate(collected.collection.concepts):
        best = sorted(values[k], reverse=True)[:3]
        assert [s.photo for s in concept.segments] == [name for _, name in best]
        assert [s.score for s in concept.segments] == pytest.approx([score for score, _ in best], abs=1e-4)
        assert concept.share == pytest.approx(shares[k], abs=1e-3)
    assert sum(bool(c.segments) for c in collected.collection.concepts) >= 3
    assert sum(c.share for c in collected.collection.concepts) == pytest.approx(1)


def test_boxes_and_pixels_are_those_of_the_maps(segmenter: Segmenter, folder: Path, collected: CollectResult) -> None:
    shown = [(c.id, s) for c in collected.collection.concepts for s in c.segments]
    assert shown
    for prototype, segment in shown:
        mask = segmenter(folder / "photos" / segment.photo).prototype_map == prototype
        left, top, right, bottom = segment.box_xyxy
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        assert abs(segment.pixels - mask.sum()) <= 0.002 * mask.size  # batches round otherwise
        assert np.abs(np.subtract((top, bottom), (rows[0], rows[-1] + 1))).max() <= 2
        assert np.abs(np.subtract((left, right), (columns[0], columns[-1] + 1))).max() <= 2


def test_photos_of_segments_have_thumbnails_and_broken_ones_a_line(folder: Path, collected: CollectResult) -> None:
    photos = {s.photo for c in collected.collection.concepts for s in c.segments}
    assert set(collected.thumbnails) == photos
    for thumbnail in collected.thumbnails.values():
        assert thumbnail.image.shape[:2] == thumbnail.prototype_map.shape
        assert thumbnail.prototype_map.max() < K
    assert (collected.num_failures, collected.collection.num_photos) == (1, 8)
    (line,) = (folder / "failures.jsonl").read_text().splitlines()
    assert json.loads(line)["file"] == str(folder / "photos" / "broken.jpg")


def test_huge_photos_are_seen_reduced(segmenter: Segmenter, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slotseg.segmenting.streaming.PIXELS_AHEAD", 1000)
    monkeypatch.setattr("slotseg.concepts.collecting.LARGEST", 48)
    found = collect(segmenter, Inputs([folder / "photos"]), failures=folder / "f.jsonl", run="mine", checkpoint="0123")
    assert found.collection.num_photos == 8
    boxes = np.array([s.box_xyxy for c in found.collection.concepts for s in c.segments])
    assert boxes.max() == 96, "boxes are in pixels of the photo"


def test_figure_has_a_column_for_each_concept(collected: CollectResult) -> None:
    concepts = telling(collected.collection, 2)
    figure = concept_figure(collected.collection, collected.thumbnails, columns=2)
    one = concept_figure(collected.collection, collected.thumbnails, [concepts[0].id], names={concepts[0].id: "sky"})
    assert figure.image.height == one.image.height
    assert figure.image.width == 2 * one.image.width - 6
    assert figure.ids == [concept.id for concept in concepts]
    assert [len(column) for column in figure.cells] == [len(concept.segments) for concept in concepts]


def test_figure_is_dark_outside_the_segment(collected: CollectResult) -> None:
    concept = telling(collected.collection, 1)[0]
    thumbnail = collected.thumbnails[concept.segments[0].photo]
    figure = concept_figure(collected.collection, collected.thumbnails, [concept.id])
    picture = np.asarray(figure.image.crop(figure.cells[0][0]))
    share = (thumbnail.prototype_map == concept.id).mean()
    assert 0.01 < share < 1
    colourful = (picture.max(axis=2).astype(int) - picture.min(axis=2)) > 8
    assert colourful.mean() < share + 0.2


def suggested(assigned: list[list[float]]) -> list[tuple[int, int]]:
    merges = suggested_merges(np.array(assigned, np.float32))
    assert [m.strength for m in merges] == sorted((m.strength for m in merges), reverse=True)
    return [(m.one, m.other) for m in merges]


def test_prototypes_that_take_each_others_cells_may_be_one() -> None:
    apart = np.full((6, 6), 0.02) + 0.9 * np.eye(6)
    assert suggested(apart.tolist()) == []
    split = apart.copy()
    split[:2, :2] = split[3:5, 3:5] = 0.5
    split[3, 4] = 0.6
    assert suggested(split.tolist()) == [(3, 4), (0, 1)]


def test_a_prototype_is_suggested_once_to_its_closest() -> None:
    assigned = np.full((6, 6), 0.01) + 0.3 * np.eye(6)
    assigned[0, 1] = assigned[1, 2] = 0.3
    assigned[0, 1] += 0.1
    assert suggested(assigned.tolist()) == [(0, 1)]


@pytest.mark.parametrize("number", [2, 6, 100])
def test_nothing_is_suggested_where_cells_tell_nothing_or_there_are_none(number: int) -> None:
    assert suggested([[1 / number] * number] * number) == []
    assert suggested([[0.0] * number] * number) == []
