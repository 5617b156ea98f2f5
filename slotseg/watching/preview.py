"""Preview sheets: what the teacher makes of a few of the run's photos while it trains.

A sheet shows each photo beside its painting. A checkpoint of that moment would paint the same without test-time
augmentation and refinement. Letters: P prototypes, K concepts, H W pixels.
"""

import copy
import io
import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from slotseg.config import TrainConfig
from slotseg.data.reading.photos import REDUCTIONS, Photo
from slotseg.data.views.sources import Source
from slotseg.data.views.validity import parted
from slotseg.errors import DataError
from slotseg.files import write_bytes
from slotseg.labels.label_map import LabelMap
from slotseg.method.model import Encoder
from slotseg.painting.render import overlay
from slotseg.runs.folder import RunFolder
from slotseg.segment_config import SegmentConfig
from slotseg.segmenting.looks import default_size
from slotseg.segmenting.scorer import Scorer
from slotseg.segmenting.upsampling import upsampled_argmax

log = logging.getLogger(__name__)

NUM_PHOTOS = 6
"""Photos on a sheet, spread over the source."""
NUM_COLUMNS = 2
"""Columns of a sheet. A photo and its painting fill one."""
THUMBNAIL = 240
"""Longer side of a picture, pixels."""
GAP = 12
"""Pixels between two photos. A photo and its painting touch."""

Pixels = NDArray[np.uint8]


class Previews:
    """The preview sheets of a run, ``preview/step-<step>.jpg``, with the same few photos on each.

    The photos are read once, here. Those that cannot be read are left out.

    Args:
        source: Photos of the run.
        config: Configuration of the run.
        run: Folder of the run, where the sheets go.
        device: Device that trains.
    """

    def __init__(self, source: Source, config: TrainConfig, run: RunFolder, device: torch.device) -> None:
        self.config, self.folder, self.device = replace(config, segment=SegmentConfig()), run.previews, device
        self.photos: list[tuple[Pixels, NDArray[np.bool_] | None]] = []
        for index in sorted({i * len(source) // NUM_PHOTOS for i in range(NUM_PHOTOS)}):
            with suppress(DataError):  # named while training
                self.photos.append(_small(source.open(index), default_size(config)))

    def write(self, teacher: Encoder, step: int) -> Path | None:
        """Paint the photos and write the sheet of a step, atomically. The teacher stays as it is.

        Returns:
            The file. None where no photo could be read, or where the disk or the device has no room (logged).
        """
        if not self.photos:
            return None
        try:
            pictures = self.paint(teacher)
        except torch.cuda.OutOfMemoryError:
            log.warning("The device has no memory left to paint photos after step %d; training goes on", step)
            return None
        path = self.folder / f"step-{step:08d}.jpg"
        buffer = io.BytesIO()
        arranged(pictures).save(buffer, "JPEG", quality=80)
        try:
            write_bytes(path, buffer.getvalue())
        except OSError as error:
            log.warning("%s cannot be written (%s); training goes on without it", path, error.strerror)
            return None
        return path

    def paint(self, teacher: Encoder) -> list[Pixels]:
        """Paint each photo, with the painting to its right. Missing pixels are not painted.

        Prototypes are merged to the concepts that they make by now. A concept has the colour of its first
        prototype, as its own number changes whenever others are merged.

        Returns:
            RGB pictures, ``(H, 2 W, 3)``. The longer of H and W is ``THUMBNAIL``.
        """
        encoder = copy.deepcopy(teacher)  # the one in training stays in training
        if encoder.confusion is not None:
            encoder.merge(self.config.model.num_prototypes)
        first = first_prototypes(encoder)
        colors = LabelMap.prototypes(len(encoder.prototypes.weight))
        scorer = Scorer(encoder, self.config, device=str(self.device))
        pictures = []
        for photo, valid in self.photos:
            scores, covered = scorer.scores(photo)
            thumbnail = _thumbnail(photo)
            concepts = upsampled_argmax(scores, covered, (thumbnail.shape[0], thumbnail.shape[1]))
            painted = overlay(thumbnail, first[concepts], colors)
            if valid is not None:
                size = thumbnail.shape[1], thumbnail.shape[0]
                missing = ~np.asarray(Image.fromarray(valid).resize(size, Image.Resampling.NEAREST))
                painted[missing] = thumbnail[missing]
            pictures.append(np.concatenate([thumbnail, painted], axis=1))
        return pictures

    def drop_after(self, step: int) -> None:
        """Remove the sheets of later steps, as these steps will be done again."""
        for path in self.folder.glob("step-*.jpg"):
            with suppress(ValueError, OSError):
                if int(path.stem.removeprefix("step-")) > step:
                    path.unlink()


def first_prototypes(encoder: Encoder) -> NDArray[np.int64]:
    """The first prototype of each concept, ``(K,)``."""
    if encoder.concepts is None:
        return np.arange(len(encoder.prototypes.weight))
    concepts, first = np.unique(encoder.concepts.cpu().numpy(), return_index=True)
    assert len(concepts) == encoder.num_concepts
    return np.asarray(first, np.int64)


def arranged(pictures: Sequence[Pixels]) -> Image.Image:
    """Pictures on white in ``NUM_COLUMNS`` columns, as close as their sizes allow."""
    rows = [pictures[i : i + NUM_COLUMNS] for i in range(0, len(pictures), NUM_COLUMNS)]
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    widths = [max(picture.shape[1] for picture in pictures[i::NUM_COLUMNS]) for i in range(len(rows[0]))]
    sheet = Image.new("RGB", (sum(widths) + GAP * (len(widths) - 1), sum(heights) + GAP * (len(rows) - 1)), "white")
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (sum(widths[:c]) + GAP * c, sum(heights[:r]) + GAP * r))
    return sheet


def _small(photo: Photo, short_side: int) -> tuple[Pixels, NDArray[np.bool_] | None]:
    """Pixels of a photo, its short side scaled down to what the network will see, and which are valid, not scaled."""
    fits = [r for r in REDUCTIONS if min(photo.size_hw) // r >= short_side]
    pixels, valid = parted(photo.pixels(fits[0] if fits else 1))
    return _scaled(pixels, min(1.0, short_side / min(pixels.shape[:2]))), valid


def _thumbnail(pixels: Pixels) -> Pixels:
    return _scaled(pixels, THUMBNAIL / max(pixels.shape[:2]))


def _scaled(pixels: Pixels, scale: float) -> Pixels:
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(pixels).resize((width, height), how), np.uint8)
