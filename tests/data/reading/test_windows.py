"""Windows into huge photos, against the whole decode of ``read_image``."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from slotseg.data.reading import window_formats as windows
from slotseg.data.reading.images import read_image, read_with_notes
from slotseg.data.reading.window_formats import open_windows
from slotseg.data.reading.windows import Windows
from slotseg.errors import DataError

HEIGHT, WIDTH = 203, 157


def picture(channels: int = 3, kind: Any = np.uint8) -> NDArray[Any]:
    """Smooth, so that encoders choose among all filters, with some noise."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    smooth = [(rows * (c + 1) + columns * (3 - c)) // 3 % 256 for c in range(channels)]
    noise = np.random.default_rng(0).integers(0, 9, (HEIGHT, WIDTH, channels))
    values = (np.stack(smooth, axis=2) + noise) % 256
    return (values * (257 if kind == np.uint16 else 1)).astype(kind).squeeze()


def saved(path: Path, mode: str = "RGB", **options: Any) -> Path:
    Image.fromarray(picture()).convert(mode).save(path, **options)
    return path


def bands(opened: Windows, rows: int = 50, overlap: int = 7) -> NDArray[np.uint8]:
    """All rows by windows that overlap; what two of them have in common must be the same."""
    height, width = opened.size_hw
    result = np.zeros((height, width, 3), np.uint8)
    for top in range(0, height, rows - overlap):
        bottom = min(top + rows, height)
        window = opened.read(top, bottom)
        assert (window.dtype, window.shape) == (np.uint8, (bottom - top, width, 3))
        if top:
            assert np.array_equal(window[: min(overlap, bottom - top)], result[top : top + overlap])
        result[top:bottom] = window
    return result


def check(path: Path, *, in_parts: bool) -> None:
    opened = open_windows(path)
    assert opened.whole is not in_parts
    expected = read_image(path)
    assert np.array_equal(bands(opened), expected)
    assert np.array_equal(opened.read(3, 5), expected[3:5]), "backwards"
    assert np.array_equal(opened.read(190, HEIGHT), expected[190:]), "far forwards"
    assert np.array_equal(bands(open_windows(path.read_bytes())), expected), "from memory"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1"])
def test_png_rows(tmp_path: Path, mode: str) -> None:
    check(saved(tmp_path / "x.png", mode), in_parts=True)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_png_of_few_bits(tmp_path: Path, bits: int) -> None:
    image = Image.fromarray(picture()).quantize(2**bits)
    image.save(tmp_path / "x.png", bits=bits)
    check(tmp_path / "x.png", in_parts=True)


@pytest.mark.parametrize("level", [0, 1, 9])
def test_png_of_every_compression(tmp_path: Path, level: int) -> None:
    check(saved(tmp_path / "x.png", compress_level=level), in_parts=True)


@pytest.mark.parametrize("strategy", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("png_filter", [8, 16, 32, 64, 128])
def test_png_of_every_filter(tmp_path: Path, png_filter: int, strategy: int) -> None:
    path = tmp_path / "x.png"
    cv2.imwrite(str(path), picture(), [cv2.IMWRITE_PNG_FILTER, png_filter, cv2.IMWRITE_PNG_STRATEGY, strategy])
    check(path, in_parts=True)


@pytest.mark.parametrize(("channels", "in_parts"), [(1, True), (3, False)])
def test_png_of_16_bits(tmp_path: Path, channels: int, in_parts: bool) -> None:
    cv2.imwrite(str(tmp_path / "x.png"), picture(channels, np.uint16))
    check(tmp_path / "x.png", in_parts=in_parts)
    assert "the upper 8 of 16 bits" in open_windows(tmp_path / "x.png").notes


def test_png_with_a_transparent_colour(tmp_path: Path) -> None:
    saved(tmp_path / "x.png", "L", transparency=120)
    check(tmp_path / "x.png", in_parts=True)


def test_png_in_many_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "x.png")
    content = path.read_bytes()
    (start,) = [i for i in range(len(content)) if content[i : i + 4] == b"IDAT"][:1]
    length = struct.unpack(">I", content[start - 4 : start])[0]
    body = content[start + 4 : start + 4 + length]
    pieces = b"".join(
        struct.pack(">I", len(p)) + b"IDAT" + p + struct.pack(">I", zlib.crc32(b"IDAT" + p))
        for p in [body[i : i + 100] for i in range(0, length, 100)]
    )
    path.write_bytes(content[: start - 4] + pieces + content[start + 8 + length :])
    monkeypatch.setattr("slotseg.data.reading.png_rows._PIECE", 37)
    check(path, in_parts=True)


