"""Segmenting many files: what is written, what a bad file costs, and what is never lost."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from slotseg.config import TrainConfig
from slotseg.data.finding.inputs import Input, Inputs
from slotseg.data.scenes import draw_scene
from slotseg.errors import ConfigError, DataError
from slotseg.method.model import SlotCon
from slotseg.painting.cleaning import CleaningOptions
from slotseg.painting.outputs import OutputOptions, Outputs
from slotseg.painting.paint import PaintSummary, paint, paint_png
from slotseg.segmenting.segmenter import Segmenter


def outputs(words: list[Path], output: Path, **wanted: Any) -> Outputs:
    return Outputs(Inputs(words, leave_out=output), output, OutputOptions(**wanted))


@pytest.fixture
def segmenter(tiny_model: Callable[..., SlotCon], tiny_config: Callable[..., TrainConfig]) -> Segmenter:
    return Segmenter(tiny_model().teacher, tiny_config(), device="cpu")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    for i, name in enumerate(("a.jpg", "b.png", "deep/er/c.jpg")):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw_scene(i)[0][: 90 - 10 * i]).save(path)
    return tmp_path / "photos"


def size(path: Path) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_masks_mirror_the_folder_in_the_photos_sizes(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "masks"
    painted = paint(segmenter, outputs([photos], out, overlay=True))
    assert (painted.num_masks, painted.failures) == (3, [])
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    names = ("a", "b", "deep/er/c")
    assert files == {f"{n}.png" for n in names} | {f"overlay/{n}.jpg" for n in names} | {
        "legend.json",
        "overlay/sheet.jpg",
    }
    assert [size(out / f"{n}.png") for n in names] == [(96, 90), (96, 80), (96, 70)]
    assert [size(out / f"overlay/{n}.jpg") for n in names] == [(96, 90), (96, 80), (96, 70)]
    legend = json.loads((out / "legend.json").read_text())
    assert [c["id"] for c in legend["classes"]] == list(range(6))


def test_mask_holds_the_class_map(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    paint(segmenter, outputs([photos / "a.jpg"], tmp_path / "m.png"))
    with Image.open(tmp_path / "m.png") as mask:
        assert mask.mode == "P"
        ids: NDArray[np.uint8] = np.array(mask)
    assert np.array_equal(ids, segmenter(photos / "a.jpg").class_map)


def test_existing_masks_are_kept_skipped_or_replaced(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    planned, mask = outputs([photos], tmp_path / "m"), tmp_path / "m" / "a.png"
    mask.parent.mkdir()
    mask.write_text("mine")
    with pytest.raises(ConfigError, match="1 of 3 masks exist"):
        paint(segmenter, planned)
    assert not planned.legend.exists()
    painted = paint(segmenter, planned, skip_existing=True)
    assert (painted.num_masks, painted.num_kept) == (2, 1)
    assert mask.read_text() == "mine"
    assert paint(segmenter, planned, overwrite=True).num_masks == 3
    assert size(mask) == (96, 90)


def test_bad_photo_costs_that_photo(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    (photos / "empty.jpg").write_bytes(b"")
    planned = outputs([photos], tmp_path / "m")
    painted = paint(segmenter, planned)
    assert painted.num_masks == 3
    (line,) = planned.failures.read_text().splitlines()
    assert json.loads(line) == {"file": str(photos / "empty.jpg"), "error": painted.failures[0]}
    (photos / "empty.jpg").unlink()
    paint(segmenter, planned, overwrite=True)
    assert not planned.failures.exists()


def test_failures_are_noted_before_an_interruption(
    segmenter: Segmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos / "a.jpg").write_bytes(b"")

    def interrupted(images: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(segmenter, "batch_scores", interrupted)
    with pytest.raises(KeyboardInterrupt):
        paint(segmenter, outputs([photos], tmp_path / "m"), batch_size=1)
    assert json.loads((tmp_path / "m" / "failures.jsonl").read_text())["file"] == str(photos / "a.jpg")


def test_only_photo_being_bad_is_an_error_and_leaves_nothing(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        paint(segmenter, outputs([tmp_path / "empty.jpg"], tmp_path / "out" / "m.png", formats=("coco", "summary")))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "empty.jpg"]


def test_nothing_but_bad_photos_is_an_error_that_names_the_file_of_failures(
    segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    for path in ("bad/a.jpg", "bad/b.jpg"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(b"")
    planned = outputs([tmp_path / "bad"], tmp_path / "m", formats=("coco",))
    with pytest.raises(
        DataError, match=r"^none of the 2 photos .*see .*m/failures\.jsonl\. The first: .*a\.jpg is empty"
    ):
        paint(segmenter, planned)
    assert [p.name for p in (tmp_path / "m").iterdir()] == ["failures.jsonl"]
    shutil.copy(photos / "b.png", tmp_path / "bad" / "c.png")
    assert paint(segmenter, planned, skip_existing=True).num_masks == 1
    again = paint(segmenter, planned, skip_existing=True)  # the mask that is kept makes it no error
    assert (again.num_masks, again.num_kept, len(again.failures)) == (0, 1, 2)


def test_interruption_leaves_whole_files_only(
    segmenter: Segmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, calls = segmenter.batch_scores, []

    def interrupted(images: list[NDArray[np.uint8]]) -> object:
        calls.append(images)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(images)

    monkeypatch.setattr(segmenter, "batch_scores", interrupted)
    with pytest.raises(KeyboardInterrupt):
        paint(segmenter, outputs([photos], tmp_path / "m"), batch_size=1)
    (written,) = [p for p in (tmp_path / "m").rglob("*") if p.is_file()]
    assert size(written) == (96, 90)


def test_unwritable_output_is_one_sentence(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        paint(segmenter, outputs([photos], tmp_path / "file" / "m"))


def test_annotations_are_written_beside_the_masks_and_from_masks_that_are_kept(
    segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    planned = outputs([photos], out, formats=("coco", "summary"))
    paint(segmenter, planned)
    whole = {name: (out / name).read_bytes() for name in ("annotations.json", "segments.jsonl")}
    summary = [json.loads(line) for line in whole["segments.jsonl"].splitlines()]
    assert sorted(line["file"] for line in summary) == ["a.jpg", "b.png", "deep/er/c.jpg"]
    assert all(sum(c["pixels"] for c in line["classes"]) == line["width"] * line["height"] for line in summary)
    with pytest.raises(ConfigError, match="masks exist"):
        paint(segmenter, planned)
    (out / "b.png").unlink()
    paint(segmenter, planned, skip_existing=True)
    again = [json.loads(line) for line in (out / "segments.jsonl").read_text().splitlines()]
    assert sorted(again, key=lambda line: line["file"]) == sorted(summary, key=lambda line: line["file"])
    images = json.loads((out / "annotations.json").read_text())["images"]
    assert sorted(image["file_name"] for image in images) == ["a.jpg", "b.png", "deep/er/c.jpg"]


def test_annotations_that_exist_are_not_replaced_unasked(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    out.mkdir()
    (out / "a.json").write_text("edited by hand")
    with pytest.raises(ConfigError, match=r"a\.json exists; expected a new --output"):
        paint(segmenter, outputs([photos], out, formats=("labelme",)))
    assert sorted(p.name for p in out.iterdir()) == ["a.json"]


def test_an_unreadable_photo_is_left_out_of_the_annotations(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_bytes(b"no photo")
    painted = paint(segmenter, outputs([photos], tmp_path / "m", formats=("summary",)))
    assert (painted.num_masks, len(painted.failures)) == (2, 1)
    lines = (tmp_path / "m" / "segments.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["file"] for line in lines) == ["a.jpg", "deep/er/c.jpg"]


def test_what_is_wanted_is_written_for_the_trees_of_photos(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    wanted = outputs([photos], out, overlay=True, confidence=True, legend=True, formats=("labelme",))
    segmenter.confidence = True
    paint(segmenter, wanted)
    names = ("a", "b", "deep/er/c")
    beside = {f"{folder}{name}{suffix}" for name in names for folder, suffix in COMPANIONS}
    files = {str(p.relative_to(out)) for p in out.rglob("*") if p.is_file()}
    assert files == beside | {"legend.json", "legend.png", "overlay/sheet.jpg"}
    assert [size(out / "confidence" / f"{name}.png") for name in names] == [size(out / f"{name}.png") for name in names]


COMPANIONS = (("", ".png"), ("", ".json"), ("overlay/", ".jpg"), ("confidence/", ".png"))


def test_unsure_pixels_are_left_out_of_the_mask(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    segmenter.confidence = True
    segmentation = segmenter(photos / "a.jpg")
    assert segmentation.confidence is not None
    least = float(np.median(segmentation.confidence)) / 255
    paint(segmenter, outputs([photos / "a.jpg"], tmp_path / "m.png"), cleaning=CleaningOptions(ignore_below=least))
    mask = ids(tmp_path / "m.png")
    left_out = segmentation.confidence < least * 255
    assert 0 < left_out.sum() < left_out.size
    assert np.array_equal(mask == 255, left_out)
    assert np.array_equal(mask[~left_out], segmentation.class_map[~left_out])


def test_mask_of_one_photo_as_png(segmenter: Segmenter, photos: Path) -> None:
    item = Input(source=(photos / "a.jpg").read_bytes(), relative=Path("stdin"), name="the image on stdin")
    content, notes = paint_png(segmenter, item)
    with Image.open(io.BytesIO(content)) as mask:
        assert np.array_equal(np.array(mask), segmenter(photos / "a.jpg").class_map)
    assert notes == ()
    broken = Input(source=b"no photo", relative=Path("stdin"), name="the image on stdin")
    with pytest.raises(DataError, match="the image on stdin is not an image"):
        paint_png(segmenter, broken)


def test_what_was_left_out_of_photos_is_counted(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    glass = Image.new("RGBA", (40, 30), (200, 0, 0, 100))
    for name in ("x.png", "y.png"):
        glass.save(photos / name)
    pages = [Image.fromarray(draw_scene(i)[0]) for i in range(3)]
    pages[0].save(photos / "z.tif", save_all=True, append_images=pages[1:])
    painted = paint(segmenter, outputs([photos], tmp_path / "m"))
    assert painted.notes == {
        "transparency laid over white": (2, str(photos / "x.png")),
        "the first of 3 pages": (1, str(photos / "z.tif")),
    }


def test_huge_photos_are_read_in_windows(
    segmenter: Segmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = paint_all(segmenter, photos, tmp_path / "whole")
    monkeypatch.setattr("slotseg.segmenting.streaming.PIXELS_AHEAD", 96 * 75)  # two of the three are huge
    assert paint_all(segmenter, photos, tmp_path / "windows") == whole
    for name in ("a", "b", "deep/er/c"):
        one, other = (ids(tmp_path / kind / f"{name}.png") for kind in ("whole", "windows"))
        assert one.shape == other.shape
        assert (one == other).mean() > 0.98  # a huge photo is made small by averages instead of bilinear samples
        assert size(tmp_path / "windows" / "overlay" / f"{name}.jpg") == size(tmp_path / "windows" / f"{name}.png")
    (photos / "b.png").write_bytes((photos / "b.png").read_bytes()[:3000])
    painted = paint_all(segmenter, photos, tmp_path / "damaged")
    assert painted.num_masks == 2
    assert "b.png cannot be decoded" in painted.failures[0]


def paint_all(segmenter: Segmenter, photos: Path, out: Path) -> PaintSummary:
    return paint(segmenter, outputs([photos], out, overlay=True))


def ids(path: Path) -> NDArray[np.uint8]:
    with Image.open(path) as mask:
        return np.array(mask)
