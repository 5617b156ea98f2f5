"""Masks as predictions: scored like the model that made them, whatever tool that was."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from slotseg.config import TrainConfig
from slotseg.data.labelled.labelled import LabelledPhotos, labelled_folder
from slotseg.data.scenes import CLASS_NAMES, draw_scene
from slotseg.errors import DataError, LabelError
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.evaluate import evaluate
from slotseg.eval.masks import MaskFolder, MaskSaver
from slotseg.eval.predictors import SegmenterPredictor
from slotseg.eval.protocols import Protocol
from slotseg.eval.report import truth_line
from slotseg.eval.result import PredictorInfo
from slotseg.labels.label_map import LabelMap
from slotseg.method.model import SlotCon
from slotseg.painting.render import save_legend
from slotseg.segmenting.segmenter import Segmenter

CROPPED = Protocol(name="full", dataset="folder", classes="folder", split="all", short_side=64, crop=64)


@pytest.fixture
def photos(tmp_path: Path) -> LabelledPhotos:
    """Four scenes in nested folders, half of them of another shape."""
    for i in range(4):
        image, labels = draw_scene(i)
        name = f"deep/{i}" if i % 2 else str(i)
        height = 96 if i < 2 else 80
        for folder, pixels in (("images", image), ("labels", labels)):
            (tmp_path / folder / "deep").mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels[:height]).save(tmp_path / folder / f"{name}.png")
    (tmp_path / "classes.json").write_text(json.dumps({"names": CLASS_NAMES}))
    return labelled_folder(tmp_path / "images", tmp_path / "labels")


@pytest.fixture
def native(photos: LabelledPhotos) -> Benchmark:
    return Benchmark.of(photos)


def write(path: Path, ids: NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(ids).save(path)


def test_the_truth_as_masks_scores_exactly_one(photos: LabelledPhotos, native: Benchmark, tmp_path: Path) -> None:
    for benchmark in (native, Benchmark(dataset=photos, protocol=CROPPED)):
        result = evaluate(MaskFolder(tmp_path / "labels", benchmark), benchmark)
        assert result.metrics.miou == result.metrics.pixel_accuracy == 1
        assert result.protocol.predictor.name == "masks in labels"
        assert result.protocol.predictor.postprocessing == "unknown"


@pytest.mark.parametrize("num_prototypes", [6, 300])
@pytest.mark.parametrize("cropped", [False, True])
def test_masks_score_as_the_model_that_made_them(
    photos: LabelledPhotos,
    tmp_path: Path,
    tiny_config: Callable[..., TrainConfig],
    tiny_model: Callable[..., SlotCon],
    num_prototypes: int,
    cropped: bool,
) -> None:
    benchmark = Benchmark(dataset=photos, protocol=CROPPED) if cropped else Benchmark.of(photos)
    values = {"model.num_prototypes": num_prototypes}
    segmenter = Segmenter(tiny_model(values).teacher, tiny_config(values), size=64, device="cpu")
    model = SegmenterPredictor(segmenter, PredictorInfo(name="tiny"))
    from_model = evaluate(MaskSaver(model, tmp_path / "masks"), benchmark)
    with Image.open(tmp_path / "masks" / "deep" / "1.png") as mask:
        assert mask.size == ((64, 64) if cropped else (96, 96))
    from_masks = evaluate(MaskFolder(tmp_path / "masks", benchmark), benchmark)
    assert np.array_equal(from_masks.table, from_model.table)
    assert np.array_equal(from_masks.assignment, from_model.assignment)
    assert from_masks.metrics == from_model.metrics


def test_pixels_without_an_id_are_errors(native: Benchmark, tmp_path: Path) -> None:
    """Neither a class of their own nor dropped, in 8 and in 16 bits."""
    for dtype, none in ((np.uint8, 255), (np.uint16, 65_535)):
        for i in range(len(native.dataset)):
            labelled = native.dataset.read(i)
            ids = labelled.class_map.astype(dtype)
            ids[:, :24] = none
            write(tmp_path / str(none) / f"{labelled.key}.png", ids)
        result = evaluate(MaskFolder(tmp_path / str(none), native), native)
        assert result.metrics.pixel_accuracy == 0.75
        assert result.protocol.num_prototypes == len(result.table) - 1 <= 8
        assert result.assignment[-1] == -1
        assert result.table[-1].sum() == result.protocol.num_labelled_pixels // 4


def test_masks_in_one_folder_and_any_ids(native: Benchmark, tmp_path: Path) -> None:
    for i in range(len(native.dataset)):
        labelled = native.dataset.read(i)
        write(tmp_path / "flat" / f"{Path(labelled.key).name}.png", (labelled.class_map + 100).astype(np.uint8))
    assert evaluate(MaskFolder(tmp_path / "flat", native), native).metrics.miou == 1


def test_one_mask_never_stands_for_two_photos(native: Benchmark, photos: LabelledPhotos, tmp_path: Path) -> None:
    image, labels = draw_scene(0)
    write(tmp_path / "images" / "deep" / "0.png", image)
    write(tmp_path / "labels" / "deep" / "0.png", labels)
    for i in range(4):
        write(tmp_path / "flat" / f"{i}.png", np.zeros((96, 96), np.uint8))
    MaskFolder(tmp_path / "flat", native)
    more = Benchmark.of(labelled_folder(tmp_path / "images", tmp_path / "labels"))
    with pytest.raises(DataError, match=r"3 of 5 masks are missing in .*flat, the first is deep/0\.png"):
        MaskFolder(tmp_path / "flat", more)
    with pytest.raises(DataError, match="photos of both splits share names"):
        MaskFolder(tmp_path / "flat", Benchmark.of(photos, match_on=photos))


def test_a_mask_of_a_folder_may_name_its_ids(native: Benchmark, tmp_path: Path) -> None:
    legend = tmp_path / "labels" / "legend.json"
    legend.write_text(json.dumps({"classes": [{"id": i} for i in range(20)]}))
    assert evaluate(MaskFolder(tmp_path / "labels", native), native).protocol.num_prototypes == 20
    legend.write_text(json.dumps({"classes": [{"id": 0}]}))
    with pytest.raises(
        LabelError, match=r"holds the id \d, which .*legend\.json does not list; expected one of its 1 id"
    ):
        evaluate(MaskFolder(tmp_path / "labels", native), native)
    for cut in ("{", "[" * 100_000):
        legend.write_text(cut)
        with pytest.raises(DataError, match=r"legend\.json is no whole JSON"):
            MaskFolder(tmp_path / "labels", native)
    legend.write_text(json.dumps({"classes": [{"id": i} for i in range(20)]}), encoding="utf-8-sig")
    assert MaskFolder(tmp_path / "labels", native).num_prototypes == 20


def test_ids_of_a_legend_may_have_gaps(native: Benchmark, tmp_path: Path) -> None:
    """They become their places in the legend, and what it ignores counts as an error."""
    for i in range(len(native.dataset)):
        labelled = native.dataset.read(i)
        ids = (labelled.class_map + 100).astype(np.uint8)
        ids[:, :24] = 99
        write(tmp_path / "masks" / f"{labelled.key}.png", ids)
    classes = [{"id": str(i)} for i in range(107, 99, -1)]
    (tmp_path / "masks" / "legend.json").write_text(json.dumps({"classes": classes, "ignore_id": 99}))
    result = evaluate(MaskFolder(tmp_path / "masks", native), native)
    assert (result.metrics.pixel_accuracy, result.protocol.num_prototypes) == (0.75, 8)


def test_missing_masks_are_counted_and_only_those_that_are_scored(photos: LabelledPhotos, tmp_path: Path) -> None:
    write(tmp_path / "some" / "0.png", np.zeros((96, 96), np.uint8))
    with pytest.raises(DataError, match=r"3 of 4 masks are missing in .*some, the first is 2\.png"):
        MaskFolder(tmp_path / "some", Benchmark.of(photos))
    MaskFolder(tmp_path / "some", Benchmark.of(photos, limit=1))
    with pytest.raises(DataError, match="nowhere is not a folder"):
        MaskFolder(tmp_path / "nowhere", Benchmark.of(photos))


@pytest.mark.parametrize("size", [(64, 96), (96, 95), (65, 64)])
def test_a_mask_of_another_size_is_an_error(photos: LabelledPhotos, tmp_path: Path, size: tuple[int, int]) -> None:
    """Also one that the crop would make fit."""
    for benchmark in (Benchmark.of(photos, limit=1), Benchmark(dataset=photos, protocol=CROPPED, limit=1)):
        write(tmp_path / "masks" / "0.png", np.zeros(size, np.uint8))
        with pytest.raises(LabelError, match=rf"0\.png is {size[1]} x {size[0]} and its photo 96 x 96"):
            evaluate(MaskFolder(tmp_path / "masks", benchmark), benchmark)


@pytest.mark.parametrize("end", [".PNG", ".tif", ".npy", "_pred.png", ".png.png", "_leftImg8bit.png"])
def test_masks_of_every_form(native: Benchmark, tmp_path: Path, end: str) -> None:
    for i in range(len(native.dataset)):
        labelled = native.dataset.read(i)
        path = tmp_path / "masks" / f"{labelled.key}{end}"
        write(path.with_name("x.png"), labelled.class_map)
        np.save(path, labelled.class_map) if end == ".npy" else Image.fromarray(labelled.class_map).save(path)
        path.with_name("x.png").unlink()
    assert evaluate(MaskFolder(tmp_path / "masks", native), native).metrics.miou == 1


def test_binary_masks_have_two_ids_unless_a_legend_says_otherwise(native: Benchmark, tmp_path: Path) -> None:
    for i in range(len(native.dataset)):
        labelled = native.dataset.read(i)
        write(tmp_path / "masks" / f"{labelled.key}.png", np.where(labelled.class_map == 0, 255, 0).astype(np.uint8))
    result = evaluate(MaskFolder(tmp_path / "masks", native), native)
    assert result.protocol.num_prototypes == len(result.table) == 2
    assert result.metrics.iou_per_class[0] == 1
    (tmp_path / "masks" / "legend.json").write_text(json.dumps({"classes": [{"id": 0}], "ignore_id": 255}))
    result = evaluate(MaskFolder(tmp_path / "masks", native), native)
    assert (result.protocol.num_prototypes, len(result.table)) == (1, 2)
    assert result.metrics.iou_per_class[0] == 0
    assert "of the labelled ones have no id in the masks, and are errors." in truth_line(result)


def test_masks_in_colour(native: Benchmark, photos: LabelledPhotos, tmp_path: Path) -> None:
    """In the colours of a legend beside them, or of the classes, if somebody gave them some."""
    colors = photos.taxonomy.colors
    for i in range(len(native.dataset)):
        labelled = native.dataset.read(i)
        write(tmp_path / "masks" / f"{labelled.key}.png", np.array(colors, np.uint8)[labelled.class_map])
    with pytest.raises(LabelError, match="is a colour image"):
        evaluate(MaskFolder(tmp_path / "masks", native), native)
    classes = {"names": CLASS_NAMES, "colors": colors}
    (tmp_path / "classes.json").write_text(json.dumps(classes))
    declared = Benchmark.of(labelled_folder(tmp_path / "images", tmp_path / "labels"))
    assert evaluate(MaskFolder(tmp_path / "masks", declared), declared).metrics.miou == 1
    save_legend(tmp_path / "masks" / "legend.json", LabelMap.of_classes(photos.taxonomy.names, colors))
    assert evaluate(MaskFolder(tmp_path / "masks", native), native).metrics.miou == 1


def test_an_overlay_is_no_mask(photos: LabelledPhotos, tmp_path: Path) -> None:
    write(tmp_path / "masks" / "0.png", np.full((96, 96, 3), (0, 90, 0), np.uint8))
    benchmark = Benchmark.of(photos, limit=1)
    with pytest.raises(LabelError, match="is a colour image"):
        evaluate(MaskFolder(tmp_path / "masks", benchmark), benchmark)
