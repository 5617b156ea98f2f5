import gc
import multiprocessing
import os
import signal
import subprocess
import sys
from collections import Counter
from multiprocessing import synchronize
from pathlib import Path

import numpy as np
import pytest
import torch
from missing_corners import Corners
from PIL import Image

from slotseg.config import ViewsConfig
from slotseg.data.reading.photos import ArrayPhoto
from slotseg.data.views.batches import Batches, ViewBatch, ViewPairs, steps_per_epoch, view_batches
from slotseg.data.views.sources import PhotoFolder, Scenes
from slotseg.errors import DataError

CONFIG = ViewsConfig(image_size=16)


class BrokenPhoto:
    size_hw = (20, 30)

    def __init__(self, index):
        self.error = DataError(f"photo {index} is broken")
        if index % 2 == 0:
            raise self.error

    def pixels(self, reduction=1):
        raise self.error


class Photos:
    """Plain photos whose grey value is their number; some cannot be opened, and of odd ones the pixels are broken."""

    def __init__(self, number, broken=()):
        self.number, self.broken = number, broken

    def __len__(self):
        return self.number

    def name(self, index):
        return f"photo {index}"

    def open(self, index):
        if index in self.broken:
            return BrokenPhoto(index)
        return ArrayPhoto(np.full((20, 30, 3), index, np.uint8))


def stream(source, workers=0, first_step=0, total_steps=5, batch_size=3, seed=0):
    return view_batches(
        source,
        CONFIG,
        batch_size=batch_size,
        seed=seed,
        first_step=first_step,
        total_steps=total_steps,
        workers=workers,
    )


def numbers(batch):
    """Which photos of ``Photos`` a batch shows; both views must show the same."""
    first, second = (images[:, 0, 0, 0].tolist() for images in batch.images)
    assert first == second
    return first


def assert_same(batches, others):
    for batch, other in zip(batches, others, strict=True):
        for name in ("images", "overlap_boxes", "flips"):
            assert all(map(torch.equal, getattr(batch, name), getattr(other, name)))
        assert batch.unreadable == other.unreadable


# the order of the photos


@pytest.mark.parametrize(("num_photos", "batch_size"), [(10, 3), (12, 4), (5, 5), (7, 1)])
def test_an_epoch_is_a_permutation_less_what_fills_no_batch(num_photos, batch_size):
    per_epoch = steps_per_epoch(num_photos, batch_size)
    assert per_epoch == num_photos // batch_size
    batches = list(Batches(num_photos, batch_size, seed=0, first_step=0, total_steps=3 * per_epoch))
    orders = []
    for epoch in range(3):
        keys = [key for batch in batches[epoch * per_epoch : (epoch + 1) * per_epoch] for key in batch]
        orders.append([photo for _, photo in keys])
        assert {e for e, _ in keys} == {epoch}
        assert len(keys) == len(set(keys)) == per_epoch * batch_size
        assert set(orders[-1]) <= set(range(num_photos))
    assert orders[0] != orders[1] != orders[2] != orders[0]


def test_every_photo_has_its_turn_though_some_are_left_out_of_each_epoch():
    batches = Batches(10, 4, seed=0, first_step=0, total_steps=40)
    assert {photo for batch in batches for _, photo in batch} == set(range(10))


def test_the_order_depends_on_seed_and_epoch_only():
    whole = list(Batches(10, 3, seed=5, first_step=0, total_steps=30))
    assert whole == list(Batches(10, 3, seed=5, first_step=0, total_steps=30))
    assert whole != list(Batches(10, 3, seed=6, first_step=0, total_steps=30))
    photos = [photo for batch in whole[:3] for _, photo in batch]
    one_by_one = [photo for ((_, photo),) in Batches(10, 1, seed=5, first_step=0, total_steps=9)]
    assert photos == one_by_one  # the batch size only cuts it up


@pytest.mark.parametrize(("num_photos", "batch_size"), [(10, 3), (4, 4), (3, 8)])
def test_starting_late_gives_the_tail(num_photos, batch_size):
    whole = list(Batches(num_photos, batch_size, seed=1, first_step=0, total_steps=12))
    for first_step in range(13):
        tail = Batches(num_photos, batch_size, seed=1, first_step=first_step, total_steps=12)
        assert list(tail) == whole[first_step:]
        assert len(tail) == 12 - first_step


