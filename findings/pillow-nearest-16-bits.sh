#!/usr/bin/env bash
# Guess: nearest neighbour only picks pixels, so the same ids are picked from a mask of 8 bits and from
# the same mask in 16 bits. The scaling of label maps here was written on that guess.
# Fact: where the middle of a new pixel falls on the border of two old ones, 16 bits get the one on the
# other side now and then. 8 bits, 32 bits and floats agree with each other. There is no warning.
# Versions: Pillow 13.0.0, NumPy 2.4.6.
# Why it matters: a label map scored at another size has another score once it is saved in 16 bits. At
# Cityscapes' size, scaled to a short side of 320, 28 of 640 columns and 28 of 320 rows are other ones.
# Scale 32 bits ("I"), or pick rows and columns yourself.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import numpy as np
import PIL
from PIL import Image


def picked(old, new, dtype):
    """Index of the old column that each new one is, of a map whose ids are the columns."""
    columns = np.tile(np.arange(old), (2, 1)).astype(dtype)
    return np.asarray(Image.fromarray(columns).resize((new, 2), Image.Resampling.NEAREST))[0]


print("Pillow", PIL.__version__)
print("10 to 15 columns,  8 bits:", *picked(10, 15, np.uint8))
print("10 to 15 columns, 16 bits:", *picked(10, 15, np.uint16))
for old, new, differing in ((10, 15, 1), (200, 300, 46), (2048, 640, 28), (1024, 320, 28), (500, 427, 0)):
    sixteen, wide = picked(old, new, np.uint16), picked(old, new, np.int32)
    assert (wide == picked(old, new, np.float32)).all()
    assert old > 255 or (wide == picked(old, new, np.uint8)).all()
    number = int((sixteen != wide).sum())
    print(f"{old} to {new} columns: 16 bits pick another one for {number} of {new}")
    assert number == differing
    assert abs(sixteen.astype(int) - wide.astype(int)).max() <= 1
PY
