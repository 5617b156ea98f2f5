"""``slotseg concepts``."""

from pathlib import Path

import click

from slotseg import amounts
from slotseg.cli import options
from slotseg.errors import ConfigError


@click.command("concepts")
@click.argument("run", type=options.PATH)
@click.argument("photos", nargs=-1, required=True)
@click.option("-o", "--output", type=options.PATH, default=Path("concepts"), show_default=True, metavar="DIR")
@options.classes
@click.option("--top", type=click.IntRange(1, 50), default=5, show_default=True, help="Best segments of each concept.")
@click.option(
    "--names", "names_file", type=options.PATH, metavar="FILE", help="A names.json that the page begins with."
)
@click.option(
    "--carry-names",
    "old_run",
    type=options.PATH,
    metavar="OLD_RUN",
    help="Carry the names of OLD_RUN's prototypes, its names.json or --names, to those of RUN that cover the same "
    "pixels; writes a names.json too.",
)
@click.option(
    "--figure", type=options.PATH, metavar="FILE", help="Also draw columns of the best segments (.png, .jpg)."
)
@click.option("--figure-of", metavar="IDS", help="Concepts of the figure, as in 3,7,12.  [default: the most telling]")
@options.size
@click.option("--batch-size", type=click.IntRange(min=1), default=8, show_default=True, help="Photos computed at once.")
@options.max_pixels
@click.option("--overwrite", is_flag=True, help="Replace a page, names and a figure that exist.")
@options.device
def command(
    run: Path,
    photos: tuple[str, ...],
    output: Path,
    num_prototypes: int | None,
    top: int,
    names_file: Path | None,
    old_run: Path | None,
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
    slotseg concepts runs/photos-2 my-photos --carry-names runs/photos-1 --names names.json
    """  # noqa: D301
    ids = _ids(figure_of)
    page, data, carried = output / "index.html", output / "concepts.json", output / "names.json"
    if old_run:
        names_file = names_file or _names_of(old_run)
        if names_file.resolve() == carried.resolve():
            raise ConfigError(
                f"{names_file} would be replaced by the names it is carried to; expected another --output"
            )
    written = (page, data, carried if old_run else None, figure)
    existing = next((file for file in written if file and file.exists()), None)
    if existing and not overwrite:
        raise ConfigError(f"{existing} exists; expected a new --output or --figure, or --overwrite")
    if figure and figure.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"{figure} is no name for a figure; expected one that ends in .png or .jpg")
    from slotseg.data.finding.inputs import Inputs

    inputs = Inputs(photos, leave_out=output)

    from slotseg.concepts.carrying import Overlap, carry
    from slotseg.concepts.collecting import collect
    from slotseg.concepts.collection import write_concepts
    from slotseg.concepts.concept_figure import concept_figure
    from slotseg.concepts.concept_page import write_concept_page
    from slotseg.files import write_json, writing
    from slotseg.labels.naming import read_names
    from slotseg.painting.render import save_picture
    from slotseg.runs import checkpoint
    from slotseg.runs.folder import find_checkpoint, name_of
    from slotseg.runs.scores import read_scores
    from slotseg.segmenting.segmenter import Segmenter

    names = read_names(names_file) if names_file else None
    file = find_checkpoint(run)
    segmenter = Segmenter.load(
        file, matched=False, num_prototypes=num_prototypes, size=size, device=device, precision="auto"
    )
    overlap = None
    if old_run:
        old = Segmenter.load(old_run, labels=names, size=size, device=device, precision="auto")
        overlap = Overlap(old.prototype_map, old.encoder.num_concepts, segmenter.encoder.num_concepts)
    elif names:
        names.check(segmenter.encoder.num_concepts)
    scores = [of.sentence() for of in read_scores(file, segmenter.encoder.num_concepts)]
    number = sum(1 for _ in inputs)
    click.echo(f"Looking at {amounts.count(number, 'photo')} with {file}", err=True)
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
        observe=overlap.add if overlap else None,
    )
    collection = found.collection
    if old_run and overlap and names:
        old_name = name_of(find_checkpoint(old_run))
        carrying = carry(overlap.table, names)
        names, collection = carrying.naming(names.unnamed, collection.checkpoint), carrying.noted(collection, old_name)
        with writing(output):
            write_json(carried, names.to_dict())
        click.echo("\n".join(carrying.report(old_name)))
    write_concept_page(page, collection, found.thumbnails, names, scores=scores, overwrite=overwrite)
    write_concepts(data, collection)
    if figure:
        called = {k: name for k in range(len(collection.concepts)) if names and (name := names.name_of(k))}
        save_picture(figure, concept_figure(collection, found.thumbnails, ids, names=called))
    shown = sum(1 for concept in collection.concepts if concept.segments)
    failed = f"; {found.num_failures} photos failed: see {failures}" if found.num_failures else ""
    click.echo(f"{amounts.count(shown, 'concept')} of {collection.num_photos:,} photos: open {page}{failed}")
    if found.num_failures:
        raise click.exceptions.Exit(options.SOME_INPUTS_FAILED)


def _names_of(run: Path) -> Path:
    """The names that lie in the folder of a run."""
    names = run / "names.json"
    if not names.is_file():
        raise ConfigError(f"{names} does not exist; expected --names with the names that were given to {run}")
    return names


def _ids(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise ConfigError(f"--figure-of is {text}; expected numbers of concepts, as in 3,7,12") from None
