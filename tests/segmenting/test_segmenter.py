"""From image to map: the teacher's scores, the input's own size, and a file that gives the same maps."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from slotseg.config import PLAIN, TrainConfig, to_dict
from slotseg.errors import CheckpointError, ConfigError, DataError
from slotseg.files import write_json
from slotseg.labels.label_map import LabelMap
from slotseg.method.model import SlotCon
from slotseg.runs import checkpoint
from slotseg.segmenting.looks import MAX_WORKING_PIXELS, default_size, resample, working_size
from slotseg.segmenting.refinement import refine
from slotseg.segmenting.segmenter import Segmenter

Photo = NDArray[np.uint8]


@pytest.fixture
def make(tiny_config: Callable[..., TrainConfig], tiny_model: Callable[..., SlotCon]) -> Callable[..., Segmenter]:
    def build(values: dict[str, Any] | None = None, **settings: Any) -> Segmenter:
        model = tiny_model(values)
        for module in model.teacher.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model.teacher(torch.randn(8, 3, 64, 64))  # running statistics with which maps are no single colour
        return Segmenter(model.teacher, tiny_config(values), device="cpu", **settings)

    return build


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


def test_a_lower_precision_gives_nearly_the_same_scores(make: Callable[..., Segmenter]) -> None:
    image = photo(60, 90)
    expected, covered = make().scores(image)
    scores, its_covered = make(precision="bf16").scores(image)
    assert its_covered == covered
    assert scores.dtype == torch.float32
    assert 0 < (scores - expected).abs().max() < 0.1


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None and shutil.which("clang++") is None, reason="no C++ compiler")
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
def test_a_compiled_network_gives_the_same_scores(make: Callable[..., Segmenter]) -> None:
    plain, compiled = make(), make(compiled=True)
    for size in ((60, 90), (90, 60)):
        torch.testing.assert_close(compiled.scores(photo(*size))[0], plain.scores(photo(*size))[0], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("size_hw", "short_side", "expected"),
    [
        ((480, 640), 240, (240, 320)),
        ((640, 480), 240, (320, 240)),
        ((10, 15), 20, (20, 30)),
        ((1, 1), 64, (64, 64)),
        ((3, 1), 64, (192, 64)),
    ],
)
def test_working_size(size_hw: tuple[int, int], short_side: int, expected: tuple[int, int]) -> None:
    assert working_size(size_hw, short_side) == expected


@pytest.mark.parametrize("size_hw", [(100, 100_000), (1, 1_000_000), (30_000, 20_000)])
def test_no_image_is_enlarged_without_bound(size_hw: tuple[int, int]) -> None:
    height, width = working_size(size_hw, 4096)
    assert height * width <= 1.01 * max(MAX_WORKING_PIXELS, size_hw[0] * size_hw[1])
    assert min(height, width) >= 1
    if min(size_hw) > 50:
        assert height / width == pytest.approx(size_hw[0] / size_hw[1], rel=0.05)


def test_default_size_shows_things_as_large_as_training_did(tiny_config: Callable[..., TrainConfig]) -> None:
    assert default_size(tiny_config({"views.area": (1.0, 1.0)})) == 64
    assert default_size(tiny_config({"views.area": (0.25, 0.25)})) == 128


@pytest.mark.parametrize("size", [(37, 53), (1, 20), (20, 1), (1, 1), (30, 400), (64, 64), (200, 150)])
def test_maps_have_the_images_size(make: Callable[..., Segmenter], size: tuple[int, int]) -> None:
    ours = make(size=24)
    result = ours(photo(*size))
    assert result.prototype_map.shape == result.class_map.shape == size
    assert result.prototype_map.dtype == np.uint16
    assert result.prototype_map.max() < 6
    assert np.array_equal(result.class_map, result.prototype_map)


def test_maps_are_those_of_the_teacher(make: Callable[..., Segmenter]) -> None:
    ours, image = make(size=48), photo(48, 64)
    mean, std = (torch.tensor(x)[:, None, None] for x in (ours.config.backbone.mean, ours.config.backbone.std))
    pixels = (torch.from_numpy(image).permute(2, 0, 1) / 255 - mean) / std
    scores = ours.encoder(pixels[None])
    upsampled = F.interpolate(scores, (48, 64), mode="bilinear")[0]
    assert len(upsampled.argmax(0).unique()) > 1
    assert_best(ours.prototype_map(image), upsampled)


def test_padding_repeats_the_edge(make: Callable[..., Segmenter]) -> None:
    ours, image = make(size=44), photo(44, 60)
    scores, covered = ours.scores(image)
    assert covered == (44 / 8, 60 / 8)
    padded = make(size=48)
    whole, _ = padded.scores(np.pad(image, ((0, 4), (0, 4), (0, 0)), mode="edge"))
    torch.testing.assert_close(scores, whole)


@pytest.mark.parametrize("kind", ["read-only", "mirrored", "every other", "transposed"])
def test_any_numpy_view_will_do(make: Callable[..., Segmenter], kind: str) -> None:
    ours, image = make(size=32), photo(40, 40)
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
def test_arrays_that_are_no_photo_are_refused(make: Callable[..., Segmenter], image: Any) -> None:
    with pytest.raises(ValueError, match=r"image has shape .* expected \(H, W, 3\) of uint8"):
        make()(image)


def test_files_and_arrays_give_the_same(make: Callable[..., Segmenter], tmp_path: Path) -> None:
    ours, image = make(), photo(30, 50)
    Image.fromarray(image).save(tmp_path / "p.png")
    for path in (tmp_path / "p.png", str(tmp_path / "p.png")):
        assert np.array_equal(ours(path).prototype_map, ours(image).prototype_map)
    with pytest.raises(DataError, match=r"missing\.png"):
        ours(tmp_path / "missing.png")


@pytest.mark.parametrize("labels", [None, named(6)], ids=["unnamed", "named"])
def test_save_and_load_give_identical_maps(
    make: Callable[..., Segmenter], tmp_path: Path, labels: LabelMap | None
) -> None:
    ours, image = make(labels=labels), photo(50, 70)
    ours.save(tmp_path / "s.safetensors")
    again = Segmenter.load(tmp_path / "s.safetensors", device="cpu")
    assert again.config == ours.config
    assert again.labels == ours.labels
    one, two = ours(image), again(image)
    assert np.array_equal(one.prototype_map, two.prototype_map)
    assert np.array_equal(one.class_map, two.class_map)
    assert len(np.unique(one.prototype_map)) > 1


def test_only_safetensors_are_written(make: Callable[..., Segmenter], tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"ends in '\.pth'; expected \.safetensors"):
        make().save(tmp_path / "s.pth")


def test_a_run_gives_its_teacher_and_its_labels(
    make: Callable[..., Segmenter], tiny_model: Callable[..., SlotCon], tmp_path: Path
) -> None:
    model, config = tiny_model(), make().config
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
def test_a_label_map_of_another_k_is_refused(make: Callable[..., Segmenter], num_prototypes: int) -> None:
    with pytest.raises(ConfigError, match=f"label map is of {num_prototypes} prototypes; expected the model's 6"):
        make(labels=named(num_prototypes))


def test_a_size_below_a_cell_is_refused(make: Callable[..., Segmenter]) -> None:
    with pytest.raises(ConfigError, match="size is 7; expected at least the backbone's stride, 8"):
        make(size=7)


def test_tensors_that_do_not_fit_the_configuration_are_refused(make: Callable[..., Segmenter], tmp_path: Path) -> None:
    path = tmp_path / "s.safetensors"
    ours = make()
    tensors = {f"teacher.{k}": v for k, v in ours.encoder.state_dict().items()}
    del tensors["teacher.prototypes.weight"]
    checkpoint.save(path, tensors, {"config": to_dict(ours.config)})
    with pytest.raises(CheckpointError, match=r"does not fit its own configuration .*prototypes\.weight"):
        Segmenter.load(path, device="cpu")


def test_a_vision_transformer_takes_any_size(make: Callable[..., Segmenter]) -> None:
    ours = make({"backbone.name": "vit_tiny_patch16_224", "backbone.options": {"depth": 1}, "backbone.stride": 16})
    assert ours(photo(40, 75)).prototype_map.shape == (40, 75)


LOOKS = {"segment.scales": (0.5, 1.0), "segment.mirror": True}


def test_looks_are_averaged_on_the_grid_of_the_finest(make: Callable[..., Segmenter]) -> None:
    """With sizes of whole cells, resampling is torch's bilinear interpolation and mirroring is exact."""
    image = photo(64, 96)
    scores, covered = make(LOOKS, size=64).scores(image)
    single = {size: make(size=size) for size in (32, 64)}
    expected = []
    for size, segmenter in single.items():
        for mirrored in (False, True):
            seen = segmenter.scores(image[:, ::-1] if mirrored else image)[0]
            seen = seen.flip(2) if mirrored else seen
            expected.append(F.interpolate(seen[None], (8, 12), mode="bilinear")[0] if size == 32 else seen)
    assert covered == (8, 12)
    torch.testing.assert_close(scores, torch.stack(expected).mean(dim=0), atol=1e-5, rtol=1e-5)


