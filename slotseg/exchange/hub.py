"""The Hugging Face hub: what its cache holds here, and whether it answers before anybody waits for it.

Behind a firewall that drops packets, huggingface_hub tries again for most of a minute and says so on the screen. Here
a thread asks once, and is left behind if no answer comes: no timeout of a socket covers a name server that is silent.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from urllib.parse import urlsplit

from huggingface_hub import (
    constants,
    get_hf_file_metadata,
    get_session,
    hf_hub_download,
    hf_hub_url,
    try_to_load_from_cache,
)
from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)

FILE = "model.safetensors"
"""File of a repository that timm takes weights from first."""
PATIENCE = 12.0
"""Seconds without a byte after which a download is given up."""
LOOK_EVERY = 0.2
"""Seconds between two looks at how much has come."""
PIECE = 1 << 14
"""Bytes that are written at once."""


def cached(repo: str) -> Path | None:
    """File of weights in the hub's cache on this machine. No network is used."""
    found = try_to_load_from_cache(repo, FILE)
    return Path(found) if isinstance(found, str) else None


def place(repo: str) -> str:
    """Host and name of a repository, as people read them."""
    return f"{_host(hf_hub_url(repo, FILE))}/{repo}"


def unreachable(repo: str, seconds: float) -> str | None:
    """Reason why weights cannot be downloaded now. None if the hub answers in time.

    Args:
        repo: Repository, such as ``timm/resnet50.a1_in1k``.
        seconds: Most seconds to wait for an answer.
    """
    url = hf_hub_url(repo, FILE)
    if urlsplit(url).scheme not in ("http", "https"):
        return f"HF_ENDPOINT is {constants.ENDPOINT!r}, which is no address such as https://huggingface.co"
    answers: SimpleQueue[str | None] = SimpleQueue()
    Thread(target=lambda: answers.put(_ask(url, seconds)), daemon=True).start()
    try:
        return answers.get(timeout=seconds)
    except Empty:
        return f"{_host(url)} does not answer within {seconds:g} seconds"


class StalledError(Exception):
    """A download of which no byte comes any more; the message is a reason in words."""


def fetch(repo: str) -> Path:
    """Download a repository's weights into the hub's cache, for as long as bytes come, however slowly.

    A download that stalls is left behind in its thread, where huggingface_hub ends it within a minute or so.

    Raises:
        StalledError: If no byte comes for ``PATIENCE``.
        EntryNotFoundError: If the repository has its weights in another file.
        Exception: As huggingface_hub and its HTTP library raise.
    """
    answers: SimpleQueue[str | Exception] = SimpleQueue()

    def download() -> None:
        try:
            answers.put(hf_hub_download(repo, FILE))
        except Exception as error:
            answers.put(error)

    with _in_pieces():
        Thread(target=download, daemon=True).start()
        received, heard = -1, time.monotonic()
        while time.monotonic() - heard < PATIENCE:
            try:
                answer = answers.get(timeout=LOOK_EVERY)
            except Empty:
                if received != (received := _received(repo)):
                    heard = time.monotonic()
                continue
            if isinstance(answer, Exception):
                raise answer
            return Path(answer)
    raise StalledError(f"{_host(hf_hub_url(repo, FILE))} has sent nothing for {PATIENCE:g} seconds")


@contextmanager
def _in_pieces() -> Iterator[None]:
    """Let huggingface_hub write small pieces as they come, by HTTP alone, so that a file's size tells how it goes."""
    changes = {"DOWNLOAD_CHUNK_SIZE": PIECE, "HF_HUB_DISABLE_XET": True}
    before = {name: getattr(constants, name) for name in changes if hasattr(constants, name)}  # versions differ
    try:
        for name in before:
            setattr(constants, name, changes[name])
        yield
    finally:
        for name, value in before.items():
            setattr(constants, name, value)


def _received(repo: str) -> int:
    """Bytes of a repository in the cache, of whole files and others."""
    blobs = Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}" / "blobs"
    total = 0
    for file in blobs.glob("*"):
        with suppress(OSError):  # it was renamed or removed meanwhile
            total += file.stat().st_size
    return total


@contextmanager
def quiet() -> Iterator[None]:
    """Keep huggingface_hub's warnings and progress bars off the screen for the length of the block."""
    logger = logging.getLogger("huggingface_hub")
    level = logger.level
    chosen = constants.HF_HUB_DISABLE_PROGRESS_BARS is not None  # by the user
    shown = not chosen and not are_progress_bars_disabled()
    logger.setLevel(logging.CRITICAL)
    if shown:
        disable_progress_bars()
    try:
        yield
    finally:
        logger.setLevel(level)
        if shown:
            enable_progress_bars()


def _host(url: str) -> str:
    return urlsplit(url).hostname or url


def _ask(url: str, seconds: float) -> str | None:
    """Ask the hub about a file, and the host that it names for the content. Returns what is wrong."""
    host = _host(url)
    try:
        metadata = get_hf_file_metadata(url, timeout=seconds)
        if metadata.commit_hash is None:
            return f"another server answers in place of {host}"
        host = _host(metadata.location)
        if metadata.location != url:
            get_session().head(metadata.location, timeout=seconds)
    except EntryNotFoundError:  # it may have weights in another file
        return None
    except OfflineModeIsEnabled:
        return "HF_HUB_OFFLINE is set"
    except HfHubHTTPError as error:
        return f"{host} answers with status {error.response.status_code}"
    except Exception as error:  # the HTTP library's own, which differs by version
        if "Timeout" in type(error).__name__:
            return f"{host} does not answer within {seconds:g} seconds"
        return f"{host} cannot be reached ({type(error).__name__})"
    return None
