"""Segment many photos: write the files of each, and leave out photos that cannot be read."""

import logging
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tqdm import tqdm

from slotseg.data.finding.inputs import Input
from slotseg.data.reading.images import MAX_PIXELS
from slotseg.data.reading.label_files import read_label
from slotseg.errors import DataError
from slotseg.files import note_failure, write_bytes, writing
from slotseg.labels.label_map import LabelMap
from slotseg.painting.annotations import Writer, open_writer
from slotseg.painting.cleaning import AS_PAINTED, CleaningOptions
from slotseg.painting.outputs import Outputs, Survey, check_existing
from slotseg.painting.render import (
    colored,
    contact_sheet,
    legend_picture,
    mask_png,
    overlay,
    save_gray,
    save_legend,
    save_mask,
    save_picture,
    thumbnail,
)
from slotseg.segmenting.segmenter import Segmentation, Segmenter
from slotseg.segmenting.streaming import StreamResult

log = logging.getLogger(__name__)

SHEET_ROWS = 12
BATCH_SIZE = 8
"""Most photos that the network sees at once."""

Row = list[NDArray[np.uint8]]
"""Pictures of one photo, side by side on the sheet."""


@dataclass(kw_only=True)
class PaintSummary:
    """Outcome of painting photos."""

    num_masks: int = 0
    """Number of masks written."""
    num_kept: int = 0
    """Number of photos whose mask existed already."""
    failures: list[str] = field(default_factory=list)
    """Messages of photos that could not be used."""
    notes: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Notes on what was left out or changed, such as ``the first of 5 pages``.

    Each has the number of its photos and the name of the first.
    """


def paint(
    segmenter: Segmenter,
    outputs: Outputs,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    cleaning: CleaningOptions = AS_PAINTED,
    batch_size: int = BATCH_SIZE,
    max_pixels: int = MAX_PIXELS,
    found: Survey | None = None,
) -> PaintSummary:
    """Segment photos and write their files. A photo that cannot be read is left out.

    Every file is written whole or not at all, so an interruption leaves only whole files. Photos of one size are
    computed ``batch_size`` at a time, while others are read and written. Files about all photos also cover those whose
    masks are kept.

    Args:
        segmenter: Segmenter, with ``confidence`` if an output or ``cleaning`` needs it.
        outputs: Photos, and paths of what they become.
        overwrite: Whether files that exist are replaced.
        skip_existing: Whether photos whose mask exists are left out.
        cleaning: Options for cleaning class maps.
        batch_size: Most photos that the network sees at once.
        max_pixels: Most pixels of a photo. Larger ones are refused.
        found: Result of ``outputs.survey``, if it is known.

    Raises:
        ConfigError: If a file exists and neither ``overwrite`` nor ``skip_existing`` is set, or two photos would
            become one.
        DataError: If the output cannot be written, or the only photo cannot be read.
    """
    found = found or outputs.survey()
    check_existing(found, allowed=overwrite or skip_existing)
    _check_writable(outputs)
    if not outputs.single:
        outputs.failures.unlink(missing_ok=True)
    painting = _Painting(segmenter, outputs, cleaning, found, skip_existing)
    return painting.run(batch_size, max_pixels)


def paint_png(
    segmenter: Segmenter,
    photo: Input,
    *,
    cleaning: CleaningOptions = AS_PAINTED,
    max_pixels: int = MAX_PIXELS,
) -> tuple[bytes, tuple[str, ...]]:
    """Paint the mask of one photo.

    Returns:
        Content of a PNG file, and notes on the photo.

    Raises:
        DataError: If the photo cannot be read.
    """
    (result,) = segmenter.stream([photo], batch_size=1, max_pixels=max_pixels)
    if result.error:
        raise DataError(result.error)
    segmentation = _of(result)
    class_map = cleaning(segmentation.class_map, segmentation.confidence, segmentation.labels.ignore)
    return mask_png(class_map, segmentation.labels), result.notes


class _Painting:
    """One call of ``paint``.

    The caller's thread hands photos to the segmenter, and its results to one thread that writes. So the writers of
    annotations see one photo at a time.
    """

    def __init__(
        self, segmenter: Segmenter, outputs: Outputs, cleaning: CleaningOptions, found: Survey, skip_existing: bool
    ) -> None:
        self.segmenter, self.outputs, self.cleaning = segmenter, outputs, cleaning
        self.skip_existing = skip_existing
        self.num_todo = found.num_photos - (found.num_masks if skip_existing else 0)
        self.painted = PaintSummary()
        self.rows: list[Row] = []
        self.every = -(-self.num_todo // (2 * SHEET_ROWS)) or 1  # the sheet samples the photos evenly
        self.todo: deque[Input] = deque()  # photos that the segmenter has now
        self.writing: deque[Future[Row]] = deque()
        self.writers: list[Writer] = []

    def run(self, batch_size: int, max_pixels: int) -> PaintSummary:
        outputs, labels = self.outputs, self.segmenter.labels
        with ExitStack() as stack:
            for form in outputs.wanted.formats:
                self.writers.append(stack.enter_context(open_writer(form, outputs.folder, labels)))
            writer = stack.enter_context(ThreadPoolExecutor(1))
            results = self.segmenter.stream(self._photos(writer), batch_size=batch_size, max_pixels=max_pixels)
            progress = tqdm(results, total=self.num_todo, unit="photo", desc="segmenting", disable=None)
            for index, result in enumerate(progress):
                self._take_result(self.todo.popleft(), result, index, writer)
                while self.writing and (len(self.writing) > batch_size or self.writing[0].done()):
                    self._take_written()
            while self.writing:
                self._take_written()
            if self.painted.failures and outputs.single:
                raise DataError(self.painted.failures[0])
        self._finish()
        return self.painted

    def _photos(self, writer: ThreadPoolExecutor) -> Iterator[Input]:
        """Yield the photos that need painting, and tell the writers of masks that are kept."""
        for item in self.outputs.inputs:
            if self.skip_existing and not item.problem and self.outputs.files(item).mask.exists():
                self.painted.num_kept += 1
                if self.writers:
                    writer.submit(self._add_kept, item).result()
                continue
            self.todo.append(item)
            yield item

    def _take_result(
        self, item: Input, result: StreamResult[Segmentation], index: int, writer: ThreadPoolExecutor
    ) -> None:
        for note in result.notes:
            count, first = self.painted.notes.get(note, (0, item.name))
            self.painted.notes[note] = (count + 1, first)
        if result.error:
            self._note_failure(item, result.error)
        else:
            keep = self.outputs.sheet is not None and index % self.every == 0
            self.writing.append(writer.submit(self._write, item, result, keep))

    def _note_failure(self, item: Input, message: str) -> None:
        self.painted.failures.append(message)
        if not self.outputs.single:
            note_failure(self.outputs.failures, item.name, message)

    def _take_written(self) -> None:
        row = self.writing.popleft().result()
        self.painted.num_masks += 1
        if row:
            self.rows.append(row)

    def _write(self, item: Input, result: StreamResult[Segmentation], keep: bool) -> Row:
        """Write what one photo becomes, and return its row of the sheet, or an empty one."""
        segmentation, files = _of(result), self.outputs.files(item)
        confidence, labels = segmentation.confidence, segmentation.labels
        class_map = self.cleaning(segmentation.class_map, confidence, labels.ignore)
        photo = item.source if not isinstance(item.source, bytes) else None
        for writer in self.writers:
            writer.add(item.file_name, class_map, confidence, photo)
        save_mask(files.mask, class_map, labels)
        if files.confidence:
            assert confidence is not None
            save_gray(files.confidence, confidence)
        if not files.overlay:
            return []
        image = _pixels(result)
        picture = overlay(image, class_map, labels)
        save_picture(files.overlay, picture)
        return [thumbnail(p) for p in (image, picture, colored(class_map, labels))] if keep else []

    def _add_kept(self, item: Input) -> None:
        """Add a mask that is kept to the files about all photos. The photo's own files stay as they are."""
        class_map = read_label(self.outputs.files(item).mask)
        photo = item.source if not isinstance(item.source, bytes) else None
        for writer in self.writers:
            if not writer.per_photo:
                writer.add(item.file_name, class_map, photo=photo)

    def _finish(self) -> None:
        """Write the files about all photos."""
        outputs, labels = self.outputs, self.segmenter.labels
        save_legend(outputs.legend, labels)
        if outputs.wanted.legend:
            save_picture(outputs.legend_picture, legend_picture(labels))
        if outputs.sheet and self.rows:
            save_picture(outputs.sheet, _sheet(self.rows, labels))


def _sheet(rows: Sequence[Row], labels: LabelMap) -> Image.Image:
    """The sheet of some rows, two side by side where there are many."""
    if len(rows) <= SHEET_ROWS:
        return contact_sheet(rows, ["photo", "overlay", "mask"], labels)
    half = -(-len(rows) // 2)
    pairs = [left + right for left, right in zip(rows[:half], [*rows[half:], []], strict=False)]
    return contact_sheet(pairs, ["photo", "overlay", "mask"] * 2, labels)


def _of(result: StreamResult[Segmentation]) -> Segmentation:
    assert result.segmentation is not None
    return result.segmentation


def _pixels(result: StreamResult[Segmentation]) -> NDArray[np.uint8]:
    if result.image is not None:
        return result.image
    assert result.windows is not None
    return result.windows.read(0, result.windows.size_hw[0])


def _check_writable(outputs: Outputs) -> None:
    probe = outputs.folder / ".slotseg-probe"
    with writing(outputs.folder, "expected another --output"):
        write_bytes(probe, b"")
        probe.unlink()
