"""Scenes with missing pixels, as satellite tiles have them."""

from collections.abc import Collection

import numpy as np

from slotseg.data.reading.photos import ArrayPhoto
from slotseg.data.scenes import draw_scene
from slotseg.data.views.sources import Scenes


class Corners(Scenes):
    """Eight scenes, of which some have no picture in a corner, and others none at all."""

    def __init__(self, corners: Collection[int] = range(8), nothing: Collection[int] = ()) -> None:
        super().__init__(8)
        self.corners, self.nothing = corners, nothing

    def open(self, index: int) -> ArrayPhoto:
        """The scene, with a fourth channel where pixels are missing."""
        image = draw_scene(index)[0]
        valid = np.ones(image.shape[:2], bool)
        if index in self.nothing:
            valid[:] = False
        elif index in self.corners:
            y, x = np.mgrid[: image.shape[0], : image.shape[1]]
            valid = x + y >= 0.8 * image.shape[0]
        else:
            return ArrayPhoto(image)
        return ArrayPhoto(np.dstack([np.where(valid[:, :, None], image, 128), 255 * valid]).astype(np.uint8))
