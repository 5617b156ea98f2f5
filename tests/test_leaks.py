"""Segmenting thousands of files leaves neither memory nor open files behind."""

import gc
import os
import resource
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from slotseg.cli import main
from slotseg.config import TrainConfig
from slotseg.model import SlotCon
from slotseg.segmenter import Segmenter

NUM_PHOTOS, EVERY = 10_000, 1_000
ALLOWED = 4 << 20
"""Bytes by which memory may grow over 9,000 photos: less than half a kilobyte each."""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="memory and open files are read from /proc"),
]


class Watch:
    """Memory and open files, noted from time to time."""

    def __init__(self) -> None:
        self.used: list[int] = []
        self.opened: list[int] = []

    def look(self) -> None:
        """Note what this process has now."""
        gc.collect()
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        self.used.append(pages * resource.getpagesize())
        self.opened.append(len(os.listdir("/proc/self/fd")))

    def check(self) -> None:
        """Compare with the first look."""
        assert len(self.used) == NUM_PHOTOS // EVERY
        assert max(self.used) - self.used[0] < ALLOWED, self.used
        assert max(self.opened) <= self.opened[0], self.opened


@pytest.fixture
def segmenter(tiny_model: Callable[..., SlotCon], tiny_config: Callable[..., TrainConfig]) -> Segmenter:
    return Segmenter(tiny_model().teacher, tiny_config(), size=32, device="cpu")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten folders of 1,000 photos, of which one in a hundred is damaged."""
    top, rng = tmp_path_factory.mktemp("photos"), np.random.default_rng(0)
    for i in range(NUM_PHOTOS):
        path = top / str(i // EVERY) / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (24, 32, 3), np.uint8))
        if i % 100 == 0:
            path.write_bytes(path.read_bytes()[:300])
    return top


def test_a_stream_of_ten_thousand_files(segmenter: Segmenter, photos: Path) -> None:
    watch = Watch()
    failed = 0
    for i, result in enumerate(segmenter.stream(sorted(photos.rglob("*.jpg")))):
        failed += result.error is not None
        if (i + 1) % EVERY == 0:
            watch.look()
    assert failed == NUM_PHOTOS // 100
    watch.check()


def test_commands_for_ten_thousand_files(segmenter: Segmenter, photos: Path, tmp_path: Path) -> None:
    segmenter.save(tmp_path / "model.safetensors")
    watch = Watch()
    for folder in sorted(photos.iterdir()):
        words = [str(folder), "-o", str(tmp_path / "masks"), "--overwrite", "--overlay", "--json", "--format", "coco"]
        words += ["--checkpoint", str(tmp_path / "model.safetensors"), "--device", "cpu"]
        assert main(["segment", *words], standalone_mode=False) == 3
        watch.look()
    assert len(list((tmp_path / "masks").glob("*.png"))) == NUM_PHOTOS - NUM_PHOTOS // 100
    watch.check()
