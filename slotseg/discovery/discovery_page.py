"""The report of a discovery: what was found, how it looks, what it took, and what to do next.

The page is a single file that loads nothing. Its links lead to the page of concepts, the masks and the page of the
run beside it.
"""

import shlex
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from PIL import Image

import slotseg
from slotseg import amounts
from slotseg.concepts.collection import BoxXYXY, Collection
from slotseg.data.reading.notes import shown
from slotseg.discovery.record import DiscoveryRecord
from slotseg.errors import DataError
from slotseg.labels.label_map import UNNAMED, Color, LabelMap
from slotseg.labels.naming import Naming
from slotseg.pages import Picture, picture_uri, render_page, write_page
from slotseg.painting.outputs import Outputs
from slotseg.segment_config import ReadingConfig
from slotseg.watching.diagnosis import Finding

NUM_EXAMPLES = 12
"""Most photos that are shown."""
EXAMPLE_SIDE = 360
"""Longer side of the shown pictures, pixels."""
NUM_CLASSES = 24
"""Most classes that are listed with their share."""
NUM_FAILURES = 20
"""Most unreadable photos that are named."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """A photo beside itself painted."""

    name: str
    photo: Picture
    overlay: Picture
    link: str
    """Link to the whole overlay, relative to the page."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """The share of the pixels that a class has."""

    name: str
    color: Color
    share: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """Contents of the page."""

    record: DiscoveryRecord
    """Record of the discovery, with every stage whole."""
    collection: Collection
    """Concepts that were found."""
    labels: LabelMap
    """Label map that the masks are painted with."""
    naming: Naming | None
    """Names that a person has given so far."""
    figure: Path
    """File of the figure of the concepts ``record.figure``."""
    examples: Sequence[Example]
    """Some of the photos."""
    failures: Sequence[str]
    """Messages about photos that could not be read."""
    findings: Sequence[Finding] = ()
    """Findings of the monitor on the run."""
    weights: str = ""
    """Sentence on weights that took the place of the default ones; empty where none did."""
    learned: str = ""
    """Sentence on what the decoder has learned; empty where that is not known."""
    read: Sequence[str] = ()
    """Sentences on how the photos were read, where that changed them."""
    scores: Sequence[str] = ()
    """Sentence for each data set with labels that the run was scored on."""


def write_report(file: Path, report: Report) -> None:
    """Write the page, atomically.

    Raises:
        DataError: If it cannot be written.
    """
    write_page(file, render(report))


def render(report: Report) -> str:
    """The page's HTML."""
    record, collection = report.record, report.collection
    out = shlex.quote(str(record.path))
    return render_page(
        "slotseg.discovery",
        "discovery_page.html",
        {
            "count": amounts.count,
            "date": amounts.date,
            "duration": amounts.duration,
            "about": amounts.about_duration,
            "percent": amounts.percent,
        },
        version=slotseg.__version__,
        report=report,
        record=record,
        num_photos=collection.num_photos,
        num_concepts=len(collection.concepts),
        named=named_words(collection, report.naming),
        columns=list(zip(_captions(report), figure_columns(report.figure, record.figure_cells), strict=False)),
        classes=shares(collection, report.labels),
        num_classes=NUM_CLASSES,
        num_failures=NUM_FAILURES,
        unnamed=report.labels.origin == UNNAMED,
        out=out,
        now=time.time(),
        again=record.command or f"slotseg discover {shlex.join(record.photos)} -o {out}",
    )


def examples(outputs: Outputs, reading: ReadingConfig) -> list[Example]:
    """Examples, evenly spread over the photos that are painted, as the network sees them."""
    painted = [
        item for item in outputs.inputs if not item.problem and (file := outputs.files(item).overlay) and file.is_file()
    ]
    number, found = min(NUM_EXAMPLES, len(painted)), []
    for item in (painted[i * len(painted) // number] for i in range(number)):
        overlay = outputs.files(item).overlay
        assert overlay is not None
        try:
            photo = Image.fromarray(item.windows(reading=reading).reduced(2 * EXAMPLE_SIDE))
            with Image.open(overlay) as opened:
                opened.draft("RGB", (2 * EXAMPLE_SIDE, 2 * EXAMPLE_SIDE))
                laid = opened.convert("RGB")
        except (DataError, OSError, Image.DecompressionBombError):  # gone, or changed, meanwhile
            continue
        link = quote(overlay.relative_to(outputs.folder.parent).as_posix())
        found.append(Example(name=shown(item.file_name), photo=_picture(photo), overlay=_picture(laid), link=link))
    return found


def figure_columns(figure: Path, cells: Sequence[Sequence[BoxXYXY]]) -> list[list[Picture]]:
    """The pictures of a figure, column by column.

    Args:
        figure: File of the figure.
        cells: Boxes of the pictures, as in ``slotseg.concepts.concept_figure.Figure``.

    Returns:
        Pictures of each column. Empty where the file is gone, or is a picture too small for the boxes.
    """
    try:
        with Image.open(figure) as image:
            if any(right > image.width or bottom > image.height for column in cells for _, _, right, bottom in column):
                return []
            return [[_picture(image.crop((x0, y0, x1, y1))) for x0, y0, x1, y1 in column] for column in cells]
    except (OSError, Image.DecompressionBombError):
        return []


def named_words(collection: Collection, naming: Naming | None) -> str:
    """Words on how far the naming is, as on the page of concepts. Empty without a naming."""
    if naming is None:
        return ""
    named = {c.id: name for c in collection.concepts if (name := naming.name_of(c.id)) is not None}
    ignored = {c.id for c in collection.concepts if naming.ignored(c.id)}
    total = sum(c.share for c in collection.concepts) or 1
    share = sum(c.share for c in collection.concepts if c.id in named or c.id in ignored) / total
    left_out = f", {len(ignored)} ignored" if ignored else ""
    of_all = f"{len(named)} of {len(collection.concepts)} concepts"
    return f"{of_all} named{left_out}: {amounts.percent(share)} of the pixels"


def shares(collection: Collection, labels: LabelMap) -> list[Share]:
    """Share of the pixels of each class, the largest first. Classes without pixels are left out."""
    sums = [0.0] * len(labels.names)
    for concept, class_id in zip(collection.concepts, labels.classes, strict=True):
        if class_id != labels.ignore:
            sums[class_id] += concept.share
    found = [Share(name=labels.names[i], color=labels.colors[i], share=share) for i, share in enumerate(sums) if share]
    return sorted(found, key=lambda s: -s.share)


def _captions(report: Report) -> list[str]:
    """Names of the figure's concepts by now."""
    naming = report.naming
    return [(naming.name_of(k) if naming else None) or report.collection.concepts[k].name for k in report.record.figure]


def _picture(image: Image.Image) -> Picture:
    """A picture, reduced to the largest size that the page shows."""
    image = image.convert("RGB")
    image.thumbnail((EXAMPLE_SIDE, EXAMPLE_SIDE))
    return Picture(uri=picture_uri(image, "JPEG", quality=82), size=image.size)
