import json
from pathlib import Path

import numpy as np
import pytest

from slotseg.errors import DataError
from slotseg.eval.contingency import contingency_table
from slotseg.eval.matching import UNMATCHED, hungarian, majority, match
from slotseg.eval.metrics import confusion_matrix, score, score_within

GOLDEN = json.loads((Path(__file__).parent.parent / "golden" / "matching.json").read_text())["cases"]


def slow_scores(predicted, true, num_classes):
    """IoU per class, mIoU and accuracy pixel by pixel, from class maps; UNMATCHED is no class."""
    pairs = list(zip(predicted.ravel().tolist(), true.ravel().tolist(), strict=True))
    iou = []
    for c in range(num_classes):
        union = sum(p == c or t == c for p, t in pairs)
        iou.append(sum(p == t == c for p, t in pairs) / union if union else None)
    present = [value for value in iou if value is not None]
    return iou, sum(present) / len(present), sum(p == t for p, t in pairs) / len(pairs)


@pytest.mark.parametrize("mode", ["hungarian", "majority"])
@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: case["name"])
def test_golden_scores(case, mode):
    table, expected = np.array(case["contingency"]), case[mode]
    scores = score(table, match(table, mode))
    assert scores.miou == pytest.approx(expected["miou"], abs=1e-12)
    assert scores.pixel_accuracy == pytest.approx(expected["pixel_accuracy"], abs=1e-12)
    assert [v is None for v in scores.iou_per_class] == [v is None for v in expected["iou"]]
    known = [(ours, v) for ours, v in zip(scores.iou_per_class, expected["iou"], strict=True) if v is not None]
    assert [ours for ours, _ in known] == pytest.approx([v for _, v in known], abs=1e-12)


@pytest.mark.parametrize(
    ("table", "assignment", "iou", "miou", "accuracy"),
    [
        ([[3, 1], [2, 4]], [0, 1], (3 / 6, 4 / 7), (3 / 6 + 4 / 7) / 2, 7 / 10),
        ([[3, 1], [2, 4]], [1, 0], (2 / 9, 1 / 8), (2 / 9 + 1 / 8) / 2, 3 / 10),
        ([[3, 1], [2, 4], [5, 0]], [0, 1, UNMATCHED], (3 / 11, 4 / 7), (3 / 11 + 4 / 7) / 2, 7 / 15),  # K > C
        ([[3, 1], [2, 4], [5, 0]], [0, 1, 0], (8 / 11, 4 / 7), (8 / 11 + 4 / 7) / 2, 12 / 15),  # many to one
        ([[4, 1, 1]], [0], (4 / 6, 0.0, 0.0), 4 / 18, 4 / 6),  # K < C
        ([[4, 0, 0], [0, 2, 0]], [0, 1], (1.0, 1.0, None), 1.0, 1.0),  # class 2 in neither
        ([[4, 0, 0], [0, 2, 0]], [0, 2], (1.0, 0.0, 0.0), 1 / 3, 4 / 6),  # class 2 in the prediction only
        ([[4, 2]], [UNMATCHED], (0.0, 0.0), 0.0, 0.0),
    ],
)
def test_hand_made_tables(table, assignment, iou, miou, accuracy):
    scores = score(np.array(table), np.array(assignment))
    assert scores.iou_per_class == iou
    assert scores.miou == pytest.approx(miou, abs=1e-15)
    assert scores.pixel_accuracy == accuracy


@pytest.mark.parametrize("matching", [hungarian, majority])
@pytest.mark.parametrize(("num_prototypes", "num_classes"), [(6, 6), (11, 6), (3, 6)])
def test_equals_a_slow_loop_over_pixels(matching, num_prototypes, num_classes):
    rng = np.random.default_rng(num_prototypes)
    true = rng.integers(0, num_classes, (20, 30))
    noise = rng.integers(0, num_prototypes, true.shape)
    prototypes = np.where(rng.random(true.shape) < 0.4, true % num_prototypes, noise)
    true[true == num_classes - 1] = 0  # the last class never occurs
    assignment = matching(table := contingency_table(prototypes, true, num_prototypes, num_classes)[:-1])
    iou, miou, accuracy = slow_scores(assignment[prototypes], true, num_classes)
    scores = score(table, assignment)
    assert list(scores.iou_per_class) == iou
    assert scores.miou == pytest.approx(miou, abs=1e-12)
    assert scores.pixel_accuracy == accuracy


