import io
import os
import struct
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import pytest
from photo_files import save, tagged
from PIL import Image, features

from slotseg.data.reading import pillow
from slotseg.data.reading.images import image_size, read_image, read_with_notes
from slotseg.data.reading.label_files import read_label
from slotseg.errors import DataError

RAMP = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
DEEP = (np.arange(5 * 7 * 3).reshape(5, 7, 3) * 600 + 128).astype(np.uint16)  # 128..62528: no full range
IDS = (np.arange(5 * 7).reshape(5, 7) % 27).astype(np.uint8)


def stored_for(orientation, upright):
    """The pixels a camera stores for an upright picture: the meaning of the EXIF values, by hand."""
    swapped = upright.swapaxes(0, 1)
    return {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: swapped,
        6: swapped[::-1],
        7: swapped[::-1, ::-1],
        8: swapped[:, ::-1],
    }[orientation].copy()


def grey_png(ids, bits):
    """A grey PNG of fewer than 8 bits, which Pillow reads but does not write."""

    def chunk(name, body):
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    bit_rows = ["".join(f"{v:0{bits}b}" for v in row) for row in ids.tolist()]
    rows = b"".join(b"\0" + bytes(int(r[i : i + 8].ljust(8, "0"), 2) for i in range(0, len(r), 8)) for r in bit_rows)
    header = struct.pack(">2I5B", ids.shape[1], ids.shape[0], bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


# images


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".gif", ".webp", ".jpg"])
@pytest.mark.parametrize("as_type", [str, lambda path: path])
def test_reads_the_common_formats(tmp_path, suffix, as_type):
    path = save(tmp_path / f"x{suffix}", np.full((5, 7, 3), (200, 100, 50), dtype=np.uint8))
    pixels = read_image(as_type(path))
    assert (pixels.dtype, pixels.shape) == (np.uint8, (5, 7, 3))
    assert pixels.flags["C_CONTIGUOUS"]
    assert pixels.flags["WRITEABLE"]
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() <= (5 if suffix in (".webp", ".jpg") else 0)
    assert image_size(as_type(path)) == (5, 7)


def test_rgb_is_not_bgr_and_the_suffix_does_not_matter(tmp_path):
    path = tmp_path / "x.dat"
    save(path, RAMP, format="PNG")
    assert np.array_equal(read_image(path), RAMP)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("suffix", "options"), [(".png", {}), (".tif", {}), (".tif", {"compression": "tiff_lzw"}), (".jpg", {})]
)
def test_exif_orientation(tmp_path, orientation, suffix, options):
    upright = np.kron(RAMP[:2, :3] * 14, np.ones((16, 16, 1), dtype=np.uint8))  # whole JPEG blocks
    stored = stored_for(orientation, upright)
    path = save(tmp_path / f"x{suffix}", stored, exif=tagged(orientation), **options)
    assert image_size(path) == (32, 48)
    assert np.abs(read_image(path).astype(int) - upright).max() <= (6 if suffix == ".jpg" else 0)
    if suffix != ".jpg":
        path = save(tmp_path / f"ids{suffix}", stored[..., 0], exif=tagged(orientation), **options)
        assert np.array_equal(read_label(path), upright[..., 0])