def test_a_mirrored_look_at_part_of_a_cell_lies_where_the_image_does() -> None:
    """A ramp along x survives mirroring and resampling although the last cell is half padding."""
    cells = torch.arange(6) + 0.5  # cell centres; the image covers 5.5 of the 6 cells
    ramp = cells.expand(1, 2, 6)
    there = resample(ramp, (2.0, 5.5), (2, 11), (2.0, 11.0), mirrored=False)[0, 0]
    place = (torch.arange(11) + 0.5) / 11 * 5.5
    torch.testing.assert_close(there, place.clamp(min=0.5))
    back = resample(ramp, (2.0, 5.5), (2, 11), (2.0, 11.0), mirrored=True)[0, 0]
    torch.testing.assert_close(back, there.flip(0))


def test_a_mirrored_image_gives_the_mirrored_map(make: Callable[..., Segmenter]) -> None:
    ours, image = make(LOOKS, size=48), photo(48, 64)
    one, two = ours.prototype_map(image), ours.prototype_map(image[:, ::-1])
    assert (one == two[:, ::-1]).mean() > 0.99  # up to rounding where two are equal
    assert len(np.unique(one)) > 1


def test_refined_maps_follow_colours_and_plain_ones_do_not(make: Callable[..., Segmenter], tmp_path: Path) -> None:
    values = {**LOOKS, "segment.edges": "field", "segment.field_strength": 8.0}
    refined, image = make(values, size=64), photo(64, 96)
    scores, covered = refined.scores(image)
    assert_best(
        refined.prototype_map(image),
        F.interpolate(refine(scores, covered, image, 8.0)[0][None], (64, 96), mode="bilinear")[0],
    )
    refined.save(tmp_path / "m.safetensors")
    plain = Segmenter.load(tmp_path / "m.safetensors", segment=PLAIN, size=64, device="cpu").prototype_map(image)
    assert np.array_equal(plain, make(size=64).prototype_map(image))
    assert not np.array_equal(plain, refined.prototype_map(image))


MERGED = {"model.num_prototypes": 4, "model.trained_prototypes": 6}


@pytest.fixture
def saved(make: Callable[..., Segmenter], tmp_path: Path) -> Path:
    """A model of six prototypes, 0 and 5 confused most, then 1 and 2."""
    ours = make(MERGED)
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


def test_impossible_numbers_are_refused(saved: Path, make: Callable[..., Segmenter], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="7 concepts are asked of 6 prototypes; expected 2 to 6"):
        Segmenter.load(saved, num_prototypes=7, device="cpu")
    make().save(tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match="6 prototypes were not trained to be merged to 3"):
        Segmenter.load(tmp_path / "m.safetensors", num_prototypes=3, device="cpu")
    assert Segmenter.load(tmp_path / "m.safetensors", num_prototypes=6, device="cpu").encoder.num_concepts == 6
