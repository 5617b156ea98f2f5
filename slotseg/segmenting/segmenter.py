"""From an image to its prototype map and class map.

The teacher scores the image at a working size, whole or in tiles (``slotseg.segmenting.tiles``); the scores may
be made to follow its colours (``slotseg.segmenting.refinement``) and are upsampled bilinearly to its own size
(``slotseg.segmenting.upsampling``). Letters: B images, K prototypes, H W pixels, h w feature cells.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slotseg.config import TrainConfig, from_dict, to_dict, with_values
from slotseg.data.finding.inputs import Input
from slotseg.data.reading.images import MAX_PIXELS, image_size, read_image
from slotseg.data.reading.scaling import scaled_photo
from slotseg.data.reading.strips import scaled_strips
from slotseg.data.reading.windows import ArrayWindows, Windows, open_windows
from slotseg.devices import autocast, inference_precision, resolve_device
from slotseg.errors import CheckpointError, ConfigError
from slotseg.labels.label_map import LabelMap, read_labels
from slotseg.labels.naming import Naming
from slotseg.method.backbones import Backbone
from slotseg.method.building import compile_encoder
from slotseg.method.model import Encoder
from slotseg.runs import checkpoint
from slotseg.runs.folder import SUFFIX, find_checkpoint, run_of
from slotseg.segmenting.confidence import confidence
from slotseg.segmenting.looks import MAX_WORKING_PIXELS, Looks, Size, default_size, resample, scaled
from slotseg.segmenting.refinement import refined
from slotseg.segmenting.streaming import PIXELS_AHEAD, Streamed, stream
from slotseg.segmenting.tiles import TileAxis, blended
from slotseg.segmenting.upsampling import bands

TILE = 1024
"""Side of those tiles, pixels of the working image."""
PIXELS_AT_ONCE = 1 << 20
"""Of tiles that go through the network together, on a CPU; eight times as many on others."""
HUGE = PIXELS_AHEAD
"""Pixels of a photo from which on its file is read in windows and its prototype map is not kept."""
MIN_TILE_CELLS = 4
"""Along a side of a tile."""
GUIDE = 2048
"""Longer side of the reduced photo whose colours refinement follows where the photo is read in windows."""


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """What a segmenter makes of one image."""

    class_map: NDArray[np.uint8] | NDArray[np.uint16]
    """Class of each pixel by the label map, ``(H, W)``."""
    labels: LabelMap
    """Names and colours of the classes."""
    prototype_map: NDArray[np.uint16] | None
    """Nearest prototype of each pixel, ``(H, W)``; None for photos of more than ``HUGE`` pixels, to spare memory."""
    confidence: NDArray[np.uint8] | None = None
    """Probability of each pixel's class, ``(H, W)``, 255 is 1; None unless it was asked for."""


class Scored(NamedTuple):
    """Scores of an image, from its top down."""

    stripes: Iterable[Tensor]
    """Scores ``(K, r, w)`` of some rows of cells each."""
    num_rows: int
    """Rows of cells in all of them."""
    covered: tuple[float, float]
    """How many cells, (h, w), the image covers."""


