import io

import cv2
import numpy as np
import pytest
from photo_files import save, tagged
from PIL import Image

from slotseg.data.reading import photos
from slotseg.data.reading.images import image_size, read_image
from slotseg.data.reading.photos import REDUCTIONS, ArrayPhoto, open_photo
from slotseg.errors import DataError

TOLERANCE = 2  # grey levels between two builds of libjpeg; of one and the same version there is no difference


def picture(height=90, width=133):
    """Smooth patches and a little noise."""
    rng = np.random.default_rng(0)
    patches = rng.integers(30, 226, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    smooth = cv2.resize(patches, (width, height), interpolation=cv2.INTER_CUBIC)
    return (smooth.astype(int) + rng.integers(-5, 6, smooth.shape)).clip(0, 255).astype(np.uint8)


def difference(pixels, others):
    assert pixels.shape == others.shape
    return np.abs(pixels.astype(int) - others).max()


@pytest.fixture
def fast_only(monkeypatch):
    monkeypatch.setattr(photos, "read_with_notes", lambda *_: pytest.fail("OpenCV was to decode it"))


@pytest.fixture
def slow_only(monkeypatch):
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("Pillow was to decode it"))


# by OpenCV


@pytest.mark.usefixtures("fast_only")
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}], ids=str)
def test_a_jpeg_at_full_size_is_what_read_image_gives(tmp_path, mode, options):
    path = save(tmp_path / "x.jpg", picture(), mode, **options)
    photo = open_photo(str(path))
    assert photo.size_hw == image_size(path) == (90, 133)
    pixels = photo.pixels()
    assert (pixels.dtype, pixels.flags["C_CONTIGUOUS"], pixels.flags["WRITEABLE"]) == (np.uint8, True, True)
    assert difference(pixels, read_image(path)) <= TOLERANCE
    assert np.array_equal(photo.pixels(), pixels)


@pytest.mark.usefixtures("fast_only")
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_exif_orientation(tmp_path, orientation, reduction):
    blocks = np.random.default_rng(0).integers(0, 256, (2, 3, 3), dtype=np.uint8)  # whole JPEG blocks of one colour
    stored = np.kron(blocks, np.ones((16, 16, 1), np.uint8))
    path = save(tmp_path / "x.jpg", stored, subsampling=0, exif=tagged(orientation))
    photo, expected = open_photo(path), read_image(path)
    assert photo.size_hw == image_size(path) == expected.shape[:2]
    assert difference(photo.pixels(reduction), expected[::reduction, ::reduction]) <= TOLERANCE


@pytest.mark.usefixtures("fast_only")
@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("size", [(2000, 3000), (2001, 2999)])
def test_a_reduced_jpeg_is_the_photo_made_smaller(tmp_path, reduction, size):
    whole = picture(*size)
    photo = open_photo(save(tmp_path / "x.jpg", whole, quality=95))
    assert photo.size_hw == size
    pixels = photo.pixels(reduction)
    assert pixels.shape == (-(-size[0] // reduction), -(-size[1] // reduction), 3)
    whole = np.pad(whole, ((0, -size[0] % reduction), (0, -size[1] % reduction), (0, 0)), mode="edge")
    averaged = whole.reshape(pixels.shape[0], reduction, pixels.shape[1], reduction, 3).mean(axis=(1, 3))
    error = np.abs(pixels - averaged)
    assert error.mean() < 3
    assert np.abs((pixels - averaged).mean(axis=(0, 1))).max() < 0.5


# by Pillow


@pytest.mark.usefixtures("slow_only")
@pytest.mark.parametrize(
    ("name", "mode", "options", "more"),
    [
        ("x.png", "RGB", {}, b""),
        ("x.png", "RGBA", {"exif": tagged(6)}, b""),
        ("x.tif", "L", {"exif": tagged(8)}, b""),
        ("x.jpg", "CMYK", {"exif": tagged(5)}, b""),
        ("x.jpg", "RGB", {"exif": tagged(7)}, b"\0 a camera's notes"),
    ],
)
def test_what_is_no_plain_whole_jpeg_is_what_read_image_gives(tmp_path, name, mode, options, more):
    path = save(tmp_path / name, picture(), mode, **options)
    path.write_bytes(path.read_bytes() + more)
    photo, expected = open_photo(path), read_image(path)
    assert photo.size_hw == expected.shape[:2]
    for reduction in REDUCTIONS:
        assert np.array_equal(photo.pixels(reduction), expected)


def jpeg_bytes():
    file = io.BytesIO()
    Image.fromarray(picture()).save(file, "JPEG")
    return file.getvalue()


JPEG = jpeg_bytes()
BAD_FILES = {
    "missing": None,
    "zero bytes": b"",
    "text": b"hello, I am no image",
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n",
    "cut off": JPEG[: len(JPEG) // 2],
    "end marker missing": JPEG[:-2],
    "no scan": JPEG[: JPEG.index(b"\xff\xda")] + b"\xff\xd9",
}


@pytest.mark.parametrize("content", BAD_FILES.values(), ids=BAD_FILES)
def test_a_bad_file_ends_as_with_read_image(tmp_path, content):
    path = tmp_path / "x.jpg"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as expected:
        read_image(path)
    with pytest.raises(DataError) as error:
        open_photo(path).pixels(2)
    assert str(error.value) == str(expected.value)


def test_too_many_pixels(tmp_path):
    path = save(tmp_path / "x.jpg", picture())
    assert open_photo(path, max_pixels=90 * 133).pixels().shape == (90, 133, 3)
    with pytest.raises(DataError, match=f"133 x 90 pixels, more than the limit of {90 * 133 - 1}"):
        open_photo(path, max_pixels=90 * 133 - 1)


# in memory


def test_an_array_is_given_out_as_it_is():
    array = picture()
    photo = ArrayPhoto(array)
    assert photo.size_hw == (90, 133)
    assert all(photo.pixels(reduction) is array for reduction in REDUCTIONS)


@pytest.mark.parametrize(("orientation", "mode"), [(1, "RGB"), (1, "L"), (6, "RGB"), (1, "CMYK")])
def test_large_jpegs_have_the_same_pixels(tmp_path, orientation, mode):
    rows = photos.read_large_jpeg(save(tmp_path / "x.jpg", picture(700, 300), mode, exif=tagged(orientation)))
    if (orientation, mode) in ((6, "RGB"), (1, "CMYK")):
        assert rows is None
    else:
        assert np.abs(rows.pixels.astype(int) - read_image(tmp_path / "x.jpg")).max() <= TOLERANCE


def test_cut_off_large_jpegs_are_left_to_others(tmp_path):
    Image.fromarray(picture(700, 300)).save(tmp_path / "x.jpg")
    (tmp_path / "x.jpg").write_bytes((tmp_path / "x.jpg").read_bytes()[:-100])
    assert photos.read_large_jpeg(tmp_path / "x.jpg") is None
