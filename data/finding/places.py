"""Data sets by name: what is said where none of the places that people have them in is complete."""

from collections.abc import Callable, Sequence
from pathlib import Path

from slotseg.errors import DataError


def check_data_dir(data_dir: Path, name: str) -> None:
    """Refuse the folder of a set that is none.

    Raises:
        DataError: If there is no such folder.
    """
    if not data_dir.is_dir():
        raise DataError(f"{data_dir} is not a folder; expected the folder of {name}, see --data-dir")


def nothing_complete(
    what: str, data_dir: Path, rows: Sequence[Sequence[str]], is_there: Callable[[Path], bool]
) -> DataError:
    """The error that says every path that would do, and which are missing.

    Args:
        what: What was looked for.
        data_dir: Where.
        rows: Paths below it; each row would do, and all paths of a row are needed.
        is_there: Whether there is what a path stands for.
    """
    lines = [", ".join(p if is_there(data_dir / p) else f"{p} (missing)" for p in row) for row in rows]
    return DataError(
        f"{what} is not in {data_dir}; expected one of these, of which every path is needed:\n"
        + "\n".join(f"  {line}" for line in lines)
    )
