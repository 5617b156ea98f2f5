"""Segmenting thousands of files leaves neither memory nor open files behind."""

import gc
import os
import resource
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slotseg.cli import main
from slotseg.config import TrainConfig
from slotseg.model import SlotCon
from slotseg.segmenter import Segmenter

NUM_PHOTOS, EVERY = 10_000, 1_000
ALLOWED = 4 << 20
"""Bytes by which memory may grow once it is warm: of a stream, less than half a kilobyte a photo."""
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="memory and open files are read from /proc"),
]


def memory() -> int:
    """Bytes that this process has in use."""
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def open_files() -> list[str]:
    """What this process has open."""
    links = [Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd")]
    return sorted(os.readlink(link) for link in links if link.is_symlink())


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Photos are so small that a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


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
    names = sorted(photos.rglob("*.jpg"))
    list(segmenter.stream(names[:100]))
    opened, used, failed = open_files(), list[int](), 0
    for i, result in enumerate(segmenter.stream(names)):
        failed += result.error is not None
        if (i + 1) % EVERY == 0:
            used.append(memory())
    assert failed == NUM_PHOTOS // 100
    assert max(used) - used[0] < ALLOWED, used
    assert open_files() == opened


def test_a_command_of_ten_thousand_files(
    segmenter: Segmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    segmenter.save(tmp_path / "model.safetensors")
    words = [str(photos), "-o", str(tmp_path / "masks"), "--json", "--format", "coco", "--confidence", "--size", "32"]
    compute, used, opened = Segmenter.batch_scores, list[int](), list[int]()

    def watched(self: Segmenter, images: Sequence[NDArray[np.uint8]]) -> tuple[torch.Tensor, tuple[float, float]]:
        if len(used) % 100 == 0:
            used.append(memory())
            opened.append(len(open_files()))
        else:
            used.append(used[-1])
        return compute(self, images)

    monkeypatch.setattr(Segmenter, "batch_scores", watched)
    before = open_files()
    model = ["--checkpoint", str(tmp_path / "model.safetensors"), "--device", "cpu"]
    assert main(["segment", *words, *model], standalone_mode=False) == 3
    assert len(used) >= NUM_PHOTOS * 0.99 / 8
    warm = len(used) // 5
    assert max(used[warm:]) - used[warm] < ALLOWED, used[::100]
    assert max(opened) - opened[1] <= 2, "a photo and a mask may be open at that moment"
    assert open_files() == before
