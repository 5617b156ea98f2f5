"""From image to map: the teacher's scores, the input's own size, and a file that gives the same maps."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from slotseg.errors import CheckpointError, ConfigError, DataError
from slotseg.files import write_json
from slotseg.labels.label_map import LabelMap
from slotseg.method.model import SlotCon
from slotseg.runs import checkpoint
from slotseg.segment_config import PLAIN
from slotseg.segmenting.refinement import refine
from slotseg.segmenting.segmenter import Segmenter
from slotseg.values import to_dict

Photo = NDArray[np.uint8]
Make = Callable[..., Segmenter]


def photo(height: int, width: int) -> Photo:
    """Blocks of random colours."""
    blocks = np.random.default_rng(0).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), np.uint8)
    return blocks.repeat(8, 0).repeat(8, 1)[:height, :width].copy()


def named(num_prototypes: int) -> LabelMap:
    classes = tuple(255 if k == 0 else k % 2 for k in range(num_prototypes))
    return LabelMap(classes=classes, names=("a", "b"), colors=((1, 2, 3), (4, 5, 6)), origin="hungarian")


def assert_best(prototype_map: NDArray[np.uint16], upsampled: Tensor) -> None:
    """The chosen prototype is the best one, up to rounding where two are equal."""
    assert prototype_map.shape == upsampled.shape[1:]
    chosen = upsampled.gather(0, torch.from_numpy(prototype_map.astype(np.int64))[None])[0]
    assert (upsampled.amax(0) - chosen).max() < 1e-5
    assert (upsampled.argmax(0).numpy() == prototype_map).mean() > 0.99


@pytest.mark.parametrize("size", [(37, 53), (1, 20), (20, 1), (1, 1), (30, 400), (64, 64), (200, 150)])
def test_maps_have_the_images_size(make_segmenter: Make, size: tuple[int, int]) -> None:
    ours = make_segmenter(size=24)
    result = ours(photo(*size))
    assert result.prototype_map.shape == result.class_map.shape == size
    assert result.prototype_map.dtype == np.uint16
    assert result.prototype_map.max() < 6
    assert np.array_equal(result.class_map, result.prototype_map)


def test_maps_are_those_of_the_teacher(make_segmenter: Make) -> None:
    ours, image = make_segmenter(size=48), photo(48, 64)
    mean, std = (torch.tensor(x)[:, None, None] for x in (ours.config.backbone.mean, ours.config.backbone.std))
    pixels = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
    scores = ours.encoder(pixels[None])
    upsampled = F.interpolate(scores, (48, 64), mode="bilinear")[0]
    assert len(upsampled.argmax(0).unique()) > 1
    assert_best(ours.prototype_map(image), upsampled)


@pytest.mark.parametrize("kind", ["read-only", "mirrored", "every other", "transposed"])
def test_any_numpy_view_will_do(make_segmenter: Make, kind: str) -> None:
    ours, image = make_segmenter(size=32), photo(40, 40)
    if kind == "read-only":
        image.flags.writeable = False
    views = {"mirrored": image[:, ::-1], "every other": image[::2], "transposed": image.transpose(1, 0, 2)}
    view = views.get(kind, image)
    assert np.array_equal(ours.prototype_map(view), ours.prototype_map(np.array(view)))


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8, 3), np.float32),
        np.zeros((8, 8, 3), np.uint16),
        np.zeros((8, 8), np.uint8),
        np.zeros((8, 8, 4), np.uint8),
        np.zeros((1, 8, 8, 3), np.uint8),
        np.zeros((0, 8, 3), np.uint8),
    ],
    ids=lambda a: f"{a.dtype}{a.shape}",
)
def test_arrays_that_are_no_photo_are_refused(make_segmenter: Make, image: Any) -> None:
    with pytest.raises(ValueError, match=r"image has shape .* expected \(H, W, 3\) of uint8"):
        make_segmenter()(image)


def test_files_and_arrays_give_the_same(make_segmenter: Make, tmp_path: Path) -> None:
    ours, image = make_segmenter(), photo(30, 50)
    Image.fromarray(image).save(tmp_path / "p.png")
    for path in (tmp_path / "p.png", str(tmp_path / "p.png")):
        assert np.array_equal(ours(path).prototype_map, ours(image).prototype_map)
    with pytest.raises(DataError, match=r"missing\.png"):
        ours(tmp_path / "missing.png")


@pytest.mark.parametrize("labels", [None, named(6)], ids=["unnamed", "named"])
def test_save_and_load_give_identical_maps(make_segmenter: Make, tmp_path: Path, labels: LabelMap | None) -> None:
    ours, image = make_segmenter(labels=labels), photo(50, 70)
    ours.save(tmp_path / "s.safetensors")
    again = Segmenter.load(tmp_path / "s.safetensors", device="cpu")
    assert again.config == ours.config
    assert again.labels == ours.labels
    one, two = ours(image), again(image)
    assert np.array_equal(one.prototype_map, two.prototype_map)
    assert np.array_equal(one.class_map, two.class_map)
    assert len(np.unique(one.prototype_map)) > 1


def test_only_safetensors_are_written(make_segmenter: Make, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ends in '\.pth'; expected \.safetensors"):
        make_segmenter().save(tmp_path / "s.pth")


def test_a_run_gives_its_teacher_and_its_labels(
    make_segmenter: Make, tiny_model: Callable[..., SlotCon], tmp_path: Path
) -> None:
    model, config = tiny_model(), make_segmenter().config
    with torch.no_grad():
        for p in model.teacher.parameters():
            p.mul_(-1)
    checkpoint.save(
        tmp_path / "checkpoints" / "last.safetensors", model.state_dict(), {"config": to_dict(config), "step": 1}
    )
    write_json(tmp_path / "config.json", {})
    loaded = Segmenter.load(tmp_path, device="cpu")
    assert loaded.labels == LabelMap.prototypes(6)
    assert all(torch.equal(v, loaded.encoder.state_dict()[k]) for k, v in model.teacher.state_dict().items())
    write_json(tmp_path / "labels.json", named(6).to_dict())
    assert Segmenter.load(tmp_path, device="cpu").labels == named(6)
    other = LabelMap.prototypes(6)
    assert Segmenter.load(tmp_path, labels=other, device="cpu").labels == other


@pytest.mark.parametrize("num_prototypes", [5, 7])
def test_a_label_map_of_another_k_is_refused(make_segmenter: Make, num_prototypes: int) -> None:
    with pytest.raises(ConfigError, match=f"label map is of {num_prototypes} prototypes; expected the model's 6"):
        make_segmenter(labels=named(num_prototypes))


def test_tensors_that_do_not_fit_the_configuration_are_refused(make_segmenter: Make, tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    ours = make_segmenter()
    tensors = {f"teacher.{k}": v for k, v in ours.encoder.state_dict().items()}
    del tensors["teacher.prototypes.weight"]
    checkpoint.save(path, tensors, {"config": to_dict(ours.config)})
    with pytest.raises(CheckpointError, match=r"does not fit the settings in its header: it lacks prototypes\.weight"):
        Segmenter.load(path, device="cpu")


def test_a_vision_transformer_takes_any_size(make_segmenter: Make) -> None:
    ours = make_segmenter(
        {"backbone.name": "vit_tiny_patch16_224", "backbone.options": {"depth": 1}, "backbone.stride": 16}
    )
    assert ours(photo(40, 75)).prototype_map.shape == (40, 75)


def test_refined_maps_follow_colours_and_plain_ones_do_not(make_segmenter: Make, tmp_path: Path) -> None:
    values = {"segment.scales": (0.5, 1.0), "segment.edges": "field", "segment.field_strength": 8.0}
    refined, image = make_segmenter(values, size=64), photo(64, 96)
    scores, covered = refined.scores(image)
    assert_best(
        refined.prototype_map(image),
        F.interpolate(refine(scores, covered, image, 8.0)[0][None], (64, 96), mode="bilinear")[0],
    )
    refined.save(tmp_path / "m.safetensors")
    plain = Segmenter.load(tmp_path / "m.safetensors", segment=PLAIN, size=64, device="cpu").prototype_map(image)
    assert np.array_equal(plain, make_segmenter(size=64).prototype_map(image))
    assert not np.array_equal(plain, refined.prototype_map(image))


MERGED = {"model.num_prototypes": 4, "model.trained_prototypes": 6}


@pytest.fixture
def saved(make_segmenter: Make, tmp_path: Path) -> Path:
    """A model of six prototypes, 0 and 5 confused most, then 1 and 2."""
    ours = make_segmenter(MERGED)
    confusion = ours.encoder.confusion
    assert confusion is not None
    confusion.value.copy_(torch.eye(6) / 6)
    for i, j, share in ((0, 5, 0.05), (1, 2, 0.03), (3, 4, 0.01), (0, 1, 0.001)):
        confusion.value[i, j] = confusion.value[j, i] = share
    confusion.wins.fill_(1 / 6)
    ours.encoder.merge(4)
    Segmenter(ours.encoder, ours.config, device="cpu").save(tmp_path / "merged.safetensors")
    return tmp_path / "merged.safetensors"


@pytest.mark.parametrize(
    ("number", "concepts"), [(None, [0, 1, 1, 2, 3, 0]), (5, [0, 1, 2, 3, 4, 0]), (3, [0, 1, 1, 2, 2, 0])]
)
def test_a_trained_model_is_merged_to_any_number(saved: Path, number: int | None, concepts: list[int]) -> None:
    ours = Segmenter.load(saved, num_prototypes=number, device="cpu")
    assert ours.encoder.concepts is not None
    assert ours.encoder.concepts.tolist() == concepts
    assert len(ours.labels.classes) == max(concepts) + 1


def test_a_label_map_says_to_how_many(saved: Path) -> None:
    assert Segmenter.load(saved, labels=named(3), device="cpu").encoder.num_concepts == 3
    with pytest.raises(ConfigError, match="label map is of 3 prototypes; expected the model's 5"):
        Segmenter.load(saved, labels=named(3), num_prototypes=5, device="cpu")


def test_impossible_numbers_are_refused(saved: Path, make_segmenter: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="7 concepts are asked of 6 prototypes; expected 2 to 6"):
        Segmenter.load(saved, num_prototypes=7, device="cpu")
    make_segmenter().save(tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match="6 prototypes were not trained to be merged to 3"):
        Segmenter.load(tmp_path / "m.safetensors", num_prototypes=3, device="cpu")
    assert Segmenter.load(tmp_path / "m.safetensors", num_prototypes=6, device="cpu").encoder.num_concepts == 6
