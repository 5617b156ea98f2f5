"""From an image to its prototype map and class map.

The teacher scores the image at a working size; the scores may be made to follow its colours
(``slotseg.refinement``) and are upsampled bilinearly to its own size (``slotseg.upsampling``).
Letters: B images, K prototypes, H W pixels, h w feature cells.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from slotseg import checkpoint
from slotseg.alignment import resample
from slotseg.backbones import Backbone
from slotseg.building import compile_encoder
from slotseg.config import BackboneConfig, TrainConfig, from_dict, to_dict, with_values
from slotseg.data.augment import normalize
from slotseg.data.images import MAX_PIXELS, read_image
from slotseg.data.inputs import Input
from slotseg.data.windows import Windows
from slotseg.devices import resolve_device
from slotseg.errors import CheckpointError, ConfigError
from slotseg.labels import LabelMap, read_labels
from slotseg.model import Encoder
from slotseg.naming import Naming
from slotseg.precision import autocast, inference_precision
from slotseg.refinement import refined
from slotseg.runs import find_checkpoint, run_of
from slotseg.streaming import Streamed, stream
from slotseg.upsampling import upsampled_argmax

MAX_WORKING_PIXELS = 1 << 22


@dataclass(frozen=True, kw_only=True)
class Segmentation:
    """What a segmenter makes of one image."""

    prototype_map: NDArray[np.uint16]
    """Nearest prototype of each pixel, ``(H, W)``."""
    class_map: NDArray[np.uint8] | NDArray[np.uint16]
    """Class of each pixel by the label map, ``(H, W)``."""
    labels: LabelMap
    """Names and colours of the classes."""
    confidence: NDArray[np.uint8] | None = None
    """How sure the class of each pixel is, 255 for certain, ``(H, W)``; None unless asked for."""


class Segmenter:
    """A trained teacher, ready for images of any size.

    Args:
        encoder: Backbone, projector and prototypes.
        config: The configuration it was trained with.
        labels: Which prototype is which class; by default each is its own.
        size: Short side that images are scaled to before the network sees them.
        device: As in ``slotseg.devices.resolve_device``.
        precision: As in ``slotseg.precision.inference_precision``.
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
        size: int | None = None,
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
        self.size = size or default_size(config)
        if self.size < self.stride:
            raise ConfigError(f"size is {self.size}; expected at least the backbone's stride, {self.stride}")

    @classmethod
    def load(
        cls,
        path: str | Path | None = None,
        *,
        labels: LabelMap | Naming | None = None,
        matched: bool = True,
        num_prototypes: int | None = None,
        segment: Mapping[str, Any] | None = None,
        size: int | None = None,
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
            size: Short side that images are scaled to.
            device: As in ``slotseg.devices.resolve_device``.
            precision: As in ``slotseg.precision.inference_precision``.
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
        return cls(encoder, config, labels=labels, size=size, device=device, precision=precision, compiled=compiled)

    def save(self, path: str | Path) -> None:
        """Write teacher, configuration and label map to one ``.safetensors`` file.

        Raises:
            CheckpointError: If it cannot be written or the suffix is another.
        """
        path = Path(path)
        if path.suffix != checkpoint.SUFFIX:
            raise CheckpointError(f"{path} ends in {path.suffix!r}; expected {checkpoint.SUFFIX}")
        tensors = {f"teacher.{k}": v for k, v in self.encoder.state_dict().items()}
        info = {"kind": "segmenter", "config": to_dict(self.config), "labels": self.labels.to_dict()}
        checkpoint.save(path, tensors, info)

    def __call__(self, image: str | Path | NDArray[np.uint8]) -> Segmentation:
        """Segment a file or an RGB array ``(H, W, 3)``.

        Raises:
            DataError: If the file cannot be read.
            ValueError: If the array is not RGB in 8 bits.
        """
        pixels = read_image(image) if isinstance(image, str | Path) else image
        return self.segmentation(pixels, *self.scores(pixels))

    def segmentation(self, image: NDArray[np.uint8], scores: Tensor, covered: tuple[float, float]) -> Segmentation:
        """Prototype map and class map of an image from its own scores; see ``scores``."""
        prototype_map = self.painted(image, scores, covered)
        return Segmentation(
            prototype_map=prototype_map, class_map=self.labels.class_map(prototype_map), labels=self.labels
        )

    def segment_windows(self, windows: Windows) -> Segmentation:
        """Segment a photo that is read in windows."""
        return self(windows.read(0, windows.size_hw[0]))

    def stream(
        self, photos: Iterable[str | Path | Input], *, batch_size: int = 8, max_pixels: int = MAX_PIXELS
    ) -> Iterator[Streamed[Segmentation]]:
        """Segment files one after another, reading ahead and computing photos of one size together.

        Args:
            photos: Files, or what ``slotseg.data.inputs.Inputs`` finds; no more of them are asked for than are
                worked on.
            batch_size: Most photos that the network sees at once.
            max_pixels: Photos with more are refused.

        Yields:
            A result for each file, in order; a file that cannot be read yields its error.
        """
        yield from stream(self, photos, batch_size, max_pixels)

    def prototype_map(self, image: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """Nearest prototype ``(H, W)`` of each pixel of an RGB image ``(H, W, 3)``."""
        return self.painted(image, *self.scores(image))

    def painted(self, image: NDArray[np.uint8], scores: Tensor, covered: tuple[float, float]) -> NDArray[np.uint16]:
        """The prototype map of an image from its own scores ``(K, h, w)``, refined if the run's settings say so."""
        scores, covered = refined(scores, covered, image, self.config.segment)
        return upsampled_argmax(scores, covered, (image.shape[0], image.shape[1]))

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
        looks = [
            (*self._look(images, round(self.size * scale), mirrored), mirrored)
            for scale in sorted(self.config.segment.scales, reverse=True)
            for mirrored in ((False, True) if self.config.segment.mirror else (False,))
        ]
        finest, covered, _ = looks[0]
        for scores, its_covered, mirrored in looks[1:]:
            grid = (finest.shape[2], finest.shape[3])
            finest = finest + torch.stack([resample(s, its_covered, grid, covered, mirrored) for s in scores])
        return finest / len(looks), covered

    def _look(
        self, images: Sequence[NDArray[np.uint8]], size: int, mirrored: bool
    ) -> tuple[Tensor, tuple[float, float]]:
        seen = [image[:, ::-1] if mirrored else image for image in images]
        return dense_maps(self._network, seen, self.config.backbone, size, self.stride, self.device)

    def _network(self, images: Tensor) -> Tensor:
        with autocast(self.device, self.precision):
            scores: Tensor = self.encoder(images)
            return scores


def dense_maps(
    network: Callable[[Tensor], Tensor],
    images: Sequence[NDArray[np.uint8]],
    config: BackboneConfig,
    size: int,
    stride: int,
    device: torch.device,
) -> tuple[Tensor, tuple[float, float]]:
    """Scale images of one size to a working size, pad them to whole cells, and run a network on them.

    Returns:
        The network's output ``(B, channels, h, w)`` and the number of cells, (h, w), that each image
        covers; fractional, as the last ones may be padding.

    Raises:
        ValueError: If an array is not RGB in 8 bits, or of another size than the first.
    """
    for image in images:
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
            raise ValueError(f"image has shape {image.shape} and type {image.dtype}; expected (H, W, 3) of uint8")
    height, width = working_size((images[0].shape[0], images[0].shape[1]), size)
    pixels = torch.from_numpy(np.stack(images)).to(device).permute(0, 3, 1, 2).float() / 255
    if (height, width) != pixels.shape[2:]:
        pixels = F.interpolate(pixels, (height, width), mode="bilinear", antialias=True)
    pixels = F.pad(pixels, (0, -width % stride, 0, -height % stride), mode="replicate")
    return network(normalize(pixels, config.mean, config.std)), (height / stride, width / stride)


def working_size(size_hw: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Size that scales the short side as asked, with at most ``MAX_WORKING_PIXELS`` in all."""
    height, width = size_hw
    scale = short_side / min(height, width)
    scale *= min(1.0, math.sqrt(MAX_WORKING_PIXELS / (height * width * scale * scale)))
    return max(1, round(height * scale)), max(1, round(width * scale))


def default_size(config: TrainConfig) -> int:
    """Working size that shows things about as large as training did: the side of a view over that of its crop."""
    side = math.sqrt(sum(config.views.area) / 2)
    return round(config.views.image_size / side)


def _labels_of(file: Path, info: dict[str, Any]) -> LabelMap | None:
    run = run_of(file)
    if run is not None and run.labels.is_file():
        return read_labels(run.labels)
    return LabelMap.from_dict(info["labels"], str(file)) if "labels" in info else None
