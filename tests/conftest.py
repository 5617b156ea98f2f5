"""Builders of small models and inputs, shared by the tests."""

import logging
import os
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub.errors import OfflineModeIsEnabled
from PIL import Image
from torch import Tensor, nn

from slotseg.config import BackboneConfig, ModelConfig, TrainConfig, ViewsConfig
from slotseg.data.reading.photos import Photo
from slotseg.data.scenes import draw_scene
from slotseg.data.views.sources import Scenes
from slotseg.method.building import build_model
from slotseg.method.model import SlotCon
from slotseg.segmenting.segmenter import Segmenter
from slotseg.values import with_values

Pair = tuple[Tensor, Tensor]

TINY = TrainConfig(
    backbone=BackboneConfig(name="resnet18", stride=8, options={"channels": [8, 16, 16, 16], "layers": [1, 1, 1, 1]}),
    model=ModelConfig(num_prototypes=6, hidden_dim=16, projection_dim=8),
    views=ViewsConfig(image_size=64),
    batch_size=4,
    epochs=None,
    steps=2,
    precision="fp32",
    previews=0,
)


@pytest.fixture(scope="session")
def tiny_config() -> Callable[..., TrainConfig]:
    """Configuration of a tiny ResNet; takes changed settings by dotted name."""

    def build(values: dict[str, Any] | None = None) -> TrainConfig:
        return with_values(TINY, values or {})

    return build


@pytest.fixture(scope="session")
def tiny_model(tiny_config: Callable[..., TrainConfig]) -> Callable[..., SlotCon]:
    """A tiny model with the given settings, the same one at each call."""

    def build(values: dict[str, Any] | None = None) -> SlotCon:
        return build_model(tiny_config(values))

    return build


@pytest.fixture(scope="module")
def module_path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder that the tests of a module share. It is removed after the last of them; pytest's stay to the end."""
    path = tmp_path_factory.mktemp("module")
    yield path
    shutil.rmtree(path, ignore_errors=True)


class EventfulScenes(Scenes):
    """Eight scenes; something happens when the n-th of all photos that are asked for, counted from 1, is opened."""

    def __init__(self, events: dict[int, Callable[[], object]]) -> None:
        super().__init__(8)
        self.events, self.opened = events, 0

    def open(self, index: int) -> Photo:
        """The scene, after what happens."""
        self.opened += 1
        self.events.get(self.opened, lambda: None)()
        return super().open(index)


@pytest.fixture
def eventful_scenes() -> type[EventfulScenes]:
    """A source of eight scenes; takes what happens, by the number of the photo that is opened then."""
    return EventfulScenes


@pytest.fixture
def make_segmenter(
    tiny_model: Callable[..., SlotCon], tiny_config: Callable[..., TrainConfig]
) -> Callable[..., Segmenter]:
    """Tiny segmenters, untrained, whose features are normalised, so that several prototypes win pixels.

    Takes changed settings by dotted name, and a segmenter's options.
    """

    def build(values: dict[str, Any] | None = None, **options: Any) -> Segmenter:
        model = tiny_model(values)
        for module in model.teacher.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model.teacher(torch.randn(8, 3, 64, 64))
        return Segmenter(model.teacher, tiny_config(values), device="cpu", **options)

    return build


@pytest.fixture
def segmenter(make_segmenter: Callable[..., Segmenter]) -> Segmenter:
    """A tiny segmenter, untrained."""
    return make_segmenter()


@pytest.fixture
def saved_segmenter(
    tmp_path: Path, tiny_model: Callable[..., SlotCon], tiny_config: Callable[..., TrainConfig]
) -> Path:
    """The file of a tiny segmenter, untrained, in the test's folder."""
    file = tmp_path / "tiny.safetensors"
    Segmenter(tiny_model().teacher, tiny_config(), device="cpu").save(file)
    return file


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with eight photos, in the test's folder."""
    (tmp_path / "photos").mkdir()
    for i in range(8):
        Image.fromarray(draw_scene(i)[0]).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def exporting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """In the test's folder, without gradients; what the command line changes of the log is set back."""
    monkeypatch.chdir(tmp_path)
    package = logging.getLogger("slotseg")
    before = package.propagate, package.level, package.handlers
    with torch.no_grad():
        yield
    package.propagate, package.level, package.handlers = before


@pytest.fixture
def view_pairs() -> tuple[Pair, Pair, Pair]:
    """Images, overlap boxes and flips of three photos, as ``SlotCon.forward`` takes them."""
    g = torch.Generator().manual_seed(1)
    one, two = torch.randn(2, 3, 3, 64, 64, generator=g)
    boxes = (
        torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.1, 0.2, 0.9, 0.7], [0.5, 0.5, 1.0, 1.0]]),
        torch.tensor([[0.2, 0.2, 0.8, 0.8], [0.0, 0.3, 0.6, 1.0], [0.0, 0.0, 1.0, 0.5]]),
    )
    flips = torch.tensor([True, False, True]), torch.tensor([False, False, True])
    return (one, two), boxes, flips


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium on the PATH")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_as_in_a_terminal() -> None:
    """A shell starts with SIGINT ignored what it runs in the background, as do its children."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def _no_cache_in_the_users_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLOTSEG_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_hub() -> Iterator[None]:
    """The Hugging Face hub is switched off, and its cache is empty."""

    def offline(url: str, timeout: float) -> None:
        raise OfflineModeIsEnabled

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slotseg.exchange.hub.get_hf_file_metadata", offline)
        patch.setattr("slotseg.exchange.hub.try_to_load_from_cache", lambda repo, file: None)
        yield


@pytest.fixture
def monkeypatch(tmp_path: Path) -> Iterator[pytest.MonkeyPatch]:
    """pytest's own, but undone before the test's folder is removed, which may need what was patched."""
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(autouse=True)
def flushed() -> Iterator[list[str]]:
    """What was flushed to the disk, in order; no test waits for it."""
    paths: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("slotseg.files.os.fsync", lambda descriptor: paths.append(_path(descriptor)))
        yield paths


def _path(descriptor: int) -> str:
    link = Path(f"/proc/self/fd/{descriptor}")
    return os.readlink(link) if link.parent.exists() else ""


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk with room for one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = hasattr(os, "geteuid") and os.geteuid() == 0
    if mounted:
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
        mounted = subprocess.run(mount, capture_output=True).returncode == 0
    if not mounted:
        pytest.skip("only root can mount a small disk")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # tensors read from it may still be mapped


@pytest.fixture
def fill_disk() -> Callable[[Path, int], None]:
    """Fill a disk with a file ``ballast`` but for some bytes."""

    def fill(disk: Path, left: int) -> None:
        state = os.statvfs(disk)
        (disk / "ballast").write_bytes(bytes(max(state.f_bavail * state.f_frsize - left, 0)))

    return fill