@pytest.mark.parametrize(("num_photos", "processes"), [(10, 2), (10, 4), (3, 2)])
def test_processes_share_the_batches_of_one(num_photos, processes):
    whole = list(Batches(num_photos, 4, seed=1, first_step=2, total_steps=9))
    share = 4 // processes
    parts = [
        list(Batches(num_photos, 4, seed=1, first_step=2, total_steps=9, part=slice(r * share, (r + 1) * share)))
        for r in range(processes)
    ]
    assert [[key for part in of_processes for key in part] for of_processes in zip(*parts, strict=True)] == whole


@pytest.mark.parametrize(("num_photos", "batch_size"), [(3, 8), (1, 4), (3, 6)])
def test_fewer_photos_than_a_batch_repeat_evenly_with_other_crops(num_photos, batch_size):
    assert steps_per_epoch(num_photos, batch_size) == 1
    for batch in Batches(num_photos, batch_size, seed=0, first_step=0, total_steps=4):
        assert len(batch) == len(set(batch)) == batch_size
        counts = Counter(index % num_photos for _, index in batch)
        assert len(counts) == num_photos
        assert max(counts.values()) - min(counts.values()) <= 1
    (batch,) = stream(Scenes(num_photos), total_steps=1, batch_size=batch_size)
    assert len(batch.images[0].flatten(1).unique(dim=0)) == batch_size


# view pairs


def test_a_pair_depends_on_seed_epoch_and_photo():
    def images(seed, key):
        return ViewPairs(Scenes(4), CONFIG, seed)[key].views.images

    first = images(0, (0, 1))
    assert torch.equal(first, images(0, (0, 1)))
    for seed, key in ((1, (0, 1)), (0, (1, 1)), (0, (0, 2))):
        assert not torch.equal(first, images(seed, key))


def test_batches_hold_the_pairs_of_their_keys():
    source, keys = Scenes(7), Batches(7, 3, seed=4, first_step=1, total_steps=5)
    pairs = ViewPairs(source, CONFIG, 4)
    for batch, batch_keys in zip(stream(source, first_step=1, seed=4), keys, strict=True):
        for row, key in enumerate(batch_keys):
            for view in (0, 1):
                for name in ("images", "overlap_boxes", "flips"):
                    assert torch.equal(getattr(batch, name)[view][row], getattr(pairs[key].views, name)[view])
        assert batch.images[0].is_contiguous()
        assert batch.images[0].shape == (3, 3, 16, 16)


def test_neither_workers_nor_an_interruption_change_the_batches():
    source = Photos(8, broken=(2,))
    whole = list(stream(source, workers=0))
    assert_same(stream(source, workers=2), whole)
    assert_same(stream(source, workers=2, first_step=3), whole[3:])
    assert sum(len(batch.unreadable) for batch in whole) > 0


# photos that cannot be read


def test_the_next_photo_stands_in_and_the_broken_one_is_named():
    (batch,) = stream(Photos(6, broken=(2, 3, 5)), total_steps=1, batch_size=6)
    order = [photo for keys in Batches(6, 6, seed=0, first_step=0, total_steps=1) for _, photo in keys]
    assert numbers(batch) == [{2: 4, 3: 4, 5: 0}.get(photo, photo) for photo in order]
    assert Counter(batch.unreadable) == {"photo 2 is broken": 1, "photo 3 is broken": 2, "photo 5 is broken": 1}


def test_workers_keep_to_themselves_what_libjpeg_says_of_damage(tmp_path, capfd, monkeypatch):
    class Told(PhotoFolder):
        def open(self, index):
            print("told by Python", file=sys.stderr)
            return super().open(index)

    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "x.jpg")
    damaged = bytearray((tmp_path / "x.jpg").read_bytes())
    damaged[-900:-400] = bytes(500)
    (tmp_path / "x.jpg").write_bytes(damaged)
    with open(2, "w", closefd=False) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        (batch,) = stream(Told([tmp_path]), workers=1, total_steps=1, batch_size=1)
    assert batch.unreadable == ()
    assert capfd.readouterr().err == "told by Python\n"


@pytest.mark.parametrize("workers", [0, 1])
def test_a_folder_of_nothing_readable_is_one_sentence(tmp_path, workers):
    for name in "ab":
        (tmp_path / f"{name}.jpg").write_text("no image")
    with pytest.raises(DataError, match=r"^2 photos in a row could not be read; .*[ab]\.jpg is not an image") as error:
        list(stream(PhotoFolder([tmp_path]), workers))
    assert "\n" not in str(error.value)


