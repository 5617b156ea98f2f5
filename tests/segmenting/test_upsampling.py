"""Upsampled argmax: the labels of plain bilinear interpolation, whatever the sizes, without its memory."""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from slotseg.segmenting import upsampling
from slotseg.segmenting.upsampling import contenders, upsampled_argmax

Size = tuple[int, int]


def noise(num_prototypes: int, height: int, width: int, seed: int = 0) -> Tensor:
    """Scores in [-1, 1] that know nothing of their neighbours."""
    return torch.rand(num_prototypes, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def smooth(num_prototypes: int, height: int, width: int) -> Tensor:
    """Scores in [-1, 1] of which few prototypes are high in the same place."""
    coarse = noise(num_prototypes, height // 4 + 1, width // 4 + 1)
    return F.interpolate(coarse[None], (height, width), mode="bicubic", align_corners=False)[0].clamp(-1, 1)


def plain(scores: Tensor, size: Size) -> Tensor:
    return F.interpolate(scores[None], size, mode="bilinear", align_corners=False)[0]


def assert_best(prototype_map: NDArray[np.uint16], upsampled: Tensor, tolerance: float = 1e-6) -> None:
    """The labels are those of the argmax, but where two scores are equal up to rounding."""
    assert prototype_map.dtype == np.uint16
    assert prototype_map.shape == upsampled.shape[1:]
    best = upsampled.argmax(dim=0)
    ours = torch.from_numpy(prototype_map.astype(np.int64))
    wrong = ours != best
    loss = upsampled.gather(0, best[None]) - upsampled.gather(0, ours[None])
    assert wrong.float().mean() < 1e-3
    assert loss.max() < tolerance


@pytest.mark.parametrize("kind", [noise, smooth])
@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((5, 6, 7), (41, 37)),
        ((5, 6, 7), (192, 224)),
        ((5, 6, 7), (6, 7)),
        ((5, 6, 7), (12, 21)),
        ((5, 6, 7), (13, 8)),
        ((5, 6, 7), (3, 2)),
        ((5, 6, 7), (1, 1)),
        ((5, 6, 7), (1, 90)),
        ((5, 6, 7), (90, 1)),
        ((5, 6, 7), (2, 300)),
        ((5, 60, 4), (7, 333)),
        ((5, 1, 1), (9, 13)),
        ((5, 1, 9), (20, 100)),
        ((5, 9, 1), (100, 20)),
        ((1, 6, 7), (41, 37)),
        ((2, 6, 7), (200, 200)),
        ((256, 10, 10), (320, 320)),
        ((256, 20, 20), (320, 320)),
        ((256, 20, 20), (53, 71)),
        ((256, 34, 60), (270, 481)),
        ((2048, 5, 4), (97, 64)),
    ],
    ids=str,
)
def test_equals_plain_upsampling(kind: Callable[..., Tensor], shape: tuple[int, int, int], size: Size) -> None:
    scores = kind(*shape)
    assert_best(upsampled_argmax(scores, (shape[1], shape[2]), size), plain(scores, size))


@pytest.mark.parametrize("num_cells", range(1, 30))
def test_equals_plain_upsampling_at_any_scale(num_cells: int) -> None:
    scores = noise(7, num_cells, 30 - num_cells, seed=num_cells)
    for height in (1, 2, 17, 30, 31, 64, 100):
        size = height, 131 - height
        assert_best(upsampled_argmax(scores, (num_cells, 30 - num_cells), size), plain(scores, size))


@pytest.mark.parametrize(
    ("covered", "size"),
    [
        ((4.0, 5.0), (40, 50)),
        ((4.5, 6.25), (36, 50)),
        ((3.5, 6.75), (7, 27)),
        ((5.5, 7.0), (110, 7)),
        ((0.5, 0.25), (8, 8)),
        ((5.75, 6.5), (368, 416)),
    ],
)
def test_a_covered_part_equals_a_crop_of_the_whole(covered: tuple[float, float], size: Size) -> None:
    scores = noise(5, 6, 7)
    whole = tuple(round(n * cells / c) for n, cells, c in zip(size, (6, 7), covered, strict=True))
    assert [w * c for w, c in zip(whole, covered, strict=True)] == [s * n for s, n in zip(size, (6, 7), strict=True)]
    expected = plain(scores, (whole[0], whole[1]))
    assert_best(upsampled_argmax(scores, covered, size), expected[:, : size[0], : size[1]])


