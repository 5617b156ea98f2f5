"""What prototypes stand for: their best segments over any number of photos, and how they occur.

A segment is the pixels that a prototype wins in one photo. Its score is the mean cosine over them
(Wen et al., NeurIPS 2022, figure 3):

    s_k = sum(score_k * m_k) / sum(m_k),   m_k = [prototype k wins the cell] + 1e-6

Nothing is kept of a photo but its best segments, so memory does not grow with their number.
Letters: B images, K prototypes, H W pixels, h w feature cells, N photos.
"""

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

Picture = TypeVar("Picture")

EPSILON = 1e-6
"""So that a prototype that wins nothing has a score too, the mean over all cells."""
LEAST_SHARE = 0.01
"""Of a photo's cells that a segment covers at least, to be shown; smaller ones are often one odd cell."""


def segment_scores(scores: Tensor) -> Tensor:
    """Score of each prototype's segment in each image.

    Args:
        scores: Cosines, ``(B, K, h, w)``.

    Returns:
        ``(B, K)``.
    """
    wins = torch.zeros_like(scores).scatter_(1, scores.argmax(dim=1, keepdim=True), 1.0) + EPSILON
    return (scores * wins).sum(dim=(2, 3)) / wins.sum(dim=(2, 3))


@dataclass(frozen=True, order=True)
class BestSegment(Generic[Picture]):
    """A segment that is among the best of its prototype."""

    score: float
    order: int
    """Less for later photos, so that of equal scores the first photo stays."""
    name: str = field(compare=False)
    """Of the photo."""
    share: float = field(compare=False)
    """Of the photo's cells that it covers."""
    picture: Picture = field(compare=False)
    """What is kept of it to be shown."""


class Occurrences(Generic[Picture]):
    """Gathers segments and counts over photos.

    Args:
        num_prototypes: K.
        temperature: Of the softmax that says how sure a cell is.
        keep: Best segments that are kept of each prototype.

    Attributes:
        num_photos: N so far.
        shares: Sum over the photos of the share of its cells that each prototype wins, ``(K,)``.
        photos: In how many photos it wins any, ``(K,)``.
        together: In how many photos both of two win any, ``(K, K)``.
        assigned: Row i: sum over the photos in which i wins of the mean assignment of the cells that it wins to all
            prototypes, ``(K, K)``. The diagonal is how sure prototypes are, the rest what they are confused with.
    """

    def __init__(self, num_prototypes: int, temperature: float, keep: int = 5) -> None:
        self.temperature, self.keep = temperature, keep
        self.num_photos = 0
        self.shares = np.zeros(num_prototypes)
        self.photos = np.zeros(num_prototypes, np.int64)
        self.together = np.zeros((num_prototypes, num_prototypes), np.int32)
        self.assigned = np.zeros((num_prototypes, num_prototypes), np.float32)
        self._heaps: list[list[BestSegment[Picture]]] = [[] for _ in range(num_prototypes)]

    def add(self, name: str, scores: Tensor, picture: Callable[[int], Picture]) -> None:
        """Add a photo.

        Args:
            name: Of the photo.
            scores: Cosines, ``(K, h, w)``, of the cells that it covers.
            picture: What to keep of a prototype's segment; asked only of those that are among the best so far.
        """
        values = segment_scores(scores[None])[0].tolist()
        winners = scores.argmax(dim=0).flatten()
        shares = np.bincount(winners.cpu().numpy(), minlength=len(scores)) / len(winners)
        present = np.flatnonzero(shares)
        assignment = (scores.flatten(1) / self.temperature).softmax(dim=0)  # (K, h * w)
        for k in present.tolist():
            self.assigned[k] += assignment[:, winners == k].mean(dim=1).cpu().numpy()
            self._offer(k, values[k], float(shares[k]), name, picture)
        self.shares += shares
        self.photos[present] += 1
        self.together[np.ix_(present, present)] += 1
        self.num_photos += 1

    def _offer(self, k: int, score: float, share: float, name: str, picture: Callable[[int], Picture]) -> None:
        heap, is_full = self._heaps[k], len(self._heaps[k]) >= self.keep
        if share < LEAST_SHARE or (is_full and score <= heap[0].score):
            return
        found = BestSegment(score, -self.num_photos, name, share, picture(k))
        if is_full:
            heapq.heapreplace(heap, found)
        else:
            heapq.heappush(heap, found)

    @property
    def best(self) -> list[list[BestSegment[Picture]]]:
        """Of each prototype its best segments, the best first."""
        return [sorted(heap, reverse=True) for heap in self._heaps]
