#!/usr/bin/env bash
# Guess (put into words after the run): a prediction equal to the ground truth has mAP 1, and NMS keeps one of two equal boxes.
# Fact: mask_to_xyxy returns the last covered pixel as the far corner, while areas and IoU take it as
# the edge behind. A mask 1 pixel wide or high has a box without area: its IoU with itself is 0. The
# default mAP (on boxes) of a perfect prediction is 0, and NMS keeps the duplicates. The option
# coordinate_convention="exclusive" of mask_to_xyxy is right, but not the default.
# Versions: supervision 0.31.2, NumPy 2.4.6.
# Why it matters: wires, poles, far kerbs. Thicker masks lose a pixel a side, so their IoU is off too:
# two masks of 4 x 4 that share 12 of 20 pixels have 0.6, their boxes 0.5.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check supervision==0.31.2 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import importlib.metadata
import warnings

import numpy as np

warnings.simplefilter("ignore")
import supervision as sv
from supervision.metrics import MeanAveragePrecision, MetricTarget

print("supervision", importlib.metadata.version("supervision"))


def detections(masks, convention=None, with_masks=True):
    options = {"coordinate_convention": convention} if convention else {}
    return sv.Detections(
        xyxy=sv.mask_to_xyxy(masks, **options).astype(float),
        mask=masks if with_masks else None,
        class_id=np.zeros(len(masks), int),
        confidence=np.full(len(masks), 0.9),
    )


def score(convention=None, **options):
    metric = MeanAveragePrecision(**options)
    return float(metric.update(detections(lines, convention), detections(lines, convention)).compute().map50_95)


lines = np.zeros((2, 40, 40), bool)
lines[0, 3, 5:15] = True  # a wire
lines[1, 10:20, 3] = True  # a pole
boxes = sv.mask_to_xyxy(lines)
print("boxes", boxes.tolist(), "IoU with themselves", np.diag(sv.box_iou_batch(boxes, boxes)).tolist())
assert boxes.tolist() == [[5, 3, 14, 3], [3, 10, 3, 19]]
assert (sv.box_iou_batch(boxes, boxes) == 0).all()

found = score(), score("exclusive"), score(metric_target=MetricTarget.MASKS)
print("mAP of a perfect prediction: boxes %.2f, exclusive boxes %.2f, masks %.2f" % found)
assert found[0] == 0 and found[1] > 0.999 and found[2] > 0.999

for convention, left in ((None, 4), ("exclusive", 2)):
    once = detections(lines, convention, with_masks=False)
    kept = len(sv.Detections.merge([once, once]).with_nms(0.5))
    print(f"NMS on two boxes given twice, convention {convention}: {kept} are left")
    assert kept == left

squares = np.zeros((2, 40, 40), bool)
squares[0, 5:9, 5:9] = True
squares[1, 5:9, 6:10] = True
boxes = sv.mask_to_xyxy(squares)
of_masks, of_boxes = sv.mask_iou_batch(*squares[:, None]).item(), sv.box_iou_batch(boxes[:1], boxes[1:]).item()
print(f"4 x 4, one pixel apart: IoU of the masks {of_masks:.2f}, of the boxes {of_boxes:.2f}")
assert abs(of_masks - 0.6) < 1e-6 and abs(of_boxes - 0.5) < 1e-6
PY