def test_surplus_prototypes_are_errors_and_not_dropped():
    table = np.array([[90, 0], [0, 90], [60, 0], [0, 60]])
    assignment = hungarian(table)
    kept, dropped = score(table, assignment), score(table[:2], assignment[:2])
    assert (dropped.miou, dropped.pixel_accuracy) == (1.0, 1.0)  # the known inflation
    assert kept.miou == kept.pixel_accuracy == 90 / 150
    assert kept.iou_per_class == (90 / 150, 90 / 150)


@pytest.mark.parametrize("num_classes", [1, 3, 27])
def test_perfect_prediction_scores_exactly_one(num_classes):
    rng = np.random.default_rng(num_classes)
    table = np.diag(rng.integers(1, 10**9, num_classes))[rng.permutation(num_classes)]
    scores = score(table, hungarian(table))
    assert scores.miou == scores.pixel_accuracy == 1.0
    assert set(scores.iou_per_class) == {1.0}


def test_iou_comes_from_sums_and_not_from_a_mean_over_images():
    tables = [np.array([[99, 1], [0, 0]]), np.array([[0, 0], [0, 2]])]
    whole = score(tables[0] + tables[1], np.array([0, 1]))
    assert whole.iou_per_class == (99 / 100, 2 / 3)


def test_groups_are_restricted_by_class_and_not_by_the_order_of_prototypes():
    table = np.array([[0, 0, 50, 5], [40, 10, 2, 0], [0, 3, 0, 70], [6, 20, 0, 1]])
    assignment = hungarian(table)
    assert assignment.tolist() == [2, 0, 3, 1]
    things, stuff = score_within(table, assignment, [0, 1]), score_within(table, assignment, [2, 3])
    assert things.iou_per_class == (40 / 56, 20 / 36)  # predicted {0, 1} x true {0, 1} is [[40, 10], [6, 20]]
    assert things.pixel_accuracy == 60 / 76
    assert stuff.iou_per_class == (50 / 55, 70 / 75)
    assert score_within(table, assignment, []) is None
    everything = score_within(table, assignment, range(4))
    assert everything == score(table, assignment)


def test_unmatched_prototypes_stay_errors_within_a_group():
    table = np.array([[9, 0, 0], [0, 9, 0], [9, 0, 0], [0, 0, 9]])
    assignment = np.array([0, 1, UNMATCHED, 2])
    assert score_within(table, assignment, [0, 1]).pixel_accuracy == 18 / 27
    assert score_within(np.array([[0, 4]]), np.array([1]), [0]) is None  # no pixel of the group


def test_confusion_keeps_every_pixel():
    table = np.arange(15).reshape(5, 3)
    confusion = confusion_matrix(table, np.array([2, UNMATCHED, 0, 2, UNMATCHED]))
    assert confusion.tolist() == [[6, 7, 8], [0, 0, 0], [9, 11, 13], [15, 17, 19]]


@pytest.mark.parametrize(
    ("table", "assignment", "message"),
    [
        ([[0, 0], [0, 0]], [0, 1], "no labelled pixel"),
        ([[1, 0], [0, 1]], [0], r"shape \(1,\).*2 prototypes"),
        ([[1, 0], [0, 1]], [0, 2], "0..2; expected 0..1"),
        ([[1, 0], [0, 1]], [0, -2], "-2..0; expected 0..1"),
    ],
)
def test_refuses_what_cannot_be_scored(table, assignment, message):
    with pytest.raises(DataError, match=message):
        score(np.array(table), np.array(assignment))
