"""One file about many photos, written whole at the end without keeping the photos in memory."""

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from slotseg.errors import DataError
from slotseg.files import replacing


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write into a sentence.

    Raises:
        DataError: If the block cannot write.
    """
    try:
        yield
    except OSError as error:
        raise DataError(f"{path} cannot be written ({error.strerror}); choose another --output") from error


class SpooledFile:
    """A file whose parts are gathered in temporary files beside it.

    Those have no names, so that not even a killed process leaves them behind. Leaving the ``with`` block writes the
    file, unless an error or an interruption is the reason; then an earlier file stays as it was.

    Args:
        path: The file; its folder is made if it does not exist.
        num_spools: How many parts grow side by side.

    Raises:
        DataError: If the folder cannot be written.
    """

    def __init__(self, path: Path, num_spools: int) -> None:
        self.path = path
        self._closing = contextlib.ExitStack()
        with writing(path.parent):
            path.parent.mkdir(parents=True, exist_ok=True)
            self.spools: list[IO[bytes]] = [
                self._closing.enter_context(tempfile.TemporaryFile(dir=path.parent))  # noqa: SIM115
                for _ in range(num_spools)
            ]
        self._is_open = True

    def write_whole(self, file: IO[bytes]) -> None:
        """Write everything; the spools are rewound."""
        raise NotImplementedError

    def close(self) -> None:
        """Write the file and drop the spools; a second call does nothing.

        Raises:
            DataError: If it cannot be written.
        """
        if not self._is_open:
            return
        self._is_open = False
        with self._closing, writing(self.path):
            for spool in self.spools:
                spool.seek(0)
            with replacing(self.path) as temporary, temporary.open("wb") as file:
                self.write_whole(file)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.close()
        self._is_open = False
        self._closing.close()
