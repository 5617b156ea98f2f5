"""Preview sheets: what is on them, that training does not notice them, and what may go wrong."""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from missing_corners import Corners
from numpy.typing import NDArray
from PIL import Image

from slotseg.config import TrainConfig
from slotseg.data.views.sources import PhotoFolder, Scenes, Source
from slotseg.labels.label_map import palette
from slotseg.method.model import Encoder, SlotCon
from slotseg.runs.folder import RunFolder
from slotseg.watching.preview import GAP, NUM_COLUMNS, NUM_PHOTOS, THUMBNAIL, Previews, arranged, first_prototypes

Config = Callable[..., TrainConfig]
Model = Callable[..., SlotCon]
MERGED = {"model.num_prototypes": 3, "model.trained_prototypes": 12}


def previews(folder: Path, source: Source, config: TrainConfig) -> Previews:
    return Previews(source, config, RunFolder(folder / "run"), torch.device("cpu"))


def photos(folder: Path, *sizes_hw: tuple[int, int]) -> PhotoFolder:
    rng = np.random.default_rng(0)
    for i, (height, width) in enumerate(sizes_hw):
        Image.fromarray(rng.integers(0, 256, (height, width, 3)).astype(np.uint8)).save(folder / f"{i}.jpg")
    return PhotoFolder([folder])


def test_sheet_holds_photos_beside_their_painting(tmp_path: Path, tiny_config: Config, tiny_model: Model) -> None:
    found = previews(tmp_path, Scenes(40), tiny_config())
    sheet = found.write(tiny_model().teacher, 1_234)
    assert sheet == tmp_path / "run" / "preview" / "step-00001234.jpg"
    height, width = (round(side * THUMBNAIL / max(Scenes(1).open(0).size_hw)) for side in Scenes(1).open(0).size_hw)
    rows = NUM_PHOTOS // NUM_COLUMNS
    with Image.open(sheet) as image:
        assert image.size == (NUM_COLUMNS * 2 * width + GAP, rows * height + (rows - 1) * GAP)
        pixels = np.asarray(image.convert("RGB"))
    assert np.abs(pixels[:height, :width] - found.paint(tiny_model().teacher)[0][:, :width].astype(float)).mean() < 12
    assert pixels[height : height + GAP].mean() > 250, "the gap is white"


def test_photos_are_spread_over_the_source(tmp_path: Path, tiny_config: Config) -> None:
    class EvaluationCounts(Scenes):
        opened: list[int] = []  # noqa: RUF012

        def open(self, index: int) -> object:  # type: ignore[override]
            self.opened.append(index)
            return super().open(index)

    previews(tmp_path, EvaluationCounts(60), tiny_config())
    assert EvaluationCounts.opened == [0, 10, 20, 30, 40, 50]
    EvaluationCounts.opened.clear()
    assert len(previews(tmp_path, EvaluationCounts(2), tiny_config()).photos) == 2


def test_photos_of_every_shape(tmp_path: Path, tiny_config: Config, tiny_model: Model) -> None:
    source = photos(tmp_path, (30, 400), (400, 30), (700, 900), (1, 1), (50, 60))
    found = previews(tmp_path, source, tiny_config())
    sizes = [picture.shape for picture in found.paint(tiny_model().teacher)]
    assert sizes == [(18, 480, 3), (240, 36, 3), (186, 480, 3), (240, 480, 3), (200, 480, 3)]
    with Image.open(str(found.write(tiny_model().teacher, 1))) as image:
        assert image.size == (480 + GAP + 480, 240 + 240 + 200 + 2 * GAP)


def test_pictures_are_arranged_in_rows_as_close_as_they_fit() -> None:
    pictures = [np.full((h, w, 3), 10 * (i + 1), np.uint8) for i, (h, w) in enumerate([(4, 9), (6, 5), (3, 7)])]
    sheet = np.asarray(arranged(pictures))
    assert sheet.shape == (6 + GAP + 3, 9 + GAP + 5, 3)
    assert (sheet[:4, :9] == 10).all()
    assert (sheet[:6, 9 + GAP :] == 20).all()
    assert (sheet[6 + GAP :, :7] == 30).all()
    assert (sheet == 255).sum() == sheet.size - 3 * (4 * 9 + 6 * 5 + 3 * 7)
    assert arranged(pictures[:1]).size == (9, 4)


@pytest.mark.parametrize("values", [{}, MERGED, {"model.freeze_backbone": True}])
def test_training_does_not_notice(
    tmp_path: Path, tiny_config: Config, tiny_model: Model, values: dict[str, object]
) -> None:
    model = tiny_model(values)
    model.train()
    if model.teacher.confusion is not None:
        model.teacher.confusion.value.copy_(torch.rand(12, 12, generator=torch.Generator().manual_seed(0)))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    flags = [(name, module.training) for name, module in model.named_modules()]
    gradients = [(name, p.requires_grad, p.grad) for name, p in model.named_parameters()]
    state, numpy_state = torch.get_rng_state(), repr(np.random.get_state())
    assert previews(tmp_path, Scenes(6), tiny_config(values)).write(model.teacher, 1)
    assert torch.equal(torch.get_rng_state(), state)
    assert repr(np.random.get_state()) == numpy_state
    after = model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert [(name, module.training) for name, module in model.named_modules()] == flags
    assert [(name, p.requires_grad, p.grad) for name, p in model.named_parameters()] == gradients
    assert torch.is_grad_enabled()


def test_unreadable_photo_is_left_out(tmp_path: Path, tiny_config: Config, tiny_model: Model) -> None:
    source = photos(tmp_path, (50, 60), (50, 60), (50, 60))
    (tmp_path / "0.jpg").write_bytes(b"")
    whole = (tmp_path / "2.jpg").read_bytes()
    (tmp_path / "2.jpg").write_bytes(whole[:200])
    found = previews(tmp_path, source, tiny_config())
    assert len(found.photos) == 1
    assert found.write(tiny_model().teacher, 1)


