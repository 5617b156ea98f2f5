import numpy as np
import pytest

from slotseg.errors import ConfigError, DataError
from slotseg.eval.contingency import UNASSIGNED, Contingency, ImageCounts, contingency_table

VOID = 255


def random_maps(seed, num_prototypes, num_classes, dtype=np.uint8):
    rng = np.random.default_rng(seed)
    prototypes = rng.integers(0, num_prototypes, (13, 17)).astype(np.uint16)
    classes = rng.integers(0, num_classes, (13, 17)).astype(dtype)
    classes[rng.random(classes.shape) < 0.2] = VOID
    return prototypes, classes


def slow_table(prototypes, classes, num_prototypes, num_classes):
    table = [[0] * num_classes for _ in range(num_prototypes)]
    for prototype, label in zip(prototypes.ravel().tolist(), classes.ravel().tolist(), strict=True):
        if label != VOID:
            table[prototype][label] += 1
    return table


@pytest.mark.parametrize(("num_prototypes", "num_classes"), [(27, 27), (256, 27), (3, 7), (1, 1), (2048, 2)])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64])
def test_equals_a_slow_loop(num_prototypes, num_classes, dtype):
    maps = random_maps(num_prototypes, num_prototypes, num_classes, dtype)
    table = contingency_table(*maps, num_prototypes, num_classes)
    assert table.dtype == np.int64
    assert table.shape == (num_prototypes + 1, num_classes)
    assert table[:-1].tolist() == slow_table(*maps, num_prototypes, num_classes)
    assert not table[-1].any()


def test_hand_made_table_drops_void():
    prototypes = np.array([[0, 0, 1], [1, 2, 2]], dtype=np.uint8)
    classes = np.array([[0, 1, 1], [VOID, 1, VOID]], dtype=np.uint8)
    assert contingency_table(prototypes, classes, 3, 2)[:-1].tolist() == [[1, 1], [0, 1], [0, 1]]


def test_another_ignore_index():
    classes = np.array([[0, 1, 65535]], dtype=np.uint16)
    assert contingency_table(np.zeros_like(classes), classes, 1, 2, ignore_index=65535)[:-1].tolist() == [[1, 1]]


def test_an_image_without_labels_adds_nothing():
    nothing = np.full((2, 2), VOID, dtype=np.uint8)
    assert contingency_table(np.zeros_like(nothing), nothing, 2, 2).tolist() == [[0, 0], [0, 0], [0, 0]]


def test_merged_parts_equal_the_whole():
    maps = [random_maps(seed, 9, 5) for seed in range(4)]
    whole, left, right = (Contingency(9, 5) for _ in range(3))
    for i, pair in enumerate(maps):
        whole.update(*pair)
        (left, right)[i % 2].update(*pair)
    left.merge(right)
    joined = contingency_table(*(np.concatenate(parts) for parts in zip(*maps, strict=True)), 9, 5)
    assert left.table.tolist() == whole.table.tolist() == joined[:-1].tolist()
    assert not np.array_equal(left.table, right.table)


@pytest.mark.parametrize(
    ("prototypes", "classes", "message"),
    [
        ([[0, 1]], [[0], [1]], r"\(1, 2\).*\(2, 1\)"),
        ([[0, 1]], [[0, 3]], "class map holds the id 3; expected 0..2"),
        ([[0, 1]], [[0, -1]], "class map holds the id -1"),
        ([[0, 2]], [[0, 1]], "prototype map holds the id 2; expected 0..1"),
        ([[0, -1]], [[0, 1]], "prototype map holds the id -1"),
        ([[0.0, 1.0]], [[0, 1]], "prototype map holds float64"),
        ([[0, 1]], [[0.0, 1.0]], "class map holds float64"),
    ],
)
def test_refuses_maps_that_do_not_fit(prototypes, classes, message):
    contingency = Contingency(num_prototypes=2, num_classes=3)
    with pytest.raises(DataError, match=message):
        contingency.update(np.array(prototypes), np.array(classes))
    assert contingency.table.sum() == 0


def test_unassigned_pixels_have_a_row_of_their_own():
    prototypes = np.array([[0, UNASSIGNED, 1, UNASSIGNED]], np.uint16)
    classes = np.array([[1, 1, 0, VOID]], np.uint8)
    assert contingency_table(prototypes, classes, 2, 2).tolist() == [[0, 1], [1, 0], [0, 1]]
    contingency = Contingency(2, 2)
    contingency.update(prototypes, classes)
    assert contingency.table.tolist() == [[0, 1], [1, 0]]
    assert contingency.unassigned.tolist() == [0, 1]


def test_a_table_without_a_number_of_prototypes_grows():
    maps = [(np.array([[i, UNASSIGNED]], np.uint16), np.array([[0, 1]])) for i in (2, 0, 5)]
    growing, other = Contingency(None, 2), Contingency(None, 2)
    for pair in maps[:2]:
        growing.update(*pair)
    assert growing.table.tolist() == [[1, 0], [0, 0], [1, 0]]
    other.update(*maps[2])
    growing.merge(other)
    assert growing.table[:, 0].tolist() == [1, 0, 1, 0, 0, 1]
    assert growing.unassigned.tolist() == [0, 3]
    void = Contingency(None, 2)
    void.update(np.array([[9]]), np.array([[VOID]]))
    assert void.table.shape == (0, 2)


def test_accuracy_of_one_image_under_a_match():
    counts = ImageCounts.of(3, np.array([[2, 1], [0, 4], [3, 0]]))
    assert counts.accuracy(np.array([0, 1, -1])) == 6 / 10
    assert counts.accuracy(np.array([1, 0])) == 1 / 10


def test_refuses_to_merge_another_shape():
    with pytest.raises(DataError, match=r"\(3, 2\).*\(2, 2\)"):
        Contingency(2, 2).merge(Contingency(3, 2))


@pytest.mark.parametrize("sizes", [(0, 2), (2, 0)])
def test_refuses_an_impossible_table(sizes):
    with pytest.raises(ConfigError, match="1 or more"):
        Contingency(*sizes)
