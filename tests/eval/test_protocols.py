"""Named protocols: what they fix, and sizes and crops to the pixel."""

import dataclasses

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from slotseg.data.labelled.benchmarks import SETS
from slotseg.data.labelled.labelled import LabelledImage
from slotseg.errors import ConfigError
from slotseg.eval.protocols import find_protocol, protocol_names


def test_the_default_of_cocostuff27_is_what_papers_score():
    protocol = find_protocol("cocostuff27")
    assert dataclasses.asdict(protocol) == {
        "name": "curated",
        "dataset": "cocostuff27",
        "classes": "cocostuff27",
        "split": "val2017",
        "image_list": "curated",
        "short_side": 320,
        "crop": 320,
        "void": "void pixels are dropped before counting",
        "matching": "hungarian",
    }
    full = find_protocol("cocostuff27", "full")
    assert dataclasses.replace(full, name="curated", image_list="curated") == protocol
    with pytest.raises(dataclasses.FrozenInstanceError):
        protocol.crop = 0  # type: ignore[misc]


@pytest.mark.parametrize("dataset", [*SETS, "folder", "scenes"])
def test_every_set_has_a_default(dataset):
    protocol = find_protocol(dataset)
    assert protocol.name == protocol_names(dataset)[0]
    if dataset in SETS:
        assert (protocol.split, protocol.classes) == (SETS[dataset].split, SETS[dataset].taxonomy)
    if protocol.name == "native":
        assert (protocol.short_side, protocol.crop) == (None, None)


def test_only_sets_with_stuff_labels_can_be_curated():
    assert [d for d in SETS if "curated" in protocol_names(d)] == ["cocostuff27", "cocostuff15", "cocostuff171"]
    with pytest.raises(ConfigError, match="cocopanoptic27 has no protocol 'curated'; expected full or native"):
        find_protocol("cocopanoptic27", "curated")


SIZES = [(480, 640), (640, 480), (427, 640), (640, 427), (320, 320), (320, 640), (333, 500), (100, 100), (375, 1000)]


@pytest.mark.parametrize("size", SIZES)
def test_pixels_are_those_of_torchvision(size):
    """What published results were prepared with: Resize(320) and CenterCrop(320) on Pillow images."""
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3), np.uint8)
    labels = rng.integers(0, 27, size).astype(np.uint8)
    protocol = find_protocol("cocostuff27")
    for pixels, prepare, mode in (
        (image, protocol.prepare_image, v2.InterpolationMode.BILINEAR),
        (labels, protocol.prepare_map, v2.InterpolationMode.NEAREST),
    ):
        expected = v2.CenterCrop(320)(v2.Resize(320, mode)(Image.fromarray(pixels)))
        ours = prepare(pixels)
        assert ours.shape[:2] == (320, 320)
        assert np.array_equal(ours, np.asarray(expected))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_labels_are_never_mixed(dtype):
    labels = np.random.default_rng(0).choice(np.array([0, 7, 255], dtype), (200, 300))
    prepared = find_protocol("cocostuff27").prepare_map(labels)
    assert prepared.dtype == dtype
    assert set(np.unique(prepared)) == {0, 7, 255}


@pytest.mark.parametrize("size", SIZES)
def test_16_bits_are_scaled_as_8_are(size):
    labels = np.random.default_rng(0).integers(0, 255, size).astype(np.uint8)
    prepare = find_protocol("cocostuff27").prepare_map
    assert np.array_equal(prepare(labels.astype(np.uint16)), prepare(labels))


def test_large_ids_survive():
    labels = np.array([[0, 300], [2047, 65_535]], np.uint16).repeat(200, 0).repeat(200, 1)
    assert set(np.unique(find_protocol("cocostuff27").prepare_map(labels))) == {0, 300, 2047, 65_535}


def test_native_changes_nothing():
    protocol = find_protocol("voc")
    labels = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = torch.zeros(2, 3, 3, dtype=torch.uint8).numpy()
    prepared = protocol.prepare(LabelledImage(key="a", image=image, size_hw=(2, 3), class_map=labels))
    assert np.array_equal(prepared.class_map, labels)
    assert prepared.image.shape == (2, 3, 3)


def test_the_original_size_is_kept_beside_the_prepared_photo():
    labelled = LabelledImage(
        key="a", image=np.zeros((400, 600, 3), np.uint8), size_hw=(400, 600), class_map=np.zeros((400, 600), np.uint8)
    )
    prepared = find_protocol("cocostuff27").prepare(labelled)
    assert (prepared.size_hw, prepared.image.shape, prepared.class_map.shape) == ((400, 600), (320, 320, 3), (320, 320))