def test_no_sheet_where_no_photo_can_be_read(tmp_path: Path, tiny_config: Config, tiny_model: Model) -> None:
    source = photos(tmp_path, (50, 60))
    (tmp_path / "0.jpg").write_bytes(b"")
    assert previews(tmp_path, source, tiny_config()).write(tiny_model().teacher, 1) is None
    assert not (tmp_path / "run").exists()


def test_sheets_of_steps_to_be_done_again_are_removed(tmp_path: Path, tiny_config: Config) -> None:
    folder = tmp_path / "run" / "preview"
    folder.mkdir(parents=True)
    for name in ("step-00000001.jpg", "step-00000020.jpg", "step-00000021.jpg", "step-100000000.jpg", "step-mine.jpg"):
        (folder / name).touch()
    previews(tmp_path, Scenes(1), tiny_config()).drop_after(20)
    assert sorted(file.name for file in folder.iterdir()) == ["step-00000001.jpg", "step-00000020.jpg", "step-mine.jpg"]


def concepts(teacher: Encoder, of_each: list[int]) -> None:
    assert teacher.concepts is not None
    teacher.concepts.copy_(torch.tensor(of_each))


def test_first_prototype_of_each_concept(tiny_model: Model) -> None:
    teacher = tiny_model(MERGED).teacher
    concepts(teacher, [2, 0, 0, 1, 2, 2, 1, 0, 3, 0, 0, 0])
    assert first_prototypes(teacher).tolist() == [1, 3, 0, 8]
    assert first_prototypes(tiny_model().teacher).tolist() == list(range(6))


def colors_of(pictures: list[NDArray[np.uint8]]) -> set[tuple[int, ...]]:
    """Colours of the paintings of black photos, of which half the colour is left."""
    return {tuple(c) for p in pictures for c in p[:, p.shape[1] // 2 :].reshape(-1, 3).tolist()} - {(255, 255, 255)}


def test_concept_keeps_the_colour_of_its_first_prototype_when_others_are_merged(
    tmp_path: Path, tiny_config: Config, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    black = tmp_path / "black.png"
    Image.fromarray(np.zeros((64, 64, 3), np.uint8)).save(black)
    model = tiny_model(MERGED)
    found = previews(tmp_path, PhotoFolder([black]), tiny_config(MERGED))
    scores = model.teacher.eval()(torch.zeros(1, 3, 64, 64))  # any picture; which one wins is what matters below
    assert scores.shape[1] == 12
    seen = []
    for of_each in ([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [0, 0, 0, 1, 1, 2, 2, 2, 2, 2, 2, 2]):
        monkeypatch.setattr(Encoder, "merge", lambda encoder, number, values=of_each: concepts(encoder, values))
        (picture,) = found.paint(model.teacher)
        seen.append(colors_of([picture]))
        firsts = {of_each.index(concept) for concept in of_each}
        allowed = {tuple(channel // 2 for channel in palette(12)[k]) for k in firsts}
        assert seen[-1]
        assert seen[-1] <= allowed


def test_concepts_are_merged_by_what_is_known_so_far(
    tmp_path: Path, tiny_config: Config, tiny_model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(Encoder, "merge", lambda encoder, number: asked.append(number))
    previews(tmp_path, Scenes(1), tiny_config(MERGED)).paint(tiny_model(MERGED).teacher)
    previews(tmp_path, Scenes(1), tiny_config()).paint(tiny_model().teacher)
    assert asked == [3]


def test_full_disk_costs_the_sheet_and_is_logged(
    small_disk: Path,
    fill_disk: Callable[[Path, int], None],
    tiny_config: Config,
    tiny_model: Model,
    caplog: pytest.LogCaptureFixture,
) -> None:
    found = previews(small_disk, Scenes(6), tiny_config())
    fill_disk(small_disk, 0)
    with caplog.at_level(logging.WARNING, "slotseg"):
        assert found.write(tiny_model().teacher, 1) is None
    (message,) = caplog.messages
    assert "step-00000001.jpg cannot be written (No space left on device); training goes on without it" in message
    (small_disk / "ballast").unlink()
    sheet = found.write(tiny_model().teacher, 2)
    assert sheet
    assert list(sheet.parent.iterdir()) == [sheet]


def test_device_without_memory_costs_the_sheet_and_is_logged(
    tmp_path: Path, tiny_config: Config, tiny_model: Model, caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("slotseg.watching.preview.Scorer.scores", full)
    with caplog.at_level(logging.WARNING, "slotseg"):
        assert previews(tmp_path, Scenes(1), tiny_config()).write(tiny_model().teacher, 7) is None
    assert caplog.messages == ["The device has no memory left to paint photos after step 7; training goes on"]


def test_missing_pixels_are_not_painted(tmp_path: Path, tiny_config: Config, tiny_model: Model) -> None:
    found = previews(tmp_path, Corners(corners={0}, nothing={1}), tiny_config())
    assert len(found.photos) == NUM_PHOTOS - 1
    picture = found.paint(tiny_model().teacher)[0]
    thumbnail, painted = picture[:, :THUMBNAIL].astype(int), picture[:, THUMBNAIL:].astype(int)
    y, x = np.mgrid[:THUMBNAIL, :THUMBNAIL]
    missing = x + y < 0.78 * THUMBNAIL
    assert (painted[missing] == thumbnail[missing]).all()
    assert (painted != thumbnail).any(axis=2)[x + y > 0.82 * THUMBNAIL].mean() > 0.9
