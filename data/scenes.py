"""The built-in scenes: small drawn pictures with exact labels, for demos, tests and quick experiments.

A class is a texture with a place or a shape. The base colour is drawn anew for every region and
every texture is centred on it, so colour carries no class information: clustering pixels by colour
fails here, and a method has to learn what surfaces look like.

NumPy alone draws them, and every random number comes from one seeded generator. Patterns consist of sums, products
and floors, which round alike on every platform, so that a seed gives the same picture everywhere. Letters: H W
pixels.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

CLASS_NAMES: tuple[str, ...] = ("sky", "grass", "water", "sand", "building", "tree", "ball", "leaf")
"""Names of the classes; a label is an index into this tuple."""

SCENE_SIZE = 96
"""Default side of a scene, in pixels."""

_BASE_COLOR = (60, 196)  # texture and noise stay within 60 grey levels, so nothing is clipped
_CONTRAST = 39  # grey levels per unit of texture; a texture stays within -1.32..1.32
_NOISE = 8  # grey levels

Coordinate = NDArray[np.intp]
"""Coordinates in pixels from the top left corner: ``y``, shape ``(H, 1)``, or ``x``, shape ``(1, W)``."""

Mask = NDArray[np.bool_]
"""Pixels of a region, in any shape that broadcasts to ``(H, W)``."""

Texture = NDArray[np.float64]
"""Brightness around a mean of 0, about -1..1, in any shape that broadcasts to ``(H, W)``."""


def draw_scene(seed: int, size: int = SCENE_SIZE) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Draw one scene: sky over one ground, usually buildings on the horizon, 1 to 4 objects in front.

    Things grow with ``size``. Textures keep their scale in pixels.

    Args:
        seed: Seed of the scene. The same seed and size give the same scene.
        size: Side of the square picture, in pixels. From about 64 on, all textures have room to show.

    Returns:
        The RGB picture, shape ``(size, size, 3)``, and its labels, shape ``(size, size)``. Labels are
        indices into ``CLASS_NAMES``, and every pixel has one.

    Raises:
        ValueError: If ``size`` is below 32.
    """
    if size < 32:
        raise ValueError(f"size is {size}, but a scene needs at least 32 pixels a side")
    rng = np.random.default_rng(seed)
    regions = _compose(rng, size)
    index = np.zeros((size, size), np.intp)
    texture = np.zeros((size, size))
    for i, region in enumerate(regions):
        np.copyto(index, i, where=region.mask)
        np.copyto(texture, region.texture, where=region.mask)
    colors = rng.integers(*_BASE_COLOR, (len(regions), 3), np.int16)
    noise = rng.integers(-_NOISE, _NOISE, (size, size, 3), np.int16, endpoint=True)
    shade = noise + np.rint(_CONTRAST * texture).astype(np.int16)[..., None]
    image = (colors.take(index, axis=0) + shade).clip(0, 255).astype(np.uint8)
    classes = np.array([CLASS_NAMES.index(region.name) for region in regions], np.uint8)
    return image, classes[index]


class _Region(NamedTuple):
    """One thing of a scene: its class, the pixels it covers, and its texture, which extends beyond them."""

    name: str
    mask: Mask
    texture: Texture


def _compose(rng: Generator, size: int) -> list[_Region]:
    """The regions of a scene from back to front."""
    y, x = np.ogrid[:size, :size]
    horizon = int(size * rng.uniform(0.24, 0.6))
    regions = [_Region("sky", y < horizon, (2 * y / horizon - 1) / 4), _ground(rng, y, x, horizon)]
    regions += [_building(rng, y, x, horizon) for _ in range(rng.choice(3, p=(0.1, 0.3, 0.6)))]
    for kind in rng.integers(3, size=rng.integers(1, 5)):
        regions.append((_tree, _ball, _leaf)[kind](rng, y, x, horizon))
    return regions


def _ground(rng: Generator, y: Coordinate, x: Coordinate, horizon: int) -> _Region:
    """One of the three grounds, from the horizon down."""
    grounds: dict[str, Callable[[Generator, Coordinate, Coordinate], Texture]]
    grounds = {"grass": _strokes, "water": _waves, "sand": _grain}
    name = str(rng.choice(list(grounds)))
    return _Region(name, y >= horizon, grounds[name](rng, y, x))


def _building(rng: Generator, y: Coordinate, x: Coordinate, horizon: int) -> _Region:
    """A brick block that stands on the horizon."""
    height, width = x.size * rng.uniform(0.22, 0.36), x.size * rng.uniform(0.24, 0.44)
    left = rng.uniform(0, x.size - width)
    mask = (y >= horizon - height) & (y < horizon) & (x >= left) & (x < left + width)
    return _Region("building", mask, _bricks(rng, y, x))


