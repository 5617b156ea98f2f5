import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans

from slotseg.data.scenes import CLASS_NAMES, SCENE_SIZE, draw_scene

GROUNDS = [CLASS_NAMES.index(name) for name in ("grass", "water", "sand")]
SKY = CLASS_NAMES.index("sky")
NUM_CLASSES = len(CLASS_NAMES)


@pytest.fixture(scope="module")
def scenes() -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """200 pictures, shape (200, H, W, 3), and their labels, shape (200, H, W)."""
    images, labels = zip(*map(draw_scene, range(200)), strict=True)
    return np.stack(images), np.stack(labels)


@pytest.mark.parametrize("size", [32, SCENE_SIZE, 161])
def test_shapes_and_types(size):
    image, labels = draw_scene(3, size)
    assert (image.shape, image.dtype) == ((size, size, 3), np.uint8)
    assert (labels.shape, labels.dtype) == ((size, size), np.uint8)
    assert labels.max() < NUM_CLASSES


def test_a_size_without_room_is_refused():
    with pytest.raises(ValueError, match="size is 31"):
        draw_scene(0, 31)


def test_a_seed_is_a_scene():
    first, again, other = draw_scene(7), draw_scene(7), draw_scene(8)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()
    assert (first[1] != other[1]).any()


def test_sky_lies_above_the_only_ground(scenes):
    for labels in scenes[1]:
        present = np.intersect1d(labels, GROUNDS)
        assert len(present) == 1
        sky_rows, ground_rows = (np.flatnonzero((labels == k).any(axis=1)) for k in (SKY, present[0]))
        assert sky_rows.max() < ground_rows.min()


def test_every_class_has_a_fair_share(scenes):
    shares = np.bincount(scenes[1].ravel(), minlength=NUM_CLASSES) / scenes[1].size
    assert shares.min() > 0.05
    assert shares.max() == shares[SKY] < 0.35


def test_colour_tells_nothing_about_the_class(scenes):
    """Chance alone: the mean of 66 regions scatters by 5 grey levels in a channel, by 3 in brightness."""
    images, labels = scenes
    means = np.array([images[labels == k].mean(axis=0) for k in range(NUM_CLASSES)])
    assert abs(means - 127.5).max() < 16
    assert abs(means.mean(axis=1) - 127.5).max() < 8


def test_textures_show_on_every_colour_and_saturate_on_none(scenes):
    """Three pixels on, to the right or down, brightness has changed much: everywhere but in the sky."""
    images, labels = scenes
    assert images.min() > 0
    assert images.max() < 255
    grey = images.mean(axis=3)
    here, right, below = (np.s_[:, :-3, :-3], np.s_[:, :-3, 3:], np.s_[:, 3:, :-3])
    change = abs(grey[here] - grey[right]) + abs(grey[here] - grey[below])
    inside = (labels[here] == labels[right]) & (labels[here] == labels[below])
    changes = [change[inside & (labels[here] == k)].mean() for k in range(NUM_CLASSES)]
    assert changes[SKY] < 15
    assert min(np.delete(changes, SKY)) > 30


def test_colour_clustering_fails(scenes):
    """K-means on colour and place, the baseline that a texture learner has to beat."""
    features, labels = _colour_and_place(scenes[0]), scenes[1].reshape(200, -1)
    kmeans = KMeans(NUM_CLASSES, n_init=1, random_state=0).fit(features[:100, ::7].reshape(-1, 5))
    clusters = kmeans.predict(features[100:].reshape(-1, 5))
    table = np.bincount(clusters * NUM_CLASSES + labels[100:].ravel(), minlength=NUM_CLASSES**2)
    assert 0.08 < _hungarian_miou(table.reshape(NUM_CLASSES, NUM_CLASSES)) < 0.15


def _colour_and_place(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Features (r, g, b, x, y) in [0, 1] of every pixel, shape (N, H * W, 5)."""
    num_images, height, width, _ = images.shape
    y, x = np.mgrid[0 : 1 : height * 1j, 0 : 1 : width * 1j]
    place = np.broadcast_to(np.stack([x, y], axis=-1), (num_images, height, width, 2))
    return np.concatenate([images / 255, place], axis=-1, dtype=np.float32).reshape(num_images, -1, 5)


def _hungarian_miou(table: NDArray[np.int64]) -> float:
    """Mean IoU of a cluster x class table under the matching with the most correct pixels."""
    rows, columns = linear_sum_assignment(table, maximize=True)
    hits = table[rows, columns]
    return float((hits / (table.sum(axis=1)[rows] + table.sum(axis=0)[columns] - hits)).mean())
