"""``slotseg segment``."""

from pathlib import Path
from typing import Any

import click

from slotseg.cli import options


@click.command("segment")
@click.argument("inputs", nargs=-1, required=True, type=options.PATH)
@click.option("-o", "--output", required=True, type=options.PATH, help="Mask (.png) of one photo, or a folder.")
@options.checkpoint
@click.option(
    "--labels",
    metavar="prototypes|FILE",
    help="Paint prototype numbers, or the classes of a labels.json.  [default: the run's, if it has been matched]",
)
@click.option(
    "-k",
    "--num-prototypes",
    type=click.IntRange(min=2),
    metavar="K",
    help="Merge the run's prototypes to K and paint their numbers.  [default: as trained or matched]",
)
@click.option("--overlay", is_flag=True, help="Also write photos with the classes laid over them, and a sheet.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["coco", "cvat", "labelme"]),
    help="Also write annotations that COCO's tools, CVAT or labelme read.",
)
@click.option("--json", "summary", is_flag=True, help="Also write segments.jsonl: what each photo holds.")
@options.size
@options.tile
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Photos computed at once.")
@click.option("--overwrite", is_flag=True, help="Replace masks that exist.")
@click.option("--skip-existing", is_flag=True, help="Leave out photos whose mask exists.")
@options.device
def command(
    inputs: tuple[Path, ...],
    output: Path,
    checkpoint: Path | None,
    labels: str | None,
    num_prototypes: int | None,
    overlay: bool,
    form: str | None,
    summary: bool,
    size: Any,
    tile: int | None,
    batch_size: int,
    overwrite: bool,
    skip_existing: bool,
    device: str,
) -> None:
    """Paint INPUTS, photos and folders of photos, into indexed PNG masks of their own size.

    \b
    slotseg segment photo.jpg -o mask.png --overlay
    slotseg segment my-photos -o masks
    slotseg segment my-photos -o masks --format coco --json
    """  # noqa: D301
    from slotseg.labels import read_labels
    from slotseg.painting import paint, plan
    from slotseg.runs import find_checkpoint
    from slotseg.segmenter import Segmenter

    planned = plan(inputs, output, with_overlay=overlay)
    file = find_checkpoint(checkpoint)
    click.echo(f"Segmenting {len(planned.outputs)} photos with {file}", err=True)
    given = read_labels(Path(labels)) if labels not in (None, "prototypes") else None
    segmenter = Segmenter.load(
        file,
        labels=given,
        matched=labels is None and num_prototypes is None,
        num_prototypes=num_prototypes,
        size=size,
        tile=tile,
        device=device,
    )
    painted = paint(
        segmenter,
        planned,
        overwrite=overwrite,
        skip_existing=skip_existing,
        formats=[*([form] if form else []), *(["summary"] if summary else [])],
        batch_size=batch_size,
    )
    kept = f", {painted.num_kept} were there" if painted.num_kept else ""
    failed = f", {len(painted.failures)} failed: see {planned.failures}" if painted.failures else ""
    click.echo(f"{painted.num_masks} masks written to {output}{kept}{failed}")
    if painted.failures:
        raise click.exceptions.Exit(options.SOME_INPUTS_FAILED)
