"""Label files: the numbers or colours that somebody saved, in any exact form, or a sentence on why not."""

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from slotseg.data.reading.label_files import read_label, read_stored
from slotseg.errors import DataError

IDS = np.array([[0, 1, 2, 255], [7, 3, 0, 1]], np.uint8)
DEEP = np.array([[0, 1, 300], [2, 65_535, 7]], np.uint16)


def as_image(ids, mode):
    alpha = Image.new("L", (ids.shape[1], ids.shape[0]), 255)
    grey = Image.fromarray(ids)
    return Image.merge(mode, [grey] * (len(mode.rstrip("A")) if mode != "LA" else 1) + [alpha] * mode.endswith("A"))


@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_grey_saved_with_more_channels_is_its_numbers(tmp_path, mode, suffix):
    as_image(IDS, mode).save(tmp_path / f"x{suffix}")
    label = read_label(tmp_path / f"x{suffix}")
    assert (label.dtype, label.tolist()) == (np.uint8, IDS.tolist())


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".PNG"])
def test_other_exact_formats(tmp_path, suffix):
    indexed = Image.fromarray(IDS)
    indexed.putpalette(np.random.default_rng(0).integers(0, 256, 768, np.uint8).tobytes())
    for image in (Image.fromarray(IDS), indexed):
        image.save(tmp_path / f"x{suffix}")
        assert read_label(tmp_path / f"x{suffix}").tolist() == IDS.tolist()


def test_greys_of_a_gif_are_its_numbers_as_its_writers_number_colours_anew(tmp_path):
    Image.fromarray(IDS).save(tmp_path / "x.gif")
    with Image.open(tmp_path / "x.gif") as image:
        assert np.asarray(image).tolist() != IDS.tolist()
    assert read_label(tmp_path / "x.gif").tolist() == IDS.tolist()


@pytest.mark.parametrize(
    "ids", [IDS, DEEP, IDS.astype(np.int64), IDS.astype(np.float32), IDS[None], IDS[..., None], IDS > 1], ids=str
)
def test_arrays(tmp_path, ids):
    np.save(tmp_path / "x.npy", ids)
    np.savez_compressed(tmp_path / "x.npz", anything=ids)
    savemat(tmp_path / "x.mat", {"anything": ids, "number": 5, "text": "abc", "list": np.arange(4)})
    for suffix in (".npy", ".npz", ".mat"):
        label = read_label(tmp_path / f"x{suffix}")
        assert label.dtype in (np.uint8, np.uint16)
        assert label.tolist() == np.squeeze(ids).astype(int).tolist()


def test_minus_one_is_the_last_id_of_16_bits(tmp_path):
    np.save(tmp_path / "x.npy", np.array([[-1, 2]]))
    assert read_label(tmp_path / "x.npy").tolist() == [[65_535, 2]]
    Image.fromarray(np.array([[-1, 2]], np.int32)).save(tmp_path / "x.tif")
    assert read_label(tmp_path / "x.tif").tolist() == [[65_535, 2]]


def test_whole_floats_of_a_tiff(tmp_path):
    Image.fromarray(IDS.astype(np.float32)).save(tmp_path / "x.tif")
    assert read_label(tmp_path / "x.tif").tolist() == IDS.tolist()
    Image.fromarray(IDS / np.float32(2)).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match=r"x\.tif holds fractions"):
        read_label(tmp_path / "x.tif")


def test_colours_come_with_the_numbers_that_they_stand_for(tmp_path):
    colours = np.array([[0, 0, 255], [0, 255, 0]], np.uint8)[[[0, 1, 1]]]
    Image.fromarray(colours).save(tmp_path / "x.png")
    stored = read_stored(tmp_path / "x.png")
    assert stored.ids is None
    assert np.array_equal(stored.colors, colours)
    indexed = Image.fromarray(np.array([[1, 0]], np.uint8))
    indexed.putpalette([9, 8, 7, 6, 5, 4])
    indexed.save(tmp_path / "x.png")
    stored = read_stored(tmp_path / "x.png")
    assert (stored.ids.tolist(), stored.colors[:2].tolist()) == ([[1, 0]], [[9, 8, 7], [6, 5, 4]])
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "x.png")
    stored = read_stored(tmp_path / "x.png")
    assert (stored.ids.tolist(), stored.colors[:2].tolist()) == ([[1, 0]], [[0, 0, 0], [255, 255, 255]])


