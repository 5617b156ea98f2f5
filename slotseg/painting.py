"""Segment many files: where each mask goes, what is written beside it, what happens to bad files."""

import json
import logging
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from slotseg.annotations import Writer, files_of, open_writer
from slotseg.annotations_labelme import LabelmeWriter
from slotseg.data.images import list_images, read_label
from slotseg.errors import ConfigError, DataError
from slotseg.files import write_bytes
from slotseg.render import colored, contact_sheet, overlay, save_legend, save_mask, save_picture, thumbnail
from slotseg.segmenter import Segmentation, Segmenter
from slotseg.streaming import Streamed

log = logging.getLogger(__name__)

SHEET_ROWS = 12
BATCH_SIZE = 8
"""Photos that the network sees at once."""


@dataclass(frozen=True, kw_only=True)
class Output:
    """The files that one photo becomes."""

    name: str
    """Of the photo, relative, with slashes."""
    photo: Path
    mask: Path
    overlay: Path | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Everything a call is going to write."""

    outputs: tuple[Output, ...]
    legend: Path
    sheet: Path | None
    failures: Path

    @property
    def folder(self) -> Path:
        """Where files about all photos go."""
        return self.legend.parent


@dataclass(kw_only=True)
class Painted:
    """What became of the photos."""

    num_masks: int = 0
    """Masks written."""
    num_kept: int = 0
    """Photos whose mask was there already."""
    failures: list[str] = field(default_factory=list)
    """Messages of photos that could not be used."""


def plan(inputs: Sequence[Path], output: Path, *, with_overlay: bool = False) -> Plan:
    """Decide where everything goes, before anything is read or written.

    A single file with an ``output`` ending in ``.png`` becomes that mask. Otherwise ``output`` is a
    folder that mirrors the input folders; photos that differ in their suffix only keep it
    (``a.jpg.png``). Overlays go to ``overlay/`` beside the masks.

    Raises:
        DataError: If an input does not exist or holds no image.
        ConfigError: If two photos would become one mask, or a mask its own photo.
    """
    if len(inputs) == 1 and not inputs[0].is_dir() and output.suffix.lower() == ".png":
        photo = list_images(inputs)[0]
        picture = output.with_name(f"{output.stem}_overlay.jpg") if with_overlay else None
        result = Plan(
            outputs=(Output(name=photo.name, photo=photo, mask=output, overlay=picture),),
            legend=output.with_name(f"{output.stem}_legend.json"),
            sheet=None,
            failures=output.with_name(f"{output.stem}_failures.jsonl"),
        )
    else:
        result = _plan_folder(inputs, output, with_overlay)
    photos = {o.photo.resolve() for o in result.outputs}
    clash = next((o.mask for o in result.outputs if o.mask.resolve() in photos), None)
    if clash:
        raise ConfigError(f"the mask {clash} would replace a photo; expected another --output")
    return result


def paint(
    segmenter: Segmenter,
    plan: Plan,
    *,
    overwrite: bool = False,
    skip_existing: bool = False,
    formats: Sequence[str] = (),
    batch_size: int = BATCH_SIZE,
) -> Painted:
    """Segment every photo of a plan; a photo that cannot be read costs that photo.

    Every file is written whole or not at all, so an interruption leaves whole files only. Photos of one size are
    computed ``batch_size`` at a time, while others are read and written. For each of ``formats``, of
    ``slotseg.annotations.WRITERS``, files of that format are written too; of masks that are kept, from these.

    Raises:
        ConfigError: If a file exists and neither ``overwrite`` nor ``skip_existing`` is set.
        DataError: If the output cannot be written, or the only photo cannot be read.
    """
    _check_existing(plan, formats, allowed=overwrite or skip_existing)
    _check_writable(plan.folder)
    plan.failures.unlink(missing_ok=True)
    todo = [o for o in plan.outputs if not (skip_existing and o.mask.exists())]
    painted = Painted(num_kept=len(plan.outputs) - len(todo))
    rows: list[list[NDArray[np.uint8]]] = []
    every = -(-len(todo) // (2 * SHEET_ROWS))  # the sheet samples the photos evenly
    results = segmenter.stream((o.photo for o in todo), batch_size=batch_size)
    progress = tqdm(zip(todo, results, strict=True), total=len(todo), unit="photo", desc="segmenting", disable=None)
    with ExitStack() as stack:
        writers = [stack.enter_context(open_writer(form, plan.folder, segmenter.labels)) for form in formats]
        writer = stack.enter_context(ThreadPoolExecutor(1))
        _add_kept(writers, plan, todo)
        writing: deque[Future[list[NDArray[np.uint8]]]] = deque()
        for index, (output, result) in enumerate(progress):
            if result.error:
                painted.failures.append(result.error)
                continue
            keep = output.overlay is not None and index % every == 0
            writing.append(writer.submit(_write_outputs, output, result, writers, keep))
            while writing and (len(writing) > batch_size or writing[0].done()):
                _take(writing.popleft(), painted, rows)
        while writing:
            _take(writing.popleft(), painted, rows)
        if painted.failures and len(plan.outputs) == 1:
            raise DataError(painted.failures[0])
    _finish(plan, painted, segmenter, rows)
    return painted


def _write_outputs(
    output: Output, result: Streamed[Segmentation], writers: Sequence[Writer], keep: bool
) -> list[NDArray[np.uint8]]:
    """Write what one photo becomes; return its row of the sheet, or nothing."""
    assert result.image is not None
    assert result.segmentation is not None
    class_map, labels = result.segmentation.class_map, result.segmentation.labels
    for writer in writers:
        writer.add(output.name, class_map, photo=output.photo)
    save_mask(output.mask, class_map, labels)
    if not output.overlay:
        return []
    picture = overlay(result.image, class_map, labels)
    save_picture(output.overlay, picture)
    return [thumbnail(p) for p in (result.image, picture, colored(class_map, labels))] if keep else []


def _take(written: Future[list[NDArray[np.uint8]]], painted: Painted, rows: list[list[NDArray[np.uint8]]]) -> None:
    row = written.result()
    painted.num_masks += 1
    if row:
        rows.append(row)


def _plan_folder(inputs: Sequence[Path], output: Path, with_overlay: bool) -> Plan:
    if output.exists() and not output.is_dir():
        raise ConfigError(f"{output} is a file; expected a folder for the masks of several photos")
    relative: dict[Path, Path] = {}
    for item in inputs:
        for photo in list_images([item]):
            relative.setdefault(photo, photo.relative_to(item) if item.is_dir() else Path(photo.name))
    stems: dict[Path, list[Path]] = {}
    for photo, path in relative.items():
        stems.setdefault(path.with_suffix(""), []).append(photo)
    outputs, taken = [], dict[Path, Path]()
    for photo, path in relative.items():
        name = path.with_suffix("") if len(stems[path.with_suffix("")]) == 1 else path
        if name in taken:
            raise ConfigError(f"{photo} and {taken[name]} would become one mask; expected to segment them one by one")
        taken[name] = photo
        picture = output / "overlay" / f"{name}.jpg" if with_overlay else None
        outputs.append(Output(name=path.as_posix(), photo=photo, mask=output / f"{name}.png", overlay=picture))
    return Plan(
        outputs=tuple(outputs),
        legend=output / "legend.json",
        sheet=output / "overlay" / "sheet.jpg" if with_overlay else None,
        failures=output / "failures.jsonl",
    )


def _check_existing(plan: Plan, formats: Sequence[str], *, allowed: bool) -> None:
    masks = [o.mask for o in plan.outputs if o.mask.exists()]
    names = [o.name for o in plan.outputs]
    others = [file for form in formats for file in files_of(form, plan.folder, names) if file.exists()]
    if masks and not allowed:
        raise ConfigError(
            f"{len(masks)} of {len(plan.outputs)} masks exist, the first is {masks[0]}; "
            "expected a new --output, or --overwrite or --skip-existing"
        )
    if others and not allowed:
        raise ConfigError(f"{others[0]} exists; expected a new --output, or --overwrite or --skip-existing")


def _add_kept(writers: Sequence[Writer], plan: Plan, todo: Sequence[Output]) -> None:
    """Add the masks that are kept to files about all photos; other files of theirs are kept as they are."""
    painted_anew = {o.mask for o in todo}
    for output in plan.outputs if writers else ():
        if output.mask in painted_anew:
            continue
        class_map = read_label(output.mask)
        for writer in writers:
            if not isinstance(writer, LabelmeWriter):
                writer.add(output.name, class_map, photo=output.photo)


def _check_writable(folder: Path) -> None:
    probe = folder / ".slotseg-probe"
    try:
        write_bytes(probe, b"")
        probe.unlink()
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); expected another --output") from error


def _finish(plan: Plan, painted: Painted, segmenter: Segmenter, rows: list[list[NDArray[np.uint8]]]) -> None:
    """Write legend, sheet and the list of failures."""
    save_legend(plan.legend, segmenter.labels)
    if plan.sheet and rows:
        half = -(-len(rows) // 2) if len(rows) > SHEET_ROWS else len(rows)
        pairs = [left + right for left, right in zip(rows[:half], [*rows[half:], *[[]] * half], strict=False)]
        titles = ["photo", "overlay", "mask"] * (2 if len(rows) > SHEET_ROWS else 1)
        save_picture(plan.sheet, contact_sheet(pairs, titles, segmenter.labels))
    if painted.failures:
        lines = "".join(json.dumps({"error": message}) + "\n" for message in painted.failures)
        write_bytes(plan.failures, lines.encode())
        for message in painted.failures[:3]:
            log.warning("Skipped: %s", message)
