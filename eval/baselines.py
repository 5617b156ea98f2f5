"""What any method has to beat: k-means on colour and position, and on a backbone's features.

Each is fitted, without labels, on the images it is scored on, and gives prototype maps like a
segmenter. Letters: K clusters, H W pixels, h w feature cells.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from torch import Tensor
from tqdm import tqdm

from slotseg.backbones import Backbone
from slotseg.config import BackboneConfig
from slotseg.data.labelled import LabelledDataset
from slotseg.devices import resolve_device
from slotseg.errors import DataError
from slotseg.segmenter import dense_map, upsampled_argmax

MAX_SAMPLES = 50_000
"""Vectors that k-means is fitted on, drawn evenly from the images."""


class ColourKMeans:
    """K-means on the colour (RGB in 0..1) and position (x, y in 0..1) of each pixel.

    Args:
        dataset: Photos to fit on; their labels are not looked at.
        num_clusters: K.
        seed: Of the sample and of k-means.
        limit: Use the first so many images only.
    """

    def __init__(self, dataset: LabelledDataset, num_clusters: int, *, seed: int = 0, limit: int | None = None) -> None:
        vectors = (_colour_and_position(image).reshape(-1, 5) for image in _images(dataset, limit))
        self.centers = _fit(vectors, min(len(dataset), limit or len(dataset)), num_clusters, seed)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Cluster ``(H, W)`` of each pixel of an RGB image ``(H, W, 3)``."""
        vectors = _colour_and_position(image)
        nearest: NDArray[np.int64] = (vectors @ self.centers.T - (self.centers**2).sum(axis=1) / 2).argmax(axis=2)
        return nearest


class FeatureKMeans:
    """K-means on the L2-normalised features of a backbone, upsampled as a segmenter's scores are.

    Args:
        backbone: Random or pretrained.
        config: Its configuration, for the preprocessing.
        size: Short side that images are scaled to.
        dataset: Photos to fit on; their labels are not looked at.
        num_clusters: K.
        seed: Of the sample and of k-means.
        limit: Use the first so many images only.
        device: As in ``slotseg.devices.resolve_device``.
    """

    def __init__(
        self,
        backbone: Backbone,
        config: BackboneConfig,
        size: int,
        dataset: LabelledDataset,
        num_clusters: int,
        *,
        seed: int = 0,
        limit: int | None = None,
        device: str = "auto",
    ) -> None:
        self.device = resolve_device(device)
        self.backbone = backbone.to(self.device).eval()
        self.config, self.size = config, size
        vectors = (self._features(image)[0].flatten(1).T.cpu().numpy() for image in _images(dataset, limit))
        centers = _fit(vectors, min(len(dataset), limit or len(dataset)), num_clusters, seed)
        self.centers = torch.from_numpy(centers).to(self.device)

    def __call__(self, image: NDArray[np.uint8]) -> NDArray[np.uint16]:
        """Cluster ``(H, W)`` of each pixel of an RGB image ``(H, W, 3)``."""
        features, covered = self._features(image)
        scores = torch.einsum("kd,dhw->khw", self.centers, features)
        scores = scores - (self.centers**2).sum(dim=1)[:, None, None] / 2
        return upsampled_argmax(scores, covered, (image.shape[0], image.shape[1]))

    @torch.inference_mode()
    def _features(self, image: NDArray[np.uint8]) -> tuple[Tensor, tuple[float, float]]:
        dense, covered = dense_map(self.backbone, image, self.config, self.size, self.backbone.stride, self.device)
        return torch.nn.functional.normalize(dense.float(), dim=0), covered


def _images(dataset: LabelledDataset, limit: int | None) -> Iterator[NDArray[np.uint8]]:
    number = min(len(dataset), limit or len(dataset))
    for index in tqdm(range(number), unit="image", desc="k-means", disable=None):
        try:
            yield dataset.read_image(index)
        except DataError:
            continue  # named and counted when the set is scored


def _fit(vectors: Iterator[NDArray[Any]], num_images: int, num_clusters: int, seed: int) -> NDArray[np.float32]:
    """Centres ``(K, D)`` of k-means on an even sample of each image's vectors ``(N, D)``."""
    rng = np.random.default_rng(seed)
    per_image = -(-MAX_SAMPLES // num_images)
    samples = [v[rng.permutation(len(v))[:per_image]] for v in vectors]
    sample = np.concatenate(samples).astype(np.float32)
    if len(sample) < num_clusters:
        raise DataError(f"{len(sample)} vectors for {num_clusters} clusters; expected more images or fewer clusters")
    centers: NDArray[np.float32] = KMeans(num_clusters, n_init=3, random_state=seed).fit(sample).cluster_centers_
    return centers


def _colour_and_position(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    position = np.stack([(x + 0.5) / width, (y + 0.5) / height], axis=2)
    return np.concatenate([image.astype(np.float32) / 255, position], axis=2)