COMPRESSIONS = [None, "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits"]


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "CMYK"])
def test_tiff_strips(tmp_path: Path, mode: str, compression: str | None) -> None:
    path = saved(tmp_path / "x.tif", mode, compression=compression, tiffinfo={278: 16} if compression else {})
    check(path, in_parts=True)


@pytest.mark.parametrize(("order", "big"), [("<", False), (">", False), ("<", True)])
def test_tiff_of_either_byte_order(tmp_path: Path, order: str, big: bool) -> None:
    Image.fromarray(picture(1, np.uint16).astype(f"{order}u2")).save(tmp_path / "x.tif", big_tiff=big)
    check(tmp_path / "x.tif", in_parts=True)


@pytest.mark.parametrize("compression", [1, 5, 32946])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_tiff_with_predictor_by_another_writer(tmp_path: Path, compression: int, channels: int, kind: Any) -> None:
    options = [cv2.IMWRITE_TIFF_COMPRESSION, compression, cv2.IMWRITE_TIFF_ROWSPERSTRIP, 16]
    cv2.imwrite(str(tmp_path / "x.tif"), picture(channels, kind), [*options, cv2.IMWRITE_TIFF_PREDICTOR, 2])
    check(tmp_path / "x.tif", in_parts=True)


def test_tiff_of_jpeg_strips(tmp_path: Path) -> None:
    check(saved(tmp_path / "x.tif", compression="jpeg", tiffinfo={278: 16}), in_parts=True)


def tiled_tiff(tile: int, *, deflated: bool) -> bytes:
    """An RGB TIFF of tiles, which Pillow reads but does not write."""
    padded = np.pad(picture(), ((0, -HEIGHT % tile), (0, -WIDTH % tile), (0, 0)))
    blocks = [
        padded[top : top + tile, left : left + tile].tobytes()
        for top in range(0, HEIGHT, tile)
        for left in range(0, WIDTH, tile)
    ]
    blocks = [zlib.compress(b) for b in blocks] if deflated else blocks
    offsets = [8 + sum(len(b) for b in blocks[:i]) for i in range(len(blocks) + 1)]
    content = b"".join(blocks)
    values = {
        256: [WIDTH], 257: [HEIGHT], 258: [8, 8, 8], 259: [8 if deflated else 1], 262: [2], 277: [3],
        322: [tile], 323: [tile], 324: offsets[:-1], 325: [len(b) for b in blocks],
    }  # fmt: skip
    after = offsets[-1] + 2 + 12 * len(values) + 4
    entries, behind = b"", b""
    for tag, numbers in values.items():
        packed = struct.pack(f"<{len(numbers)}L", *numbers)
        if len(packed) > 4:
            packed, behind = struct.pack("<L", after + len(behind)), behind + packed
        entries += struct.pack("<HHL", tag, 4, len(numbers)) + packed
    directory = struct.pack("<H", len(values)) + entries + b"\0\0\0\0" + behind
    return struct.pack("<2sHL", b"II", 42, offsets[-1]) + content + directory


@pytest.mark.parametrize("tile", [16, 64])
@pytest.mark.parametrize("deflated", [False, True])
def test_tiff_tiles(tmp_path: Path, tile: int, deflated: bool) -> None:
    (tmp_path / "x.tif").write_bytes(tiled_tiff(tile, deflated=deflated))
    assert np.array_equal(read_image(tmp_path / "x.tif"), picture())
    check(tmp_path / "x.tif", in_parts=True)


