#!/usr/bin/env bash
# Guess: safetensors.numpy saves the values of an array whatever its memory layout, or refuses it as
# safetensors.torch does for tensors that are not contiguous.
# Fact: it writes the memory as it lies, under the shape of the view. A transposed or stepped array
# comes back with its values at other places, without a warning. (0.7.0 was right: upstream #825.)
# Versions: safetensors 0.8.0, NumPy 2.4.6, scikit-learn 1.9.1.
# Why it matters: the axes of scikit-learn's PCA lie in Fortran order. Saved and loaded they project
# features of patches onto nonsense, and shapes and dtypes all agree. np.ascontiguousarray helps.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6 scikit-learn==1.9.1
cd "$work"
"$work/venv/bin/python" - <<'PY'
import numpy as np
import safetensors
from safetensors.numpy import load, save
from sklearn.decomposition import PCA

print("safetensors", safetensors.__version__)


def back(array):
    return load(save({"a": array}))["a"]


table = np.arange(6).reshape(2, 3)
print("transposed:", table.T.tolist(), "->", back(table.T).tolist())
assert table.T.tolist() == [[0, 3], [1, 4], [2, 5]]
assert back(table.T).tolist() == [[0, 1], [2, 3], [4, 5]]
assert back(np.arange(6)[::2]).tolist() == [0, 1, 2]
print("every second of 0..5: [0, 2, 4] ->", back(np.arange(6)[::2]).tolist())
assert (back(np.ascontiguousarray(table.T)) == table.T).all()

features = np.random.default_rng(0).normal(size=(500, 16)).astype(np.float32)
axes = PCA(8, svd_solver="full", random_state=0).fit(features).components_
loaded = back(axes)
print("PCA: C order", axes.flags.c_contiguous, "- equal after a round trip", (loaded == axes).all())
assert not axes.flags.c_contiguous
assert loaded.shape == axes.shape and loaded.dtype == axes.dtype
assert (loaded != axes).mean() > 0.9
assert not np.allclose(loaded @ loaded.T, np.eye(8), atol=0.1)  # no longer orthogonal
assert np.allclose(axes @ axes.T, np.eye(8), atol=1e-4)
assert (back(np.ascontiguousarray(axes)) == axes).all()
PY