@pytest.mark.parametrize(("cells", "size"), [(3, 150), (4, 70), (8, 90), (17, 17)])
@pytest.mark.parametrize("num_prototypes", [64, 2048])
def test_prototypes_that_win_far_from_every_corner(num_prototypes: int, cells: int, size: int) -> None:
    """Scores whose argmax is the nearest of K random points: more winners than corners."""
    points = torch.rand(num_prototypes, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def scores_at(side: int) -> Tensor:
        place = ((torch.arange(side) + 0.5) / side * cells - 0.5).clamp(0, cells - 1) / (cells - 1)
        y, x = torch.meshgrid(place, place, indexing="ij")
        return (
            torch.einsum("kd,dyx->kyx", points, torch.stack([y, x]).double())
            - points.square().sum(1)[:, None, None] / 2
        )

    prototype_map = upsampled_argmax(scores_at(cells), (cells, cells), (size, size))
    assert_best(prototype_map, scores_at(size))
    assert len(np.unique(prototype_map)) > min(num_prototypes, size**2 // 8) // 2


def test_a_prototype_that_is_second_at_every_corner_wins_in_the_middle() -> None:
    scores = torch.full((5, 2, 2), -1.0)
    for k, (y, x) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        scores[k, y, x] = 1
    scores[4] = 0
    prototype_map = upsampled_argmax(scores, (2, 2), (64, 64))
    assert prototype_map[0, 0] == 0
    assert prototype_map[-1, -1] == 3
    assert (prototype_map[28:36, 28:36] == 4).all()
    assert_best(prototype_map, plain(scores, (64, 64)))


@pytest.mark.parametrize("size", [(5, 6), (11, 13), (40, 48), (200, 210)])
def test_of_equal_prototypes_the_first_wins(size: Size) -> None:
    scores = noise(4, 5, 6)
    twice = scores.repeat_interleave(3, dim=0)
    assert np.array_equal(upsampled_argmax(twice, (5, 6), size), 3 * upsampled_argmax(scores, (5, 6), size))
    behind = torch.cat([scores, scores.flip(0)])
    assert np.array_equal(upsampled_argmax(behind, (5, 6), size), upsampled_argmax(scores, (5, 6), size))


def test_equal_along_an_edge_the_first_wins() -> None:
    scores = torch.zeros(3, 2, 2)
    scores[0] = torch.tensor([[0.0, 0.0], [-1.0, -1.0]])
    scores[2] = torch.tensor([[0.0, 0.0], [0.0, -1.0]])
    prototype_map = upsampled_argmax(scores, (2, 2), (40, 40))
    assert (prototype_map[:10] == 0).all()
    assert (prototype_map[10:] == 1).all()


@pytest.mark.parametrize("size", [(3, 4), (100, 90)])
def test_uniform_maps(size: Size) -> None:
    assert not upsampled_argmax(torch.zeros(300, 4, 5), (4, 5), size).any()
    scores = noise(300, 1, 1).expand(300, 4, 5)
    assert (upsampled_argmax(scores, (4, 5), size) == scores[:, 0, 0].argmax().item()).all()


def test_every_index_of_sixteen_bits() -> None:
    scores = torch.zeros(65536, 2, 2)
    scores[65535, :, 0] = scores[40000, :, 1] = 1
    prototype_map = upsampled_argmax(scores, (2, 2), (3, 8))
    assert prototype_map.tolist() == 3 * [4 * [65535] + 4 * [40000]]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_compared_in_float32(dtype: torch.dtype) -> None:
    scores = smooth(20, 6, 7).to(dtype)
    expected = upsampled_argmax(scores.float(), (6, 7), (50, 60))
    assert np.array_equal(upsampled_argmax(scores, (6, 7), (50, 60)), expected)


def test_any_layout_and_gradients_will_do() -> None:
    scores = smooth(20, 6, 7)
    expected = upsampled_argmax(scores, (6, 7), (50, 60))
    last = scores.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    assert np.array_equal(upsampled_argmax(last, (6, 7), (50, 60)), expected)
    assert np.array_equal(upsampled_argmax(scores.clone().requires_grad_(), (6, 7), (50, 60)), expected)


@pytest.mark.parametrize("size", [(41, 37), (12, 14), (30, 35), (130, 190)])
def test_the_size_of_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch, size: Size) -> None:
    scores = noise(40, 6, 7)
    expected = upsampled_argmax(scores, (6, 7), size)
    for chunk in (1, 1000, 1 << 30):
        monkeypatch.setattr(upsampling, "CHUNK", chunk)
        assert np.array_equal(upsampled_argmax(scores, (6, 7), size), expected)


@pytest.mark.parametrize("kind", [noise, smooth])
def test_memory_is_a_few_labels_of_each_pixel(kind: Callable[..., Tensor]) -> None:
    scores = kind(256, 34, 60)
    tracemalloc.start()  # NumPy reports to it
    try:
        upsampled_argmax(scores, (34, 60), (1080, 1920))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 2 * 1080 * 1920 < peak < 40e6  # plain upsampling takes 2.1e9


def test_contenders_are_those_that_win_at_a_corner_and_those_that_might() -> None:
    corners = np.array([[3, 1, 0, 2, 2], [1, 3, 0, 2, 2], [1, 3, 0, 2, 2], [1, 1, 0, 2, 2]], np.float32)
    ids, counts = contenders(np.stack([corners, 2 * np.ones_like(corners)], axis=1))
    assert counts.tolist() == [3, 1]
    assert ids.T.tolist() == [[0, 1, 3], [0, 0, 0]]


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_scores_on_a_gpu() -> None:
    scores = smooth(20, 6, 7)
    assert np.array_equal(
        upsampled_argmax(scores.to("cuda"), (6, 7), (50, 60)), upsampled_argmax(scores, (6, 7), (50, 60))
    )
