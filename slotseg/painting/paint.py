"""Segment many photos: write the files of each, and leave out photos that cannot be read."""

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from slotseg.data.finding.inputs import Input
from slotseg.data.reading.georeference import Georeference, read_georeference
from slotseg.data.reading.images import MAX_PIXELS
from slotseg.data.reading.label_files import read_label
from slotseg.errors import DataError, none_readable
from slotseg.files import note_failure, write_bytes, writing
from slotseg.painting.annotations import Writer, open_writer
from slotseg.painting.cleaning import AS_PAINTED, CleaningOptions
from slotseg.painting.geotiff import save_geotiff
from slotseg.painting.outputs import Files, Outputs, Survey, check_existing
from slotseg.painting.regions import check_ids
from slotseg.painting.render import (
    SHEET_ROWS,
    Row,
    colored,
    legend_picture,
    mask_png,
    overlay,
    save_gray,
    save_legend,
    save_mask,
    save_picture,
    sheet,
    thumbnail,
)
from slotseg.painting.sidecars import save_sidecars
from slotseg.segmenting.segmenter import Segmentation, Segmenter
from slotseg.segmenting.streaming import StreamResult

log = logging.getLogger(__name__)

NO_PLACE = "no georeference for the GeoTIFF mask"
"""Note on a photo of which nothing says where it lies."""
BATCH_SIZE = 8
"""Most photos that the network sees at once."""


class _Written(NamedTuple):
    """What came of writing the files of one photo."""

    item: Input
    notes: tuple[str, ...]
    row: Row
    """Row of the sheet, or an empty one."""


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
        ConfigError: If a file exists and neither ``overwrite`` nor ``skip_existing`` is set, if both are, or two
            photos would become one.
        DataError: If the output cannot be written, or there is no mask because no photo can be read.
    """
    found = found or outputs.survey()
    check_existing(found, overwrite=overwrite, skip_existing=skip_existing)
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
        self.writing: deque[Future[_Written]] = deque()
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
            failures = self.painted.failures
            if failures and not self.painted.num_masks + self.painted.num_kept:
                raise none_readable(len(failures), failures[0], outputs.failures)
        self._finish()
        return self.painted

    def _photos(self, writer: ThreadPoolExecutor) -> Iterator[Input]:
        """Yield the photos that need painting, and tell the writers of masks that are kept."""
        for item in self.outputs.inputs:
            if self.skip_existing and not item.problem and (files := self.outputs.files(item)).mask.exists():
                self.painted.num_kept += 1
                if self.writers or files.lacks_geotiff:
                    self._note(item, writer.submit(self._add_kept, item, files).result())
                continue
            self.todo.append(item)
            yield item

    def _take_result(
        self, item: Input, result: StreamResult[Segmentation], index: int, writer: ThreadPoolExecutor
    ) -> None:
        self._note(item, result.notes)
        if result.error:
            self._note_failure(item, result.error)
        else:
            keep = self.outputs.sheet is not None and index % self.every == 0
            self.writing.append(writer.submit(self._write, item, result, keep))

    def _note(self, item: Input, notes: tuple[str, ...]) -> None:
        for note in notes:
            count, first = self.painted.notes.get(note, (0, item.name))
            self.painted.notes[note] = (count + 1, first)

    def _note_failure(self, item: Input, message: str) -> None:
        self.painted.failures.append(message)
        if not self.outputs.single:
            note_failure(self.outputs.failures, item.name, message)

    def _take_written(self) -> None:
        written = self.writing.popleft().result()
        self.painted.num_masks += 1
        self._note(written.item, written.notes)
        if written.row:
            self.rows.append(written.row)

    def _write(self, item: Input, result: StreamResult[Segmentation], keep: bool) -> _Written:
        """Write what one photo becomes. Its mask comes after what a later call would not add to it."""
        segmentation, files = _of(result), self.outputs.files(item)
        confidence, labels = segmentation.confidence, segmentation.labels
        class_map = self.cleaning(segmentation.class_map, confidence, labels.ignore)
        photo = item.source if not isinstance(item.source, bytes) else None
        for writer in self.writers:
            writer.add(item.file_name, class_map, confidence, photo)
        place, notes = self._placed(item, files, class_map)
        save_sidecars(files.mask, labels, place)
        save_mask(files.mask, class_map, labels)
        if files.confidence:
            assert confidence is not None
            save_gray(files.confidence, confidence)
        if not files.overlay:
            return _Written(item, notes, [])
        image = _pixels(result)
        picture = overlay(image, class_map, labels)
        save_picture(files.overlay, picture)
        row = [thumbnail(p) for p in (image, picture, colored(class_map, labels))] if keep else []
        return _Written(item, notes, row)

    def _add_kept(self, item: Input, files: Files) -> tuple[str, ...]:
        """Add a mask that is kept to the files about all photos.

        The photo's own files stay as they are; only a GeoTIFF that is not there is made of the mask.
        """
        class_map = read_label(files.mask)
        photo = item.source if not isinstance(item.source, bytes) else None
        for writer in self.writers:
            if not writer.per_photo:
                writer.add(item.file_name, class_map, photo=photo)
        if not files.lacks_geotiff:
            return ()
        check_ids(class_map, self.segmenter.labels, item.file_name)
        return self._placed(item, files, class_map)[1]

    def _placed(
        self, item: Input, files: Files, class_map: NDArray[Any]
    ) -> tuple[Georeference | None, tuple[str, ...]]:
        """Find where a photo lies, and write its GeoTIFF if one is wanted. Notes come with the georeference."""
        place, notes = read_georeference(item.source)
        if files.geotiff:
            save_geotiff(files.geotiff, class_map, self.segmenter.labels, place)
            notes = notes or (() if place else (NO_PLACE,))
        return place, notes

    def _finish(self) -> None:
        """Write the files about all photos."""
        outputs, labels = self.outputs, self.segmenter.labels
        save_legend(outputs.legend, labels)
        if outputs.wanted.legend:
            save_picture(outputs.legend_picture, legend_picture(labels))
        if outputs.sheet and self.rows:
            save_picture(outputs.sheet, sheet(self.rows, labels))


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
