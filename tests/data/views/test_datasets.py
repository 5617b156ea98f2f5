import numpy as np
import pytest
from PIL import Image

from slotseg.data.views.sources import PhotoFolder, Scenes
from slotseg.errors import DataError


def test_photo_folder(tmp_path):
    (tmp_path / "b").mkdir()
    for name, value in (("b/two.png", 2), ("a.png", 1)):
        Image.new("RGB", (4, 3), (value, 0, 0)).save(tmp_path / name)
    photos = PhotoFolder([tmp_path / "b", tmp_path / "a.png"])
    assert [photos.name(i) for i in range(len(photos))] == [str(tmp_path / n) for n in ("a.png", "b/two.png")]
    assert [photos.open(i).pixels()[0, 0, 0] for i in range(len(photos))] == [1, 2]
    with pytest.raises(DataError, match="gone does not exist"):
        PhotoFolder([tmp_path / "gone"])


def test_scenes():
    scenes = Scenes(3)
    assert len(scenes) == 3
    assert scenes.name(2) == "scene-2"
    assert len({scenes.open(i).pixels().tobytes() for i in range(3)}) == 3
    assert np.array_equal(scenes.open(1).pixels(), Scenes(9).open(1).pixels())
