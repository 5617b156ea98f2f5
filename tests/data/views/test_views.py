import numpy as np
import pytest
import torch

from slotseg.config import ViewsConfig
from slotseg.data.reading.photos import ArrayPhoto
from slotseg.data.views import crops as views
from slotseg.data.views.crops import coarsest_reduction, draw_crop, draw_crops, make_views, overlap_box, reduced_box
from slotseg.method.alignment import align

SIZE = 64
CONFIG = ViewsConfig(image_size=SIZE)
SIZES_HW = [(200, 250), (200, 640), (100, 4000), (4000, 100), (1, 300), (300, 1), (1, 1), (2, 3), (5, 5)]


def coordinate_photo(height=180, width=250):
    """A photo whose red is x and whose green is y, in pixels."""
    y, x = np.mgrid[:height, :width]
    return ArrayPhoto(np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8))


class ReducedPhoto:
    """A photo whose red is x and whose green is y, in pixels of the full size, whatever it is reduced by."""

    size_hw = (247, 251)

    def __init__(self):
        self.asked = []

    def pixels(self, reduction=1):
        self.asked.append(reduction)
        height, width = (-(-side // reduction) for side in self.size_hw)
        y, x = np.floor((np.mgrid[:height, :width] + 0.5) * reduction)
        return np.stack([x, y, np.zeros_like(x)], axis=2).astype(np.uint8)


def photo_box(image, box, flip):
    """The photo coordinates of a box of a view, read off straight lines through the view's ramps."""
    size = image.shape[-1]
    inner = np.arange(3, size - 3)  # resampling bends the ramp at the borders
    centers = (inner + 0.5) / size
    x_line = np.polyfit(centers, image[0].float().mean(dim=0)[inner].numpy(), 1)
    y_line = np.polyfit(centers, image[1].float().mean(dim=1)[inner].numpy(), 1)
    assert y_line[0] > 0
    assert (x_line[0] < 0) == flip
    x1, y1, x2, y2 = box.double().numpy()
    xs = np.polyval(x_line, [x2, x1] if flip else [x1, x2])
    ys = np.polyval(y_line, [y1, y2])
    return np.array([xs[0], ys[0], xs[1], ys[1]])


def area(box):
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def shared_area(a, b):
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


# geometry


def test_the_overlap_boxes_of_rendered_views_show_the_same_place():
    for seed in range(40):
        pair = make_views(coordinate_photo(), CONFIG, np.random.default_rng(seed))
        first, second = (photo_box(*view) for view in zip(pair.images, pair.overlap_boxes, pair.flips, strict=True))
        assert np.abs(first - second).max() < 1


def test_aligned_views_show_the_same_pixels():
    seen = set()
    for seed in range(60):
        pair = make_views(coordinate_photo(), CONFIG, np.random.default_rng(seed))
        if (pair.overlap_boxes[:, 2:] - pair.overlap_boxes[:, :2]).min() < 0.2:
            continue  # a few pixels blown up
        first, second = align(pair.images.float(), pair.overlap_boxes, pair.flips)[:, :2, 4:-4, 4:-4]
        assert (first - second).abs().max() < 2
        assert first[0].std() > 2
        seen.add(tuple(pair.flips.tolist()))
    assert len(seen) == 4


def test_views_of_a_reduced_photo_are_where_those_of_the_whole_are():
    """Each side of a crop moves by half a reduced pixel at most."""
    config, whole, seen = ViewsConfig(image_size=24), ArrayPhoto(ReducedPhoto().pixels()), set()
    for seed in range(100):
        photo = ReducedPhoto()
        pair, other = (make_views(p, config, np.random.default_rng(seed)) for p in (photo, whole))
        (reduction,) = photo.asked  # decoded once
        assert torch.equal(pair.overlap_boxes, other.overlap_boxes)
        boxes, expected = (
            np.stack([photo_box(*view) for view in zip(p.images, p.overlap_boxes, p.flips, strict=True)])
            for p in (pair, other)
        )
        rounding = 1  # of the values to grey levels, in pixels
        expected += 0.5  # of a pixel's centre, which its value lacks at full size only
        assert np.abs(boxes - expected).max() <= reduction / 2 + rounding
        assert np.abs(boxes[0] - boxes[1]).max() <= reduction + rounding
        seen.add(reduction)
    assert seen == {2, 4, 8}


@pytest.mark.parametrize("size_hw", [(200, 250), (200, 640), (37, 23)])
def test_aligned_maps_hold_the_photo_coordinates_of_the_overlap(size_hw):
    """Exact but for ROI-align's clamp: nothing is known beyond the centres of a view's outer cells."""
    rng, cells = np.random.default_rng(0), 7
    steps = (np.arange(cells) + 0.5) / cells
    for _ in range(50):
        crops = draw_crops(size_hw, CONFIG, rng)
        shared = *np.maximum(*crops)[:2], *np.minimum(*crops)[2:]
        for crop, other in (crops, crops[::-1]):
            flip = bool(rng.random() < 0.5)
            x, y = (crop[i] + steps * (crop[i + 2] - crop[i]) for i in (0, 1))
            coordinates = np.stack(np.meshgrid(x[::-1] if flip else x, y))
            box = torch.from_numpy(overlap_box(crop, other, flip))[None]
            aligned = align(torch.from_numpy(coordinates)[None], box.double(), torch.tensor([flip]))[0]
            expected = [shared[i] + steps * (shared[i + 2] - shared[i]) for i in (0, 1)]
            expected = np.meshgrid(np.clip(expected[0], x[0], x[-1]), np.clip(expected[1], y[0], y[-1]))
            np.testing.assert_allclose(aligned.numpy(), np.stack(expected), atol=1e-3)


@pytest.mark.parametrize(
    ("crop", "other", "flip", "expected"),
    [
        ((0, 0, 10, 20), (0, 0, 10, 20), True, (0, 0, 1, 1)),
        ((0, 0, 10, 20), (5, 5, 30, 10), False, (0.5, 0.25, 1, 0.5)),
        ((0, 0, 10, 20), (5, 5, 30, 10), True, (0, 0.25, 0.5, 0.5)),
        ((5, 5, 30, 10), (0, 0, 10, 20), False, (0, 0, 0.2, 1)),
        ((5, 5, 30, 10), (0, 0, 10, 20), True, (0.8, 0, 1, 1)),
    ],
)
def test_overlap_box_by_hand(crop, other, flip, expected):
    box = overlap_box(crop, other, flip)
    assert box.dtype == np.float32
    np.testing.assert_allclose(box, expected, atol=1e-6)


# drawing


@pytest.mark.parametrize("size_hw", SIZES_HW)
@pytest.mark.parametrize("min_overlap", [0.0, 0.01, 0.5])
def test_crops_lie_in_the_photo_and_overlap(size_hw, min_overlap):
    config = ViewsConfig(min_overlap=min_overlap)
    rng = np.random.default_rng(0)
    for _ in range(1000):
        pair = draw_crops(size_hw, config, rng)
        for x1, y1, x2, y2 in pair:
            assert 0 <= x1 < x2 <= size_hw[1]
            assert 0 <= y1 < y2 <= size_hw[0]
        assert shared_area(*pair) >= max(1, min_overlap * area(pair[1]))


def test_area_and_aspect_stay_in_range_and_fill_it():
    rng = np.random.default_rng(0)
    boxes = [draw_crop((1000, 1000), (0.1, 0.5), (0.5, 1.5), rng) for _ in range(2000)]
    shares = np.array([area(box) / 1e6 for box in boxes])
    ratios = np.array([(x2 - x1) / (y2 - y1) for x1, y1, x2, y2 in boxes])
    for values, low, high in ((shares, 0.1, 0.5), (ratios, 0.5, 1.5)):
        assert low * 0.99 < values.min() < low * 1.05
        assert high * 0.95 < values.max() < high * 1.01
    assert np.median(ratios) == pytest.approx(0.75**0.5, rel=0.05)  # log-uniform


def test_crops_reach_every_place():
    rng = np.random.default_rng(0)
    boxes = {draw_crop((6, 5), (4 / 30, 4 / 30), (1, 1), rng) for _ in range(500)}
    assert boxes == {(x, y, x + 2, y + 2) for x in range(4) for y in range(5)}


@pytest.mark.parametrize(
    ("size_hw", "expected"),
    [((100, 4000), (1933, 0, 2066, 100)), ((4000, 100), (0, 1933, 100, 2066)), ((1, 300), (149, 0, 150, 1))],
)
def test_a_panorama_gives_its_largest_centred_box(size_hw, expected):
    assert draw_crop(size_hw, (0.08, 1.0), (3 / 4, 4 / 3), np.random.default_rng(0)) == expected


def test_the_second_box_is_redrawn_until_it_overlaps_and_is_the_first_if_it_never_does(monkeypatch):
    first, apart, near = (0, 0, 10, 10), (50, 50, 90, 90), (5, 5, 20, 20)
    for drawn, second in (([first, apart, apart, near], near), ([first] + [apart] * views.ATTEMPTS, first)):
        boxes = iter(drawn)
        monkeypatch.setattr(views, "draw_crop", lambda *_, boxes=boxes: next(boxes))
        assert draw_crops((100, 100), CONFIG, np.random.default_rng(0)) == (first, second)
        assert next(boxes, None) is None


# reduction


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ((1792, 1792, 1792, 1792), 8),
        ((1792, 1792, 1791, 1792), 4),
        ((5000, 896, 900, 900), 4),
        ((5000, 5000, 5000, 895), 2),
        ((448, 448, 448, 448), 2),
        ((447, 448, 448, 448), 1),
        ((5000, 5000, 1, 5000), 1),
    ],
)
def test_each_crop_keeps_the_pixels_of_a_view(sides, expected):
    crops = (7, 5, 7 + sides[0], 5 + sides[1]), (0, 1, sides[2], 1 + sides[3])
    assert coarsest_reduction(crops, 224) == expected


