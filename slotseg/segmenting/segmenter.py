"""From an image to its prototype map and class map.

The teacher scores the image at a working size (``slotseg.segmenting.scorer``). The scores may be made to follow its
colours (``slotseg.segmenting.refinement``). They are upsampled bilinearly to its own size
(``slotseg.segmenting.upsampling``). Letters: B images, K prototypes, H W pixels, h w feature cells.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from slotseg.config import TrainConfig
from slotseg.data.finding.inputs import Input
from slotseg.data.reading.images import MAX_PIXELS, image_size, read_with_notes, split_missing
from slotseg.data.reading.window_formats import open_windows
from slotseg.data.reading.windows import Windows
from slotseg.errors import CheckpointError, ConfigError
from slotseg.labels.label_map import IGNORE_16, LabelMap, read_labels
from slotseg.labels.naming import Naming
from slotseg.method.building import add_decoder
from slotseg.method.model import Encoder
from slotseg.networks.backbones import Backbone
from slotseg.runs import checkpoint
from slotseg.runs.folder import SUFFIX, find_checkpoint, run_of
from slotseg.segment_config import ReadingConfig
from slotseg.segmenting.confidence import confidence
from slotseg.segmenting.looks import Size
from slotseg.segmenting.scorer import Scorer, ScorerOptions, Stripes, rgb_size
from slotseg.segmenting.streaming import PIXELS_AHEAD, Missing, StreamResult, stream
from slotseg.segmenting.upsampling import bands, best_prototypes
from slotseg.values import from_dict, to_dict, with_values

if TYPE_CHECKING:
    from typing_extensions import Unpack

HUGE = PIXELS_AHEAD
"""Most pixels of a photo that is read whole; a larger one is read in windows, and its prototype map is not kept."""


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """The maps of one image."""

    class_map: NDArray[np.uint8] | NDArray[np.uint16]
    """Class of each pixel by the label map, ``(H, W)``."""
    labels: LabelMap
    """Names and colours of the classes."""
    prototype_map: NDArray[np.uint16] | None
    """Nearest prototype of each pixel, ``(H, W)``, ``IGNORE_16`` for no picture; None above ``HUGE`` pixels."""
    confidence: NDArray[np.uint8] | None = None
    """Probability of each pixel's class, ``(H, W)``, 255 is 1; None unless it was asked for."""


