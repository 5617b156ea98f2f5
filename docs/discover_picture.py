"""Make the README's picture of ``slotseg discover``: what is typed and said, photos, and their named masks.

    slotseg discover photos -o found --init mobilenetv1_100.safetensors
    slotseg discover photos -o found
    python docs/discover_picture.py photos found terminal.txt

where words were put into ``found/names.json`` before the second command, and ``terminal.txt`` holds both commands, each
after ``$ ``, and what they said. Which photos these are, and whose: docs/credits.md. Needs the DejaVu fonts.
"""

import argparse
import json
import textwrap
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFilter, ImageFont, ImageOps

PICTURE = Path(__file__).parent / "discover.png"
FIRST, STEP = 1, 8
"""Which photos are shown, in order of name: the second, and every eighth from there."""
SAID = ("$ ", "This will take", " were merged to ", " concepts in ", " with the names of ")
"""Words of the lines of the terminal that are shown."""
CREDIT = "Of the 48 photos, every eighth by name, from the second. Photos and picture: MIT (Scratch 1.4), CC BY-SA 3.0"
WIDTH, GAP, COLUMNS = 1000, 8, 4
TILE = ((WIDTH - GAP * (COLUMNS + 1)) // COLUMNS, 180)
LINE, LETTERS = 21, 106
MIN_SHARE = 0.01
"""Of a photo, from which on a name is in the legend."""
MIN_DEPTH = 11
"""Pixels from a region's middle to its edge, from which on its name is written there."""
UNNAMED = "without a name"


def main() -> None:
    """Make the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", type=Path, help="folder of photos")
    parser.add_argument("found", type=Path, help="what slotseg discover made of them")
    parser.add_argument("terminal", type=Path, help="what was typed and said")
    options = parser.parse_args()
    shown = sorted(options.photos.iterdir(), key=lambda file: file.name)[FIRST::STEP]
    legend = json.loads((options.found / "masks" / "legend.json").read_text())
    names = {c["id"]: (c["name"], tuple(c["color"])) for c in legend["classes"]} | {255: (UNNAMED, (0, 0, 0))}
    said = [line for line in options.terminal.read_text().splitlines() if any(words in line for words in SAID)]
    pairs = [(Image.open(file), Image.open(options.found / "masks" / f"{file.stem}.png")) for file in shown]
    tiles = [tile for photo, mask in pairs for tile in (_fitted(photo.convert("RGB")), _written(mask, names))]
    _stack([_strip(said), _grid(tiles), _legend([mask for _, mask in pairs], names)]).quantize(
        256, kmeans=2, dither=Image.Dither.NONE
    ).save(PICTURE, optimize=True)
    print(f"{PICTURE}: {PICTURE.stat().st_size / 1000:.0f} kB, {', '.join(file.name for file in shown)}")


def _strip(said: list[str]) -> Image.Image:
    """A terminal, in which long lines are folded; what was typed is bright."""
    lines = [(line.startswith("$ "), part) for line in said for part in textwrap.wrap(line, LETTERS)]
    strip = Image.new("RGB", (WIDTH, LINE * len(lines) + 20), (24, 27, 33))
    draw = ImageDraw.Draw(strip)
    for i, (typed, line) in enumerate(lines):
        font = _font("DejaVuSansMono-Bold" if typed else "DejaVuSansMono", 15)
        draw.text((14, 10 + LINE * i), line, (255, 255, 255) if typed else (176, 184, 196), font)
    return strip


def _grid(tiles: list[Image.Image]) -> Image.Image:
    """Tiles in rows."""
    step = TILE[0] + GAP, TILE[1] + GAP
    grid = Image.new("RGB", (WIDTH, GAP + step[1] * -(-len(tiles) // COLUMNS)), "white")
    for i, tile in enumerate(tiles):
        grid.paste(tile, (GAP + step[0] * (i % COLUMNS), GAP + step[1] * (i // COLUMNS)))
    return grid


def _written(mask: Image.Image, names: dict[int, Any]) -> Image.Image:
    """A mask in its colours, with each name in the middle of its deepest region, where there is room."""
    ids = _fitted(mask, Image.Resampling.NEAREST)
    picture = ids.convert("RGB")
    draw = ImageDraw.Draw(picture)
    font = _font("DejaVuSans-Bold", 14)
    places = [
        (*_middle(ids.point([255 * (i == class_id) for i in range(256)], "L")), name)
        for class_id, (name, _) in names.items()
    ]
    boxes: list[tuple[float, float, float, float]] = []
    for depth, (x, y), name in sorted(places, reverse=True):
        half = draw.textlength(name, font) / 2 + 4
        x = min(max(x, half), TILE[0] - half)
        box = x - half, y - 10, x + half, y + 10
        free = all(box[2] < b[0] or b[2] < box[0] or box[3] < b[1] or b[3] < box[1] for b in boxes)
        if depth >= MIN_DEPTH and name != UNNAMED and free:
            draw.text((x, y), name, "white", font, anchor="mm", stroke_width=2, stroke_fill="black")
            boxes.append(box)
    return picture


def _middle(region: Image.Image) -> tuple[int, tuple[float, float]]:
    """The depth of a region (255 in black), and its deepest place."""
    region = ImageOps.expand(region, 1)
    depth, box = 0, None
    while inside := region.getbbox():
        depth, box = depth + 1, inside
        last, region = region, region.filter(ImageFilter.MinFilter(3))
    if box is None:
        return 0, (0, 0)
    left = last.crop((box[0], box[1], box[2], box[1] + 1)).getbbox()
    assert left is not None
    return depth, (box[0] + (left[0] + left[2]) / 2 - 1, box[1] - 0.5)


def _legend(masks: list[Image.Image], names: dict[int, Any]) -> Image.Image:
    """The names that the masks hold, and whose the photos are."""
    font, small = _font("DejaVuSans", 14), _font("DejaVuSans", 12)
    counts = [(mask.width * mask.height, mask.histogram()) for mask in masks]
    legend = Image.new("RGB", (WIDTH, 74), "white")
    draw = ImageDraw.Draw(legend)
    x, y = float(GAP), 4
    for class_id, (name, color) in names.items():
        if max(count[class_id] / pixels for pixels, count in counts) < MIN_SHARE:
            continue
        end = x + 22 + draw.textlength(name, font)
        if end > WIDTH - GAP:
            x, y = GAP, y + 23
            end = x + 22 + draw.textlength(name, font)
        draw.rectangle((x, y + 1, x + 15, y + 16), color, "black")
        draw.text((x + 21, y), name, "black", font)
        x = end + 14
    draw.text((GAP, y + 24), CREDIT, (90, 90, 90), small)
    return legend.crop((0, 0, WIDTH, y + 46))


def _fitted(image: Image.Image, resample: Image.Resampling = Image.Resampling.LANCZOS) -> Image.Image:
    """An image of a tile's size."""
    return ImageOps.fit(image, TILE, resample)


def _stack(parts: list[Image.Image]) -> Image.Image:
    """Parts below each other."""
    picture = Image.new("RGB", (WIDTH, sum(part.height for part in parts)), "white")
    top = 0
    for part in parts:
        picture.paste(part, (0, top))
        top += part.height
    return picture


def _font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A font of DejaVu."""
    return ImageFont.truetype(f"{name}.ttf", size)


if __name__ == "__main__":
    main()
