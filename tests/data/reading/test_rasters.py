"""TIFFs of satellites, microscopes and scanners: each kind with its right pixels, or its sentence."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL
import pytest
import tifffile
from numpy.typing import NDArray

from slotseg.data.reading import tiff_rasters
from slotseg.data.reading.images import image_size, read_image, read_with_notes
from slotseg.data.reading.photos import open_photo
from slotseg.data.reading.rendering import MISSING, MISSING_COLOR
from slotseg.data.reading.survey import survey
from slotseg.data.reading.window_formats import open_windows
from slotseg.errors import ConfigError, DataError
from slotseg.segment_config import ReadingConfig

H, W = 70, 90
ROWS, COLS = np.mgrid[:H, :W]
RGB = np.stack([3 * ROWS, 2 * COLS, (ROWS + COLS)], axis=2).astype(np.uint8)
NIR = (255 - RGB[:, :, :1] // 2).astype(np.uint8)
FOUR = np.concatenate([RGB, NIR], axis=2)
GREY = RGB[:, :, 1]
THREE_OF_GREY = np.repeat(GREY[:, :, None], 3, axis=2)
DEEP = RGB.astype(np.uint16) * 257
DEEP_NOTE = "the upper 8 of 16 bits"
REFLECTANCE = RGB.astype(np.uint16) * 11 + 100  # 100 to 2,905
CORNER = ROWS + COLS < 40
NODATA, SUBFILE, NBITS = 42113, 254, 258


def planar(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values.transpose(2, 0, 1))


def write(path: Path, values: NDArray[Any], **options: Any) -> Path:
    options = {"metadata": None, "photometric": "minisblack", **options}
    if values.ndim == 3 and "planarconfig" not in options:
        options["planarconfig"] = "contig"
    try:
        tifffile.imwrite(path, values, **options)
    except NotImplementedError as error:
        pytest.skip(f"this imagecodecs does not write it: {error}")
    return path


AS_TYPED = ReadingConfig()


def read(path: Path, reading: ReadingConfig = AS_TYPED) -> tuple[NDArray[np.uint8], tuple[str, ...]]:
    """Pixels and notes, the same from a file, its content, windows and the photo that views are cut from."""
    pixels, notes = read_with_notes(path, reading=reading)
    assert image_size(path) == pixels.shape[:2]
    assert np.array_equal(read_with_notes(path.read_bytes(), reading=reading)[0], pixels)
    assert np.array_equal(open_photo(path, reading=reading).pixels(), pixels)
    assert np.array_equal(read_image(path, reading=reading), pixels[:, :, :3])
    opened = open_windows(path, reading=reading)
    height = opened.size_hw[0]
    bands = [opened.read(top, min(top + 23, height)) for top in range(0, height, 23)]
    assert np.array_equal(np.concatenate(bands), pixels[:, :, :3])
    hidden = opened.missing(0, height)
    assert (hidden is None) == (pixels.shape[2] == 3)
    assert hidden is None or np.array_equal(hidden, pixels[:, :, 3] == 0)
    assert opened.notes == notes
    return pixels, notes


KINDS: dict[str, tuple[NDArray[Any], dict[str, Any], NDArray[np.uint8], tuple[str, ...]]] = {
    "16 bits in separate planes": (
        planar(DEEP), {"photometric": "rgb", "planarconfig": "separate"}, RGB, (DEEP_NOTE,)
    ),
    "16 bits in separate planes, in tiles": (
        planar(DEEP), {"photometric": "rgb", "planarconfig": "separate", "tile": (32, 32), "compression": "zlib"},
        RGB, (DEEP_NOTE,),
    ),
    "16 bits, big endian, with predictor": (
        DEEP, {"photometric": "rgb", "byteorder": ">", "compression": "zlib", "predictor": 2}, RGB, (DEEP_NOTE,)
    ),
    "three bands without a word on colours": (DEEP, {}, RGB, (DEEP_NOTE,)),
    "four bands": (FOUR, {}, RGB, ("bands 1, 2 and 3 of 4",)),
    "four bands in planes": (
        planar(FOUR), {"planarconfig": "separate", "tile": (16, 32), "compression": "lzw"}, RGB,
        ("bands 1, 2 and 3 of 4",),
    ),
    "RGB and a fourth band": (FOUR, {"photometric": "rgb", "extrasamples": [0]}, RGB, ("bands 1, 2 and 3 of 4",)),
    "near infrared marked alpha, with a place on Earth": (
        FOUR,
        {"photometric": "rgb", "extrasamples": [2], "extratags": [(33550, 12, 3, (1.0, 1.0, 0.0), True)]},
        RGB, ("bands 1, 2 and 3 of 4",),
    ),
    "thirteen bands": (
        np.concatenate([DEEP, np.repeat(DEEP[:, :, :1], 10, axis=2)], axis=2), {"compression": "zlib"}, RGB,
        ("bands 1, 2 and 3 of 13", DEEP_NOTE),
    ),
    "two bands": (FOUR[:, :, 1:3].copy(), {}, THREE_OF_GREY, ("band 1 of 2",)),
    "white is zero, 16 bits": (65535 - GREY.astype(np.uint16) * 257, {"photometric": "miniswhite"}, THREE_OF_GREY,
                               (DEEP_NOTE,)),
    "zstd": (RGB, {"photometric": "rgb", "compression": "zstd", "predictor": 2, "tile": (32, 16)}, RGB, ()),
    "lzma": (RGB, {"photometric": "rgb", "compression": "lzma", "rowsperstrip": 7}, RGB, ()),
    "WebP": (
        RGB, {"photometric": "rgb", "compression": "webp", "compressionargs": {"lossless": True}, "tile": (32, 32)},
        RGB, (),
    ),
    "JPEG 2000": (RGB, {"photometric": "rgb", "compression": "jpeg2000", "tile": (32, 32)}, RGB, ()),
    "4 bits in colours": (RGB >> 4, {"photometric": "rgb", "bitspersample": 4}, RGB & 240, ()),
    "JPEG in separate planes": (
        planar(np.repeat(FOUR[:, :, :1], 4, axis=2)),
        {"photometric": "minisblack", "planarconfig": "separate", "compression": "jpeg",
         "compressionargs": {"level": 100}, "tile": (16, 32)},
        np.repeat(RGB[:, :, :1], 3, axis=2), ("bands 1, 2 and 3 of 4",),
    ),
    "separate planes": (planar(RGB), {"photometric": "rgb", "planarconfig": "separate", "rowsperstrip": 9}, RGB, ()),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_its_pixels(tmp_path: Path, kind: str) -> None:
    values, options, expected, notes = KINDS[kind]
    found = read(write(tmp_path / "x.tif", values, **options))
    assert found[1] == notes
    lossy = "JPEG" in kind and "2000" not in kind
    assert np.abs(found[0].astype(int) - expected).max() <= (2 if lossy else 0)


RANGED = {
    "reflectance": (REFLECTANCE, {}, RGB),
    "signed": (REFLECTANCE.astype(np.int16) - 2000, {}, RGB),
    "float": (REFLECTANCE.astype(np.float32) / 7, {}, RGB),
    "float with its predictor": (REFLECTANCE.astype(np.float32), {"compression": "zlib", "predictor": 3}, RGB),
    "32 bits": (REFLECTANCE.astype(np.uint32), {}, RGB),
    "double": (REFLECTANCE[:, :, 1].astype(np.float64), {}, THREE_OF_GREY),
    "signed 8 bits": ((GREY.astype(np.int16) - 128).astype(np.int8), {}, THREE_OF_GREY),
}


@pytest.mark.parametrize("kind", RANGED)
def test_a_range_makes_a_picture_of_any_values(tmp_path: Path, kind: str) -> None:
    """The range is the values' own, so the picture is the one they were made of."""
    values, options, expected = RANGED[kind]
    limits = (values.min(axis=(0, 1)), values.max(axis=(0, 1)))
    pairs = tuple(float(v) for pair in np.atleast_2d(np.stack(limits, axis=-1)) for v in pair)
    pixels, notes = read(write(tmp_path / "x.tif", values, **options), ReadingConfig(range=pairs))
    bounds = expected.reshape(-1, 3)
    stretched = (expected - bounds.min(0)) / np.maximum(bounds.max(0) - bounds.min(0), 1) * 255
    assert np.abs(pixels - stretched).max() <= 1.5
    assert notes == ()


