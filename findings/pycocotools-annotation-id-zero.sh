#!/usr/bin/env bash
# Guess: the id of an annotation is only a name. A prediction equal to the ground truth has AP 1.
# Fact: the ground truth with id 0 counts as not found, and what was matched to it as a false alarm.
# Ids 0..3 give AP 0.564 and a recall of 0.75 for a perfect prediction; one annotation gives AP 0.
# COCOeval keeps the id of the match and reads 0 as "no match". Nothing warns.
# Versions: pycocotools 2.0.11, NumPy 2.4.6.
# Why it matters: a converter that counts with enumerate() starts at 0, and the loss is too small to
# notice in a large set. Number annotations of the ground truth from 1.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pycocotools==2.0.11 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import contextlib
import importlib.metadata
import io

import numpy as np
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


def evaluate(ids):
    """AP and recall (100 detections) of a prediction that equals the ground truth."""
    truth, prediction = [], []
    for place, number in enumerate(ids):
        mask = np.zeros((64, 64), np.uint8, order="F")
        mask[8 * place : 8 * place + 6, :50] = 1
        common = {"image_id": 1, "category_id": 1, "segmentation": rle.encode(mask)}
        truth.append({**common, "id": number, "iscrowd": 0, "area": 300, "bbox": [0, 8 * place, 50, 6]})
        prediction.append({**common, "score": 0.9})
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": 1, "width": 64, "height": 64}],
            "categories": [{"id": 1, "name": "wall"}],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(prediction), "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return round(float(evaluation.stats[0]), 3), round(float(evaluation.stats[8]), 3)


print("pycocotools", importlib.metadata.version("pycocotools"))
for ids, expected in (
    ([1, 2, 3, 4], (1.0, 1.0)),
    ([0, 1, 2, 3], (0.564, 0.75)),
    ([7, 0], (0.505, 0.5)),
    ([0], (0.0, 0.0)),
):
    found = evaluate(ids)
    print("ids", ids, "AP and recall", found)
    assert found == expected
PY
