"""Segmenting many files: where masks go, and what a bad file costs."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from slotseg.config import TrainConfig
from slotseg.data.scenes import draw_scene
from slotseg.errors import ConfigError, DataError
from slotseg.model import SlotCon
from slotseg.painting import paint, plan
from slotseg.segmenter import Segmenter


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
    painted = paint(segmenter, plan([photos], out, with_overlay=True))
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
    paint(segmenter, plan([photos / "a.jpg"], tmp_path / "m.png"))
    with Image.open(tmp_path / "m.png") as mask:
        assert mask.mode == "P"
        ids: NDArray[np.uint8] = np.array(mask)
    assert np.array_equal(ids, segmenter(photos / "a.jpg").class_map)


def test_single_photo_names_its_companions_after_the_mask(photos: Path, tmp_path: Path) -> None:
    planned = plan([photos / "a.jpg"], tmp_path / "m.png", with_overlay=True)
    output = planned.outputs[0]
    assert (output.mask.name, output.overlay and output.overlay.name) == ("m.png", "m_overlay.jpg")
    assert planned.legend.name == "m_legend.json"


def test_photos_of_one_stem_keep_their_suffix(photos: Path, tmp_path: Path) -> None:
    Image.fromarray(draw_scene(9)[0]).save(photos / "a.png")
    masks = {str(o.mask.relative_to(tmp_path)) for o in plan([photos], tmp_path / "m").outputs}
    assert masks == {"m/a.jpg.png", "m/a.png.png", "m/b.png", "m/deep/er/c.png"}


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["photos"], "photos", "would replace a photo"),
        (["photos/b.png"], "photos/b.png", "would replace a photo"),
        (["photos"], "photos/a.jpg", "is a file; expected a folder"),
        (["photos/a.jpg", "other/a.jpg"], "m", "would become one mask"),
        (["nothing"], "m", "nothing"),
    ],
)
def test_plans_that_would_lose_something_are_refused(
    photos: Path, tmp_path: Path, inputs: list[str], output: str, message: str
) -> None:
    (tmp_path / "other").mkdir()
    Image.fromarray(draw_scene(7)[0]).save(tmp_path / "other" / "a.jpg")
    with pytest.raises((ConfigError, DataError), match=message):
        plan([tmp_path / i for i in inputs], tmp_path / output)


def test_existing_masks_are_kept_skipped_or_replaced(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    planned = plan([photos], tmp_path / "m")
    planned.outputs[0].mask.parent.mkdir()
    planned.outputs[0].mask.write_text("mine")
    with pytest.raises(ConfigError, match="1 of 3 masks exist"):
        paint(segmenter, planned)
    assert not planned.legend.exists()
    painted = paint(segmenter, planned, skip_existing=True)
    assert (painted.num_masks, painted.num_kept) == (2, 1)
    assert planned.outputs[0].mask.read_text() == "mine"
    assert paint(segmenter, planned, overwrite=True).num_masks == 3
    assert size(planned.outputs[0].mask) == (96, 90)


def test_bad_photo_costs_that_photo(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    (photos / "empty.jpg").write_bytes(b"")
    planned = plan([photos], tmp_path / "m")
    painted = paint(segmenter, planned)
    assert painted.num_masks == 3
    (line,) = planned.failures.read_text().splitlines()
    assert "empty.jpg" in json.loads(line)["error"]


def test_only_photo_being_bad_is_an_error_and_leaves_nothing(segmenter: Segmenter, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(DataError, match="empty"):
        paint(segmenter, plan([tmp_path / "empty.jpg"], tmp_path / "out" / "m.png"), formats=("coco", "summary"))
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "empty.jpg"]


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
        paint(segmenter, plan([photos], tmp_path / "m"), batch_size=1)
    (written,) = [p for p in (tmp_path / "m").rglob("*") if p.is_file()]
    assert size(written) == (96, 90)


def test_unwritable_output_is_one_sentence(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        paint(segmenter, plan([photos], tmp_path / "file" / "m"))


def test_annotations_are_written_beside_the_masks_and_from_masks_that_are_kept(
    segmenter: Segmenter, photos: Path, tmp_path: Path
) -> None:
    out = tmp_path / "m"
    planned = plan([photos], out)
    paint(segmenter, planned, formats=("coco", "summary"))
    whole = {name: (out / name).read_bytes() for name in ("annotations.json", "segments.jsonl")}
    summary = [json.loads(line) for line in whole["segments.jsonl"].splitlines()]
    assert sorted(line["file"] for line in summary) == ["a.jpg", "b.png", "deep/er/c.jpg"]
    assert all(sum(c["pixels"] for c in line["classes"]) == line["width"] * line["height"] for line in summary)
    with pytest.raises(ConfigError, match="masks exist"):
        paint(segmenter, planned, formats=("coco",))
    (out / "b.png").unlink()
    paint(segmenter, planned, skip_existing=True, formats=("coco", "summary"))
    again = [json.loads(line) for line in (out / "segments.jsonl").read_text().splitlines()]
    assert sorted(again, key=lambda line: line["file"]) == sorted(summary, key=lambda line: line["file"])
    images = json.loads((out / "annotations.json").read_text())["images"]
    assert sorted(image["file_name"] for image in images) == ["a.jpg", "b.png", "deep/er/c.jpg"]


def test_annotations_that_exist_are_not_replaced_unasked(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "m"
    out.mkdir()
    (out / "a.json").write_text("edited by hand")
    with pytest.raises(ConfigError, match=r"a\.json exists; expected a new --output"):
        paint(segmenter, plan([photos], out), formats=("labelme",))
    assert sorted(p.name for p in out.iterdir()) == ["a.json"]


def test_an_unreadable_photo_is_left_out_of_the_annotations(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    (photos / "b.png").write_bytes(b"no photo")
    painted = paint(segmenter, plan([photos], tmp_path / "m"), formats=("summary",))
    assert (painted.num_masks, len(painted.failures)) == (2, 1)
    lines = (tmp_path / "m" / "segments.jsonl").read_text().splitlines()
    assert sorted(json.loads(line)["file"] for line in lines) == ["a.jpg", "deep/er/c.jpg"]
