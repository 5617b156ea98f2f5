#!/usr/bin/env bash
# Guess (put into words after the run): masks of two sizes cannot be compared: an error, as NumPy raises for such arrays.
# Fact: iou gives -1 for the pair, merge gives an empty mask of size 0 x 0, and COCOeval counts every
# such prediction as a false alarm: AP 0. Neither warns, and the size is compared as height and
# width, so swapped sides are enough, although pixels and run lengths then agree in number.
# Versions: pycocotools 2.0.11, NumPy 2.4.6.
# Why it matters: predictions at the size of the network, or (width, height) in "size", score 0 like
# a model that has learnt nothing. A mean over iou() counts -1 for each, so it may be negative.

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

HEIGHT, WIDTH = 48, 64


def encode(mask):
    return rle.encode(np.asfortranarray(mask, np.uint8))


def average_precision(prediction):
    common = {"image_id": 1, "category_id": 1}
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": 1, "width": WIDTH, "height": HEIGHT}],
            "categories": [{"id": 1, "name": "wall"}],
            "annotations": [
                {**common, "id": 1, "segmentation": encode(mask), "iscrowd": 0, "area": int(mask.sum())}
            ],
        }
        coco.createIndex()
        results = coco.loadRes([{**common, "segmentation": prediction, "score": 0.9}])
        evaluation = COCOeval(coco, results, "segm")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


print("pycocotools", importlib.metadata.version("pycocotools"))
mask = np.zeros((HEIGHT, WIDTH), np.uint8)
mask[8:40, 16:48] = 1
half, swapped = encode(mask[::2, ::2]), encode(mask)
swapped["size"] = [WIDTH, HEIGHT]
assert rle.area(swapped) == mask.sum()

for name, prediction, iou, ap in (
    ("same size", encode(mask), 1.0, 1.0),
    ("half size", half, -1.0, 0.0),
    ("sides swapped", swapped, -1.0, 0.0),
):
    found = rle.iou([prediction], [encode(mask)], [0]).item(), average_precision(prediction)
    print(f"{name}: IoU {found[0]}, AP {found[1]:.3f}")
    assert found[0] == iou and abs(found[1] - ap) < 1e-9
merged = rle.merge([encode(mask), half])
print("merged with half size:", merged)
assert merged == {"size": [0, 0], "counts": b""} and rle.area(merged) == 0
PY
