"""K-means on colour and position, and on features."""

import numpy as np
import pytest
from numpy.typing import NDArray

from slotseg.backbones import Backbone
from slotseg.config import BackboneConfig
from slotseg.data.labelled import LabelledImage, LabelledScenes
from slotseg.errors import DataError
from slotseg.eval.baselines import ColourKMeans, FeatureKMeans
from slotseg.eval.evaluate import evaluate


class Halves(LabelledScenes):
    """Pictures of two classes that colour and texture both tell apart."""

    class_names = ("left", "right")

    def read(self, index: int) -> LabelledImage:
        rng = np.random.default_rng(index)
        class_map: NDArray[np.uint8] = np.zeros((64, 96), np.uint8)
        class_map[:, 32 + 8 * index :] = 1
        image = np.where(class_map[..., None], rng.integers(0, 256, (64, 96, 1)), 20).repeat(3, axis=2)
        return LabelledImage(name=str(index), image=image.astype(np.uint8), class_map=class_map)


def test_colour_k_means_finds_what_colour_tells_apart() -> None:
    class Plain(Halves):
        def read(self, index: int) -> LabelledImage:
            labelled = super().read(index)
            image = np.where(labelled.class_map[..., None], [250, 0, 0], [0, 0, 250]).astype(np.uint8)
            return LabelledImage(name=labelled.name, image=image, class_map=labelled.class_map)

    data = Plain(4)
    assert evaluate(ColourKMeans(data, 2), 2, data).scores.miou == 1


def test_feature_k_means_finds_what_texture_tells_apart() -> None:
    data = Halves(4)
    config = BackboneConfig(name="resnet18", stride=4, options={"channels": [16] * 4, "layers": [1] * 4})
    baseline = FeatureKMeans(Backbone(config), config, 64, data, 2, device="cpu")
    result = evaluate(baseline, 2, data)
    assert result.scores.miou > 0.8
    assert baseline(data.read(0).image).shape == (64, 96)


def test_baselines_repeat_with_their_seed() -> None:
    data = LabelledScenes(3)
    image = data.read_image(0)
    one, two, other = (ColourKMeans(data, 6, seed=seed)(image) for seed in (1, 1, 2))
    assert np.array_equal(one, two)
    assert not np.array_equal(one, other)


def test_more_clusters_than_vectors_is_refused() -> None:
    class Dots(LabelledScenes):
        def read_image(self, index: int) -> NDArray[np.uint8]:
            return np.zeros((1, 1, 3), np.uint8)

    with pytest.raises(DataError, match="2 vectors for 8 clusters"):
        ColourKMeans(Dots(2), 8)
