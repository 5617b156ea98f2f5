"""The loader's processes keep their size over many epochs."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slotseg.config import ViewsConfig
from slotseg.data.views.batches import view_batches
from slotseg.data.views.sources import PhotoFolder

WORKERS, PHOTOS, BATCH, EPOCHS, SETTLED = 2, 32, 4, 50, 10
LIMIT = 3 * 2**20
"""Bytes by which a worker may grow after ``SETTLED`` epochs: a few batches under way, no photos."""
OWN = ("Private_Dirty:", "Swap:")
"""What a process has written and holds alone. Its part of files, such as torch, grows as other programs end."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="no /proc says what a process holds"),
]


class Leaky(PhotoFolder):
    """Keeps 20 kB of every photo it opens."""

    def open(self, index):
        kept.append(np.ones(20_000, np.uint8))
        return super().open(index)


kept = []


def held(pid):
    """Bytes of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(OWN))


def sizes(source):
    """Of each worker after each epoch, ``(EPOCHS, WORKERS)``."""
    per_epoch = len(source) // BATCH
    config = ViewsConfig(image_size=64)
    steps = EPOCHS * per_epoch
    batches = view_batches(
        source, config, batch_size=BATCH, seed=0, first_step=0, total_steps=steps + BATCH, workers=WORKERS
    )
    others, readings = multiprocessing.active_children(), []
    for step, _ in zip(range(1, steps + 1), batches, strict=False):
        if step % per_epoch == 0:
            workers = (process for process in multiprocessing.active_children() if process not in others)
            readings.append([held(process.pid) for process in workers])
    return np.array(readings)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(PHOTOS):
        coarse = Image.fromarray(rng.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((320 + 16 * (number % 5), 240)).save(tmp_path / f"{number}.jpg")
    return tmp_path


def growth(source):
    of_epoch = sizes(source)
    assert of_epoch.shape == (EPOCHS, WORKERS)
    return of_epoch[-1] - of_epoch[SETTLED - 1]


def test_workers_do_not_grow(folder):
    assert growth(PhotoFolder([folder])).max() < LIMIT


def test_a_worker_that_keeps_a_part_of_every_photo_is_seen(folder):
    assert growth(Leaky([folder])).min() > LIMIT
