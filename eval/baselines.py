"""Baselines that any method has to beat: k-means on colours or features, one class for everything, and chance.

K-means is fitted, without labels, on the photos that give the matching. Letters: K clusters,
D dimension of the clustered vectors, H W pixels, h w feature cells.
"""

import logging
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slotseg import distributed
from slotseg.config import BackboneConfig, TrainConfig
from slotseg.data.labelled.labelled import ScoredPhoto
from slotseg.devices import resolve_device
from slotseg.errors import CheckpointError, ConfigError, DataError
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.predictors import Predictor
from slotseg.eval.result import PredictorInfo
from slotseg.exchange.weights import adopt, load_into, read_weights
from slotseg.networks.backbones import Backbone, are_numbers
from slotseg.presets import photos
from slotseg.runs import checkpoint as checkpoints
from slotseg.runs.folder import find_checkpoint
from slotseg.segmenting.clusters import cluster_centers
from slotseg.segmenting.looks import default_size, dense_maps, scaled, working_size
from slotseg.segmenting.upsampling import upsampled_argmax
from slotseg.values import from_dict

log = logging.getLogger(__name__)

BASELINES = ("colour", "features", "one-class", "random")
"""Names of the baselines."""

MAX_SAMPLES = 50_000
"""Number of vectors that k-means is fitted on, drawn evenly from the images."""


class OneClass:
    """One cluster for every pixel. Its pixel accuracy is the share of the most frequent class."""

    num_prototypes = 1
    vectors = None
    info = PredictorInfo(name="one class for everything")

    def __call__(self, photo: ScoredPhoto) -> NDArray[np.int64]:
        """Zeros ``(H, W)``."""
        return np.zeros(photo.image.shape[:2], dtype=np.int64)


class RandomAssignment:
    """A random cluster for every pixel. A photo of the same key gets the same ones again.

    Args:
        num_clusters: Number of clusters, K.
        seed: Seed of the draw.
    """

    vectors = None

    def __init__(self, num_clusters: int, *, seed: int = 0) -> None:
        self.num_prototypes, self.seed = num_clusters, seed
        self.info = PredictorInfo(name="random assignment", seed=seed)

    def __call__(self, photo: ScoredPhoto) -> NDArray[np.int64]:
        """Random clusters ``(H, W)``."""
        rng = np.random.default_rng([self.seed, zlib.crc32(photo.key.encode())])
        return rng.integers(0, self.num_prototypes, photo.image.shape[:2])


class ColorKMeans:
    """K-means on the colour (RGB in 0..1) and position (x, y in 0..1) of each pixel.

    Args:
        benchmark: Benchmark with the photos to fit on. Their labels are not read.
        num_clusters: Number of clusters, K.
        seed: Seed of the sample and of k-means.
    """

    def __init__(self, benchmark: Benchmark, num_clusters: int, *, seed: int = 0) -> None:
        vectors = (_color_and_position(image).reshape(-1, 5) for image in benchmark.unlabelled())
        self.vectors = _fit(vectors, benchmark, num_clusters, seed)
        self.num_prototypes = num_clusters
        self.info = PredictorInfo(name="k-means on colour and position", seed=seed)

    def __call__(self, photo: ScoredPhoto) -> NDArray[np.int64]:
        """Cluster ``(H, W)`` of each pixel."""
        vectors = _color_and_position(photo.image)
        nearest: NDArray[np.int64] = (vectors @ self.vectors.T - (self.vectors**2).sum(axis=1) / 2).argmax(axis=2)
        return nearest


