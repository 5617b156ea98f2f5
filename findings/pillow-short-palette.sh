#!/usr/bin/env bash
# Guess: an indexed PNG keeps its indices, whatever the length of the palette. At worst an index
# without a colour is refused, or shown black.
# Fact: with 16 colours or fewer Pillow writes 4, 2 or 1 bits a pixel and keeps only the low bits of
# each index, without a word. 255 becomes 15, 3 or 1; bits=8 does not help. TIFF keeps 255.
# Versions: Pillow 13.0.0, NumPy 2.4.6.
# Why it matters: a mask of up to 16 classes with a colour for each class and 255 for void loses its
# void on saving. With 2, 4 or 16 classes void becomes the last class. Pad the palette to 256 colours.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check pillow==13.0.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import io

import numpy as np
import PIL
from PIL import Image

VOID = 255


def saved(num_classes, format, **options):
    """Ids of a mask with all classes and void, before and after a file."""
    ids = np.array([[*range(num_classes), VOID]], np.uint8)
    mask = Image.new("P", (ids.shape[1], 1))
    mask.putdata(ids.ravel().tolist())
    colours = options.pop("colours", num_classes)
    mask.putpalette([value % 256 for value in range(3 * colours)])
    assert (np.array(mask) == ids).all()
    file = io.BytesIO()
    mask.save(file, format, **options)
    back = Image.open(io.BytesIO(file.getvalue()))
    assert back.mode == "P"
    return ids.ravel().tolist(), np.array(back).ravel().tolist()


print("Pillow", PIL.__version__)
for num_classes, void_becomes in ((2, 1), (4, 3), (12, 15), (16, 15), (17, VOID)):
    before, after = saved(num_classes, "PNG")
    print(f"PNG, {num_classes} classes and colours: void 255 is read back as {after[-1]}")
    assert after == [*before[:-1], void_becomes]
assert saved(12, "PNG", bits=8)[1][-1] == 15
print("PNG, 12 classes, bits=8: 15 again")
before, after = saved(12, "TIFF")
assert after == before
print("TIFF, 12 classes: 255")
before, after = saved(12, "PNG", colours=256)
assert after == before
print("PNG, 12 classes, palette of 256 colours: 255")
PY
