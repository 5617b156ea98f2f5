"""``slotseg concepts``."""

from pathlib import Path

import click

from slotseg.cli import options
from slotseg.errors import ConfigError


@click.command("concepts")
@click.argument("run", type=options.PATH)
@click.argument("photos", nargs=-1, required=True)
@click.option("-o", "--output", type=options.PATH, default=Path("concepts"), show_default=True, metavar="DIR")
@click.option(
    "-k",
    "--classes",
    "--num-prototypes",
    "num_prototypes",
    type=click.IntRange(min=2),
    metavar="N",
    help="Merge the run's prototypes to N groups first.  [default: as trained]",
)
@click.option("--top", type=click.IntRange(1, 50), default=5, show_default=True, help="Best segments of each concept.")
@click.option(
    "--names", "names_file", type=options.PATH, metavar="FILE", help="A names.json that the page begins with."
)
@click.option(
    "--figure", type=options.PATH, metavar="FILE", help="Also draw columns of the best segments (.png, .jpg)."
)
@click.option("--figure-of", metavar="IDS", help="Concepts of the figure, as in 3,7,12.  [default: the most telling]")
@options.size
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Photos computed at once.")
@options.max_pixels
@click.option("--overwrite", is_flag=True, help="Replace a page and a figure that exist.")
@options.device
def command(
    run: Path,
    photos: tuple[str, ...],
    output: Path,
    num_prototypes: int | None,
    top: int,
    names_file: Path | None,
    figure: Path | None,
    figure_of: str | None,
    size: int | None,
    batch_size: int,
    max_pixels: int,
    overwrite: bool,
    device: str,
) -> None:
    """Show what the prototypes of RUN stand for: their best segments in PHOTOS, on a page to name them on.

    \b
    slotseg concepts runs/photos-1 my-photos
    slotseg segment my-photos -o masks --labels names.json
    """  # noqa: D301
    ids = _ids(figure_of)
    page, data = output / "index.html", output / "concepts.json"
    existing = next((file for file in (page, data, figure) if file and file.exists()), None)
    if existing and not overwrite:
        raise ConfigError(f"{existing} exists; expected a new --output or --figure, or --overwrite")
    if figure and figure.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"{figure} is no name for a figure; expected one that ends in .png or .jpg")
    from slotseg.data.inputs import Inputs

    inputs = Inputs(photos, leave_out=output)

    from slotseg import checkpoint
    from slotseg.collecting import collect
    from slotseg.concept_figure import concept_figure
    from slotseg.concept_page import write_concept_page
    from slotseg.concepts import write_concepts
    from slotseg.files import writing
    from slotseg.naming import read_names
    from slotseg.render import save_picture
    from slotseg.runs import find_checkpoint, name_of
    from slotseg.scores import read_scores
    from slotseg.segmenter import Segmenter

    names = read_names(names_file) if names_file else None
    file = find_checkpoint(run)
    segmenter = Segmenter.load(
        file, matched=False, num_prototypes=num_prototypes, size=size, device=device, precision="auto"
    )
    if names:
        names.check(segmenter.encoder.num_concepts)
    scores = [scores.sentence() for scores in read_scores(file, segmenter.encoder.num_concepts)]
    number = sum(1 for _ in inputs)
    click.echo(f"Looking at {options.counted(number, 'photo')} with {file}", err=True)
    failures = output / "failures.jsonl"
    with writing(output):
        output.mkdir(parents=True, exist_ok=True)
        failures.unlink(missing_ok=True)
    found = collect(
        segmenter,
        inputs,
        failures=failures,
        run=name_of(file),
        checkpoint=checkpoint.digest(file),
        keep=top,
        batch_size=batch_size,
        max_pixels=max_pixels,
        total=number,
    )
    write_concept_page(page, found.collection, found.thumbnails, names, scores=scores, overwrite=overwrite)
    write_concepts(data, found.collection)
    if figure:
        called = {k: name for k in range(len(found.collection.concepts)) if names and (name := names.name_of(k))}
        save_picture(figure, concept_figure(found.collection, found.thumbnails, ids, names=called))
    shown = sum(1 for concept in found.collection.concepts if concept.segments)
    failed = f"; {found.num_failures} photos failed: see {failures}" if found.num_failures else ""
    click.echo(f"{options.counted(shown, 'concept')} of {found.collection.num_photos:,} photos: open {page}{failed}")
    if found.num_failures:
        raise click.exceptions.Exit(options.SOME_INPUTS_FAILED)


def _ids(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise ConfigError(f"--figure-of is {text}; expected numbers of concepts, as in 3,7,12") from None