class FeatureKMeans:
    """K-means on the L2-normalised features of a backbone. They are upsampled as a segmenter's scores are.

    Args:
        backbone: Random or pretrained backbone.
        config: Configuration of the backbone, for the preprocessing.
        size: Short side that images are scaled to, in pixels.
        benchmark: Benchmark with the photos to fit on. Their labels are not read.
        num_clusters: Number of clusters, K.
        seed: Seed of the sample and of k-means.
        device: Device, in the words of ``slotseg.devices.resolve_device``.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: BackboneConfig,
        size: int,
        benchmark: Benchmark,
        num_clusters: int,
        *,
        seed: int = 0,
        device: str = "auto",
    ) -> None:
        self.device = resolve_device(device)
        self.backbone = backbone.to(self.device).eval()
        self.config, self.size = config, size
        vectors = (self._features(image)[0].flatten(1).T.cpu().numpy() for image in benchmark.unlabelled())
        self.vectors = _fit(vectors, benchmark, num_clusters, seed)
        self.centers = torch.from_numpy(self.vectors).to(self.device)
        self.num_prototypes = num_clusters
        weights = config.init or "random weights"
        self.info = PredictorInfo(
            name=f"k-means on features of {config.name}, stride {backbone.stride}, from {weights}",
            network_size=size,
            seed=seed,
        )

    def __call__(self, photo: ScoredPhoto) -> NDArray[np.uint16]:
        """Cluster ``(H, W)`` of each pixel."""
        features, covered = self._features(photo.image)
        scores = torch.einsum("kd,dhw->khw", self.centers, features)
        scores = scores - (self.centers**2).sum(dim=1)[:, None, None] / 2
        return upsampled_argmax(scores, covered, (photo.image.shape[0], photo.image.shape[1]))

    @torch.inference_mode()
    def _features(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[float, float]]:
        pixels = scaled([image], working_size((image.shape[0], image.shape[1]), self.size), self.device)
        dense, covered = dense_maps(self.backbone, pixels, self.config, self.backbone.stride)
        if not are_numbers(dense):
            raise CheckpointError(
                f"features of {self.config.name} are no numbers (NaN or infinite) or too large; expected numbers: the "
                f"weights {self.config.init} are damaged, take others with --init"
            )
        return torch.nn.functional.normalize(dense[0].float(), dim=0), covered


def baseline_predictor(
    name: str,
    benchmark: Benchmark,
    *,
    num_clusters: int | None = None,
    checkpoint: Path | None = None,
    init: str | None = None,
    backbone: str | None = None,
    stride: int | None = None,
    size: int | None = None,
    seed: int = 0,
    device: str = "auto",
) -> Predictor:
    """Make a baseline. K-means is fitted, without labels, on the photos that give the matching.

    Args:
        name: Name of the baseline, one of ``BASELINES``.
        benchmark: Benchmark that it will be scored on.
        num_clusters: Number of clusters, K; by default the number of classes.
        checkpoint: Run whose backbone ``features`` takes, as it was before training.
        init: Weights that ``features`` takes instead.
        backbone: timm model that ``features`` takes, with the weights of ``init`` or random ones.
        stride: Pixels per cell of ``features``.
        size: Short side of the images that ``features`` sees, in pixels.
        seed: Seed of k-means and of random weights.
        device: Device, in the words of ``slotseg.devices.resolve_device``.

    Raises:
        ConfigError: If there is no such baseline, or k-means can't be fitted with these settings.
    """
    clusters = num_clusters or len(benchmark.dataset.taxonomy.classes)
    if name == "one-class":
        return OneClass()
    if name == "random":
        return RandomAssignment(clusters, seed=seed)
    if name == "colour":
        return ColorKMeans(benchmark, clusters, seed=seed)
    if name != "features":
        raise ConfigError(f"baseline is {name!r}; expected one of {', '.join(BASELINES)}")
    network, config, default = _untrained(checkpoint, init, backbone, stride, seed)
    network_size = size or benchmark.protocol.crop or default
    return FeatureKMeans(network, config, network_size, benchmark, clusters, seed=seed, device=device)


def _untrained(
    checkpoint: Path | None, init: str | None, name: str | None, stride: int | None, seed: int
) -> tuple[Backbone, BackboneConfig, int]:
    """Backbone before any training, its configuration, and the default working size."""
    torch.manual_seed(seed)
    run = photos()
    if init is not None:
        asked = replace(run.backbone, name=name or run.backbone.name, stride=stride or run.backbone.stride)
        config = adopt(asked, read_weights(init), named=name is not None)
    elif name is not None:
        config = replace(run.backbone, name=name, init=None, stride=stride or run.backbone.stride)
    else:
        try:
            file = find_checkpoint(checkpoint)
        except CheckpointError as error:
            raise CheckpointError(f"{error}, or weights with --init") from error
        header = checkpoints.read_header(file)
        run = from_dict(TrainConfig, header["config"])
        config = replace(run.backbone, stage=None, stride=stride) if stride else run.backbone
    backbone = Backbone(config)
    if config.init and (taken := load_into(backbone, read_weights(config.init))):
        log.info("Weights %s: %s", config.init, taken)
    return backbone, config, default_size(run)


def _fit(vectors: Iterator[NDArray[Any]], benchmark: Benchmark, num_clusters: int, seed: int) -> NDArray[np.float32]:
    """Centres ``(K, D)`` of k-means on samples of each image's vectors ``(N, D)``. One process computes them."""
    return distributed.once(lambda: _k_means(vectors, benchmark, num_clusters, seed))


def _k_means(
    vectors: Iterator[NDArray[Any]], benchmark: Benchmark, num_clusters: int, seed: int
) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    per_image = -(-MAX_SAMPLES // benchmark.size(benchmark.match_on or benchmark.dataset))
    samples = [v[rng.permutation(len(v))[:per_image]] for v in vectors]
    sample = np.concatenate(samples).astype(np.float32) if samples else np.zeros((0, 1), np.float32)
    if len(sample) < num_clusters:
        raise DataError(f"{len(sample)} vectors for {num_clusters} clusters; expected more images or fewer clusters")
    return cluster_centers(sample, num_clusters, seed=seed, starts=3)


def _color_and_position(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    position = np.stack([(x + 0.5) / width, (y + 0.5) / height], axis=2)
    return np.concatenate([image.astype(np.float32) / 255, position], axis=2)
