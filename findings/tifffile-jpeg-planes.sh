#!/usr/bin/env bash
# Guess: tifffile with imagecodecs reads every JPEG GeoTIFF that GDAL writes, as Pillow does. The reading
# of separate colour planes here was written on that guess.
# Fact: RGB whose bands lie in planes of their own (INTERLEAVE=BAND, COMPRESS=JPEG) is refused with "Bogus
# JPEG colorspace": each plane is a grey JPEG, and the decoder is asked for RGB. The same pixels
# interleaved are read, and so are the planes where GDAL calls them MINISBLACK. Pillow and GDAL agree on
# all of them.
# Versions: tifffile 2026.3.3, imagecodecs 2026.3.6, rasterio 1.4.4, Pillow 13.0.0, NumPy 2.4.6.
# Why it matters: a whole archive of orthophotos looks damaged. Read such files with Pillow or rasterio.

set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --disable-pip-version-check \
    tifffile==2026.3.3 imagecodecs==2026.3.6 rasterio==1.4.4 pillow==13.0.0 numpy==2.4.6
cd "$work"
"$work/venv/bin/python" - <<'PY'
import warnings

import numpy as np
import rasterio
import tifffile
from PIL import Image

warnings.simplefilter("ignore")  # the files have no georeference
rows, columns = np.mgrid[:256, :320]
rgb = np.stack([rows % 256, columns % 256, (rows + columns) // 3]).astype(np.uint8)


def outcome(name, **options):
    with rasterio.open(name, "w", driver="GTiff", width=320, height=256, count=3, dtype="uint8", compress="jpeg",
                       tiled=True, blockxsize=128, blockysize=128, **options) as file:
        file.write(rgb)
    with rasterio.open(name) as file:
        gdal = file.read()
    try:
        read = tifffile.imread(name)
    except Exception as error:
        return gdal, f"{type(error).__name__}: {error}"
    read = read if read.shape[0] == 3 else read.transpose(2, 0, 1)
    return gdal, f"read, largest difference to GDAL {np.abs(read.astype(int) - gdal).max()}"


print("tifffile", tifffile.__version__)
kinds = {
    "interleaved RGB": {"interleave": "pixel", "photometric": "RGB"},
    "planes of RGB": {"interleave": "band", "photometric": "RGB"},
    "planes of MINISBLACK": {"interleave": "band", "photometric": "MINISBLACK"},
}
outcomes = {}
for number, (kind, options) in enumerate(kinds.items()):
    gdal, outcomes[kind] = outcome(f"{number}.tif", **options)
    print(f"{kind}: {outcomes[kind]}")
    if options["photometric"] == "RGB":
        pillow = np.asarray(Image.open(f"{number}.tif")).transpose(2, 0, 1)
        assert np.abs(pillow.astype(int) - gdal).max() <= 1
assert outcomes["interleaved RGB"] == "read, largest difference to GDAL 0"
assert outcomes["planes of MINISBLACK"] == "read, largest difference to GDAL 0"
assert "Bogus JPEG colorspace" in outcomes["planes of RGB"], outcomes
PY