def test_first_page_of_a_tiff(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(
        tmp_path / "x.tif", save_all=True, append_images=[Image.new("RGB", (9, 9))] * 2, compression="tiff_lzw"
    )
    assert open_windows(tmp_path / "x.tif").notes == ("the first of 3 pages",)
    check(tmp_path / "x.tif", in_parts=True)


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".bmp", ".gif"])
def test_other_formats_are_decoded_whole(tmp_path: Path, suffix: str) -> None:
    opened = open_windows(saved(tmp_path / f"x{suffix}"))
    assert opened.whole
    assert np.array_equal(bands(opened), read_image(tmp_path / f"x{suffix}"))


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
@pytest.mark.parametrize("orientation", [3, 6])
def test_turned_photos(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    opened = open_windows(saved(tmp_path / f"x{suffix}", exif=exif))
    expected = read_image(tmp_path / f"x{suffix}")
    assert opened.size_hw == expected.shape[:2]
    assert np.array_equal(bands(opened), expected)
    assert opened.reduced(50).shape[:2] == ((50, 39) if orientation == 3 else (39, 50))


@pytest.mark.parametrize("name", ["x.jpg", "x.png", "x.tif", "x.bmp"])
@pytest.mark.parametrize("max_side", [1, 10, 37, 100, 150, 203, 1000])
def test_reduced(tmp_path: Path, name: str, max_side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows.Windows, "band", 32)
    path = saved(tmp_path / name)
    small = open_windows(path).reduced(max_side)
    whole = Image.fromarray(read_image(path))
    side = min(max_side, HEIGHT)
    size = (max(round(WIDTH * side / HEIGHT), 1), side)
    expected = np.asarray(whole.resize(size, Image.Resampling.BOX))
    assert small.shape == expected.shape
    assert np.abs(small.astype(int) - expected).mean() < (0 if side == HEIGHT else 4) + 1e-9


def test_transparency_is_said_once_it_is_seen(tmp_path: Path) -> None:
    pixels = np.dstack([picture(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    pixels[150:, :, 3] = 99
    Image.fromarray(pixels).save(tmp_path / "x.png")
    opened = open_windows(tmp_path / "x.png")
    opened.read(0, 100)
    assert opened.notes == ()
    opened.read(100, HEIGHT)
    assert opened.notes == ("transparency laid over white",)


def test_what_is_wholly_transparent_is_said_to_be_left_out(tmp_path: Path) -> None:
    pixels = np.dstack([picture(), np.full((HEIGHT, WIDTH), 255, np.uint8)])
    pixels[150:, :20, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "x.png")
    opened = open_windows(tmp_path / "x.png")
    opened.read(0, 100)
    assert opened.notes == ()
    opened.read(100, HEIGHT)
    assert opened.notes == read_with_notes(tmp_path / "x.png")[1] == ("pixels that are no picture are left out",)


@pytest.mark.parametrize("name", ["x.png", "x.tif", "x.jpg", "x.bmp"])
def test_a_truncated_photo_is_one_sentence(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    options: dict[str, Any] = {"compression": "tiff_lzw", "tiffinfo": {278: 16}} if name == "x.tif" else {}
    content = io.BytesIO()
    Image.fromarray(noise).save(content, {"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:].upper()), **options)
    cut = content.getvalue()[: len(content.getvalue()) * 2 // 3]
    path.write_bytes(cut)
    with pytest.raises(DataError, match=r"x\.\w+ (cannot be decoded|is not an image)") as error:
        bands(open_windows(path))
    assert "\n" not in str(error.value)


def test_rows_before_the_damage_are_good(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.png")
    expected = read_image(path)
    path.write_bytes(path.read_bytes()[:-2000])
    opened = open_windows(path)
    assert np.array_equal(opened.read(0, 20), expected[:20])
    with pytest.raises(DataError, match="cannot be decoded"):
        opened.read(20, HEIGHT)
    assert np.array_equal(opened.read(0, 20), expected[:20])


@pytest.mark.parametrize(("top", "bottom"), [(-1, 5), (5, 5), (0, HEIGHT + 1)])
def test_windows_outside_are_refused(tmp_path: Path, top: int, bottom: int) -> None:
    opened = open_windows(saved(tmp_path / "x.png"))
    with pytest.raises(ValueError, match="expected some within"):
        opened.read(top, bottom)


def test_too_many_pixels_name_the_option(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="raise --max-pixels"):
        open_windows(saved(tmp_path / "x.png"), max_pixels=1000)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is measured in other units elsewhere")
@pytest.mark.parametrize("name", ["x.png", "x.tif"])
def test_a_photo_in_parts_is_never_whole_in_memory(tmp_path: Path, name: str) -> None:
    Image.fromarray(picture()).resize((6000, 6000), Image.Resampling.NEAREST).save(tmp_path / name, compress_level=1)
    code = """
import resource, sys
from slotseg.data.reading.window_formats import open_windows
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
opened, before = open_windows(sys.argv[1]), peak()
for top in range(0, 6000, 250):
    opened.read(top, top + 250)
opened.reduced(500)
print(peak() - before)
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / name], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 60_000, "kilobytes, of 108,000 that the pixels take, and as many again in Pillow"


def test_a_tiff_with_an_odd_header_is_read_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = saved(tmp_path / "x.tif", compression="tiff_lzw", tiffinfo={278: 16})
    content = path.read_bytes()
    entry = content.index(struct.pack("<HH", 278, 3), int.from_bytes(content[4:8], "little"))
    path.write_bytes(content[: entry + 8] + b"\0\0\0\0" + content[entry + 12 :])  # strips of no row
    try:
        expected = read_image(path)
    except DataError:
        with pytest.raises(DataError):
            bands(open_windows(path))
    else:
        assert np.array_equal(bands(open_windows(path)), expected)
