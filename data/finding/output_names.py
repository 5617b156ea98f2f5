"""Where the outputs of several inputs go, so that none replaces another's."""

import os
from collections import Counter
from pathlib import Path

from slotseg.data.finding.photo_trees import stem


def names_of_files(files: list[Path]) -> dict[Path, Path]:
    """Outputs of files that words name: their names, below as many folders as it takes; suffixes only if needed."""
    same = Counter(file.name for file in files)
    common = {name: common_folder([os.path.abspath(f.parent) for f in files if f.name == name]) for name in same}
    named = {f: below(f, Path(common[f.name])) if same[f.name] > 1 else Path(f.name) for f in files}
    stems = Counter(stem(str(path)) for path in named.values())
    return {f: path if stems[stem(str(path))] > 1 else Path(stem(str(path))) for f, path in named.items()}


def prefixes_of_trees(bases: set[str]) -> dict[str, Path]:
    """The folder of its own for each of several trees; for one of them there is none."""
    if len(bases) == 1:
        return dict.fromkeys(bases, Path())
    same = Counter(os.path.basename(base) for base in bases)
    common = {
        name: common_folder([os.path.dirname(base) for base in bases if os.path.basename(base) == name])
        for name in same
    }
    return {base: below(Path(base), Path(common[os.path.basename(base)])) for base in bases}


def common_folder(folders: list[str]) -> str:
    """The deepest folder that holds absolute paths; empty for several drives of Windows."""
    try:
        return os.path.commonpath(folders)
    except ValueError:
        return ""


def below(path: Path, folder: Path) -> Path:
    """``path`` as seen from a folder that holds it; by its name where none does."""
    try:
        return Path(os.path.abspath(path)).relative_to(folder)
    except ValueError:
        return Path(path.name)