def test_broken_exif_costs_nothing(tmp_path):
    path = save(tmp_path / "x.jpg", RAMP, exif=b"Exif\0\0II*\0\xff\xff\xff\xffnonsense")
    assert read_image(path).shape == (5, 7, 3)
    assert image_size(path) == (5, 7)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_scale_by_the_type_and_not_by_the_content(tmp_path, suffix, channels):
    path = tmp_path / f"x{suffix}"
    cv2.imwrite(str(path), DEEP[..., 0] if channels == 1 else DEEP[..., ::-1])
    expected = DEEP[..., :1].repeat(3, axis=2) if channels == 1 else DEEP
    assert np.array_equal(read_image(path), expected // 256)


def test_sixteen_bit_pgm(tmp_path):
    cv2.imwrite(str(tmp_path / "x.pgm"), DEEP[..., 0])
    assert np.array_equal(read_image(tmp_path / "x.pgm")[..., 2], DEEP[..., 0] // 256)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK"])
def test_colour_modes(tmp_path, mode):
    path = save(tmp_path / ("x.tif" if mode == "CMYK" else "x.png"), RAMP, mode)
    with Image.open(path) as stored:
        assert stored.mode == mode
        assert np.array_equal(read_image(path), np.asarray(stored.convert("RGB")))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_laid_over_white(tmp_path, mode):
    image = Image.new("P" if mode == "P" else "RGBA", (2, 1))
    if mode == "P":
        image.putpalette([100, 100, 100] * 3)
        image.putdata([0, 1])
        image.save(tmp_path / "x.png", transparency=bytes([255, 0]))  # Pillow warns about such palettes
    else:
        image.putdata([(100, 100, 100, 255), (100, 100, 100, 0)])
        image.convert(mode).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").tolist() == [[[100] * 3, [255] * 3]]


def test_half_transparent(tmp_path):
    Image.new("RGBA", (1, 1), (0, 0, 0, 51)).save(tmp_path / "x.png")
    assert read_image(tmp_path / "x.png").tolist() == [[[204] * 3]]


@pytest.mark.parametrize("suffix", [".gif", ".png", ".webp"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    first, second = (Image.new("RGB", (4, 3), (grey,) * 3) for grey in (40, 200))
    options = {"lossless": True} if suffix == ".webp" else {}
    first.save(tmp_path / f"x{suffix}", save_all=True, append_images=[second], **options)
    assert np.unique(read_image(tmp_path / f"x{suffix}")).tolist() == [40]


@pytest.mark.parametrize(
    ("pixels", "mode"), [(np.full((2, 2), 0.5, np.float32), "F"), (np.full((2, 2), 70000, np.int32), "I")]
)
def test_refuses_values_of_unknown_range(tmp_path, pixels, mode):
    path = save(tmp_path / "x.tif", pixels, mode)
    with pytest.raises(DataError, match=r"whose range is unknown; expected .* --range LOW,HIGH"):
        read_image(path)


def png_bytes():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(file, "PNG")
    return file.getvalue()


BAD_FILES = {
    "missing": (None, "is no file"),
    "zero bytes": (b"", r"is empty \(0 bytes\)"),
    "text": (b"hello, I am no image", "is not an image"),
    "cut off": (png_bytes()[:2000], "cannot be decoded"),
    "broken header": (png_bytes()[:20], "is not an image|cannot be decoded"),
    "PostScript": (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
        "is a PostScript file",
    ),
}


@pytest.mark.parametrize("read", [read_image, read_label, image_size])
@pytest.mark.parametrize(("content", "message"), BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_is_one_sentence_with_its_path(tmp_path, read, content, message):
    path = tmp_path / "bad.png"
    if content is not None:
        path.write_bytes(content)
    if read is image_size and message == "cannot be decoded":
        assert read(path) == (64, 64)  # the header is intact and nothing else is looked at
        return
    with pytest.raises(DataError, match=message) as error:
        read(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".gif", ".webp", ".bmp"])
def test_cut_off_in_other_formats(tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / f"x{suffix}", noise)
    path.write_bytes(path.read_bytes()[:-1500])
    with pytest.raises(DataError, match=r"cannot be decoded|is not an image"):
        read_image(path)


def test_a_folder_is_no_image(tmp_path):
    with pytest.raises(DataError, match="is no file"):
        read_image(tmp_path)


@pytest.mark.parametrize("read", [read_image, read_label, image_size])
def test_too_many_pixels(tmp_path, read):
    path = save(tmp_path / "x.png", IDS)
    assert read(path, max_pixels=35) is not None
    with pytest.raises(DataError, match="7 x 5 pixels, more than the limit of 34"):
        read(path, max_pixels=34)


def test_only_our_pixel_limit_counts_and_pillow_keeps_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)  # 35 pixels: an error to Pillow
    assert read_image(save(tmp_path / "x.tif", RAMP)).shape == (5, 7, 3)
    assert Image.MAX_IMAGE_PIXELS == 10


def test_threads_leave_pillow_and_the_warnings_as_they_were(tmp_path):
    path, limit, filters = save(tmp_path / "x.png", RAMP), Image.MAX_IMAGE_PIXELS, list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        assert all(np.array_equal(pixels, RAMP) for pixels in pool.map(read_image, [path] * 64))
    assert limit == Image.MAX_IMAGE_PIXELS
    assert warnings.filters == filters


@pytest.mark.parametrize("orientation", [1, 6])
def test_size_decodes_no_pixels(tmp_path, monkeypatch, orientation):
    path = save(tmp_path / "x.png", RAMP, exif=tagged(orientation))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda self: pytest.fail("pixels were decoded"))
    assert image_size(path) == ((5, 7) if orientation == 1 else (7, 5))


# reading with notes


@pytest.mark.parametrize("as_type", [str, lambda path: path, lambda path: path.read_bytes()])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif", ".ppm", ".gif", ".webp", ".jpg", ".avif"])
def test_a_plain_photo_has_no_notes(tmp_path, suffix, as_type):
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = save(tmp_path / f"x{suffix}", RAMP)
    pixels, notes = read_with_notes(as_type(path))
    assert np.array_equal(pixels, read_image(path))
    assert pixels.flags["C_CONTIGUOUS"]
    assert notes == ()


@pytest.mark.parametrize(
    ("suffix", "note"),
    [(".tif", "the first of 5 pages"), (".gif", "the first of 5 frames"), (".webp", "the first of 5 frames")],
)
def test_pages_and_frames_that_are_not_read_are_said(tmp_path, suffix, note):
    pages = [Image.new("RGB", (4, 3), (50 * i,) * 3) for i in range(5)]
    pages[0].save(tmp_path / f"x{suffix}", save_all=True, append_images=pages[1:])
    pixels, notes = read_with_notes(tmp_path / f"x{suffix}")
    assert pixels.max() < 5
    assert notes == (note,)


def test_a_photo_with_a_companion_of_the_camera_has_no_pages(tmp_path):
    images = [Image.new("RGB", (16, 16), (grey,) * 3) for grey in (10, 200)]
    images[0].save(tmp_path / "x.jpg", format="MPO", save_all=True, append_images=images[1:])
    pixels, notes = read_with_notes(tmp_path / "x.jpg")
    assert (pixels.max() < 20, notes) == (True, ())


def test_damaged_pages_behind_the_first_cost_nothing(tmp_path):
    path = tmp_path / "x.tif"
    page = Image.fromarray(RAMP)
    page.save(path, save_all=True, append_images=[page] * 2)
    path.write_bytes(path.read_bytes()[:-300])
    pixels, notes = read_with_notes(path)
    assert np.array_equal(pixels, RAMP)
    assert len(notes) == 1


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3])
def test_depth_is_said(tmp_path, suffix, channels):
    path = tmp_path / f"x{suffix}"
    deep = DEEP[..., 0] if channels == 1 else DEEP
    cv2.imwrite(str(path), deep)
    assert read_with_notes(path)[1] == ("the upper 8 of 16 bits",)
    cv2.imwrite(str(path), deep // 16)
    assert read_with_notes(path)[1] == (
        "the upper 8 of 16 bits",
        f"nearly black, its brightest value is {deep.max() // 16 // 256} of 255: --range helps",
    )


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_is_said_where_there_is_any(tmp_path, mode):
    save(tmp_path / "opaque.png", RAMP, mode)
    assert read_with_notes(tmp_path / "opaque.png")[1] == ()
    image = Image.fromarray(RAMP).convert(mode)
    image.putalpha(Image.new("L", image.size, 254))
    image.save(tmp_path / "clear.png")
    assert read_with_notes(tmp_path / "clear.png")[1] == ("transparency laid over white",)


def test_cmyk_is_said(tmp_path):
    path = save(tmp_path / "x.jpg", RAMP, "CMYK")
    pixels, notes = read_with_notes(path)
    assert notes == ("CMYK converted without a profile",)
    assert np.array_equal(pixels, read_image(path))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P"])
def test_bands_of_rows_go_to_their_upright_place(tmp_path, monkeypatch, orientation, mode):
    upright = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    path = save(tmp_path / "x.png", stored_for(orientation, upright), mode, exif=tagged(orientation))
    whole = read_image(path)
    assert mode in ("L", "P") or np.array_equal(whole, upright)
    monkeypatch.setattr(pillow, "_BAND", 2)
    assert np.array_equal(read_image(path), whole)


def test_the_limit_names_the_option_of_the_command(tmp_path):
    path = save(tmp_path / "x.png", IDS)
    assert read_with_notes(path, max_pixels=35)
    with pytest.raises(DataError, match=r"7 x 5 pixels, more than the limit of 34: .* raise --max-pixels"):
        read_with_notes(path, max_pixels=34)


@pytest.mark.parametrize(("content", "message"), list(BAD_FILES.values())[1:], ids=list(BAD_FILES)[1:])
def test_bad_content_is_one_sentence_with_its_name(content, message):
    with pytest.raises(DataError, match=message) as error:
        read_with_notes(content, name="the image on stdin")
    assert str(error.value).startswith("the image on stdin ")
    assert "\n" not in str(error.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize("read", [read_image, read_with_notes, image_size])
def test_a_named_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "x.png")
    with pytest.raises(DataError, match="is no file"):
        read(tmp_path / "x.png")


def test_a_raw_file_is_not_taken_for_its_thumbnail(tmp_path):
    save(tmp_path / "x.nef", RAMP, format="TIFF")
    with pytest.raises(DataError, match="raw file; expected a finished photo"):
        read_with_notes(tmp_path / "x.nef")


def test_what_a_bomb_of_few_bytes_would_become_is_known_before(tmp_path):
    header = struct.pack(">2I5B", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + b"IHDR" + header + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    idat = struct.pack(">I", 0) + b"IDAT" + struct.pack(">I", zlib.crc32(b"IDAT"))
    with pytest.raises(DataError, match="60000 x 60000 pixels, more than the limit"):
        read_with_notes(b"\x89PNG\r\n\x1a\n" + chunk + idat)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 32


def test_heic_names_the_package_it_needs(monkeypatch):
    monkeypatch.setattr(pillow, "_register_heif", lambda: None)
    with pytest.raises(DataError, match=r"HEIC photo, which needs pillow-heif: pip install|cannot be decoded"):
        read_with_notes(HEIC)


def test_heic_with_the_package(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 100, 50))).save(tmp_path / "x.heic")
    pixels, notes = read_with_notes(tmp_path / "x.heic")
    assert (pixels.shape, notes) == ((48, 64, 3), ())
    assert np.abs(pixels.astype(int) - (200, 100, 50)).max() < 8