def _tree(rng: Generator, y: Coordinate, x: Coordinate, horizon: int) -> _Region:
    """A crown of six lobes around a disc, on a short trunk rooted in the ground."""
    radius = x.size * rng.uniform(0.15, 0.22)
    foot, center_x = rng.uniform(horizon + radius / 2, x.size), rng.uniform(0.1, 0.9) * x.size
    center_y = foot - 1.5 * radius
    mask = (abs(x - center_x) < radius / 5) & (y > center_y) & (y < foot)
    mask = mask | _disc(y, x, center_y, center_x, 0.75 * radius)
    for dx, dy in ((0.62, 0), (0.31, 0.54), (-0.31, 0.54), (-0.62, 0), (-0.31, -0.54), (0.31, -0.54)):
        lobe = radius * rng.uniform(0.4, 0.55)
        mask = mask | _disc(y, x, center_y + dy * radius, center_x + dx * radius, lobe)
    return _Region("tree", mask, _blobs(rng, y, x))


def _ball(rng: Generator, y: Coordinate, x: Coordinate, horizon: int) -> _Region:
    """A disc, rolling on the ground or thrown into the sky."""
    radius = x.size * rng.uniform(0.15, 0.22)
    center_y, center_x = rng.uniform(0.15, 0.85, 2) * x.size
    return _Region("ball", _disc(y, x, center_y, center_x, radius), _checks(rng, y, x))


def _leaf(rng: Generator, y: Coordinate, x: Coordinate, horizon: int) -> _Region:
    """A pointed ellipse, anywhere and turned at random; its stripes do not turn with it."""
    length = x.size * rng.uniform(0.25, 0.35)
    center_y, center_x = rng.uniform(0.15, 0.85, 2) * x.size
    angle = rng.uniform(0, math.pi)
    dy, dx = (y - center_y) / length, (x - center_x) / length
    along = dx * math.cos(angle) + dy * math.sin(angle)
    across = dy * math.cos(angle) - dx * math.sin(angle)
    return _Region("leaf", abs(across) < 0.5 * (1 - along**2), _stripes(rng, y, x))


def _disc(y: Coordinate, x: Coordinate, center_y: float, center_x: float, radius: float) -> Mask:
    return (y - center_y) ** 2 + (x - center_x) ** 2 < radius**2


def _strokes(rng: Generator, y: Coordinate, x: Coordinate) -> Texture:
    """Upright strokes, shifted sideways from tuft to tuft."""
    tufts = y // int(rng.integers(9, 14))
    return _wave(x / rng.uniform(4, 6) + rng.random(y.size)[tufts])


def _waves(rng: Generator, y: Coordinate, x: Coordinate) -> Texture:
    """Level waves that swing a little."""
    swing = _wave(x / rng.uniform(20, 30) + rng.random())
    swing = swing * (2 - abs(swing)) / 5  # round the corners
    return _wave(y / rng.uniform(4, 6) + swing + rng.random())


def _grain(rng: Generator, y: Coordinate, x: Coordinate) -> Texture:
    """Grains of one pixel, each light or dark at random."""
    grains: Texture = rng.choice((-1.0, 1.0), (y.size, x.size))
    return grains


def _bricks(rng: Generator, y: Coordinate, x: Coordinate) -> Texture:
    """Light bricks in running bond with mortar two pixels wide."""
    height = int(rng.integers(6, 9))
    y, x = y + rng.integers(height), x + rng.integers(2 * height)
    shifted = x + y // height % 2 * height
    bricks: Texture = np.where((y % height < 2) | (shifted % (2 * height) < 2), -1.0, 1.0)
    return _centered(bricks)


def _blobs(rng: Generator, y: Coordinate, x: Coordinate) -> Texture:
    """Round light blobs on dark, packed like a honeycomb."""
    row, column = y / rng.uniform(6, 8) + rng.random(), x / rng.uniform(6, 8) + rng.random()
    column = column + np.floor(row) % 2 / 2
    blobs = np.maximum(1 - 8 * ((_fraction(row) - 0.5) ** 2 + (_fraction(column) - 0.5) ** 2), -1.0)
    return _centered(blobs)


def _checks(rng: Generator, y: Coordinate, x: Coordinate) -> Texture:
    """A checkerboard with squares of four to five pixels."""
    side = rng.uniform(4, 5)
    row, column = np.floor(y / side + rng.random()), np.floor(x / side + rng.random())
    checks: Texture = (1 - 2 * (row % 2)) * (1 - 2 * (column % 2))
    return checks


def _stripes(rng: Generator, y: Coordinate, x: Coordinate) -> Texture:
    """Stripes that fall from left to right at 45 degrees."""
    return _wave((y - x) / rng.uniform(6, 9) + rng.random())


def _wave(phase: Texture) -> Texture:
    """Triangle wave of period 1 between -1 and 1, shape as ``phase``."""
    wave: Texture = 4 * abs(_fraction(phase) - 0.5) - 1
    return wave


def _fraction(phase: Texture) -> Texture:
    """Fraction of the phase, as ``phase % 1`` gives it, several times faster."""
    return phase - np.floor(phase)


def _centered(pattern: Texture) -> Texture:
    """Pattern without its mean, so that it makes its region neither lighter nor darker."""
    centered: Texture = pattern - pattern.mean()
    return centered
