"""From a folder of photos to concepts, masks and a report.

There are three stages, and each continues where it stopped. ``OUT/run`` is trained. ``OUT/concepts`` shows what was
found. ``OUT/masks`` is painted, with names or without. ``OUT/index.html`` is the report. ``OUT/discover.json`` says
which stages are whole (``slotseg.discovery.record``).
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slotseg import amounts
from slotseg.data.finding.inputs import Input, Inputs
from slotseg.data.views.unlabelled import Photos
from slotseg.discovery.costs import MAX_PAINTED, measure_stages
from slotseg.discovery.record import DiscoveryRecord, Stage, read_record
from slotseg.discovery.stages import PRESET, Stages, outputs_of, run_in
from slotseg.errors import ConfigError, DataError
from slotseg.labels.naming import Naming, read_names
from slotseg.training.launch import Plan, plan_training

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class DiscoverySummary:
    """Outcome of a discovery."""

    report: Path
    """Page to open."""
    num_photos: int
    """Photos that were painted."""
    num_concepts: int
    num_failures: int
    """Photos that could not be used."""
    anything_done: bool
    """Whether there was anything left to do."""


def discover(
    photos: Sequence[Path],
    output: Path,
    values: Mapping[str, Any],
    *,
    names: Path | None = None,
    geotiff: bool = False,
    command: str = "",
    device: str = "auto",
    workers: int | None = None,
) -> DiscoverySummary:
    """Do all that is left to do of a discovery.

    The first call says beforehand what it will cost.

    Args:
        photos: Files and folders, searched recursively. They must be the same at each call.
        output: Folder for everything: a new one, an empty one, or that of an earlier call.
        values: Settings by dotted name, laid over the preset ``photos``. A later call may leave them all out.
        names: File ``names.json`` to paint with, by default ``output/names.json`` if it exists.
        geotiff: Whether to write masks as GeoTIFF too. Later calls go on with it.
        command: Command that the user typed, for the report.
        device: Device, as in ``slotseg.devices.resolve_device``.
        workers: Number of loader processes; None chooses.

    Raises:
        ConfigError: If the folder belongs to something else, or photos or settings are not those of the first call.
        DataError: If there are no photos, or the names don't fit.
        KeyboardInterrupt: On Ctrl-C. What is there is whole, and another call continues.
    """
    _check_photos(photos, output)
    record = read_record(output)
    naming = _read_naming(names, output)
    where = [str(photo.resolve()) for photo in photos]
    inputs = Inputs(where)
    number, digest = _listed(inputs)
    if record and run_in(output).last.is_file():  # before there is a checkpoint, all may be begun anew
        record.check(where, values, number, digest)
        if geotiff and not record.geotiff:
            outputs_of(inputs, output, geotiff=True).survey()  # may refuse
            record.geotiff = True
            record.write()
        stages = Stages(record, inputs, naming, device, workers)
        if left := stages.left():
            log.info("Going on with %s: %s", output, ", ".join(left))
    else:
        if record and record.settings and not values and record.photos == where:
            values, command = record.settings, record.command
            log.info("As the first call of %s: %s", output, _listed_settings(values))
        record, plan = _begin(photos, output, values, inputs, (number, digest), command, geotiff, device, workers)
        stages = Stages(record, inputs, naming, device, workers, plan)
        left = stages.left()
    try:
        stages.train()
    except ConfigError:
        if not run_in(output).last.is_file():  # a call without options is not to fail in the same way
            record.settings = {}
            record.write()
        raise
    labelling = stages.find_concepts()
    stages.paint(labelling)
    return DiscoverySummary(
        report=stages.report(labelling),
        num_photos=number - record.stages["masks"].num_failures,
        num_concepts=labelling.labels.num_prototypes,
        num_failures=max(stage.num_failures for stage in record.stages.values()),
        anything_done=bool(left),
    )


def _begin(
    photos: Sequence[Path],
    output: Path,
    values: Mapping[str, Any],
    inputs: Inputs,
    listed: tuple[int, str],
    command: str,
    geotiff: bool,
    device: str,
    workers: int | None,
) -> tuple[DiscoveryRecord, Plan]:
    """Plan the training, measure what the discovery will cost, log it, and write the record."""
    outputs_of(inputs, output, geotiff=geotiff).survey()  # may refuse
    plan = plan_training(Photos(photos), values, preset=PRESET)
    number, digest = listed
    log.info("Trying out what %d photos cost here ...", number)
    costs = measure_stages(plan, _spread(inputs, number), number, device=device, workers=workers)
    decoder = plan.config.decoder
    details = {
        "training": f" ({costs.steps} steps at {costs.photos_per_second:.3g} photos/s)",
        "decoder": f" ({decoder.steps} steps on {min(decoder.photos, number)} photos)",
    }
    stages = [f"{name} {amounts.about_duration(s)}{details.get(name, '')}" for name, s in costs.seconds.items()]
    log.info("This will take: %s; about %s of memory", ", ".join(stages), amounts.about_size(costs.memory))
    record = DiscoveryRecord(
        path=output,
        photos=[str(photo.resolve()) for photo in photos],
        settings=dict(values),
        num_photos=number,
        photo_names=digest,
        command=command,
        geotiff=geotiff,
        expected_memory=costs.memory,
        stages={name: Stage(expected_seconds=expected) for name, expected in costs.seconds.items()},
    )
    record.write()
    return record, plan


def _check_photos(photos: Iterable[Path], output: Path) -> None:
    """Refuse paths that do not exist, and an output among the photos.

    Pictures of such an output would be taken for photos.

    Raises:
        ConfigError: If the output lies among the photos.
        DataError: If a path does not exist.
    """
    for photo in photos:
        if not photo.exists():
            raise DataError(f"{photo} does not exist; expected files and folders of photos: check the path")
        if output.resolve().is_relative_to(photo.resolve()):
            raise ConfigError(f"{output} lies in {photo}, whose photos are looked for; expected an --output elsewhere")


def _read_naming(names: Path | None, output: Path) -> Naming | None:
    file = names or output / "names.json"
    return read_names(file) if names or file.is_file() else None


def _listed(inputs: Inputs) -> tuple[int, str]:
    """The number of photos, and a digest of their names, in order."""
    number, sha = 0, hashlib.sha256()
    for item in inputs:
        sha.update(item.file_name.encode(errors="surrogateescape") + b"\n")
        number += 1
    return number, sha.hexdigest()[:16]


def _listed_settings(values: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value)}" for name, value in values.items()
    )


def _spread(inputs: Inputs, number: int) -> list[Input]:
    """Some of the photos, evenly spread."""
    wanted = {i * number // MAX_PAINTED for i in range(MAX_PAINTED)}
    return [item for i, item in enumerate(inputs) if i in wanted]