def test_undecodable_names_can_be_printed(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.png")
    with pytest.raises(DataError, match=r"\\udcff\.png is no file") as error:
        read_with_notes(path)
    assert str(error.value).encode()


# label maps


def palette_image(ids):
    image = Image.fromarray(ids).convert("P")
    image.putdata(ids.ravel().tolist())
    image.putpalette(np.random.default_rng(0).integers(0, 256, 768, dtype=np.uint8).tobytes())
    return image


@pytest.mark.parametrize("options", [{}, {"bits": 4}, {"transparency": 0}, {"transparency": bytes([0, 9])}], ids=str)
def test_an_indexed_label_gives_its_indices(tmp_path, options):
    ids = IDS % 16
    palette_image(ids).save(tmp_path / "x.png", **options)
    label = read_label(tmp_path / "x.png")
    assert label.dtype == np.uint8
    assert label.flags["WRITEABLE"]
    assert np.array_equal(label, ids)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("ids", [IDS, IDS.astype(np.uint16) * 2000, np.full((2, 2), 255, np.uint8)])
def test_grey_labels_keep_their_values(tmp_path, suffix, ids):
    cv2.imwrite(str(tmp_path / f"x{suffix}"), ids)
    label = read_label(tmp_path / f"x{suffix}")
    assert label.dtype == ids.dtype
    assert np.array_equal(label, ids)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_ids_of_few_bits_are_not_stretched(tmp_path, bits):
    ids = IDS & (2**bits - 1)
    (tmp_path / "x.png").write_bytes(grey_png(ids, bits))
    assert np.array_equal(read_label(tmp_path / "x.png"), ids)


def test_big_endian_and_32_bit_tiff_labels(tmp_path):
    ids = (IDS.astype(np.int32)) * 2000
    for name, pixels in [("i", ids), ("b", ids.astype(">u2"))]:
        label = read_label(save(tmp_path / f"{name}.tif", pixels))
        assert label.dtype == np.uint16
        assert np.array_equal(label, ids)


@pytest.mark.parametrize("low_or_high", [-2, 65536])
def test_refuses_ids_beyond_16_bits(tmp_path, low_or_high):
    path = save(tmp_path / "x.tif", np.array([[3, low_or_high]], dtype=np.int32))
    with pytest.raises(DataError, match=f"{low_or_high}.*expected 0..65535"):
        read_label(path)


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK"])
def test_refuses_a_label_in_colour(tmp_path, mode):
    path = save(tmp_path / "x.tif", RAMP, mode)
    with pytest.raises(DataError, match=r"x\.tif is a colour image"):
        read_label(path)


def test_refuses_a_lossy_label(tmp_path):
    with pytest.raises(DataError, match=r"JPEG file.*PNG"):
        read_label(save(tmp_path / "x.jpg", IDS))