def test_a_reduced_box_has_the_nearest_sides_and_stays_within_the_photo():
    assert reduced_box((3, 5, 131, 134), 2) == (2, 2, 66, 67)
    assert reduced_box((3, 5, 131, 134), 1) == (3, 5, 131, 134)
    for side in range(512, 530):
        assert reduced_box((0, side - 512, 512, side), 8)[3] <= -(-side // 8)


def test_a_photo_that_comes_whole_is_cropped_as_such(monkeypatch):
    whole = ArrayPhoto(ReducedPhoto().pixels())
    pair = make_views(whole, CONFIG, np.random.default_rng(0))
    monkeypatch.setattr(views, "coarsest_reduction", lambda *_: 1)
    assert torch.equal(pair.images, make_views(whole, CONFIG, np.random.default_rng(0)).images)


# views


def test_a_seed_is_a_pair():
    first, again, other = (make_views(coordinate_photo(), CONFIG, np.random.default_rng(s)) for s in (3, 3, 4))
    for name in ("images", "overlap_boxes", "flips"):
        assert torch.equal(getattr(first, name), getattr(again, name))
    assert not torch.equal(first.images, other.images)


@pytest.mark.parametrize("probability", [0.0, 0.5, 1.0])
def test_views_are_mirrored_as_often_as_asked_and_independently(probability):
    config = ViewsConfig(image_size=16, flip=probability)
    rngs = map(np.random.default_rng, range(200))
    flips = torch.stack([make_views(coordinate_photo(9, 9), config, rng).flips for rng in rngs])
    assert (flips.float().mean(dim=0) - probability).abs().max() <= (0.1 if probability == 0.5 else 0)
    assert ((flips[:, 0] == flips[:, 1]).float().mean() - (0.5 if probability == 0.5 else 1)).abs() < 0.1


@pytest.mark.parametrize("size_hw", SIZES_HW)
def test_types_shapes_and_ranges(size_hw):
    image = np.random.default_rng(0).integers(0, 256, (*size_hw, 3), dtype=np.uint8)
    pair = make_views(ArrayPhoto(image), CONFIG, np.random.default_rng(0))
    assert (pair.images.dtype, pair.images.shape) == (torch.uint8, (2, 3, SIZE, SIZE))
    assert (pair.overlap_boxes.dtype, pair.overlap_boxes.shape) == (torch.float32, (2, 4))
    assert (pair.flips.dtype, pair.flips.shape) == (torch.bool, (2,))
    x1, y1, x2, y2 = pair.overlap_boxes.unbind(1)
    assert ((x1 >= 0) & (x1 < x2) & (x2 <= 1) & (y1 >= 0) & (y1 < y2) & (y2 <= 1)).all()


@pytest.mark.parametrize("kind", ["read-only", "mirrored"])
def test_any_array_will_do_and_stays_as_it_is(kind):
    photo = coordinate_photo().array
    expected = make_views(ArrayPhoto(photo), CONFIG, np.random.default_rng(0))
    given = photo.copy() if kind == "read-only" else photo[:, ::-1].copy()[:, ::-1]
    given.flags.writeable = False
    assert torch.equal(make_views(ArrayPhoto(given), CONFIG, np.random.default_rng(0)).images, expected.images)
    assert np.array_equal(given, photo)


# missing pixels


def half_photo(height=180, width=250):
    """A photo whose red is x and whose green is y, of which pixels left of the middle are missing."""
    y, x = np.mgrid[:height, :width]
    return ArrayPhoto(np.stack([x, y, np.zeros_like(x), 255 * (x >= width // 2)], axis=2).astype(np.uint8))


def test_a_pixel_of_a_view_is_valid_where_what_it_shows_is():
    """At the view's own geometry, mirrored or not; crops and colours are those of a photo without missing pixels."""
    seen, config = set(), ViewsConfig(image_size=SIZE, area=(0.05, 0.3))
    for seed in range(40):
        pair, whole = (make_views(p, config, np.random.default_rng(seed)) for p in (half_photo(), coordinate_photo()))
        assert torch.equal(pair.images, whole.images)
        assert torch.equal(pair.overlap_boxes, whole.overlap_boxes)
        valid = torch.ones_like(pair.images[:, 0], dtype=torch.bool) if pair.valid is None else pair.valid
        shown = whole.images[:, 0].float() + 0.5  # the middle of a pixel
        clear = (shown - 125).abs() > 3
        assert torch.equal(valid[clear], (shown > 125)[clear])
        seen |= {None if pair.valid is None else bool(flip) for flip in pair.flips}
    assert seen == {None, False, True}


def test_nothing_is_said_of_photos_whose_pixels_are_all_valid():
    photo = coordinate_photo()
    opaque = ArrayPhoto(np.dstack([photo.array, np.full(photo.size_hw, 255, np.uint8)]))
    ours, theirs = (make_views(p, CONFIG, np.random.default_rng(0)) for p in (opaque, photo))
    assert ours.valid is None
    assert torch.equal(ours.images, theirs.images)


def test_missing_pixels_of_reduced_photos_are_where_they_were():
    """The reduced photo's fourth channel is as large as its others."""

    class Half(ReducedPhoto):
        def pixels(self, reduction=1):
            pixels = super().pixels(reduction)
            return np.dstack([pixels, np.uint8(255) * (pixels[:, :, 0] >= 125)])

    for seed in range(10):
        pair = make_views(Half(), ViewsConfig(image_size=24), np.random.default_rng(seed))
        if pair.valid is not None:
            clear = (pair.images[:, 0].float() - 125).abs() > 20
            assert torch.equal(pair.valid[clear], (pair.images[:, 0] >= 125)[clear])