class Segmenter:
    """A trained teacher and its label map, ready for images of any size.

    Args:
        encoder: Backbone, projector and prototypes. It is taken over as by ``slotseg.segmenting.scorer.Scorer``: give a
            copy of one in training.
        config: The configuration that the encoder was trained with.
        labels: Label map; by default each prototype is a class of its own.
        confidence: Whether segmentations say how certain each pixel is.
        options: Options of ``slotseg.segmenting.scorer.Scorer``: ``size``, ``tile``, ``device``, ``precision`` and
            ``compiled``.

    Raises:
        ConfigError: If the label map is of another number of prototypes, or an option is refused by the scorer.

    Example:
        >>> segmenter = Segmenter.load("runs/photos-1")
        >>> segmentation = segmenter("photo.jpg")
        >>> segmentation.class_map.shape
        (480, 640)
    """

    def __init__(
        self,
        encoder: Encoder,
        config: TrainConfig,
        *,
        labels: LabelMap | None = None,
        confidence: bool = False,
        **options: "Unpack[ScorerOptions]",
    ) -> None:
        self.labels = labels or LabelMap.prototypes(encoder.num_concepts)
        if len(self.labels.classes) != encoder.num_concepts:
            raise ConfigError(
                f"the label map is of {len(self.labels.classes)} prototypes; expected the model's "
                f"{encoder.num_concepts}: match them again with `slotseg eval`"
            )
        self.scorer = Scorer(encoder, config, **options)
        self.encoder, self.config, self.confidence = self.scorer.encoder, config, confidence

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        labels: LabelMap | Naming | None = None,
        matched: bool = True,
        num_prototypes: int | None = None,
        segment: Mapping[str, Any] | None = None,
        reading: Mapping[str, Any] | None = None,
        confidence: bool = False,
        **options: "Unpack[ScorerOptions]",
    ) -> "Segmenter":
        """Load a run folder, a checkpoint, or a file written by ``save``; by default the newest run.

        Args:
            path: Run folder or file.
            labels: Label map, or names that a person gave; by default the run's own, if its prototypes were matched
                or named and are as many.
            matched: Whether to take the run's own labels where none are given.
            num_prototypes: Number of concepts to merge the trained prototypes to; by default that of the label map,
                or the one the run was trained for.
            segment: Settings of ``SegmentConfig`` to change, by name, such as ``{"mirror": True, "edges": "guided"}``.
            reading: Settings of ``ReadingConfig`` to change, by name, such as ``{"range": (0, 4095)}``.
            confidence: Whether segmentations say how certain each pixel is.
            options: Options of ``slotseg.segmenting.scorer.Scorer``: ``size``, ``tile``, ``device``, ``precision``
                and ``compiled``.

        Raises:
            CheckpointError: If there is none, or it is damaged or of another architecture.
            ConfigError: If it cannot be merged to that number, or there is no such setting or value.
            DataError: If names are of another number of prototypes.
        """
        file = find_checkpoint(Path(path) if path is not None else None)
        content = checkpoint.load(file)
        checkpoint.warn_if_untrained(file, content.info)
        config = from_dict(TrainConfig, content.info["config"])
        for room, changes in (("segment", segment), ("reading", reading)):
            config = with_values(config, {f"{room}.{name}": value for name, value in (changes or {}).items()})
        encoder = teacher_of(content, config, file)
        if labels is None and matched:
            labels = _labels_of(file, content.info, num_prototypes)
        _merge(encoder, num_prototypes, labels)
        if isinstance(labels, Naming):
            labels.warn_of_another_run(checkpoint.digest(file))
            labels = labels.label_map(encoder.num_concepts)
        return cls(encoder, config, labels=labels, confidence=confidence, **options)

    def save(self, path: str | Path) -> None:
        """Write teacher, configuration and label map to one ``.safetensors`` file.

        Raises:
            CheckpointError: If it cannot be written or the suffix is another.
        """
        path = Path(path)
        if path.suffix != SUFFIX:
            raise CheckpointError(f"{path} ends in {path.suffix!r}; expected {SUFFIX}")
        tensors = {f"teacher.{k}": v for k, v in self.encoder.state_dict().items()}
        info = {"kind": "segmenter", "config": to_dict(self.config), "labels": self.labels.to_dict()}
        checkpoint.save(path, tensors, info)

    @property
    def reading(self) -> ReadingConfig:
        """Bands and range that photos are read with."""
        return self.config.reading

    @property
    def size(self) -> Size:
        """Short side that images are scaled to before the network sees them, or ``"full"``."""
        return self.scorer.size

    @property
    def tile(self) -> int | None:
        """Side of a tile in pixels of the scaled image; None: images are seen whole while that is possible."""
        return self.scorer.tile

    @property
    def stride(self) -> int:
        """Pixels of the scaled image along a side of a feature cell."""
        return self.scorer.stride

    def __call__(self, image: str | Path | NDArray[np.uint8]) -> Segmentation:
        """Segment a file or an RGB array ``(H, W, 3)``.

        Raises:
            DataError: If the file cannot be read.
            ValueError: If the array is not RGB in 8 bits.
        """
        if isinstance(image, str | Path):
            if math.prod(image_size(image)) > HUGE:
                return self.segment_windows(open_windows(image, reading=self.reading))
            pixels, missing = split_missing(read_with_notes(image, reading=self.reading)[0])
            return self._segmentation(self.scorer.stripes(pixels), rgb_size(pixels), _rows(missing))
        return self._segmentation(self.scorer.stripes(image), rgb_size(image), _rows(None))

    def segment_windows(self, windows: Windows) -> Segmentation:
        """Segment a photo that is read in bands of rows, or reduced where it is not seen in tiles.

        Memory beside the maps depends on the size at which the network sees it and, for tiles, on the photo's width.

        Raises:
            DataError: If it cannot be decoded.
        """
        return self._segmentation(self.scorer.window_stripes(windows), windows.size_hw, windows.missing)

    def segmentation(
        self, image: NDArray[np.uint8], scores: Tensor, covered: tuple[float, float], missing: Missing = None
    ) -> Segmentation:
        """The maps of an image from its own scores; see ``scores``. Pixels that are no picture get the ignore id."""
        return self._segmentation(self.scorer.follow_edges(image, scores, covered), rgb_size(image), _rows(missing))

    def _segmentation(
        self, stripes: Stripes, size_hw: tuple[int, int], missing: Callable[[int, int], Missing]
    ) -> Segmentation:
        prototype_map = np.empty(size_hw, np.uint16) if size_hw[0] * size_hw[1] <= HUGE else None
        class_map: NDArray[Any] = np.empty(size_hw, self.labels.dtype)
        certain = np.empty(size_hw, np.uint8) if self.confidence else None
        temperature = None if self.scorer.assigns else self.config.model.teacher_temperature
        for band in bands(*stripes, size_hw):
            class_map[band.span] = self.labels.class_map(band.prototypes)
            if (hidden := missing(band.span.start, band.span.stop)) is not None:
                class_map[band.span][hidden] = self.labels.ignore
                band.prototypes[hidden] = IGNORE_16
            if prototype_map is not None:
                prototype_map[band.span] = band.prototypes
            if certain is not None:
                certain[band.span] = confidence(band, self.labels.classes, temperature)
        return Segmentation(class_map=class_map, labels=self.labels, prototype_map=prototype_map, confidence=certain)

    def stream(
        self, photos: Iterable[str | Path | Input], *, batch_size: int = 8, max_pixels: int = MAX_PIXELS
    ) -> Iterator[StreamResult[Segmentation]]:
        """Segment files one after another, reading ahead and computing photos of one size together.

        Args:
            photos: Files, or the inputs that ``slotseg.data.finding.inputs.Inputs`` finds; no more of them are taken
                than are worked on.
            batch_size: Most photos that the network sees at once.
            max_pixels: Photos with more are refused.

        Yields:
            A result for each file, in order; a file that cannot be read yields its error.
        """
        yield from stream(self, photos, batch_size, max_pixels)

    def prototype_map(self, image: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """Nearest prototype ``(H, W)`` of each pixel of an RGB image ``(H, W, 3)``."""
        return best_prototypes(*self.scorer.stripes(image), rgb_size(image))

    def tiled(self, size_hw: tuple[int, int]) -> bool:
        """Whether an image of that size is seen in tiles."""
        return self.scorer.tiled(size_hw)

    def scores(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[float, float]]:
        """Scores of an RGB image ``(H, W, 3)``, as in ``slotseg.segmenting.scorer.Scorer.scores``."""
        return self.scorer.scores(image)

    def batch_scores(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, tuple[float, float]]:
        """Scores ``(B, K, h, w)`` of RGB images ``(H, W, 3)`` of one size, and how many cells, (h, w), each covers."""
        return self.scorer.batch_scores(images)


def _rows(missing: Missing) -> Callable[[int, int], Missing]:
    return lambda top, bottom: None if missing is None else missing[top:bottom]


def teacher_of(content: checkpoint.Checkpoint, config: TrainConfig, file: Path) -> Encoder:
    """The teacher that a checkpoint of a run or of a segmenter holds.

    Raises:
        CheckpointError: If its tensors are not those of its configuration; ``file`` names it.
        ConfigError: If the configuration is of no network.
    """
    backbone = Backbone(config.backbone)
    encoder = Encoder(backbone, backbone.channels, config.model)
    tensors = content.part("teacher.")
    if "decoder.used" in tensors:
        add_decoder(encoder, tensors["decoder.used"])
    if problem := checkpoint.misfit(tensors, encoder.state_dict()):
        raise CheckpointError(
            f"{file} does not fit the settings in its header: {problem}; expected a whole checkpoint: take another"
        )
    encoder.load_state_dict(tensors)
    return encoder


def _labels_of(file: Path, info: dict[str, Any], number: int | None) -> LabelMap | None:
    """The label map of a checkpoint's run, or the file's own; None if another number of prototypes is asked for."""
    run, labels = run_of(file), None
    if run is not None and run.labels.is_file():
        labels = read_labels(run.labels)
    elif "labels" in info:
        labels = LabelMap.from_dict(info["labels"], str(file))
    return labels if labels and number in (None, labels.num_prototypes) else None


def _merge(encoder: Encoder, asked: int | None, labels: LabelMap | Naming | None) -> None:
    """Merge the prototypes to the number asked for, or else to that of the labels where they can be merged."""
    number = asked or (labels.num_prototypes if labels and encoder.concepts is not None else None)
    if number not in (None, encoder.num_concepts):
        encoder.merge(number)
