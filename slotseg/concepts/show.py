"""Look at photos with a run, and write down what its prototypes stand for: page, data and carried names."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from slotseg.concepts.carrying import Overlap, carry
from slotseg.concepts.collecting import collect
from slotseg.concepts.collection import Collection, ConceptFiles, write_concepts
from slotseg.concepts.concept_figure import Figure, concept_figure
from slotseg.concepts.concept_page import write_concept_page
from slotseg.data.finding.inputs import Input
from slotseg.data.reading.images import MAX_PIXELS
from slotseg.errors import ConfigError
from slotseg.files import write_json, writing
from slotseg.labels.naming import Naming
from slotseg.runs.checkpoint import digest
from slotseg.runs.folder import find_checkpoint, name_of
from slotseg.runs.results import read_results
from slotseg.segmenting.looks import Size
from slotseg.segmenting.segmenter import Segmenter


@dataclass(frozen=True, kw_only=True)
class ShowResult:
    """Outcome of ``show_concepts``."""

    collection: Collection
    """Concepts with their best segments."""
    figure: Figure | None
    """Figure, not written yet. None where none was asked for."""
    carried: tuple[str, ...]
    """Lines on what became of an old run's names."""
    num_failures: int
    """Number of photos that could not be read."""


def show_concepts(
    checkpoint: Path,
    photos: Iterable[Input],
    files: ConceptFiles,
    *,
    run: str | None = None,
    naming: Naming | None = None,
    old_run: Path | None = None,
    figure_of: Sequence[int] | None = None,
    num_prototypes: int | None = None,
    keep: int = 5,
    size: Size | None = None,
    batch_size: int = 8,
    max_pixels: int = MAX_PIXELS,
    total: int | None = None,
    device: str = "auto",
    overwrite: bool = False,
) -> ShowResult:
    """Look once at all photos and write what was found.

    Args:
        checkpoint: File of the run's checkpoint.
        photos: Photos of the collection.
        files: Paths of the page, the data, the failures and the carried names.
        run: Name of the run, for people, by default that of its folder.
        naming: Names that the page begins with. If there is an ``old_run``, names of its prototypes.
        old_run: Run or checkpoint whose names, in ``naming``, are carried to this one.
        figure_of: Concepts to draw a figure of. The most telling ones if empty, no figure if None.
        num_prototypes: Number of groups to which prototypes are merged first.
        keep: Number of best segments that are kept of each concept.
        size: Short side of photos for the network, as in ``Segmenter``.
        batch_size: Most photos that the network sees at once.
        max_pixels: Most pixels of a photo. Larger ones are left out.
        total: Number of photos, for the progress bar.
        device: Device, as in ``slotseg.devices.resolve_device``.
        overwrite: Whether a file that is no page of concepts is replaced too.

    Raises:
        CheckpointError: If a checkpoint cannot be used.
        ConfigError: If the figure is to show a concept that does not exist.
        DataError: If the names don't fit, or an output cannot be written.
    """
    segmenter = Segmenter.load(
        checkpoint, matched=False, num_prototypes=num_prototypes, size=size, device=device, precision="auto"
    )
    number = segmenter.encoder.num_concepts
    if wrong := [k for k in figure_of or () if not 0 <= k < number]:
        raise ConfigError(f"there is no concept {wrong[0]} for the figure; expected 0 to {number - 1}")
    if naming and not old_run:
        naming.check(number)
    old = Segmenter.load(old_run, labels=naming, size=size, device=device, precision="auto") if old_run else None
    overlap = Overlap(old.prototype_map, old.encoder.num_concepts, number) if old else None
    with writing(files.folder):
        files.folder.mkdir(parents=True, exist_ok=True)
        files.failures.unlink(missing_ok=True)
    found = collect(
        segmenter,
        photos,
        failures=files.failures,
        run=run or name_of(checkpoint),
        checkpoint=digest(checkpoint),
        keep=keep,
        batch_size=batch_size,
        max_pixels=max_pixels,
        total=total,
        observe=overlap.add if overlap else None,
    )
    collection, report = found.collection, list[str]()
    if old_run and overlap and naming:
        old_name, carrying = name_of(find_checkpoint(old_run)), carry(overlap.table, naming)
        naming = carrying.naming(naming.unnamed, collection.checkpoint)
        collection, report = carrying.noted(collection, old_name), carrying.report(old_name)
        with writing(files.folder):
            write_json(files.names, naming.to_dict())
    scores = [of.sentence() for of in read_results(checkpoint, number)]
    write_concept_page(files.page, collection, found.thumbnails, naming, scores=scores, overwrite=overwrite)
    write_concepts(files.data, collection)
    figure = None
    if figure_of is not None:
        called = {k: name for k in range(number) if naming and (name := naming.name_of(k))}
        figure = concept_figure(collection, found.thumbnails, figure_of, names=called)
    return ShowResult(collection=collection, figure=figure, carried=tuple(report), num_failures=found.num_failures)
