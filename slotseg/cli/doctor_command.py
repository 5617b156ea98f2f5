"""``slotseg doctor``."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from slotseg.cli import options
from slotseg.cli.train_command import SETTINGS
from slotseg.data.views.unlabelled import Photos
from slotseg.errors import ConfigError


@click.command("doctor")
@click.argument("photos", nargs=-1, type=options.PATH)
@options.dataset
@options.data_dir
@options.checkpoint
@click.option("--preset", metavar="NAME", help="What to try, as for train.")
@click.option("--init", metavar="WEIGHTS", help="Weights to try with.  [default: random ones, which cost the same]")
@click.option("--backbone", metavar="NAME", help="timm model.")
@click.option("--image-size", type=int, help="Side of a training crop in pixels.")
@click.option("--batch-size", type=int, help="Photos per step.")
@options.bands
@options.value_range
@options.precision
@options.extra
@options.device
@options.workers
@click.option("--json", "json_file", type=options.PATH, metavar="FILE", help="Write what was found as JSON.")
def command(
    photos: tuple[Path, ...],
    dataset: str | None,
    data_dir: Path | None,
    checkpoint: Path | None,
    preset: str | None,
    extra: tuple[str, ...],
    device: str,
    workers: int | None,
    json_file: Path | None,
    **values: Any,
) -> None:
    """Look at the installation, the device, PHOTOS and a checkpoint, and try what a training would cost.

    Some steps of the preset are trained in memory; nothing is written. Without PHOTOS, and without a
    checkpoint, the built-in scenes are tried.

    \b
    slotseg doctor my-photos
    slotseg doctor --dataset coco --data-dir coco
    slotseg doctor --checkpoint runs/photos-1
    """  # noqa: D301
    settings = {SETTINGS[name]: value for name, value in values.items() if value is not None}
    settings.update(options.settings(extra))
    chosen = Photos(photos, dataset, data_dir)
    try:
        import torchvision  # noqa: F401
    except (ImportError, RuntimeError, OSError) as error:  # what torchvision raises where torch is another one's
        raise ConfigError(
            f"torch and torchvision do not fit each other ({error}); expected a pair: install both anew, together"
        ) from error
    from slotseg.files import write_json, writing
    from slotseg.training import doctor
    from slotseg.training.launch import plan_training
    from slotseg.training.trial import measure_cost

    found: list[doctor.Remark] = []

    def look(subject: str, check: Callable[[], Iterable[doctor.Remark]]) -> None:
        for remark in doctor.checked(subject, check):
            found.append(remark)
            click.echo(f"{remark.level:<8} {remark.subject:<13} {remark.text}")

    def look_at_photos() -> Iterator[doctor.Remark]:
        plan = plan_training(chosen, settings, preset=preset, download=False)
        yield from doctor.check_photos(plan.source)
        reading = plan.config.reading
        yield from doctor.describe_reading(reading, plan.sources.get("reading.range", "option"), plan.photo_notes)
        if plan.default or not (chosen or preset or plan.config.backbone.init):
            yield from doctor.check_weights(plan.default)
        if not any(remark.level == "problem" for remark in found):
            yield from doctor.describe_cost(measure_cost(plan.config, plan.source, device=device, workers=workers))

    look("installation", doctor.check_installation)
    look("device", lambda: doctor.check_device(device))
    if checkpoint:
        look("checkpoint", lambda: doctor.check_checkpoint(checkpoint))
    if chosen or preset or not checkpoint:
        look("training", look_at_photos)
    if json_file:
        with writing(json_file, "expected another --json"):
            write_json(json_file, [asdict(remark) for remark in found])
    problems = sum(remark.level == "problem" for remark in found)
    if problems:
        raise ConfigError(f"{problems} problem{'s' if problems > 1 else ''} found; expected none: see above")
