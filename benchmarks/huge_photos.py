"""Peak memory and time of `slotseg segment` for photos of 12,000 x 12,000 and 20,000 x 20,000 pixels.

Each case runs the command in its own process. The network has random weights. See benchmarks/README.md.
"""

import argparse
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from slotseg.config import TrainConfig
from slotseg.data.scenes import draw_scene
from slotseg.eval.report import text_table
from slotseg.method.building import build_model
from slotseg.segmenting.segmenter import Segmenter
from slotseg.values import with_values

SIDES = (12_000, 20_000)
FORMATS = ("jpg", "png", "tif")
WAYS = {"default": [], "tiles": ["--size", "4000", "--tile", "1024"]}
BLOCK = 256
GIB, MB = 1 << 30, 1e6


def main() -> None:
    """Print a table with a row for each photo and way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sides", type=int, nargs="+", default=SIDES)
    parser.add_argument("--formats", nargs="+", default=FORMATS, choices=FORMATS)
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--backbone", default="mobilenetv1_100", help="timm model, used with stride 16.")
    parser.add_argument("--make", nargs=2, metavar=("PHOTO", "SIDE"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.make:
        make(Path(options.make[0]), int(options.make[1]))
    else:
        table(options)


def table(options: argparse.Namespace) -> None:
    """Measure every case."""
    rows = [["photo", "way", "seconds", "peak MB", "bound MB", "peak / bound"]]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, mask = folder / "model.safetensors", folder / "mask.png"
        save_network(options.backbone, model)
        for side in options.sides:
            for suffix in options.formats:
                photo = folder / f"{side}.{suffix}"
                peak_of(__file__, "--make", photo, side)  # in a process of its own, so that this one stays small
                for way in options.ways:
                    start = time.perf_counter()
                    files = [photo, "-o", mask, "--overwrite", "--checkpoint", model]
                    peak = peak_of("-m", "slotseg.cli", "segment", *files, "--device", "cpu", *WAYS[way])
                    bound = 4 * side**2 + GIB  # photo, mask, and all the rest
                    numbers = (f"{time.perf_counter() - start:.1f}", f"{peak / MB:.0f}", f"{bound / MB:.0f}")
                    rows.append([f"{side:,} x {side:,} {suffix}", way, *numbers, f"{peak / bound:.2f}"])
                    print(*rows[-1], file=sys.stderr, flush=True)
                photo.unlink()
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {options.backbone}")
    print(text_table(rows))


def peak_of(*arguments: object) -> int:
    """Run Python with arguments. Return its peak memory in bytes, the interpreter included."""
    command = [sys.executable, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def make(path: Path, side: int) -> None:
    """Write a photo: built-in scenes side by side, each enlarged to 1,000 pixels."""
    scenes = [cv2.resize(draw_scene(seed)[0], (1000, 1000), interpolation=cv2.INTER_CUBIC) for seed in range(7)]
    per_side = -(-side // 1000)
    rows = [np.concatenate([scenes[(3 * y + x) % 7] for x in range(per_side)], axis=1) for y in range(per_side)]
    image = np.concatenate(rows)[:side, :side]
    if path.suffix == ".tif":
        write_tiled_tiff(path, image)
    else:
        settings = [cv2.IMWRITE_JPEG_QUALITY, 90, cv2.IMWRITE_PNG_COMPRESSION, 1]
        cv2.imwrite(str(path), image, settings[:2] if path.suffix == ".jpg" else settings[2:])


def write_tiled_tiff(path: Path, image: NDArray[np.uint8]) -> None:
    """Write an RGB TIFF of deflated tiles, as geographic software does (TIFF 6.0, section 15)."""
    height, width, _ = image.shape
    offsets, sizes = [], []
    with path.open("wb") as file:
        file.write(b"II*\0\0\0\0\0")
        for top in range(0, height, BLOCK):
            for left in range(0, width, BLOCK):
                block = np.zeros((BLOCK, BLOCK, 3), np.uint8)
                part = image[top : top + BLOCK, left : left + BLOCK]
                block[: part.shape[0], : part.shape[1]] = part
                offsets.append(file.tell())
                sizes.append(file.write(zlib.compress(block.tobytes(), 1)))
        places = [file.tell()]
        for values in (offsets, sizes, (8, 8, 8)):
            file.write(struct.pack(f"<{len(values)}{'H' if len(values) == 3 else 'L'}", *values))
            places.append(file.tell())
        tags = [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 3, places[2]), (259, 3, 1, 8), (262, 3, 1, 2)]
        tags += [(277, 3, 1, 3), (322, 3, 1, BLOCK), (323, 3, 1, BLOCK)]
        tags += [(324, 4, len(offsets), places[0]), (325, 4, len(sizes), places[1])]
        file.write(b"\0" * (file.tell() % 2))
        start = file.tell()
        file.write(struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHLL", *tag) for tag in tags) + bytes(4))
        file.seek(4)
        file.write(struct.pack("<L", start))


def save_network(backbone: str, file: Path) -> None:
    """Write a network of random weights with 27 prototypes."""
    values = {"backbone.name": backbone, "backbone.stride": 16, "model.num_prototypes": 27, "model.hidden_dim": 512}
    torch.manual_seed(0)
    config = with_values(TrainConfig(), values)
    Segmenter(build_model(config).teacher, config, device="cpu").save(file)


if __name__ == "__main__":
    main()
