"""The scoring loop, its result, and what becomes of a bad photo or label."""

import json
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from slotseg.data.labelled import LabelledFolder, LabelledScenes
from slotseg.data.scenes import CLASS_NAMES, draw_scene
from slotseg.errors import LabelError
from slotseg.eval.evaluate import evaluate, label_map
from slotseg.eval.report import Result, result_table
from slotseg.labels import IGNORE


class Oracle:
    """Gives the truth of the scenes it is shown, one after the other, under other numbers."""

    def __init__(self, scenes: LabelledScenes, numbers: NDArray[np.int64]) -> None:
        self.truth = {s.image.tobytes(): s.class_map for s in (scenes.read(i) for i in range(len(scenes)))}
        self.numbers = numbers

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.int64]:
        prototypes: NDArray[np.int64] = self.numbers[self.truth[image.tobytes()]]
        return prototypes


SCENES = LabelledScenes(6)
RENUMBERED = np.array([7, 3, 11, 0, 5, 9, 2, 8])


def oracle_result(matching: str = "hungarian") -> Result:
    return evaluate(Oracle(SCENES, RENUMBERED), 12, SCENES, matching=matching, predictor="the truth")


@pytest.mark.parametrize("matching", ["hungarian", "majority"])
def test_perfect_prediction_scores_exactly_one(matching: str) -> None:
    result = oracle_result(matching)
    assert result.scores.miou == result.scores.pixel_accuracy == 1
    assert result.protocol.num_images == 6
    assert result.protocol.num_labelled_pixels == 6 * 96 * 96


def test_match_becomes_a_label_map() -> None:
    labels = label_map(oracle_result(), SCENES)
    assert [labels.classes[k] for k in RENUMBERED] == list(range(8))
    assert [labels.classes[k] for k in range(12) if k not in RENUMBERED] == [IGNORE] * 4
    assert labels.names == CLASS_NAMES
    scene = SCENES.read(0)
    assert np.array_equal(labels.class_map(RENUMBERED[scene.class_map]), scene.class_map)


def test_result_is_json_with_stable_keys() -> None:
    values = json.loads(json.dumps(oracle_result().to_dict()))
    assert {"miou", "pixel_accuracy", "iou_per_class", "protocol"} <= values.keys()
    assert values["iou_per_class"]["sky"] == 1.0
    assert values["protocol"]["matching"] == "hungarian"
    assert values["protocol"]["num_prototypes"] == 12
    assert np.array(values["table"]).sum() == values["protocol"]["num_labelled_pixels"]


def test_one_prototype_for_everything_scores_its_best_class() -> None:
    result = evaluate(lambda image: np.zeros(image.shape[:2], np.int64), 2, SCENES)
    shares = np.bincount(np.concatenate([SCENES.read(i).class_map.ravel() for i in range(6)]))
    assert result.scores.pixel_accuracy == pytest.approx(shares.max() / shares.sum())


def test_limit_scores_the_first_images() -> None:
    result = evaluate(Oracle(SCENES, RENUMBERED), 12, SCENES, limit=2)
    assert result.protocol.num_images == result.protocol.limit == 2


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for i in range(3):
        image, labels = draw_scene(i)
        Image.fromarray(image).save(tmp_path / "images" / f"{i}.png")
        Image.fromarray(labels).save(tmp_path / "labels" / f"{i}.png")
    (tmp_path / "classes.json").write_text(json.dumps({"names": CLASS_NAMES}))
    return tmp_path


def zeros(image: NDArray[np.uint8]) -> NDArray[np.int64]:
    return np.zeros(image.shape[:2], np.int64)


def test_unreadable_photo_is_left_out_and_said(folder: Path) -> None:
    (folder / "images" / "1.png").write_bytes(b"")
    result = evaluate(zeros, 2, LabelledFolder(folder / "images", folder / "labels"))
    assert result.protocol.num_images == 2
    assert len(result.skipped) == 1
    assert "1.png" in result.skipped[0]


@pytest.mark.parametrize(
    ("label", "message"),
    [
        (np.full((96, 96), 8, np.uint8), "1.png.* 8"),
        (np.zeros((96, 90), np.uint8), "1.png is 90 x 96 and its photo 1.png 96 x 96"),
        (None, "1.png"),
    ],
    ids=["id outside the classes", "another size", "damaged"],
)
def test_bad_label_is_an_error_that_names_it(folder: Path, label: NDArray[np.uint8] | None, message: str) -> None:
    path = folder / "labels" / "1.png"
    if label is None:
        path.write_bytes(b"")
    else:
        Image.fromarray(label).save(path)
    with pytest.raises(LabelError, match=message):
        evaluate(zeros, 2, LabelledFolder(folder / "images", folder / "labels"))


def test_table_for_people_holds_every_class_and_both_columns() -> None:
    worst = evaluate(zeros, 4, SCENES)
    table = result_table({"ours": oracle_result(), "one class": worst})
    lines = {line.split("  ")[0]: line.split() for line in table.splitlines() if line}
    assert lines["mIoU"][1:] == ["100.0", f"{100 * worst.scores.miou:.1f}"]
    assert lines["pixel accuracy"][2:] == ["100.0", f"{100 * worst.scores.pixel_accuracy:.1f}"]
    assert set(CLASS_NAMES) <= lines.keys()
    assert "K = 12, 4" in table


def test_matchings_never_share_a_table() -> None:
    with pytest.raises(ValueError, match="matchings"):
        result_table({"a": oracle_result(), "b": oracle_result("majority")})
