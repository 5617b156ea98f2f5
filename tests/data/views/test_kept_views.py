"""Several views of a photo that are looked at once: their crops, their blocks, their overlaps."""

import itertools

import numpy as np
import pytest
import torch

from slotseg.config import ViewsConfig
from slotseg.data.reading.photos import ArrayPhoto, Photo
from slotseg.data.views import crops
from slotseg.data.views.crops import cut_views, draw_crops, make_views, overlap_box
from slotseg.data.views.kept_views import Block, Blocks, KeptViews, load_blocks, overlap_boxes
from slotseg.data.views.sources import Scenes
from slotseg.errors import DataError

CONFIG = ViewsConfig(image_size=16, area=(0.1, 0.6), min_overlap=0.1)
PHOTO = ArrayPhoto(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8))


def area(box: tuple[int, ...]) -> int:
    return max(0, box[2] - box[0]) * max(0, box[3] - box[1])


def common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    return area((max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])))


@pytest.mark.parametrize("number", [2, 3, 8])
def test_each_crop_overlaps_all_earlier_ones(number: int) -> None:
    rng = np.random.default_rng(0)
    drawn = [draw_crops((60, 90), CONFIG, rng, number) for _ in range(50)]
    for boxes in drawn:
        assert len(boxes) == number
        for earlier, later in itertools.combinations(boxes, 2):
            assert common(earlier, later) >= min(0.1 * area(later), area(earlier) * 0.1)
    assert sum(len(set(boxes)) == number for boxes in drawn) > 25, "few stand in for another"


def test_where_no_crop_overlaps_all_earlier_ones_the_first_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, far = (0, 0, 10, 10), (5, 0, 15, 10), (50, 50, 60, 60)
    boxes = iter([first, second, *[far] * crops.ATTEMPTS, far, second])
    monkeypatch.setattr(crops, "draw_crop", lambda *_: next(boxes))
    assert draw_crops((100, 100), CONFIG, np.random.default_rng(0), 4) == (first, second, first, second)


def test_two_views_are_a_pair() -> None:
    pair = make_views(PHOTO, CONFIG, np.random.default_rng(5))
    views = cut_views(PHOTO, CONFIG, np.random.default_rng(5), 2)
    assert torch.equal(pair.images, views.images)
    assert pair.flips.tolist() == views.flips.tolist()
    one, two = (torch.tensor([[*box, int(flip)]]) for box, flip in zip(views.crops, views.flips, strict=True))
    assert torch.equal(pair.overlap_boxes, torch.cat([overlap_boxes(one, two), overlap_boxes(two, one)]))


def test_overlaps_follow_the_flip_of_their_own_view() -> None:
    places = torch.tensor([[0, 0, 10, 10, 0], [0, 0, 10, 10, 1]])
    others = torch.tensor([[5, 5, 15, 15, 1], [5, 5, 15, 15, 0]])
    assert overlap_boxes(places, others).tolist() == [[0.5, 0.5, 1.0, 1.0], [0.0, 0.5, 0.5, 1.0]]
    assert overlap_boxes(places, others)[0].tolist() == overlap_box((0, 0, 10, 10), (5, 5, 15, 15), False).tolist()


def test_views_depend_on_seed_round_and_photo() -> None:
    def images(seed: int, key: tuple[int, int]) -> torch.Tensor:
        sample = KeptViews(Scenes(4), CONFIG, 3, seed)[key]
        assert not isinstance(sample, DataError)
        return sample.views.images

    first = images(0, (0, 1))
    assert first.shape == (3, 3, 16, 16)
    assert torch.equal(first, images(0, (0, 1)))
    for seed, key in ((1, (0, 1)), (0, (1, 1)), (0, (0, 2))):
        assert not torch.equal(first, images(seed, key))


class Broken(Scenes):
    def open(self, index: int) -> Photo:
        if index in (2, 3):
            raise DataError(f"photo {index} is broken")
        return super().open(index)


def load(source: Scenes, blocks: Blocks, workers: int = 0) -> list[Block]:
    return list(load_blocks(KeptViews(source, CONFIG, 3, 0, workers), blocks, workers=workers))


def test_processes_share_the_blocks_of_a_round() -> None:
    photos = np.array([4, 2, 0, 1, 3, 6, 5])
    whole = list(Blocks(7, photos, 2))
    assert whole == [[(7, 4), (7, 2)], [(7, 0), (7, 1)], [(7, 3), (7, 6)], [(7, 5)]]
    assert [list(Blocks(7, photos, 2, rank, 3)) for rank in range(3)] == [
        [whole[0], whole[3]],
        [whole[1]],
        [whole[2]],
    ]
    assert len(Blocks(7, photos[:2], 2, 1, 3)) == 0


@pytest.mark.parametrize("workers", [0, 2])
def test_the_next_photo_stands_in_for_a_broken_one(workers: int) -> None:
    one, two = load(Broken(6), Blocks(0, np.arange(6), 4), workers)
    assert one.unreadable == ("photo 2 is broken", "photo 3 is broken", "photo 3 is broken")
    assert two.unreadable == ()
    assert (one.images.shape, one.places.shape) == ((4, 3, 3, 16, 16), (4, 3, 5))
    assert (one.images.dtype, one.places.dtype) == (torch.uint8, torch.int64)
    again = load(Broken(6), Blocks(0, np.arange(6), 4))
    assert torch.equal(again[0].images, one.images)
    assert torch.equal(again[1].places, two.places)


def test_a_folder_of_nothing_readable_is_one_sentence() -> None:
    class Nothing(Scenes):
        def open(self, index: int) -> Photo:
            raise DataError("broken")

    with pytest.raises(DataError, match=r"^3 photos in a row could not be read"):
        load(Nothing(3), Blocks(0, np.arange(3), 2))
