"""Which cells are valid, what each weighs, and that projections know the valid ones alone."""

import pytest
import torch
from torch import Tensor, nn

from slotseg.method.heads import projector
from slotseg.networks.validity import project_valid, shared_cells, valid_cells, weights


def random_valid(*shape: int, share: float = 0.6) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0)) < share


def test_a_cell_counts_by_half() -> None:
    pixels = torch.zeros(1, 4, 6, dtype=torch.bool)
    pixels[0, 0, :2] = pixels[0, 2:, 2:4] = pixels[0, 1, 4] = True  # of four pixels: two; four; one
    assert valid_cells(pixels, (2, 3)).int().tolist() == [[[1, 0, 0], [0, 1, 0]]]
    cells = random_valid(2, 4, 4)
    assert torch.equal(valid_cells(cells, (4, 4)), cells)


def test_weights_make_a_mean_that_of_valid_cells() -> None:
    valid, values = random_valid(2, 4, 5), torch.randn(2, 4, 5)
    torch.testing.assert_close((values * weights(valid)).mean(), values[valid].mean())
    assert (weights(torch.ones(3, 7, 11, dtype=torch.bool)) == 1).all(), "not a bit changes"
    assert (weights(torch.zeros(3, 7, dtype=torch.bool)) == 0).all()


def test_nothing_is_known_of_views_whose_cells_all_count() -> None:
    pixels, maps = torch.ones(2, 16, 16, dtype=torch.bool), torch.zeros(2, 3, 4, 4)
    pixels[0, 0, 0] = False
    assert shared_cells(None, maps) is None
    assert shared_cells((pixels, pixels), maps) is None
    pixels[0, :4, :4] = False
    shared = shared_cells((pixels, torch.ones_like(pixels)), maps)
    assert shared is not None
    assert [int((~cells).sum()) for cells in shared] == [1, 0]


def test_projections_are_those_of_the_valid_cells_alone() -> None:
    torch.manual_seed(0)
    ours, alone = projector(5, 8, 3), projector(5, 8, 3)
    alone.load_state_dict(ours.state_dict())
    dense, valid = torch.randn(2, 5, 4, 6), random_valid(2, 4, 6)
    projected = project_valid(ours, dense, valid)
    expected = alone(dense.movedim(1, 3)[valid][:, :, None, None])[:, :, 0, 0]
    assert torch.equal(projected.movedim(1, 3)[valid], expected)
    assert (projected.movedim(1, 3)[~valid] == 0).all()
    assert all(torch.equal(a, b) for a, b in zip(ours.buffers(), alone.buffers(), strict=True))
    assert all(module.training for module in ours.modules())


@pytest.mark.parametrize("number", [0, 1])
def test_too_few_cells_leave_batchnorm_as_it_is(number: int) -> None:
    heads = projector(5, 8, 3)
    frozen = next(m for m in heads.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    before = [buffer.clone() for buffer in heads.buffers()]
    valid = torch.zeros(1, 4, 4, dtype=torch.bool)
    valid.view(-1)[:number] = True
    projected = project_valid(heads, torch.randn(1, 5, 4, 4), valid)
    projected.sum().backward()
    assert projected.isfinite().all()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in heads.parameters())
    assert all(torch.equal(a, b) for a, b in zip(heads.buffers(), before, strict=True))
    assert [m for m in heads.modules() if not m.training] == [frozen]