class Segmenter:
    """A trained teacher, ready for images of any size.

    Args:
        encoder: Backbone, projector and prototypes.
        config: The configuration it was trained with.
        labels: Which prototype is which class; by default each is its own.
        size: Short side that images are scaled to before the network sees them, or ``"full"``: as they are.
        tile: Side of tiles, pixels of the scaled image, that it is seen in where it is larger. By default it is seen
            whole up to ``MAX_WORKING_PIXELS``, beyond in tiles of ``TILE``.
        confidence: Whether segmentations say how certain each pixel is.
        device: As in ``slotseg.devices.resolve_device``.
        precision: As in ``slotseg.devices.inference_precision``.
        compiled: Whether the network goes through ``torch.compile``, which takes its time at the first photo of a size.

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
        size: Size | None = None,
        tile: int | None = None,
        confidence: bool = False,
        device: str = "auto",
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        self.device = resolve_device(device)
        self.precision = inference_precision(precision, self.device)
        self.encoder = encoder.to(self.device).to(memory_format=torch.channels_last).eval().requires_grad_(False)
        if compiled:
            compile_encoder(self.encoder)
        self.config = config
        self.labels = labels or LabelMap.prototypes(encoder.num_concepts)
        if len(self.labels.classes) != encoder.num_concepts:
            raise ConfigError(
                f"the label map is of {len(self.labels.classes)} prototypes; expected the model's "
                f"{encoder.num_concepts}: match them again with `slotseg eval`"
            )
        assert isinstance(encoder.backbone, Backbone)
        self.stride = encoder.backbone.stride
        self.size: Size = size or default_size(config)
        self.tile = tile
        self.looks = Looks(partial(_scores, self.encoder, self.device, self.precision), config, self.stride)
        self.confidence = confidence
        if self.size != "full" and self.size < self.stride:
            raise ConfigError(f"size is {self.size}; expected at least the backbone's stride, {self.stride}")
        if tile is not None and tile < MIN_TILE_CELLS * self.stride:
            raise ConfigError(
                f"tile is {tile}; expected at least {MIN_TILE_CELLS} times the backbone's stride, {self.stride}"
            )

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        labels: LabelMap | Naming | None = None,
        matched: bool = True,
        num_prototypes: int | None = None,
        segment: Mapping[str, Any] | None = None,
        size: Size | None = None,
        tile: int | None = None,
        confidence: bool = False,
        device: str = "auto",
        precision: str = "fp32",
        compiled: bool = False,
    ) -> "Segmenter":
        """Load a run folder, a checkpoint, or a file written by ``save``; by default the newest run.

        Args:
            path: Run folder or file.
            labels: A label map, or names that a person gave; by default those of the run, if its prototypes were
                matched or named and are as many.
            matched: Whether to take those of the run.
            num_prototypes: Merge the trained prototypes to so many instead; by default as many as the label map
                has, or the run was trained for.
            segment: What to change in how the run looks at images, by the names of ``SegmentConfig``, such as
                ``{"mirror": True, "edges": "guided"}``.
            size: As of ``Segmenter``.
            tile: As of ``Segmenter``.
            confidence: As of ``Segmenter``.
            device: As in ``slotseg.devices.resolve_device``.
            precision: As in ``slotseg.devices.inference_precision``.
            compiled: Whether the network goes through ``torch.compile``.

        Raises:
            CheckpointError: If there is none, or it is damaged or of another architecture.
            ConfigError: If it cannot be merged to that number, or there is no such setting or value.
            DataError: If names are of another number of prototypes.
        """
        file = find_checkpoint(Path(path) if path is not None else None)
        content = checkpoint.load(file)
        config = from_dict(TrainConfig, content.info["config"])
        config = with_values(config, {f"segment.{name}": value for name, value in (segment or {}).items()})
        backbone = Backbone(config.backbone)
        encoder = Encoder(backbone, backbone.channels, config.model)
        try:
            encoder.load_state_dict(content.part("teacher."))
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise CheckpointError(f"{file} does not fit its own configuration ({reason}); it is damaged") from error
        if labels is None and matched:
            labels = _labels_of(file, content.info)
            if labels and num_prototypes not in (None, len(labels.classes)):
                labels = None
        number = num_prototypes or (labels.num_prototypes if labels else None)
        if number not in (None, encoder.num_concepts) and (num_prototypes or encoder.concepts is not None):
            encoder.merge(number)
        if isinstance(labels, Naming):
            labels.warn_of_another_run(checkpoint.digest(file))
            labels = labels.label_map(encoder.num_concepts)
        return cls(
            encoder,
            config,
            labels=labels,
            size=size,
            tile=tile,
            confidence=confidence,
            device=device,
            precision=precision,
            compiled=compiled,
        )

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

    def __call__(self, image: str | Path | NDArray[np.uint8]) -> Segmentation:
        """Segment a file or an RGB array ``(H, W, 3)``.

        Raises:
            DataError: If the file cannot be read.
            ValueError: If the array is not RGB in 8 bits.
        """
        if isinstance(image, str | Path):
            height, width = image_size(image)
            if height * width > HUGE:
                return self.segment_windows(open_windows(image))
            image = read_image(image)
        check_rgb(image)
        if self.tiled((image.shape[0], image.shape[1])):
            return self.segment_windows(ArrayWindows(image))
        return self.segmentation(image, *self.scores(image))

    def segment_windows(self, windows: Windows) -> Segmentation:
        """Segment a photo that is read in bands of rows, or reduced where it is not seen in tiles.

        Memory beside the maps depends on the size at which the network sees it and, for tiles, on the photo's width.

        Raises:
            DataError: If it cannot be decoded.
        """
        size_hw = windows.size_hw
        if self.tiled(size_hw):
            return self._segmentation(self._tiled_scores(windows), size_hw)
        sizes = self.looks.sizes(size_hw, self.size)
        looks = [pixels[None].to(self.device) for pixels in scaled_photo(windows, sizes)]
        scores, covered = self.looks.scores(looks)
        guide = windows.reduced(GUIDE) if self.config.segment.follows_edges else np.empty((0, 0, 3), np.uint8)
        return self._segmentation(self._refined(guide, scores[0], covered), size_hw)

    def segmentation(self, image: NDArray[np.uint8], scores: Tensor, covered: tuple[float, float]) -> Segmentation:
        """The maps of an image from its own scores; see ``scores``."""
        return self._segmentation(self._refined(image, scores, covered), (image.shape[0], image.shape[1]))

    def _segmentation(self, scored: Scored, size_hw: tuple[int, int]) -> Segmentation:
        prototype_map = np.empty(size_hw, np.uint16) if size_hw[0] * size_hw[1] <= HUGE else None
        class_map: NDArray[Any] = np.empty(size_hw, self.labels.dtype)
        certain = np.empty(size_hw, np.uint8) if self.confidence else None
        temperature = None if self.config.segment.follows_edges else self.config.model.teacher_temperature
        for band in bands(*scored, size_hw):
            class_map[band.span] = self.labels.class_map(band.prototypes)
            if prototype_map is not None:
                prototype_map[band.span] = band.prototypes
            if certain is not None:
                certain[band.span] = confidence(band, self.labels.classes, temperature)
        return Segmentation(class_map=class_map, labels=self.labels, prototype_map=prototype_map, confidence=certain)

    def stream(
        self, photos: Iterable[str | Path | Input], *, batch_size: int = 8, max_pixels: int = MAX_PIXELS
    ) -> Iterator[Streamed[Segmentation]]:
        """Segment files one after another, reading ahead and computing photos of one size together.

        Args:
            photos: Files, or what ``slotseg.data.finding.inputs.Inputs`` finds; no more of them are asked for than are
                worked on.
            batch_size: Most photos that the network sees at once.
            max_pixels: Photos with more are refused.

        Yields:
            A result for each file, in order; a file that cannot be read yields its error.
        """
        yield from stream(self, photos, batch_size, max_pixels)

    def prototype_map(self, image: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """Nearest prototype ``(H, W)`` of each pixel of an RGB image ``(H, W, 3)``."""
        check_rgb(image)
        size_hw = (image.shape[0], image.shape[1])
        if self.tiled(size_hw):
            scored = self._tiled_scores(ArrayWindows(image))
        else:
            scored = self._refined(image, *self.scores(image))
        prototype_map = np.empty(size_hw, np.uint16)
        for band in bands(*scored, size_hw):
            prototype_map[band.span] = band.prototypes
        return prototype_map

    def tiled(self, size_hw: tuple[int, int]) -> bool:
        """Whether an image of that size is seen in tiles."""
        height, width = self.looks.sizes(size_hw, self.size)[0]
        if self.tile is None:
            return height * width > MAX_WORKING_PIXELS
        return max(height, width) > self._tile_cells * self.stride

    @property
    def _tile_cells(self) -> int:
        """Cells along a side of a tile, as the finest look has them."""
        return round((self.tile or TILE) * self.looks.scales[0] / self.stride)

    def _refined(self, image: NDArray[np.uint8], scores: Tensor, covered: tuple[float, float]) -> Scored:
        """Scores ``(K, h, w)`` of an image, made to follow its edges if the run's settings say so."""
        scores, covered = refined(scores, covered, image, self.config.segment)
        return Scored([scores], scores.shape[1], covered)

    def scores(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[float, float]]:
        """Scores ``(K, h, w)`` of an RGB image ``(H, W, 3)``, and how many cells, (h, w), it covers."""
        scores, covered = self.batch_scores([image])
        return scores[0], covered

    @torch.inference_mode()
    def batch_scores(self, images: Sequence[NDArray[np.uint8]]) -> tuple[Tensor, tuple[float, float]]:
        """Scores ``(B, K, h, w)`` of RGB images ``(H, W, 3)`` of one size, and how many cells, (h, w), each covers.

        Images are padded at the bottom and right to whole cells by repeating their edge, so the
        last cells may lie partly beyond them. Several looks (``SegmentConfig``) are averaged on the
        grid of the finest.
        """
        for image in images:
            check_rgb(image)
            if image.shape != images[0].shape:
                raise ValueError(f"images have shapes {images[0].shape} and {image.shape}; expected one size")
        size_hw = (images[0].shape[0], images[0].shape[1])
        sizes = self.looks.sizes(size_hw, self.size)
        return self.looks.scores(scaled(images, its_size, self.device) for its_size in sizes)

    def _tiled_scores(self, windows: Windows) -> Scored:
        """Scores, or assignments if they are refined, of a photo that is seen in tiles."""
        size_hw = self.looks.sizes(windows.size_hw, self.size)[0]
        rows, cols = (TileAxis.of(-(-pixels // self.stride), self._tile_cells) for pixels in size_hw)
        at_once = PIXELS_AT_ONCE if self.device.type == "cpu" else 8 * PIXELS_AT_ONCE
        batch_size = max(1, at_once // (rows.side * cols.side * self.stride**2))
        stripes = blended(scaled_strips(windows, size_hw), rows, cols, self.stride, self._tile_scores, batch_size)
        first = next(stripes)
        points = first.shape[2] // cols.num_cells
        covered = (points * size_hw[0] / self.stride, points * size_hw[1] / self.stride)
        return Scored(chain([first], stripes), points * rows.num_cells, covered)

    @torch.inference_mode()
    def _tile_scores(self, tiles: Sequence[NDArray[np.uint8]]) -> Tensor:
        """Scores ``(B, K, h, w)`` of tiles as the finest look sees them, whole points a cell."""
        height, width, _ = tiles[0].shape
        shares = [scale / self.looks.scales[0] for scale in self.looks.scales]
        sizes = [(round(height * share), round(width * share)) for share in shares]
        scores, covered = self.looks.scores(scaled(tiles, its_size, self.device) for its_size in sizes)
        if not self.config.segment.follows_edges:
            return scores
        refined = []
        for image, its_scores in zip(tiles, scores, strict=True):
            (assignments,), num_rows, its_covered = self._refined(image, its_scores, covered)
            points = max(1, num_rows * self.stride // height)
            grid = (points * height // self.stride, points * width // self.stride)
            refined.append(resample(assignments, its_covered, grid, grid))
        return torch.stack(refined)


def check_rgb(image: NDArray[Any]) -> None:
    """Refuse what is no photo.

    Raises:
        ValueError: If an array is not RGB in 8 bits.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise ValueError(f"image has shape {image.shape} and type {image.dtype}; expected (H, W, 3) of uint8")


def _scores(encoder: Encoder, device: torch.device, dtype: torch.dtype | None, images: Tensor) -> Tensor:
    with autocast(device, dtype):
        scores: Tensor = encoder(images)
        return scores


def _labels_of(file: Path, info: dict[str, Any]) -> LabelMap | None:
    run = run_of(file)
    if run is not None and run.labels.is_file():
        return read_labels(run.labels)
    return LabelMap.from_dict(info["labels"], str(file)) if "labels" in info else None
