"""What prototypes stand for: their best segments over any number of photos, and how they occur.

A segment is the pixels that a prototype wins in one photo. Its score is the mean cosine over them
(Wen et al., NeurIPS 2022, figure 3):

    s_k = sum(score_k * m_k) / sum(m_k),   m_k = [prototype k wins the cell] + 1e-6

Only the best segments are kept, so memory does not grow with the number of photos.
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
"""Weight added to every cell. It gives a prototype that wins nothing a score too, the mean over all cells."""
LEAST_SHARE = 0.01
"""Least share of a photo's cells that a shown segment covers. Smaller ones are often one odd cell."""


def segment_scores(scores: Tensor) -> Tensor:
    """Score of each prototype's segment in each image.

    Args:
        scores: Cosines, ``(B, K, h, w)``.

    Returns:
        Scores of the segments, ``(B, K)``.
    """
    wins = torch.zeros_like(scores).scatter_(1, scores.argmax(dim=1, keepdim=True), 1.0) + EPSILON
    return (scores * wins).sum(dim=(2, 3)) / wins.sum(dim=(2, 3))


@dataclass(frozen=True, order=True)
class BestSegment(Generic[Picture]):
    """A segment that is among the best of its prototype."""

    score: float
    order: int
    """Number that falls with each photo, so that of equal scores the first photo stays."""
    name: str = field(compare=False)
    """Name of the photo."""
    share: float = field(compare=False)
    """Share of the photo's cells that the segment covers."""
    picture: Picture = field(compare=False)
    """Picture that is kept to show the segment."""


class Occurrences(Generic[Picture]):
    """Gathers segments and counts over photos.

    Args:
        num_prototypes: Number of prototypes, K.
        temperature: Temperature of the softmax that says how sure a cell is; None where photos come as assignments.
        keep: Number of best segments that are kept of each prototype.

    Attributes:
        num_photos: Number of photos so far, N.
        shares: Share of a photo's cells that each prototype wins, summed over the photos, ``(K,)``.
        photos: Number of photos in which each prototype wins a cell, ``(K,)``.
        together: Number of photos in which both of two prototypes win a cell, ``(K, K)``.
        assigned: Mean assignment to all prototypes of the cells that prototype i wins in a photo, in row i, summed
            over those photos, ``(K, K)``. The diagonal is how sure prototypes are, the rest what they are confused
            with.
    """

    def __init__(self, num_prototypes: int, temperature: float | None, keep: int = 5) -> None:
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
            name: Name of the photo.
            scores: Cosines of the cells that the photo covers, ``(K, h, w)``, or assignments, which sum to 1 over K.
            picture: Function that makes the picture to keep of a prototype's segment. It is called only for segments
                that are among the best so far.
        """
        if not scores[0].numel():  # a photo without any picture
            return
        values = segment_scores(scores[None])[0].tolist()
        winners = scores.argmax(dim=0).flatten()
        shares = np.bincount(winners.cpu().numpy(), minlength=len(scores)) / len(winners)
        present = np.flatnonzero(shares)
        assignment = scores.flatten(1)  # (K, h * w)
        if self.temperature is not None:
            assignment = (assignment / self.temperature).softmax(dim=0)
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
        """Best segments of each prototype, the best first."""
        return [sorted(heap, reverse=True) for heap in self._heaps]
