"""Time reading of satellite tiles for training, against the same pixels as 8-bit RGB, in one process.

The tiles are made of photos: 4 bands of 16 bits with a range and some noise, 512 x 512, deflated without a predictor.
The others are what the network sees of them, as deflated RGB of 8 bits. Both are stored in blocks of 256 x 256, as COGs
are, or in strips of 8 kB, GDAL's default. Both ways go from files to view pairs, without colours.
See benchmarks/README.md.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
import torch

from slotseg.config import ViewsConfig
from slotseg.data.reading.images import read_image
from slotseg.data.reading.survey import survey
from slotseg.data.views.batches import view_batches
from slotseg.data.views.sources import PhotoFolder
from slotseg.eval.report import text_table
from slotseg.segment_config import ReadingConfig

SIDE, BATCH = 512, 20
BLOCKS: dict[str, Any] = {"tile": (256, 256)}
NOISE = 5.0
"""Standard deviation of the noise, of values from 120 to 2,920."""


def main() -> None:
    """Print a table with a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--tiles", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    rows = [["stored in", "16 bits, 4 bands, ms a tile", "8 bits, RGB", "times as fast as RGB", "lowest", "highest"]]
    for stored in ("blocks of 256 x 256", "strips of 8 kB"):
        with tempfile.TemporaryDirectory() as folder:
            deep, plain = Path(folder, "deep"), Path(folder, "plain")
            paths = PhotoFolder([options.photos]).paths
            reading = make_tiles(paths, deep, plain, options.tiles, in_strips=stored.startswith("strips"))
            ways = PhotoFolder([deep], reading), PhotoFolder([plain])
            rounds = [[timed(source) for source in ways] for _ in range(options.repetitions + 1)][1:]
        ratios = [of_plain / of_deep for of_deep, of_plain in rounds]
        per_tile = [f"{1000 * statistics.median(times) / options.tiles:.2f}" for times in zip(*rounds, strict=True)]
        ratio = [f"{value:.2f}" for value in (statistics.median(ratios), min(ratios), max(ratios))]
        rows.append([stored, *per_tile, *ratio])
    print(f"tifffile {tifffile.__version__}, {options.tiles} tiles, {options.repetitions} rounds")
    print(text_table(rows))


def make_tiles(photos: Sequence[Path], deep: Path, plain: Path, number: int, *, in_strips: bool) -> ReadingConfig:
    """Write tiles of both kinds, and return the reading of the deep ones."""
    deep.mkdir()
    plain.mkdir()
    for i in range(number):
        rgb = cv2.resize(read_image(photos[i % len(photos)]), (SIDE, SIDE)) / 255
        bands = np.concatenate([rgb, rgb.mean(axis=2, keepdims=True) ** 0.5], axis=2)
        noise = np.random.default_rng(i).normal(0, NOISE, bands.shape)
        values = np.round(bands * 2800 + 120 + noise).clip(0).astype(np.uint16)
        tifffile.imwrite(deep / f"{i}.tif", values, photometric="minisblack", planarconfig="contig", metadata=None,
                         compression="zlib", **({"rowsperstrip": 2} if in_strips else BLOCKS))  # fmt: skip
    reading = survey(sorted(deep.iterdir()), ReadingConfig()).reading
    for file in deep.iterdir():
        tifffile.imwrite(plain / file.name, read_image(file, reading=reading), photometric="rgb", metadata=None,
                         compression="zlib", **({"rowsperstrip": 5} if in_strips else BLOCKS))  # fmt: skip
    return reading


def timed(source: PhotoFolder) -> float:
    """Seconds for one pass over all tiles."""
    start = time.perf_counter()
    steps = len(source) // BATCH
    for _ in view_batches(source, ViewsConfig(), batch_size=BATCH, seed=0, first_step=0, total_steps=steps, workers=0):
        pass
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