class Deadly(Photos):
    def open(self, index):
        if index == 4:
            os.kill(os.getpid(), self.signal)
        return super().open(index)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_dead_loader_process_is_one_sentence_with_the_photo_it_read(number):
    source = Deadly(6)
    source.signal = number
    handler = signal.getsignal(signal.SIGCHLD)
    with pytest.raises(
        DataError, match=rf"died \(signal {number.name}\) with photo 4 in its hands; .* fewer --workers"
    ):
        list(stream(source, workers=2, batch_size=2))
    assert signal.getsignal(signal.SIGCHLD) == handler  # or a death would interrupt a step anywhere


class Grasping(Photos):
    """A loader process takes every lock that it shares with others, at photo 4, and dies with them."""

    def open(self, index):
        if index == 4:
            for lock in (x for x in gc.get_objects() if isinstance(x, synchronize.SemLock)):
                lock.acquire(block=False)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open(index)


def test_a_loader_process_that_dies_with_a_lock_stops_nobody():
    """In a process of its own, which would never end otherwise."""
    code = """
from test_batches import DataError, Grasping, stream
try:
    list(stream(Grasping(6), workers=1, batch_size=2))
except DataError as error:
    print(error)
"""
    here = Path(__file__).parent
    paths = os.pathsep.join([str(here), str(here.parent.parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("a loader process died (signal SIGKILL) with photo 4 in its hands; ")


def test_loader_processes_that_die_between_two_photos_are_heard_of():
    others = multiprocessing.active_children()
    batches = stream(Photos(8), workers=1, batch_size=2, total_steps=40)
    next(batches)
    (loader,) = (process for process in multiprocessing.active_children() if process not in others)
    loader.kill()  # what it has sent may be gone with it, and is then refused by the system
    with pytest.raises(DataError, match=r"^a loader process died \(signal SIGKILL\).*; expected it to live: "):
        list(batches)


def test_gives_up_after_a_hundred_in_a_row():
    assert numbers(next(stream(Photos(250, broken=range(1, 100)), batch_size=250)))
    with pytest.raises(DataError, match=r"^100 photos in a row"):
        next(stream(Photos(250, broken=range(1, 101)), batch_size=250))


# batches on a device


def test_to_moves_every_tensor_and_keeps_the_messages():
    (batch,) = stream(Photos(3, broken=(1,)), total_steps=1)
    assert batch.unreadable
    assert_same([batch.to(torch.device("cpu"))], [batch])
    moved = batch.to(torch.device("meta"))
    assert isinstance(moved, ViewBatch)
    assert moved.unreadable == batch.unreadable
    tensors = [*moved.images, *moved.overlap_boxes, *moved.flips]
    assert {t.device.type for t in tensors} == {"meta"}
    assert [t.dtype for t in tensors[::2]] == [torch.uint8, torch.float32, torch.bool]
    assert batch.images[0].device.type == "cpu"


def test_photos_with_and_without_missing_pixels_share_a_batch():
    (batch,) = stream(Corners(corners={0, 1, 2, 3}), total_steps=1, batch_size=8)
    assert [valid.shape for valid in batch.valid] == [(8, 16, 16)] * 2
    (key,) = Batches(8, 8, 0, 0, 1)
    complete = torch.stack(batch.valid).flatten(2).all(dim=2)
    for (_, photo), (one, two) in zip(key, complete.T.tolist(), strict=True):
        assert photo < 4 or (one and two)
    assert not complete.all()
    assert all(map(torch.equal, batch.to("cpu").valid, batch.valid))
    (batch,) = stream(Corners(corners=()), total_steps=1, batch_size=8)
    assert batch.valid is None


def test_a_photo_without_a_picture_cannot_be_read():
    (batch,) = stream(Corners(nothing={3}), total_steps=1, batch_size=8)
    expected = "scene-3 has no picture, only missing pixels; expected some valid ones: leave it out"
    assert batch.unreadable == (expected,)
    with pytest.raises(DataError, match=r"^8 photos in a row could not be read; .* The first: scene-\d has no picture"):
        next(stream(Corners(nothing=range(8))))
