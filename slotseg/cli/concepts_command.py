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
    from slotseg.concepts.collection import ConceptFiles
    from slotseg.data.finding.inputs import Inputs

    ids, files = _ids(figure_of), ConceptFiles(folder=output)
    if ids and not figure:
        raise ConfigError(f"--figure-of {figure_of} chooses the columns of a figure; expected --figure FILE beside it")
    if old_run:
        names_file = names_file or _names_of(old_run)
        if names_file.resolve() == files.names.resolve():
            raise ConfigError(
                f"{names_file} would be replaced by the names it is carried to; expected another --output"
            )
    _check_outputs((files.page, files.data, files.names if old_run else None), figure, overwrite=overwrite)
    inputs = Inputs(photos, leave_out=output)

    from slotseg.concepts.show import show_concepts
    from slotseg.labels.naming import read_names
    from slotseg.painting.render import save_picture
    from slotseg.runs.folder import find_checkpoint

    naming = read_names(names_file) if names_file else None
    file = find_checkpoint(run)
    number = sum(1 for _ in inputs)
    click.echo(f"Looking at {amounts.count(number, 'photo')} with {file}", err=True)
    shown = show_concepts(
        file,
        inputs,
        files,
        naming=naming,
        old_run=old_run,
        figure_of=ids if figure else None,
        num_prototypes=num_prototypes,
        keep=top,
        size=size,
        batch_size=batch_size,
        max_pixels=max_pixels,
        total=number,
        device=device,
        overwrite=overwrite,
    )
    if figure and shown.figure:
        save_picture(figure, shown.figure.image)
    for line in shown.carried:
        click.echo(line)
    concepts = amounts.count(sum(1 for concept in shown.collection.concepts if concept.segments), "concept")
    failed = (
        f"; {amounts.count(shown.num_failures, 'photo')} failed: see {files.failures}" if shown.num_failures else ""
    )
    click.echo(f"{concepts} of {shown.collection.num_photos:,} photos: open {files.page}{failed}")
    if shown.num_failures:
        raise click.exceptions.Exit(options.SOME_INPUTS_FAILED)


def _check_outputs(written: tuple[Path | None, ...], figure: Path | None, *, overwrite: bool) -> None:
    """Refuse to replace files unasked, and a figure with another suffix."""
    existing = next((file for file in (*written, figure) if file and file.exists()), None)
    if existing and not overwrite:
        raise ConfigError(f"{existing} exists; expected a new --output or --figure, or --overwrite")
    if figure and figure.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"{figure} is no name for a figure; expected one that ends in .png or .jpg")


def _names_of(run: Path) -> Path:
    """The file of names in the folder of a run."""
    names = run / "names.json"
    if not names.is_file():
        raise ConfigError(f"{names} does not exist; expected --names with the names that were given to {run}")
    return names


def _ids(text: str | None) -> list[int]:
    try:
        return [int(part) for part in text.split(",")] if text else []
    except ValueError:
        raise ConfigError(f"--figure-of is {text}; expected numbers of concepts, as in 3,7,12") from None
