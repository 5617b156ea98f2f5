"""Data sets on disk: the errors if a set is in none of its usual places."""

from collections.abc import Callable, Sequence
from pathlib import Path

from slotseg.errors import DataError


def check_data_dir(data_dir: Path, name: str) -> None:
    """Refuse a path that is no folder.

    Raises:
        DataError: If there is no such folder.
    """
    if not data_dir.is_dir():
        raise DataError(f"{data_dir} is not a folder; expected the folder of {name}, see --data-dir")


def nothing_complete(
    what: str, data_dir: Path, rows: Sequence[Sequence[str]], is_there: Callable[[Path], bool]
) -> DataError:
    """Error that lists every path that would do, and says which of them are missing.

    Args:
        what: Name of what was searched for.
        data_dir: Folder that was searched.
        rows: Paths below the folder. Any one row would do, and it needs all its paths.
        is_there: Tells whether a path exists.
    """
    lines = [", ".join(p if is_there(data_dir / p) else f"{p} (missing)" for p in row) for row in rows]
    return DataError(
        f"{what} is not in {data_dir}; expected one of these, of which every path is needed:\n"
        + "\n".join(f"  {line}" for line in lines)
    )
