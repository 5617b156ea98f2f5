"""Missing cells: where a view holds no picture, nothing enters a loss, a slot, the centre or a count. It is ours.

Letters: B images, C channels, D projection dimension, h w feature cells.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from slotseg import distributed

LEAST = 0.5
"""Least share of a cell that is picture for it to count."""

Pair = tuple[Tensor, Tensor]


def valid_cells(valid: Tensor, grid: tuple[int, int]) -> Tensor:
    """Cells of which at least half is picture.

    Args:
        valid: Which pixels are valid, boolean, ``(B, H, W)``; or which cells are.
        grid: Height and width in cells, h and w.

    Returns:
        Which cells are valid, boolean, ``(B, h, w)``.
    """
    return F.adaptive_avg_pool2d(valid.float(), grid) >= LEAST


def shared_cells(valid: Pair | None, maps: Tensor) -> Pair | None:
    """Which cells of two views are valid, as all processes need to know it.

    Args:
        valid: Which pixels, or cells, of each view are valid, ``(B, H, W)``; None if all are.
        maps: Dense maps of a view, ``(B, C, h, w)``.

    Returns:
        Which cells of each view are valid, ``(B, h, w)``. None if all cells of all processes are.
    """
    grid = (maps.shape[2], maps.shape[3])
    cells = None if valid is None else (valid_cells(valid[0], grid), valid_cells(valid[1], grid))
    some_missing = cells is not None and not all(c.all() for c in cells)
    if not distributed.anywhere(some_missing)[0]:
        return None
    whole = torch.ones(len(maps), *grid, dtype=torch.bool, device=maps.device)
    return cells or (whole, whole)


def weights(valid: Tensor) -> Tensor:
    """Weights that turn a mean over all cells into one over valid cells.

    Args:
        valid: Which cells are valid, boolean, of any shape, the same in all processes.

    Returns:
        Weights of that shape, float32: 0 for missing cells, the same for all others. Their mean over all processes is
        1, so that each process weighs as much as it has valid cells. All are 0 where no process has any.
    """
    number = distributed.total(valid.sum())
    return valid * (valid.numel() * distributed.world_size() / number.clamp(min=1))


def project_valid(projector: nn.Module, dense: Tensor, valid: Tensor) -> Tensor:
    """Projections of valid cells; BatchNorm's statistics are theirs alone.

    Where there are fewer than two valid cells, of which there are no statistics, BatchNorm takes its running ones.

    Args:
        projector: Projector that treats each cell alone, as ``slotseg.method.heads`` builds it.
        dense: Dense map, ``(B, C, h, w)``.
        valid: Which cells are valid, boolean, ``(B, h, w)``.

    Returns:
        Projections, ``(B, D, h, w)``; 0 in missing cells.
    """
    cells = dense.movedim(1, 3)[valid]
    with _settled(projector, len(cells)):
        projected: Tensor = projector(cells[:, :, None, None])[:, :, 0, 0]
    whole = projected.new_zeros(*valid.shape, projected.shape[1])
    return whole.masked_scatter(valid[..., None], projected).movedim(3, 1)


@contextmanager
def _settled(projector: nn.Module, number: int) -> Iterator[None]:
    """Let BatchNorms rest within the block where they would get statistics of fewer than two cells."""
    norms = [m for m in projector.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.training]
    if any(isinstance(norm, nn.SyncBatchNorm) for norm in norms):
        number = int(distributed.total(torch.tensor(number, device=next(projector.parameters()).device)))
    resting = norms if number < 2 else []
    for norm in resting:
        norm.eval()
    try:
        yield
    finally:
        for norm in resting:
            norm.train()
