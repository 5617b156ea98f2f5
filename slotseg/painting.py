"""Segment many files: where each mask goes, what is written beside it, what happens to bad files."""

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from slotseg.data.images import list_images, read_image
from slotseg.errors import ConfigError, DataError
from slotseg.files import write_bytes
from slotseg.render import colored, contact_sheet, overlay, save_legend, save_mask, save_picture
from slotseg.segmenter import Segmenter

log = logging.getLogger(__name__)

SHEET_ROWS = 12


@dataclass(frozen=True, kw_only=True)
class Output:
    """The files that one photo becomes."""

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
            outputs=(Output(photo=photo, mask=output, overlay=picture),),
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


def paint(segmenter: Segmenter, plan: Plan, *, overwrite: bool = False, skip_existing: bool = False) -> Painted:
    """Segment every photo of a plan; a photo that cannot be read costs that photo.

    Every file is written whole or not at all, so an interruption leaves whole files only.

    Raises:
        ConfigError: If a mask exists and neither ``overwrite`` nor ``skip_existing`` is set.
        DataError: If the output cannot be written, or the only photo cannot be read.
    """
    existing = [o.mask for o in plan.outputs if o.mask.exists()]
    if existing and not (overwrite or skip_existing):
        raise ConfigError(
            f"{len(existing)} of {len(plan.outputs)} masks exist, the first is {existing[0]}; "
            "expected a new --output, or --overwrite or --skip-existing"
        )
    _check_writable(plan.legend.parent)
    plan.failures.unlink(missing_ok=True)
    painted = Painted()
    rows: list[list[NDArray[np.uint8]]] = []
    every = -(-len(plan.outputs) // (2 * SHEET_ROWS))  # the sheet samples the photos evenly
    for index, output in enumerate(tqdm(plan.outputs, unit="photo", desc="segmenting", disable=None)):
        if skip_existing and output.mask.exists():
            painted.num_kept += 1
            continue
        try:
            image = read_image(output.photo)
        except DataError as error:
            painted.failures.append(str(error))
            continue
        class_map = segmenter(image).class_map
        save_mask(output.mask, class_map, segmenter.labels)
        painted.num_masks += 1
        if output.overlay:
            picture = overlay(image, class_map, segmenter.labels)
            save_picture(output.overlay, picture)
            if index % every == 0:
                rows.append([image, picture, colored(class_map, segmenter.labels)])
    _finish(plan, painted, segmenter, rows)
    return painted


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
        outputs.append(Output(photo=photo, mask=output / f"{name}.png", overlay=picture))
    return Plan(
        outputs=tuple(outputs),
        legend=output / "legend.json",
        sheet=output / "overlay" / "sheet.jpg" if with_overlay else None,
        failures=output / "failures.jsonl",
    )


def _check_writable(folder: Path) -> None:
    probe = folder / ".slotseg-probe"
    try:
        write_bytes(probe, b"")
        probe.unlink()
    except OSError as error:
        raise DataError(f"{folder} cannot be written ({error.strerror}); expected another --output") from error


def _finish(plan: Plan, painted: Painted, segmenter: Segmenter, rows: list[list[NDArray[np.uint8]]]) -> None:
    """Write legend, sheet and the list of failures."""
    if painted.failures and len(plan.outputs) == 1:
        raise DataError(painted.failures[0])
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
