"""``slotseg segment``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slotseg import amounts
from slotseg.cli import options
from slotseg.errors import ConfigError

if TYPE_CHECKING:
    from slotseg.painting.paint import PaintSummary

STDOUT = Path("-")
GEOTIFF = "geotiff"
EPILOG = """\b
INPUTS are photos, folders of photos, quoted patterns such as 'photos/**/*.jpg',
@list.txt (a path a line; @- from stdin), or - for one image from stdin.
JPEG, PNG, WebP, TIFF, BMP, GIF; AVIF and HEIC where Pillow reads them.
Exit code 3: done, but some photos could not be read; failures.jsonl names them."""


@click.command("segment", epilog=EPILOG)
@click.argument("inputs", nargs=-1, required=True)
@click.option(
    "-o", "--output", required=True, type=options.PATH, help="Mask (.png) of one photo, a folder, or - for stdout."
)
@options.checkpoint
@click.option(
    "--labels",
    metavar="prototypes|FILE|NAME",
    help="Paint prototype numbers, the names of a names.json, the classes of a labels.json, or those the run was "
    "matched to on the data set NAME.  [default: the run's latest match, if it has been matched]",
)
@options.classes
@click.option("--min-area", type=click.IntRange(min=0), default=0, metavar="PIXELS", help="Absorb smaller parts.")
@click.option(
    "--ignore-below",
    type=click.FloatRange(0, 1),
    default=0.0,
    metavar="CONFIDENCE",
    help="Leave out pixels whose class is less sure than this, 0 to 1.",
)
@click.option("--overlay", is_flag=True, help="Also write photos with the classes laid over them, and a sheet.")
@click.option("--confidence", is_flag=True, help="Also write how sure each pixel is, as grey pictures.")
@click.option("--legend", is_flag=True, help="Also write names and colours as a picture.")
@click.option(
    "--format",
    "forms",
    type=click.Choice(["coco", "cvat", "labelme", GEOTIFF]),
    multiple=True,
    help="Also write annotations that COCO's tools, CVAT or labelme read, or masks as GeoTIFF with the georeference of "
    "their photo.  Can be given for each of them.",
)
@click.option("--json", "summary", is_flag=True, help="Also write segments.jsonl: what each photo holds.")
@options.bands
@options.value_range
@options.size
@options.tta
@options.edges
@options.tile
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Photos computed at once.")
@options.max_pixels
@click.option("--overwrite", is_flag=True, help="Replace masks that exist.")
@click.option("--skip-existing", is_flag=True, help="Leave out photos whose mask exists.")
@options.device
@options.precision
@click.option(
    "--compile", "compiled", is_flag=True, help="Use torch.compile: a minute at the start, faster from then on."
)
def command(
    inputs: tuple[str, ...],
    output: Path,
    checkpoint: Path | None,
    labels: str | None,
    num_prototypes: int | None,
    min_area: int,
    ignore_below: float,
    overlay: bool,
    confidence: bool,
    legend: bool,
    forms: tuple[str, ...],
    summary: bool,
    bands: tuple[int, ...] | None,
    value_range: tuple[float, ...] | None,
    size: Any,
    tile: int | None,
    tta: str | None,
    edges: str | None,
    batch_size: int,
    max_pixels: int,
    overwrite: bool,
    skip_existing: bool,
    device: str,
    precision: str | None,
    compiled: bool,
) -> None:
    """Paint INPUTS, photos and folders of photos, into indexed PNG masks of their own size.

    \b
    slotseg segment photo.jpg -o mask.png --overlay
    slotseg segment my-photos -o masks
    slotseg segment my-photos -o masks --format coco --json
    slotseg segment 'survey/**/*.tif' -o masks --format geotiff --skip-existing
    curl -s https://example.org/photo.jpg | slotseg segment - -o - > mask.png
    """  # noqa: D301
    from slotseg.data.finding.inputs import Inputs
    from slotseg.painting.outputs import OutputOptions, Outputs, check_existing

    formats = tuple(dict.fromkeys([*(f for f in forms if f != GEOTIFF), *(["summary"] if summary else [])]))
    wanted = OutputOptions(
        overlay=overlay, confidence=confidence, legend=legend, geotiff=GEOTIFF in forms, formats=formats
    )
    photos = Inputs(inputs, leave_out=None if output == STDOUT else output)
    if output == STDOUT:
        _check_stdout(single=photos.single, alone=wanted == OutputOptions())
    else:
        outputs = Outputs(photos, output, wanted)
        found = outputs.survey()
        check_existing(found, overwrite=overwrite, skip_existing=skip_existing)

    from slotseg.labels.naming import read_labels_or_names
    from slotseg.painting.cleaning import CleaningOptions
    from slotseg.painting.paint import paint, paint_png
    from slotseg.runs.folder import find_checkpoint, find_labels
    from slotseg.segmenting.segmenter import Segmenter

    file = find_checkpoint(checkpoint)
    segmenter = Segmenter.load(
        file,
        labels=read_labels_or_names(find_labels(labels, file)) if labels not in (None, "prototypes") else None,
        matched=labels is None and num_prototypes is None,
        num_prototypes=num_prototypes,
        segment=options.quality(tta, edges),
        reading=options.reading(bands, value_range),
        size=size,
        tile=tile,
        confidence=wanted.needs_confidence or ignore_below > 0,
        device=device,
        precision=precision or "auto",
        compiled=compiled,
    )
    cleaning = CleaningOptions(min_area=min_area, ignore_below=ignore_below)
    if output == STDOUT:
        (photo,) = photos
        mask, notes = paint_png(segmenter, photo, cleaning=cleaning, max_pixels=max_pixels)
        sys.stdout.buffer.write(mask)
        sys.stdout.buffer.flush()
        _say_notes(dict.fromkeys(notes, (1, photo.name)))
        return
    click.echo(f"Segmenting {amounts.count(found.num_photos, 'photo')} with {file}", err=True)
    painted = paint(
        segmenter,
        outputs,
        overwrite=overwrite,
        skip_existing=skip_existing,
        cleaning=cleaning,
        batch_size=batch_size,
        max_pixels=max_pixels,
        found=found,
    )
    _say(painted, output, outputs.failures)


def _check_stdout(*, single: bool, alone: bool) -> None:
    if not single:
        raise ConfigError("-o - writes one mask to stdout; expected one photo, or a folder as --output")
    if not alone:
        raise ConfigError("-o - writes the mask alone; expected a file or folder as --output for what goes beside it")
    if sys.stdout.isatty():
        raise ConfigError("-o - would write a PNG to the terminal; expected a pipe or a file, as in -o - > mask.png")


def _say(painted: "PaintSummary", output: Path, failures: Path) -> None:
    _say_notes(painted.notes)
    for message in painted.failures[:3]:
        click.echo(f"Skipped: {message}", err=True)
    kept = f", {painted.num_kept} were there" if painted.num_kept else ""
    failed = f", {len(painted.failures)} failed: see {failures}" if painted.failures else ""
    click.echo(f"{amounts.count(painted.num_masks, 'mask')} written to {output}{kept}{failed}")
    if painted.failures:
        raise click.exceptions.Exit(options.SOME_INPUTS_FAILED)


def _say_notes(notes: dict[str, tuple[int, str]]) -> None:
    for note, (count, first) in notes.items():
        click.echo(f"{amounts.among_photos(count, first)}: {note}", err=True)
