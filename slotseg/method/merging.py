"""From many prototypes to K concepts: those that two views of a place confuse become one.

This is ours and not the paper's. With more prototypes than concepts, each finds a tight group of
cells. Prototypes that no cell needs fall out of use. The others are merged by how often the two
views of a photo take one for the other, and by how alike they are. No label is read.
Letters: P prototypes, K concepts, B images, h w cells.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from slotseg import distributed
from slotseg.networks.validity import weights

IN_USE = 0.1
"""Least share of the cells that a prototype in use wins, relative to an equal share of 1 / K."""
IN_USE_OF_ALL = 0.002
"""Least share of the cells that a prototype in use wins where K is not given."""
SIZE_EXPONENT = 0.8
"""Exponent of the sizes that divide a pair's confusion: at 0.5 large concepts swallow all, at 1 all grow alike."""
IN_VIEWS = 0.8
"""Least closeness at which two prototypes are one concept where K is not given, by confusion in training's views."""
IN_LOOKS = 0.1
"""The same by confusion in a decoder's looks at whole photos (``Confusion.of_alike``): they confuse less."""
LIKENESS = 0.35
"""Difference of two pairs' cosines at which the more alike pair counts as confused e times as much."""


class Confusion(nn.Module):
    """Running shares of how often the teacher takes prototype i for j in the two views of one place.

    Args:
        num_prototypes: P.
        temperature: Softmax temperature of the assignment.
        momentum: Weight of the old shares in an update.

    Attributes:
        value: Mean over aligned cells of the product of both views' assignments, symmetric, ``(P, P)``.
        wins: Share of the cells that each prototype wins, ``(P,)``.
    """

    value: Tensor
    wins: Tensor

    def __init__(self, num_prototypes: int, temperature: float, momentum: float = 0.99) -> None:
        super().__init__()
        self.temperature, self.momentum = temperature, momentum
        self.register_buffer("value", torch.zeros(num_prototypes, num_prototypes))
        self.register_buffer("wins", torch.zeros(num_prototypes))

    @torch.no_grad()
    def update(self, one: Tensor, two: Tensor, valid: Tensor | None = None) -> None:
        """Move towards the shares of a batch of aligned scores, each ``(B, P, h, w)``, of all processes.

        ``valid`` are the cells that count, boolean, ``(B, h, w)``; None for all. Without any, nothing moves.
        """
        number = len(self.wins)
        cells = [scores.movedim(1, 0).reshape(number, -1) for scores in (one, two)]
        a, b = ((c / self.temperature).softmax(dim=0) for c in cells)
        weight = torch.ones_like(a[0])
        if valid is not None:
            if not distributed.anywhere(bool(valid.any()))[0]:
                return
            weight = weights(valid).flatten()
            a = a * weight
        both = a @ b.T / a.shape[1]
        winners = torch.cat(cells, dim=1).argmax(dim=0)
        wins = torch.zeros_like(self.wins).scatter_add_(0, winners, weight.to(self.wins).repeat(2)) / len(winners)
        for old, new in ((self.value, (both + both.T) / 2), (self.wins, wins)):
            old.mul_(self.momentum).add_(distributed.mean(new.to(old)), alpha=1 - self.momentum)

    def of_alike(self, prototypes: Tensor) -> Tensor:
        """Confusion of each pair times exp(cos / ``LIKENESS``) of its prototypes ``(P, D)``: ``(P, P)``."""
        directions = F.normalize(prototypes.detach().float(), dim=1)
        return self.value * (directions @ directions.T / LIKENESS).exp()


def merge_confused(
    confusion: NDArray[np.floating[Any]],
    wins: NDArray[np.floating[Any]],
    num_concepts: int | None,
    least: float = IN_VIEWS,
) -> NDArray[np.int64]:
    """Agglomerate prototypes to concepts.

    First every prototype out of use joins the one it is confused with most. Then the pair of the
    largest closeness c_ij / (c_i c_j)^a becomes one, again and again. Here c_ij is the confusion
    of i and j, c_i the sum of c_ij over j, and a ``SIZE_EXPONENT``. The confusions of a merged pair are summed.

    Args:
        confusion: Confusion of each pair, symmetric, not negative, ``(P, P)``.
        wins: Share of the cells that each prototype wins, ``(P,)``.
        num_concepts: K, at most P. None: merge while the largest closeness is at least ``least``.
        least: ``IN_VIEWS`` or ``IN_LOOKS``, as the confusion was counted.

    Returns:
        Concept of each prototype, 0..K-1 in the order of their first prototype, shape ``(P,)``.
    """
    pairs = confusion / max(confusion.sum(), 1e-12)
    wins = wins / max(wins.sum(), 1e-12)
    concept, alive = np.arange(len(pairs)), np.ones(len(pairs), bool)

    def join(kept: int, lost: int) -> None:
        pairs[kept] += pairs[lost]
        pairs[:, kept] += pairs[:, lost]
        concept[concept == lost] = kept
        alive[lost] = False

    num_used = int((wins > (IN_USE / num_concepts if num_concepts else IN_USE_OF_ALL)).sum())
    for lost in np.argsort(-wins, kind="stable")[max(num_used, num_concepts or 2) :][::-1]:
        alive[lost] = False
        join(int(np.where(alive, pairs[lost], -1.0).argmax()), int(lost))
    while alive.sum() > (num_concepts or 2):
        size = np.maximum(pairs[:, alive].sum(axis=1), 1e-12) ** SIZE_EXPONENT
        closeness = np.where(alive[:, None] & alive, pairs / np.outer(size, size), -1.0)
        np.fill_diagonal(closeness, -1.0)
        if num_concepts is None and closeness.max() < least:
            break
        kept, lost = sorted(divmod(int(closeness.argmax()), len(pairs)))
        join(kept, lost)
    return np.unique(concept, return_inverse=True)[1].reshape(-1).astype(np.int64)
