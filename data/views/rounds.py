"""The order of a training whose views are looked at once and kept: what is kept when, and what each step draws of it.

If the maps of all photos fit into memory, there is one round. Otherwise photos are visited in rounds: those of a round
are looked at, some steps use them, and the next round's take their place. A training that sees each photo four times or
more visits all of them twice, with new views. A photo never gets more views than steps would have drawn anew.
All is a pure function of seed, step and these numbers. Letters: B photos of a batch, V kept views of a photo.
"""

from bisect import bisect_right
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from slotseg.data.views.batches import epoch_order, steps_per_epoch

VISITED_TWICE = 4
"""Number of times that a training sees each photo, from which on it visits them twice."""
_PASS, _ORDER, _PAIRS = 2, 3, 4  # last number of a seed, so that no two kinds of draws share theirs


@dataclass(frozen=True, kw_only=True)
class Draw:
    """What a step draws of the photos of its round."""

    rows: NDArray[np.int64]
    """Places of the photos in the round, ``(B,)``."""
    views: NDArray[np.int64]
    """Two different views of each, ``(B, 2)``."""


@dataclass(frozen=True, kw_only=True)
class Rounds:
    """Rounds of a training. A visit of all photos is one or several rounds."""

    num_photos: int
    """Photos of the source."""
    batch_size: int
    """B, photos of a step."""
    total_steps: int
    """Steps of the whole training."""
    seed: int
    """Seed of all draws."""
    num_views: int
    """V, views of a photo that are kept."""
    visits: int
    """Times that each photo is looked at."""
    per_visit: int
    """Rounds of a visit."""

    def __len__(self) -> int:
        """Number of rounds."""
        return self.visits * self.per_visit

    @property
    def batches(self) -> int:
        """Batches of different photos in a visit."""
        return _batches(self.num_photos, self.batch_size, self.total_steps)

    @property
    def largest(self) -> int:
        """Most photos of a round."""
        return max(len(self.photos(number)) for number in range(self.per_visit))

    @property
    def num_looked(self) -> int:
        """Photos that are looked at in the whole training, counted each time."""
        return self.visits * sum(len(self.photos(number)) for number in range(self.per_visit))

    def first_step(self, number: int) -> int:
        """First step of a round; of the round after the last, the number of steps."""
        return self.total_steps * self._batches_before(number) // (self.visits * self.batches)

    def round_of(self, step: int) -> int:
        """Number of the round of a step."""
        return bisect_right(range(len(self)), step, key=self.first_step) - 1

    def photos(self, number: int) -> NDArray[np.int64]:
        """Photos of a round, ``(M,)``, by their index in the source."""
        visit = number // self.per_visit
        order = _permutation(self.num_photos, self.seed, visit, 0, _PASS)
        if len(self) == 1 and self.total_steps >= steps_per_epoch(self.num_photos, self.batch_size):
            return order  # those that fill no batch too: another epoch may draw them
        before = visit * self.batches
        start, end = (self.batch_size * (self._batches_before(n) - before) for n in (number, number + 1))
        return order[start:end]

    def draw(self, step: int) -> Draw:
        """What a step draws. The photos of its round go round in epochs, each in another order."""
        number = self.round_of(step)
        num_photos = len(self.photos(number))
        epoch, batch = divmod(step - self.first_step(number), steps_per_epoch(num_photos, self.batch_size))
        order = _epoch_order(num_photos, self.batch_size, self.seed, number, epoch, _ORDER)
        rows = order[batch * self.batch_size : (batch + 1) * self.batch_size] % num_photos
        rng = np.random.default_rng([self.seed, step, 0, _PAIRS])
        one = rng.integers(self.num_views, size=self.batch_size)
        two = (one + rng.integers(1, self.num_views, size=self.batch_size)) % self.num_views
        return Draw(rows=rows, views=np.stack([one, two], axis=1))

    def _batches_before(self, number: int) -> int:
        visit, part = divmod(number, self.per_visit)
        return self.batches * visit + self.batches * part // self.per_visit


def plan_rounds(num_photos: int, batch_size: int, total_steps: int, *, kept: int, capacity: int, seed: int) -> Rounds:
    """As few rounds as memory allows; one keeps a batch of photos at least.

    Args:
        num_photos: Photos of the source.
        batch_size: B, photos of a step.
        total_steps: Steps of the whole training.
        kept: Most views of a photo to keep.
        capacity: Number of views whose maps fit into memory.
        seed: Seed of all draws.
    """
    batches = _batches(num_photos, batch_size, total_steps)
    seen = total_steps * batch_size / min(num_photos, batches * batch_size)  # times that a photo is drawn

    def rounds(visits: int, per_visit: int) -> Rounds:
        return Rounds(
            num_photos=num_photos,
            batch_size=batch_size,
            total_steps=total_steps,
            seed=seed,
            num_views=min(kept, max(2, int(2 * seen / visits))),
            visits=visits,
            per_visit=per_visit,
        )

    once = rounds(1, 1)
    if once.largest * once.num_views <= capacity:
        return once
    several = rounds(2 if seen >= VISITED_TWICE else 1, 1)
    fitting = max(1, capacity // (batch_size * several.num_views))
    return rounds(several.visits, -(-batches // fitting))


def _batches(num_photos: int, batch_size: int, total_steps: int) -> int:
    return min(total_steps, steps_per_epoch(num_photos, batch_size))


@lru_cache(maxsize=2)
def _permutation(num_photos: int, *seeds: int) -> NDArray[np.int64]:
    return np.random.default_rng(seeds).permutation(num_photos)


@lru_cache(maxsize=2)
def _epoch_order(num_photos: int, batch_size: int, *seeds: int) -> NDArray[np.int64]:
    return epoch_order(num_photos, batch_size, np.random.default_rng(seeds))
