"""K-means on colour and position, and on features."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slotseg.config import BackboneConfig
from slotseg.data.labelled.labelled import LabelledImage, LabelledScenes
from slotseg.data.labelled.taxonomy import plain_taxonomy
from slotseg.errors import CheckpointError, DataError
from slotseg.eval.baselines import ColorKMeans, FeatureKMeans, OneClass, RandomAssignment
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.evaluate import evaluate
from slotseg.networks.backbones import Backbone


class Halves(LabelledScenes):
    """Pictures of two classes that colour and texture both tell apart."""

    taxonomy = plain_taxonomy("halves", ("left", "right"))

    def read(self, index: int) -> LabelledImage:
        rng = np.random.default_rng(index)
        class_map: NDArray[np.uint8] = np.zeros((64, 96), np.uint8)
        class_map[:, 32 + 8 * index :] = 1
        image = np.where(class_map[..., None], rng.integers(0, 256, (64, 96, 1)), 20).repeat(3, axis=2)
        return LabelledImage(key=str(index), image=image.astype(np.uint8), size_hw=(64, 96), class_map=class_map)


def test_colour_k_means_finds_what_colour_tells_apart() -> None:
    class Plain(Halves):
        def read(self, index: int) -> LabelledImage:
            labelled = super().read(index)
            image = np.where(labelled.class_map[..., None], [250, 0, 0], [0, 0, 250]).astype(np.uint8)
            return replace(labelled, image=image)

    data = Benchmark.of(Plain(4))
    result = evaluate(ColorKMeans(data, 2), data)
    assert result.metrics.miou == 1
    assert result.protocol.predictor.name == "k-means on colour and position"


def test_feature_k_means_finds_what_texture_tells_apart() -> None:
    data = Benchmark.of(Halves(4))
    config = BackboneConfig(name="resnet18", stride=4, options={"channels": [16] * 4, "layers": [1] * 4})
    baseline = FeatureKMeans(Backbone(config), config, 64, data, 2, device="cpu")
    result = evaluate(baseline, data)
    assert result.metrics.miou > 0.8
    assert result.protocol.predictor.network_size == 64
    assert baseline(data.dataset.read(0)).shape == (64, 96)


@pytest.mark.parametrize("factor", [1e38, 1e25, float("nan")])
def test_features_that_are_no_numbers_are_refused(factor: float) -> None:
    config = BackboneConfig(name="resnet18", stride=4, options={"channels": [16] * 4, "layers": [1] * 4})
    backbone = Backbone(config)
    with torch.no_grad():
        backbone.model.layer1[0].bn2.weight.fill_(factor)
    with pytest.raises(CheckpointError, match=r"features of resnet18 are no numbers .* take others with --init"):
        FeatureKMeans(backbone, config, 64, Benchmark.of(Halves(2)), 2, device="cpu")


def test_photos_that_show_nothing_are_a_word_and_no_warning(caplog: pytest.LogCaptureFixture) -> None:
    class Black(Halves):
        def read(self, index: int) -> LabelledImage:
            labelled = super().read(index)
            return replace(labelled, image=np.zeros_like(labelled.image))

    config = BackboneConfig(name="resnet18", stride=4, options={"channels": [16] * 4, "layers": [1] * 4})
    FeatureKMeans(Backbone(config), config, 64, Benchmark.of(Black(2)), 300, device="cpu")
    assert "of 300 clusters differ: the photos show little" in caplog.text


def test_baselines_repeat_with_their_seed() -> None:
    data = Benchmark.of(LabelledScenes(3))
    photo = data.dataset.read(0)
    for make in (lambda seed: ColorKMeans(data, 6, seed=seed), lambda seed: RandomAssignment(6, seed=seed)):
        one, two, other = (make(seed)(photo) for seed in (1, 1, 2))
        assert np.array_equal(one, two)
        assert not np.array_equal(one, other)


def test_k_means_is_fitted_on_the_photos_that_are_matched_on() -> None:
    scored, other = Halves(2), LabelledScenes(2)
    apart = ColorKMeans(Benchmark.of(scored, match_on=other), 4).vectors
    assert np.array_equal(apart, ColorKMeans(Benchmark.of(other), 4).vectors)
    assert not np.array_equal(apart, ColorKMeans(Benchmark.of(scored), 4).vectors)


def test_one_class_has_the_accuracy_of_the_most_frequent_class() -> None:
    data = Benchmark.of(Halves(4))
    left = np.mean([data.dataset.read(i).class_map == 0 for i in range(4)])
    result = evaluate(OneClass(), data)
    assert result.metrics.pixel_accuracy == pytest.approx(max(left, 1 - left))
    assert result.metrics.miou == pytest.approx(max(left, 1 - left) / 2)


def test_random_assignment_is_chance() -> None:
    data = Benchmark.of(LabelledScenes(20))
    result = evaluate(RandomAssignment(8), data)
    assert result.metrics.pixel_accuracy == pytest.approx(1 / 8, abs=0.01)
    assert len({RandomAssignment(8)(data.dataset.read(i)).tobytes() for i in range(3)}) == 3


def test_more_clusters_than_vectors_is_refused() -> None:
    class Dots(LabelledScenes):
        def read_image(self, index: int) -> NDArray[np.uint8]:
            return np.zeros((1, 1, 3), np.uint8)

    with pytest.raises(DataError, match="2 vectors for 8 clusters"):
        ColorKMeans(Benchmark.of(Dots(2)), 8)
