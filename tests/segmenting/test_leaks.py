"""Segmenting thousands of files leaves neither memory nor open files behind."""

import gc
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slotseg.cli import main
from slotseg.config import TrainConfig
from slotseg.method.model import SlotCon
from slotseg.segmenting.segmenter import Segmenter

NUM_PHOTOS, EVERY = 10_000, 1_000
ALLOWED = 4 << 20
"""Bytes by which memory may grow once it is warm: of a stream, less than half a kilobyte a photo."""
Command = tuple[subprocess.Popen[bytes], Path]
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
    targets = []
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # another thread closed it meanwhile
            targets.append(os.readlink(f"/proc/self/fd/{name}"))
    return sorted(targets)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Photos are so small that a second thread only waits."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def segmenter(tiny_model: Callable[..., SlotCon], tiny_config: Callable[..., TrainConfig]) -> Segmenter:
    return Segmenter(tiny_model().teacher, tiny_config(), size=32, device="cpu")


@pytest.fixture(scope="module")
def photos(module_path: Path) -> Path:
    """Ten folders of 1,000 photos, of which one in a hundred is damaged."""
    top, rng = module_path / "photos", np.random.default_rng(0)
    for i in range(NUM_PHOTOS):
        path = top / str(i // EVERY) / f"{i}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 256, (24, 32, 3), np.uint8))
        if i % 100 == 0:
            path.write_bytes(path.read_bytes()[:300])
    return top


@pytest.fixture(scope="module")
def command(segmenter: Segmenter, photos: Path, module_path: Path) -> Iterator[Command]:
    """A command that has begun to segment the photos, and the file of what it prints; the stream goes on beside it.

    In a process of its own, as what others have left in memory would be given back meanwhile.
    """
    folder = module_path / "command"
    folder.mkdir()
    segmenter.save(folder / "model.safetensors")
    words = ["segment", str(photos), "-o", str(folder / "masks"), "--json", "--format", "coco", "--confidence"]
    words += ["--size", "32", "--checkpoint", str(folder / "model.safetensors"), "--device", "cpu"]
    watch = [sys.executable, "-c", "import test_leaks, sys; test_leaks.watch_command(sys.argv[1:])", *words]
    with (folder / "printed").open("wb") as printed:
        process = subprocess.Popen(watch, cwd=Path(__file__).parent, stdout=printed, stderr=subprocess.STDOUT)
    yield process, folder / "printed"
    process.kill()
    process.wait()


@pytest.mark.usefixtures("command")
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


def test_a_command_of_ten_thousand_files(command: Command) -> None:
    process, printed = command
    assert process.wait() == 0, printed.read_text()
    seen = json.loads(printed.read_text().splitlines()[-1])
    used, opened = seen["used"], seen["opened"]
    assert seen["exit_code"] == 3
    assert len(used) >= NUM_PHOTOS // EVERY
    warm = len(used) // 5
    assert max(used[warm:]) - used[warm] < ALLOWED, used
    assert max(opened) - min(opened) <= 6, "a few photos and a mask may be open at that moment"
    assert seen["after"] == seen["before"]


def watch_command(words: list[str]) -> None:
    """Run a command and print, as JSON, the memory in use and the number of open files at every hundredth batch."""
    torch.set_num_threads(1)
    compute, used, opened, batches = Segmenter.batch_scores, list[int](), list[int](), count()

    def watched(self: Segmenter, images: Sequence[NDArray[np.uint8]]) -> tuple[torch.Tensor, tuple[float, float]]:
        if next(batches) % 100 == 0:
            used.append(memory())
            opened.append(len(open_files()))
        return compute(self, images)

    Segmenter.batch_scores = watched  # type: ignore[method-assign]
    before = open_files()
    exit_code = main(words, standalone_mode=False)
    print(json.dumps({"exit_code": exit_code, "used": used, "opened": opened, "before": before, "after": open_files()}))
