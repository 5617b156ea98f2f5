"""The best and the worst images of a result, painted side by side with the truth.

The few images that are shown are read and predicted again, so that scoring keeps no picture. Letters: K
prototypes, C classes, H W pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from slotseg.eval.benchmark import Benchmark
from slotseg.eval.contingency import UNASSIGNED, ImageCounts
from slotseg.eval.matching import UNMATCHED
from slotseg.eval.predictors import Predictor
from slotseg.eval.result import Result
from slotseg.labels.label_map import LabelMap
from slotseg.pages import Picture, picture_uri
from slotseg.painting.render import colored

NUM_EXAMPLES = 6
"""Number of the best images on a page, and of the worst."""

PICTURE_SIDE = 360
"""Long side of a picture, in pixels."""

Share = tuple[int, float]
"""Class, or ``UNMATCHED``, and its share of some pixels, 0..1."""


@dataclass(frozen=True, kw_only=True)
class Panel(Picture):
    """One picture of an image: photo, ground truth or prediction."""

    title: str
    """Title for people."""
    shares: tuple[Share, ...] = ()
    """Shares of the classes of a map, the largest first; none for a photo."""


@dataclass(frozen=True, kw_only=True)
class Example:
    """One of the best or worst images."""

    key: str
    """Key of the photo in the set."""
    accuracy: float
    """Pixel accuracy under the match, 0..1."""
    pictures: tuple[Panel, ...]
    """Photo, ground truth and prediction."""

    @property
    def classes(self) -> list[int]:
        """Classes of the ground truth, then the others that are predicted, the largest first."""
        return list(dict.fromkeys(c for picture in self.pictures for c, _ in picture.shares if c != UNMATCHED))


def best_and_worst(
    images: Sequence[ImageCounts], assignment: NDArray[np.int64], number: int = NUM_EXAMPLES
) -> tuple[list[ImageCounts], list[ImageCounts]]:
    """Up to ``number`` images with the highest and with the lowest pixel accuracy, none of them twice."""
    ranked = sorted(images, key=lambda image: (-image.accuracy(assignment), image.index))
    half = min(number, (len(ranked) + 1) // 2)
    return ranked[:half], ranked[half:][-number:][::-1]


def example(image: ImageCounts, result: Result, predictor: Predictor, benchmark: Benchmark) -> Example:
    """Read and predict an image again, and paint it.

    Raises:
        DataError: If the image cannot be read any more.
    """
    labelled = benchmark.protocol.prepare(benchmark.dataset.read(image.index))
    taxonomy = result.taxonomy
    by_prototype = np.full(UNASSIGNED + 1, taxonomy.ignore)
    by_prototype[: len(result.assignment)] = np.where(result.assignment < 0, taxonomy.ignore, result.assignment)
    photo = Image.fromarray(labelled.image)
    pictures = (
        _panel("Photo", photo.resize(_fitted(photo.size), Image.Resampling.LANCZOS), "JPEG"),
        _map_panel("Ground truth", labelled.class_map, result),
        _map_panel("Prediction", by_prototype[predictor(labelled)], result),
    )
    return Example(key=labelled.key, accuracy=image.accuracy(result.assignment), pictures=pictures)


def paint(class_map: NDArray[Any], labels: LabelMap, *, truth: bool) -> NDArray[np.uint8]:
    """Paint a class map in its colours, ``(H, W, 3)``, with a texture where there is no class.

    Args:
        class_map: Class ids or the ignore id, ``(H, W)``.
        labels: Label map with the colours.
        truth: Whether this is ground truth: pixels without a class become dots, otherwise stripes.
    """
    y, x = np.ogrid[: class_map.shape[0], : class_map.shape[1]]
    dots, stripes = 225 - 90 * ((x % 6 < 2) & (y % 6 < 2)), 40 + 120 * ((x + y) // 4 % 2)
    texture = (dots if truth else stripes).astype(np.uint8)[..., None]
    return np.where((class_map == labels.ignore)[..., None], texture, colored(class_map, labels))


def largest(shares: dict[int, float]) -> tuple[Share, ...]:
    """Shares above 0, the largest first."""
    return tuple(sorted(((c, float(s)) for c, s in shares.items() if s > 0), key=lambda share: -share[1]))


def _map_panel(title: str, class_map: NDArray[Any], result: Result) -> Panel:
    labels = LabelMap.of_classes(result.taxonomy.names, result.taxonomy.colors)
    width, height = _fitted((class_map.shape[1], class_map.shape[0]))
    rows, columns = (np.arange(n) * old // n for n, old in zip((height, width), class_map.shape, strict=True))
    painted = paint(class_map[np.ix_(rows, columns)], labels, truth=title == "Ground truth")
    ids, counts = np.unique(class_map, return_counts=True)
    shares = {UNMATCHED if i == labels.ignore else int(i): n / class_map.size for i, n in zip(ids, counts, strict=True)}
    return _panel(title, Image.fromarray(painted), "PNG", largest(shares))


def _panel(title: str, picture: Image.Image, form: str, shares: tuple[Share, ...] = ()) -> Panel:
    uri = picture_uri(picture, form, optimize=True, quality=82)
    return Panel(title=title, uri=uri, size=picture.size, shares=shares)


def _fitted(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height of a picture whose long side becomes ``PICTURE_SIDE``."""
    scale = PICTURE_SIDE / max(size)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