def test_the_range_counts_bins_of_one_width(tmp_path: Path) -> None:
    values = np.arange(H * W, dtype=np.uint16).reshape(H, W)
    pixels, _ = read(write(tmp_path / "x.tif", values), ReadingConfig(range=(1000, 4999)))
    expected = [min(max(256 * (int(v) - 1000) // 4000, 0), 255) for v in values.ravel()]
    assert pixels[:, :, 0].ravel().tolist() == expected


def test_bands_are_chosen_by_number(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", FOUR, photometric="rgb", extrasamples=[0])
    pixels, notes = read(path, ReadingConfig(bands=(4, 1, 2)))
    assert np.array_equal(pixels, FOUR[:, :, [3, 0, 1]])
    assert notes == ("bands 4, 1 and 2 of 4",)
    assert np.array_equal(read(path, ReadingConfig(bands=(4,)))[0], np.repeat(NIR, 3, axis=2))
    with pytest.raises(DataError, match=r"has 4 bands and band 5 is asked for; expected bands from 1 to 4"):
        read_image(path, reading=ReadingConfig(bands=(5, 1, 2)))


def test_bands_hold_for_plain_rgb_too(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", RGB, photometric="rgb")
    assert np.array_equal(read(path, ReadingConfig(bands=(3, 2, 1)))[0], RGB[:, :, ::-1])


HIDDEN: dict[str, tuple[NDArray[Any], dict[str, Any]]] = {
    "no data": (np.where(CORNER[:, :, None], 0, RGB | 1), {"extratags": [(NODATA, 2, 0, "0", True)]}),
    "no data of 16 bits": (
        np.where(CORNER[:, :, None], 65535, DEEP | 1) // np.uint16(1), {"extratags": [(NODATA, 2, 0, "65535", True)]}
    ),
    "alpha of 0 and 255": (
        np.dstack([RGB, np.where(CORNER, 0, 255).astype(np.uint8)]), {"extrasamples": [2]}
    ),
    "alpha behind four bands": (
        np.dstack([FOUR, np.where(CORNER, 0, 255).astype(np.uint8)]), {"extrasamples": [0, 2]}
    ),
    "alpha of 16 bits": (
        np.dstack([DEEP, np.where(CORNER, 0, 65535).astype(np.uint16)]), {"extrasamples": [2]}
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HIDDEN)
def test_what_is_no_picture_is_said(tmp_path: Path, kind: str) -> None:
    values, options = HIDDEN[kind]
    pixels, notes = read(write(tmp_path / "x.tif", values, photometric="rgb", **options))
    assert MISSING in notes
    assert np.array_equal(pixels[:, :, 3] == 0, CORNER)
    assert np.array_equal(np.unique(pixels[CORNER], axis=0), [[*MISSING_COLOR, 0]])
    assert np.abs(pixels[~CORNER][:, :3].astype(int) - RGB[~CORNER]).max() <= 1


def test_a_mask_that_jpeg_blurred_is_no_band(tmp_path: Path) -> None:
    values = np.dstack([RGB, np.where(CORNER, 0, 255).astype(np.uint8)])
    options = {"compression": "jpeg", "compressionargs": {"level": 60}, "extrasamples": [2]}
    place = [(33550, 12, 3, (1.0, 1.0, 0.0), True)]
    path = write(tmp_path / "x.tif", planar(values), photometric="rgb", planarconfig="separate", extratags=place,
                 **options)  # fmt: skip
    pixels, notes = read(path)
    assert notes == (MISSING,)
    assert ((pixels[:, :, 3] == 0) != CORNER).mean() < 0.05


def test_a_float_alpha_is_a_band(tmp_path: Path) -> None:
    values = np.dstack([GREY, np.where(CORNER, 0, 1)]).astype(np.float32)
    path = write(tmp_path / "x.tif", values, extrasamples=[2])
    assert read(path, ReadingConfig(range=(0, 256)))[1] == ("band 1 of 2",)


@pytest.mark.parametrize("compression", ["zstd", "lzma", "lzw", None])
def test_palettes_and_inks_are_read_by_pillow(tmp_path: Path, compression: str | None) -> None:
    ramp = np.arange(256, dtype=np.uint16) * 257
    palette = np.stack([ramp, ramp[::-1], ramp])
    path = write(tmp_path / "x.tif", GREY, photometric="palette", colormap=palette, compression=compression)
    if compression == "zstd" and int(PIL.__version__.partition(".")[0]) < 11:
        pytest.skip("Pillow 10 reads no Zstandard")
    assert np.array_equal(read(path)[0], np.dstack([GREY, 255 - GREY, GREY]))
    for inks in (255 - RGB, 65535 - DEEP):
        path = write(tmp_path / "y.tif", np.dstack([inks, 0 * inks[:, :, 0]]), photometric="separated",
                     compression=compression)  # fmt: skip
        assert np.array_equal(read(path)[0], RGB)


def test_a_mask_in_the_file_is_read_and_no_page(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(RGB, photometric="rgb", tile=(32, 32), compression="zlib", metadata=None)
        file.write(~CORNER, photometric="mask", subfiletype=4, tile=(32, 32), metadata=None)
        file.write(RGB[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    pixels, notes = read(tmp_path / "x.tif")
    assert notes == (MISSING,)
    assert np.array_equal(pixels[:, :, 3] == 0, CORNER)
    assert np.array_equal(pixels[~CORNER][:, :3], RGB[~CORNER])


def test_not_a_number_is_no_picture(tmp_path: Path) -> None:
    values = np.where(CORNER, np.nan, GREY).astype(np.float32)
    pixels, _ = read(write(tmp_path / "x.tif", values), ReadingConfig(range=(0, 255)))
    assert np.array_equal(pixels[:, :, 3] == 0, CORNER)


def test_graded_alpha_without_a_place_is_transparency(tmp_path: Path) -> None:
    values = np.dstack([DEEP, (COLS * 728).astype(np.uint16)])
    pixels, notes = read(write(tmp_path / "x.tif", values, photometric="rgb", extrasamples=[2]))
    share = (COLS * 728 // 256)[:, :, None] / 255
    assert np.abs(pixels[:, :, :3] - (RGB * share + 255 * (1 - share)))[:, 1:].max() <= 1
    assert notes[1:] == ("transparency laid over white", MISSING)
    assert np.array_equal(pixels[:, :, 3] == 0, COLS == 0)


def test_overviews_are_no_pages(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "x.tif") as file:
        file.write(RGB, photometric="rgb", metadata=None)
        file.write(RGB[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
        file.write(RGB[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
    assert read(tmp_path / "x.tif")[1] == ()
    with tifffile.TiffWriter(tmp_path / "y.tif") as file:
        file.write(RGB, photometric="rgb", metadata=None)
        file.write(RGB[::2], photometric="rgb", metadata=None)
    assert read(tmp_path / "y.tif")[1] == ("the first of 2 pages",)
    with tifffile.TiffWriter(tmp_path / "z.tif") as file:
        file.write(RGB[::4, ::4], photometric="rgb", subfiletype=1, metadata=None)
        file.write(RGB, photometric="rgb", metadata=None)
    assert read(tmp_path / "z.tif")[1] == ("the first of 2 pages",)


def test_channels_of_a_microscope_are_bands(tmp_path: Path) -> None:
    stack = np.stack([np.roll(planar(DEEP), shift, axis=2) for shift in (0, 5)])  # Z C Y X
    tifffile.imwrite(tmp_path / "x.ome.tif", stack, photometric="minisblack",
                     metadata={"axes": "ZCYX", "Channel": {"Name": ["DAPI", "GFP", "RFP"]}})  # fmt: skip
    pixels, notes = read(tmp_path / "x.ome.tif", ReadingConfig(bands=(3, 2, 1)))
    assert np.array_equal(pixels, RGB[:, :, ::-1])
    assert notes == ("the first of 2 pages", DEEP_NOTE)
    two = np.stack([DEEP[:, :, 0], DEEP[:, :, 1]])
    tifffile.imwrite(tmp_path / "two.ome.tif", two, photometric="minisblack",
                     metadata={"axes": "CYX", "Channel": {"Name": ["DAPI", "GFP"]}})  # fmt: skip
    assert read(tmp_path / "two.ome.tif")[1] == ("band 1 of 2 (DAPI)", DEEP_NOTE)
    tifffile.imwrite(tmp_path / "ij.tif", planar(DEEP), imagej=True, metadata={"axes": "CYX"})
    assert np.array_equal(read(tmp_path / "ij.tif")[0], RGB)


def test_twelve_bits_use_twelve_bits(tmp_path: Path) -> None:
    values = GREY.astype(np.uint16) * 16
    packed = np.stack([values.ravel()[::2] >> 4, (values.ravel()[::2] << 4 | values.ravel()[1::2] >> 8) & 255,
                       values.ravel()[1::2] & 255], axis=1).astype(np.uint8)  # fmt: skip
    raw = packed.tobytes()
    write(tmp_path / "x.tif", np.frombuffer(raw, np.uint8).reshape(H, -1))
    content = bytearray((tmp_path / "x.tif").read_bytes())
    with tifffile.TiffFile(tmp_path / "x.tif") as file:
        places = {tag.code: tag.valueoffset for tag in file.pages.first.tags}
    for code, value in ((256, W), (NBITS, 12)):
        content[places[code] : places[code] + 2] = value.to_bytes(2, "little")
    (tmp_path / "x.tif").write_bytes(content)
    pixels, notes = read(tmp_path / "x.tif")
    assert np.array_equal(pixels, THREE_OF_GREY)
    assert notes == ("the upper 8 of 12 bits",)


@pytest.mark.parametrize(("suffix", "channels"), [(".png", 1), (".png", 3), (".pgm", 1), (".ppm", 3), (".jp2", 1)])
def test_a_range_holds_for_other_files_of_16_bits(tmp_path: Path, suffix: str, channels: int) -> None:
    values = REFLECTANCE[:, :, 1] if channels == 1 else REFLECTANCE
    stored = values if channels == 1 else np.ascontiguousarray(values[:, :, ::-1])
    path = tmp_path / f"x{suffix}"
    assert cv2.imwrite(str(path), stored)
    pixels, notes = read(path, ReadingConfig(range=(100, 2915)))
    expected = THREE_OF_GREY if channels == 1 else RGB
    assert np.abs(pixels.astype(int) - expected).max() <= (3 if suffix == ".jp2" else 0)
    assert notes == ()


@pytest.mark.parametrize("turn", range(1, 9))
def test_rasters_are_upright(tmp_path: Path, turn: int) -> None:
    write(tmp_path / "x.tif", DEEP, photometric="rgb", extratags=[(274, 3, 1, turn, True)])
    write(tmp_path / "y.tif", RGB, photometric="rgb", extratags=[(274, 3, 1, turn, True)])
    assert np.array_equal(read(tmp_path / "x.tif")[0], read_image(tmp_path / "y.tif"))


@pytest.mark.parametrize(
    ("values", "options", "sentence"),
    [
        (RGB.astype(np.complex64)[:, :, 0], {}, "holds complex values; expected whole or float numbers"),
        (DEEP, {"photometric": "cielab"}, "holds 3 bands of colours of the kind CIELAB in 16 bits; expected"),
        (GREY.astype(np.float32), {}, "holds 32-bit float values, whose range is unknown; expected .* --range"),
        (GREY.astype(np.int16), {}, "holds signed 16-bit values, whose range is unknown; expected .* --range"),
    ],
)
def test_what_is_no_picture_as_it_is_is_refused(
    tmp_path: Path, values: NDArray[Any], options: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence):
        read_image(write(tmp_path / "x.tif", values, **options))


@pytest.mark.parametrize("fault", [ImportError, NameError])
def test_a_fault_that_is_not_the_files_is_not_hidden(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: type[Exception]
) -> None:
    """Pillow would show noise in place of these planes."""
    path = write(tmp_path / "x.tif", planar(DEEP), photometric="rgb", planarconfig="separate")

    def broken(*_: object) -> None:
        raise fault("broken")

    monkeypatch.setattr(tiff_rasters, "_pillow_reads", broken)
    with pytest.raises(fault, match="broken"):
        read_image(path)


def test_rows_that_were_taken_for_pages_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "x.tif", np.dstack([FOUR, NIR]))
    with pytest.raises(DataError, match=rf"holds {H} pages of 5 x {W} pixels, an array whose axes were not said"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("kept", [0.3, 0.9])
@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
def test_a_file_that_ends_early_is_damaged(tmp_path: Path, kept: float, compression: str | None) -> None:
    noise = np.random.default_rng(0).integers(0, 65536, (H, W, 4)).astype(np.uint16)
    write(tmp_path / "x.tif", noise, compression=compression, rowsperstrip=8)
    content = (tmp_path / "x.tif").read_bytes()
    (tmp_path / "x.tif").write_bytes(content[: int(kept * len(content))])
    with pytest.raises(DataError, match=r"x\.tif cannot be decoded .*: copy it again or leave it out") as caught:
        read_image(tmp_path / "x.tif")
    assert str(caught.value).startswith(str(tmp_path))
    with pytest.raises(DataError, match="the image cannot be decoded"):
        read_with_notes((tmp_path / "x.tif").read_bytes())


# the range of a collection


def tiles(folder: Path, number: int = 6, scale: int = 11, **options: Any) -> list[Path]:
    return [write(folder / f"{i}.tif", RGB.astype(np.uint16) * scale + 100 + i, **options) for i in range(number)]


def test_the_range_is_that_of_all_photos(tmp_path: Path) -> None:
    paths = tiles(tmp_path)
    values = np.concatenate([tifffile.imread(path).reshape(-1, 3) for path in paths])
    low, high = np.percentile(values, (1, 99), axis=0)
    seen = survey(paths, ReadingConfig())
    expected = np.stack([np.floor(low), np.ceil(high)], axis=1).ravel()
    assert np.array_equal(seen.reading.range, expected)
    assert seen.found == "auto: the 1. and 99. percentile of 6 photos"
    assert seen.notes == {}


def test_a_range_that_is_given_stays(tmp_path: Path) -> None:
    given = ReadingConfig(range=(0, 4095))
    seen = survey(tiles(tmp_path), given)
    assert (seen.reading, seen.found) == (given, "")


def test_values_that_use_their_type_have_its_range(tmp_path: Path) -> None:
    seen = survey(tiles(tmp_path, scale=250), ReadingConfig())
    assert seen.reading == ReadingConfig()
    assert seen.lines(6) == [f"6 of 6 photos: {DEEP_NOTE} ({tmp_path / '0.tif'})"]


def test_no_data_is_not_in_the_range(tmp_path: Path) -> None:
    values = np.where(CORNER[:, :, None], 60_000, REFLECTANCE).astype(np.uint16)
    path = write(tmp_path / "x.tif", values, extratags=[(NODATA, 2, 0, "60000", True)])
    assert max(survey([path], ReadingConfig()).reading.range) < 3000


def test_infinite_values_are_not_in_the_range(tmp_path: Path) -> None:
    values = np.where(CORNER, -np.inf, np.where(CORNER[::-1], np.inf, GREY)).astype(np.float32)
    path = write(tmp_path / "x.tif", values)
    low, high = survey([path], ReadingConfig()).reading.range
    assert [low, high] == np.percentile(values[np.isfinite(values)], (1, 99)).tolist()
    pixels, _ = read(path, ReadingConfig(range=(low, high)))
    assert (pixels[CORNER] == 0).all()
    assert (pixels[CORNER[::-1] & ~CORNER] == 255).all()


@pytest.mark.parametrize("limits", [(0, np.inf), (-np.inf, 5), (3, 3), (10, 2), (5,), (0, 1, 2)])
def test_a_range_has_two_ends(limits: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=r"expected LOW,HIGH with LOW below HIGH"):
        ReadingConfig(range=limits)


def test_grey_and_colours_share_one_range(tmp_path: Path) -> None:
    paths = [*tiles(tmp_path, 2), write(tmp_path / "grey.tif", REFLECTANCE[:, :, 0])]
    assert len(survey(paths, ReadingConfig()).reading.range) == 2


def test_camera_photos_have_no_range(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "x.jpg"), RGB)
    cv2.imwrite(str(tmp_path / "y.png"), RGB)
    (tmp_path / "z.png").write_bytes(b"no image")
    seen = survey([tmp_path / name for name in ("x.jpg", "y.png", "z.png")], ReadingConfig())
    assert (seen.reading, seen.notes) == (ReadingConfig(), {})


def test_bands_that_are_missing_are_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="band 4 is asked for"):
        survey(tiles(tmp_path, 2), ReadingConfig(bands=(4, 3, 2)))
