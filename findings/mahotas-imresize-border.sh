#!/usr/bin/env bash
# Guess (put into words after the run): imresize(mask, size, order=0) picks nearest pixels, so a mask of one class stays of it.
# Fact: the last row and the last column become 0, smaller, larger or at the same size (order 1 and 3
# too). The pixels are float64 and taken from one further along: 1 2 3 4 5 6 to half size is 2 4 0.
# A pixel outside the picture counts as 0; imresize has no option for that, and does not say so.
# mahotas.interpolate.zoom(mode="nearest") has, and fills the border.
# Versions: mahotas 1.4.19, NumPy 2.4.6.
# Why it matters: a border of class 0 appears in every resized mask, with a first class (or a
# background) where there was none: 0.7 % of the pixels at 320 x 240.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check mahotas==1.4.19 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import mahotas
import mahotas.interpolate
import numpy as np

print("mahotas", mahotas.__version__)
ramp = np.tile(np.arange(1, 7, dtype=np.uint8), (6, 1))
for order in (0, 1, 3):
    row = mahotas.imresize(ramp, (3, 3), order=order)[0]
    print(f"order {order}: 1 2 3 4 5 6 to half size is", row.round(3).tolist())
    assert np.allclose(row, [2, 4, 0])

mask = np.full((480, 640), 7, np.uint8)
for height, width in ((240, 320), (480, 640), (960, 1280)):
    resized = mahotas.imresize(mask, (height, width), order=0)
    zeros = int((resized == 0).sum())
    print(f"class 7 everywhere, to {width} x {height}: {zeros} pixels of class 0, {resized.dtype}")
    assert resized.shape == (height, width) and resized.dtype == np.float64
    assert zeros == height + width - 1
    assert (resized[-1] == 0).all() and (resized[:, -1] == 0).all()
    assert (resized[:-1, :-1] == 7).all()

filled = mahotas.interpolate.zoom(mask, 0.5, order=0, mode="nearest")
print("zoom with mode nearest:", np.unique(filled).tolist())
assert (filled == 7).all()
PY
