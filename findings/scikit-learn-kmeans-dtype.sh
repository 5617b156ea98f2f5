#!/usr/bin/env bash
# Guess: k-means fitted to float32 features predicts float64 ones, and the other way round. They are
# cast, as integers and lists are, and as transform does.
# Fact: predict and score raise ValueError "Buffer dtype mismatch, expected 'const double' but got
# 'float'", which names neither the features nor the centres. transform takes the same features.
# Integers and lists become float64, so a model of float32 refuses them too.
# Versions: scikit-learn 1.9.1, NumPy 2.4.6.
# Why it matters: features of a network are float32. After a mean or a division by a float64 array
# they are float64, and clustering fitted to the former stops. Cast to cluster_centers_.dtype.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check scikit-learn==1.9.1 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import numpy as np
import sklearn
from sklearn.cluster import BisectingKMeans, KMeans, MiniBatchKMeans

print("scikit-learn", sklearn.__version__)
features = np.random.default_rng(0).normal(size=(200, 8))


def outcome(call, array):
    try:
        return type(call(array)).__name__
    except ValueError as error:
        return f"ValueError: {error}"


for kind in (KMeans, MiniBatchKMeans, BisectingKMeans):
    for fitted, given in ((np.float32, np.float64), (np.float64, np.float32)):
        model = kind(4, random_state=0).fit(features.astype(fitted))
        other = features.astype(given)
        print(f"{kind.__name__}, fitted {fitted.__name__}, given {given.__name__}:")
        for name in ("predict", "score"):
            result = outcome(getattr(model, name), other)
            print("   ", name, "->", result)
            assert result.startswith("ValueError: Buffer dtype mismatch")
        assert outcome(model.transform, other) == "ndarray"
        print("    transform -> works")
        nearest = model.transform(other).argmin(1)
        if kind is not BisectingKMeans:
            assert (nearest == model.predict(other.astype(fitted))).all()

model = KMeans(4, random_state=0).fit(features.astype(np.float32))
assert outcome(model.predict, np.ones((1, 8), int)).startswith("ValueError: Buffer")
assert outcome(model.predict, [[1.0] * 8]).startswith("ValueError: Buffer")
print("fitted float32: integers and lists are refused too")
PY
