"""Lists of the photos of a split to score: all, those of a file, or the curated list of COCO-Stuff-27.

A list is a filter for evaluation. The curated list is made from labels, so training on it is not
unsupervised. Letters: H W pixels.
"""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from slotseg.data.finding.path_lists import parse_path_list
from slotseg.data.finding.walk import IMAGE_SUFFIXES
from slotseg.data.labelled.annotations.photo_names import one_form
from slotseg.data.labelled.taxonomy import Taxonomy, load_taxonomy
from slotseg.errors import DataError
from slotseg.files import write_json

log = logging.getLogger(__name__)

CURATED_SIDE = 360
"""Least height and width of a curated photo's label map."""

PUBLISHED = {
    "train2017": (49_629, "3b837594a81880a70f177afab906fc45147d8b9c2c4f51132f784e41941812f9"),
    "val2017": (2_175, "7c629734c88f1a74bba6311e01d4d9fe976df84f07cb4fc86452ce5116e51655"),
}
"""Length and SHA-256 of the published curated lists of COCO 2017."""


@dataclass(frozen=True, kw_only=True)
class ImageList:
    """Keys of photos, in the order in which they are scored."""

    name: str
    """Name of the list: ``all``, ``curated``, or the path of its file."""
    keys: tuple[str, ...]
    """Keys of the photos: paths below the folder of the split, without suffix."""
    published: bool | None = None
    """Whether the digest is the published one; None if none was published."""

    @property
    def digest(self) -> str:
        """SHA-256 of the keys, one a line."""
        return _sha256("".join(f"{key}\n" for key in self.keys))

    @classmethod
    def of(cls, keys: Sequence[str], name: str = "all") -> "ImageList":
        """Make a list, by default that of all photos."""
        return cls(name=name, keys=tuple(keys))


def read_image_list(path: Path, known: Collection[str] = ()) -> ImageList:
    """Read a list from a text file with a key or file name a line. Empty lines are left out.

    Args:
        path: File, in UTF-8 or UTF-16.
        known: Keys of the photos that there are. Of several ways to read a line, one that gives such a key is taken.

    Raises:
        DataError: If it cannot be read, is empty, or names a photo twice.
    """
    try:
        text = parse_path_list(path.read_bytes(), path.parent, str(path)).text
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror}); expected a text file with a photo's name a line"
        ) from error
    keys = [_key(line.strip(), known) for line in text.splitlines() if line.strip()]
    twice = next((key for key, count in Counter(keys).items() if count > 1), None)
    if twice is not None:
        raise DataError(f"{path} names the photo {twice} twice; expected a text file with each photo's name on a line")
    return ImageList.of(keys, str(path))


def _key(line: str, known: Collection[str]) -> str:
    """Key that a line of a list stands for: as it is, without suffix, with slashes, or in another form of Unicode."""
    whole = line.replace("\\", "/").removeprefix("./")
    bare = whole.rpartition(".")[0] if whole.lower().endswith(IMAGE_SUFFIXES) else whole
    return next((key for key in (line, whole, bare, one_form(whole), one_form(bare)) if key in known), bare)


def is_curated(label_map: NDArray[Any], where: str = "the label map") -> bool:
    """Whether a photo belongs to the curated list of COCO-Stuff-27.

    It does if it is at least 360 pixels high and wide, and at least 75 % of all its pixels are stuff. Void
    pixels and things count against it.

    Args:
        label_map: COCO-Stuff category ids - 1, ``(H, W)``.
        where: Name of the label map in messages.

    Raises:
        LabelError: If the label map has another encoding.
    """
    classes = _cocostuff27().class_map(label_map, where)
    if min(label_map.shape) < CURATED_SIDE:
        return False
    return 4 * int(np.isin(classes, _cocostuff27().of_kind("stuff")).sum()) >= 3 * label_map.size


def curated_list(
    split: str,
    keys: Sequence[str],
    read: Callable[[str], NDArray[Any]],
    folder: Path,
    published: dict[str, tuple[int, str]] = PUBLISHED,
) -> ImageList:
    """Derive the curated list from label maps, or take it from the cache beside the data.

    Args:
        split: Name of the split, such as ``val2017``.
        keys: Keys of all photos of the split.
        read: Function that gives the label map of a key.
        folder: Folder of the data. The cache is ``slotseg-curated-<split>.json`` in it, if it can be written.
        published: Length and digest of the published list of each split.

    Raises:
        DataError: If a label map cannot be read, or no photo is curated.
    """
    file = folder / f"slotseg-curated-{split}.json"
    all_keys = ImageList.of(sorted(keys))
    curated = _read_cache(file, all_keys.digest)
    if curated is None:
        bar = tqdm(all_keys.keys, unit="label map", desc=f"curated list of {split}", disable=None)
        curated = [key for key in bar if is_curated(read(key), key)]
        _write_cache(file, all_keys.digest, curated)
    if not curated:
        raise DataError(f"no photo of {split} fulfils the rule of the curated list; expected COCO's photos")
    return _compared(ImageList.of(curated, "curated"), published.get(split))


def _compared(curated: ImageList, published: tuple[int, str] | None) -> ImageList:
    if published is None:
        return curated
    number, digest = published
    # The published digest is of the bare lines; whether the last one ends in a newline is not documented.
    same = digest in (curated.digest, _sha256("\n".join(curated.keys)))
    if not same:
        log.warning(
            "The curated list has %d photos and another digest than the published one of %d: compare the score with "
            "published ones with care.",
            len(curated.keys),
            number,
        )
    return ImageList(name=curated.name, keys=curated.keys, published=same)


def _read_cache(file: Path, all_digest: str) -> list[str] | None:
    """Keys from the cache, if they were derived from the same photos."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content["derived_from"] == all_digest:
            return [str(key) for key in content["keys"]]
        log.info("%s was derived from other photos and is made anew.", file)
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s cannot be used (%s) and is made anew.", file, error)
    return None


def _write_cache(file: Path, all_digest: str, keys: list[str]) -> None:
    try:
        write_json(file, {"derived_from": all_digest, "keys": keys})
        log.info("The curated list is kept in %s.", file)
    except OSError as error:
        log.info("The curated list is not kept, as %s cannot be written (%s).", file, error.strerror)


@cache
def _cocostuff27() -> Taxonomy:
    return load_taxonomy("cocostuff27")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