def transparent(path):
    image = as_image(IDS, "RGBA")
    image.putpixel((0, 0), (0, 0, 0, 0))
    image.save(path)


def sixteen_bit_colours(path):
    cv2.imwrite(str(path), np.repeat(DEEP[..., None], 3, 2))


def two_pages(path):
    Image.fromarray(IDS).save(path, format="TIFF", save_all=True, append_images=[Image.fromarray(IDS)])


def lossy_tiff(path):
    Image.fromarray(np.full((16, 16), 3, np.uint8)).save(path, format="TIFF", compression="jpeg")


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("x.png", transparent, "is partly transparent"),
        ("x.png", sixteen_bit_colours, "has channels of 16 bits"),
        ("x.tif", sixteen_bit_colours, "has channels of 16 bits"),
        ("x.tif", two_pages, "has several pages"),
        ("x.tif", lossy_tiff, "lossy compression"),
        ("x.png", lambda p: Image.fromarray(IDS).save(p, format="JPEG"), "is a JPEG file.*must keep its ids exactly"),
        ("x.png", lambda p: Image.fromarray(IDS).save(p, format="WEBP"), "is a WEBP file.*must keep its ids exactly"),
        ("x.png", lambda p: Image.fromarray(IDS).save(p, format="PPM"), "is a PPM file; expected an indexed or grey"),
        ("x.npy", lambda p: np.save(p, np.zeros((3, 4, 5))), r"has the shape \(3, 4, 5\)"),
        ("x.npy", lambda p: np.save(p, np.array([[-2, 0]])), r"has ids from -2 to 0; expected 0\.\.65535"),
        ("x.npy", lambda p: np.save(p, np.array([[np.nan, 0]])), "holds fractions"),
        ("x.npy", lambda p: np.save(p, np.array([[{}]])), "cannot be read"),
        ("x.npy", lambda p: np.save(p, np.zeros(4)), r"no maps of numbers \(here: none\)"),
        ("x.npy", lambda p: p.write_bytes(b"\x93NUMPY nothing"), "cannot be read"),
        ("x.npy", lambda p: p.write_bytes(b""), "is empty"),
        ("x.npz", lambda p: np.savez(p, one=IDS, two=IDS), r"several or no maps of numbers \(here: one, two\)"),
        ("x.npz", lambda p: p.write_bytes(b"PK nothing"), "cannot be read"),
        ("x.mat", lambda p: savemat(p, {"one": IDS, "two": IDS}), r"several or no maps of numbers \(here: one, two\)"),
        ("x.mat", lambda p: p.write_bytes(b"MATLAB 5.0 MAT-file, cut" * 9), "cannot be read"),
        ("x.mat", lambda p: p.write_bytes(b"MATLAB 7.3 MAT-file".ljust(124) + b"\0\2IM"), "version 7.3"),
        ("x.mat", lambda p: None, "is no file"),
    ],
)  # fmt: skip
def test_what_is_not_exact_or_not_sure_is_refused_in_a_sentence(tmp_path, name, make, message):
    make(tmp_path / name)
    with pytest.raises(DataError, match=message) as error:
        read_stored(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


def test_overviews_of_a_tiff_are_no_pages(tmp_path):
    Image.fromarray(IDS).save(tmp_path / "x.tif", save_all=True, append_images=[Image.fromarray(IDS[::2, ::2].copy())])
    assert read_label(tmp_path / "x.tif").tolist() == IDS.tolist()


def test_a_huge_array_is_refused_before_it_is_read(tmp_path):
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.uint8, (5, 7))
    assert read_label(tmp_path / "x.npy", max_pixels=35).shape == (5, 7)
    with pytest.raises(DataError, match="7 x 5 pixels, more than the limit of 34"):
        read_label(tmp_path / "x.npy", max_pixels=34)
