#!/usr/bin/env bash
# Guess (put into words after the run): the distance to the background is infinite where there is no background, or it is refused.
# Fact: distance_transform_edt measures to a pixel that does not exist, at row -1 and column 0. The
# values are finite and look right: 1 in the first corner, growing to the opposite one. For the same
# mask distance_transform_cdt gives -1 and distance_transform_bf 1e154. None warns.
# Versions: SciPy 1.17.1, NumPy 2.4.6.
# Why it matters: a class that fills its photo gets its "most inner" point, and so its label or its
# prompt point, in the lower right corner; weights by distance are skewed alike. Pad the mask by 1.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import numpy as np
import scipy
from scipy import ndimage

print("SciPy", scipy.__version__)
full = np.ones((4, 6), np.uint8)
distance = ndimage.distance_transform_edt(full)
print(distance.round(2))
rows, columns = np.indices(full.shape)
assert np.allclose(distance, np.hypot(rows + 1, columns))
nearest = ndimage.distance_transform_edt(full, return_distances=False, return_indices=True)
assert (nearest[0] == -1).all() and (nearest[1] == 0).all()
print("nearest background pixel: row", nearest[0].min(), "column", nearest[1].min())
inner = tuple(int(i) for i in np.unravel_index(distance.argmax(), full.shape))
print("most inner pixel:", inner)
assert inner == (3, 5)

chessboard, brute = ndimage.distance_transform_cdt(full), ndimage.distance_transform_bf(full)
print("cdt:", np.unique(chessboard), "bf:", np.unique(brute))
assert (chessboard == -1).all() and (brute > 1e150).all()

padded = ndimage.distance_transform_edt(np.pad(full, 1))[1:-1, 1:-1]
print("padded by 1: most inner", padded.max())
assert padded.max() == 2 and (padded[0] == 1).all()
PY
