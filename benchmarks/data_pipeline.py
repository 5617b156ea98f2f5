"""Time from files to view pairs, against the plain way, in one process and one thread.

The plain way does everything to one photo at a time in the loader's process, with Pillow and
torchvision. Our way leaves colours to the device, or to the CPU if there is no other device.
See benchmarks/README.md.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torch.utils.data import default_collate
from torchvision import transforms

from slotseg.config import BackboneConfig, ViewsConfig
from slotseg.data.reading.photos import ArrayPhoto, Photo
from slotseg.data.views.augment import augment, draw_augmentation, normalize
from slotseg.data.views.batches import ViewBatch, view_batches
from slotseg.data.views.sources import PhotoFolder
from slotseg.eval.report import text_table

BATCH = 16
VIEWS, BACKBONE = ViewsConfig(), BackboneConfig()


def main() -> None:
    """Print a table with a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--limit", type=int, default=96, help="photos, of which whole batches are used")
    parser.add_argument("--repetitions", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
    paths = PhotoFolder([options.photos]).paths[: options.limit]
    paths = paths[: len(paths) // BATCH * BATCH]
    ways: dict[str, Callable[[], object]] = {
        "plain": lambda: plain(paths, TORCHVISION),
        "plain, Pillow's blur": lambda: plain(paths, PILLOW),
        "ours, loader": lambda: ours(PhotoFolder(paths)),
        "ours, loader, decoded whole": lambda: ours(Whole(paths)),
        "ours, loader and colours": lambda: ours(PhotoFolder(paths), colors=True),
    }
    rounds = [{name: timed(way) for name, way in ways.items()} for _ in range(options.repetitions + 1)][1:]
    rows = [["", "ms a photo", "photos/s", "times plain", "times plain, Pillow's blur"]]
    for name in ways:
        seconds = statistics.median(r[name] for r in rounds) / len(paths)
        ratios = [spread([r[base] / r[name] for r in rounds]) for base in ("plain", "plain, Pillow's blur")]
        rows.append([name, f"{1000 * seconds:.2f}", f"{1 / seconds:.0f}", *ratios])
    print(f"torch {torch.__version__}, OpenCV {cv2.__version__}, {len(paths)} photos, {options.repetitions} rounds")
    print(text_table(rows))


class Whole(PhotoFolder):
    """Photos that are never decoded at a reduced scale."""

    def open(self, index: int) -> Photo:
        """Open a photo with all its pixels."""
        return ArrayPhoto(super().open(index).pixels())


class PillowBlur:
    """Gaussian blur as Pillow does it, by three box filters."""

    def __call__(self, image: Image.Image) -> Image.Image:
        """Blur by a random sigma."""
        return image.filter(ImageFilter.GaussianBlur(random.uniform(*VIEWS.blur_sigma)))


def pipeline(view: int, blur: Callable[[Image.Image], Image.Image]) -> Callable[[Image.Image], Tensor]:
    """Usual transforms of view 0 or 1."""
    jitter = transforms.ColorJitter(VIEWS.brightness, VIEWS.contrast, VIEWS.saturation, VIEWS.hue)
    steps = [
        transforms.RandomResizedCrop(VIEWS.image_size, VIEWS.area, VIEWS.aspect, transforms.InterpolationMode.BICUBIC),
        transforms.RandomHorizontalFlip(VIEWS.flip),
        transforms.RandomApply([jitter], VIEWS.jitter),
        transforms.RandomGrayscale(VIEWS.gray),
        transforms.RandomApply([blur], VIEWS.blur[view]),
        transforms.RandomSolarize(128, VIEWS.solarize[view]),
        transforms.ToTensor(),
        transforms.Normalize(BACKBONE.mean, BACKBONE.std),
    ]
    both: Callable[[Image.Image], Tensor] = transforms.Compose(steps)
    return both


TORCHVISION = [pipeline(view, transforms.GaussianBlur(23, VIEWS.blur_sigma)) for view in (0, 1)]
PILLOW = [pipeline(view, PillowBlur()) for view in (0, 1)]


def plain(paths: list[Path], pipelines: list[Callable[[Image.Image], Tensor]]) -> None:
    """Batches of the plain way."""
    for start in range(0, len(paths), BATCH):
        photos = []
        for path in paths[start : start + BATCH]:
            with Image.open(path) as file:
                image = file.convert("RGB")
            photos.append(tuple(view(image) for view in pipelines))
        default_collate(photos)


def ours(source: PhotoFolder, colors: bool = False) -> None:
    """Batches as a loader's process makes them, with the colours that the device changes if asked for."""
    batches = view_batches(
        source, VIEWS, batch_size=BATCH, seed=0, first_step=0, total_steps=len(source) // BATCH, workers=0
    )
    generator = torch.Generator().manual_seed(0)
    for batch in batches:
        if colors:
            colored(batch, generator)


def colored(batch: ViewBatch, generator: torch.Generator) -> list[Tensor]:
    """Views of a batch as the trainer prepares them for the network."""
    drawn = (draw_augmentation(BATCH, view, VIEWS, generator) for view in (0, 1))
    return [
        normalize(augment(views, d), BACKBONE.mean, BACKBONE.std) for views, d in zip(batch.images, drawn, strict=True)
    ]


def timed(function: Callable[[], object]) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def spread(ratios: list[float]) -> str:
    """Median and range of ratios, as text."""
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} .. {max(ratios):.2f})"


if __name__ == "__main__":
    main()
