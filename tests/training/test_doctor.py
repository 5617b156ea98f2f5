"""What doctor finds: in order, worth knowing, to be mended; and what it says a training would cost."""

from collections.abc import Callable, Iterable
from pathlib import Path

import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

from slotseg.config import TrainConfig
from slotseg.data.scenes import draw_scene
from slotseg.data.views.sources import PhotoFolder, Scenes
from slotseg.errors import ConfigError
from slotseg.exchange.default_weights import Choice
from slotseg.runs import checkpoint
from slotseg.runs.folder import RunFolder
from slotseg.segmenting.segmenter import Segmenter
from slotseg.training import doctor, trial
from slotseg.training.decoder_trial import DecoderCost
from slotseg.training.learner import Learner
from slotseg.training.trainer import Trainer
from slotseg.training.trial import Cost, measure_cost


def texts(findings: Iterable[doctor.Remark], level: str) -> str:
    return "\n".join(f.text for f in findings if f.level == level)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    (tmp_path / "photos").mkdir()
    for i in range(60):
        Image.fromarray(draw_scene(i)[0]).save(tmp_path / "photos" / f"{i}.png")
    return tmp_path / "photos"


@pytest.fixture
def run(tmp_path: Path, tiny_config: Callable[..., TrainConfig]) -> RunFolder:
    run = RunFolder(tmp_path / "run")
    config = tiny_config({"optimizer.warmup_epochs": 0})
    Trainer(config, Scenes(8), run, device="cpu", workers=0).train()
    return run


def test_a_healthy_machine() -> None:
    found = [*doctor.check_installation(), *doctor.check_device("cpu")]
    assert {f.subject for f in found} == {"installation", "machine", "device"}
    assert f"torch {torch.__version__.split('+')[0]}" in texts(found, "ok")
    assert not texts(found, "problem")


def test_the_weights_that_a_training_would_start_from() -> None:
    (here,) = doctor.check_weights(Choice(init="a", model="b", local=True))
    assert (here.level, here.text) == ("ok", "a are on this machine")
    (away,) = doctor.check_weights(Choice(init="a", model="b", local=False))
    assert (away.level, away.text) == ("ok", "a will be downloaded by the first training: the hub answers")
    (other,) = doctor.check_weights(Choice(init="a", model="b", local=True, reason="HF_HUB_OFFLINE is set"))
    assert other.level == "note"
    assert other.text.startswith("HF_HUB_OFFLINE is set: instead of DINO's ViT-S/16, ")


def test_an_impossible_device_is_a_problem_and_the_rest_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    (found,) = doctor.checked("device", lambda: doctor.check_device("cuda"))
    assert (found.level, found.subject) == ("problem", "device")
    assert "'cuda' is not available here" in found.text


def test_a_device_that_computes_wrongly_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    convolve = torch.nn.functional.conv2d
    monkeypatch.setattr(torch.nn.functional, "conv2d", lambda *a, **k: 2 * convolve(*a, **k))
    assert "wrong gradients" in texts(doctor.check_device("cpu"), "problem")


def test_photos_in_order(photos: Path) -> None:
    found = list(doctor.check_photos(PhotoFolder([photos])))
    assert [f.level for f in found] == ["ok"]
    assert "60 photos, 60 of them looked at (60 .png); the middle one has 96 x 96 pixels" in found[0].text


def test_broken_photos_are_named_and_counted(photos: Path) -> None:
    for i in range(5):
        (photos / f"{i}.png").write_bytes(b"" if i % 2 else b"text")
    notes = texts(doctor.check_photos(PhotoFolder([photos])), "note")
    assert "5 of 60 cannot be read" in notes
    assert notes.count("\n") == doctor.NAMED


def test_photos_of_which_none_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    assert "none of which can be read" in texts(doctor.check_photos(PhotoFolder([tmp_path])), "problem")


def test_few_photos_are_worth_a_word() -> None:
    assert "8 photos are few" in texts(doctor.check_photos(Scenes(8)), "note")


def test_a_checkpoint_in_order(run: RunFolder) -> None:
    found = list(doctor.check_checkpoint(run.path))
    assert "resnet18, prototypes: 6, step 2 of 2" in texts(found, "ok")
    assert texts(found, "note") == "its prototypes have no names yet: slotseg eval matches them to classes"
    for name, content, level, text in (
        ("labels.json", "junk", "problem", f"{run.labels} is no JSON; expected the labels.json of a run"),
        ("labels.json", "{}", "problem", f"{run.labels} is no label map; expected"),
        ("metrics.jsonl", "junk\n{}", "note", f"2 lines of {run.metrics} cannot be read"),
        ("config.json", "{}", "problem", f"{run.path} has no config.json of a run; expected"),
    ):
        kept = (run.path / name).read_bytes() if (run.path / name).exists() else None
        (run.path / name).write_text(content)
        assert text in texts(doctor.check_checkpoint(run.path), level)
        (run.path / name).unlink() if kept is None else (run.path / name).write_bytes(kept)


def test_an_unfinished_run_says_how_to_go_on(run: RunFolder) -> None:
    content = checkpoint.load(run.last)
    checkpoint.save(run.last, content.tensors, {**content.info, "step": 1})
    assert f"slotseg train --resume {run.path}" in texts(doctor.check_checkpoint(run.path), "note")


def test_a_segmenter_file(run: RunFolder, tmp_path: Path) -> None:
    Segmenter.load(run.path, device="cpu").save(tmp_path / "segmenter.safetensors")
    found = list(doctor.check_checkpoint(tmp_path / "segmenter.safetensors"))
    assert "a segmenter" in texts(found, "ok")


def test_damaged_checkpoints(run: RunFolder) -> None:
    content = checkpoint.load(run.last)
    broken = {**content.tensors, "teacher.prototypes.weight": torch.full((6, 8), float("nan"))}
    checkpoint.save(run.last, broken, content.info)
    assert "teacher.prototypes.weight and 0 more hold values that are no numbers" in texts(
        doctor.check_checkpoint(run.path), "problem"
    )
    checkpoint.save(run.last, {"teacher.prototypes.weight": torch.ones(6, 8)}, content.info)
    assert "does not fit the settings in its header: it lacks backbone" in texts(
        doctor.check_checkpoint(run.path), "problem"
    )


def test_foreign_checkpoints_say_what_they_are(tmp_path: Path) -> None:
    file = tmp_path / "foreign"
    save_file({"conv1.weight": torch.ones(2)}, file, {"architecture": "resnet18"})
    assert "1 tensors (conv1.weight, ...) of resnet18; as weights for --init it will not do: " in texts(
        doctor.check_checkpoint(file), "problem"
    )
    torch.save({"code": Path}, file)
    assert "hold more than tensors" in texts(doctor.check_checkpoint(file), "problem")
    optimizer = torch.optim.AdamW([torch.zeros(2, requires_grad=True)]).state_dict()
    torch.save({**optimizer, "state": {0: {"step": torch.ones(()), "exp_avg": torch.ones(2)}}}, file)
    assert "expected tensors by key, found the state of an optimiser" in texts(doctor.check_checkpoint(file), "problem")
    torch.save({"encoder.0.weight": torch.ones(2)}, file)
    assert "they are of no usual model, and can start a training with --init only if --backbone names theirs" in texts(
        doctor.check_checkpoint(file), "problem"
    )
    assert "not a file" in texts(doctor.check_checkpoint(tmp_path / "gone"), "problem")


def test_what_works_for_checkpoints_of_other_code(tmp_path: Path) -> None:
    state, file = timm.create_model("resnet18", num_classes=0).state_dict(), tmp_path / "moco.pth"
    both = {f"module.encoder_{which}.{key}": value for which in "qk" for key, value in state.items()}
    torch.save({"state_dict": {**both, "module.queue": torch.ones(2)}}, file)
    assert texts(doctor.check_checkpoint(file), "problem").endswith(
        f"; as weights of resnet18 it can start a training with --init {file} --backbone resnet18 "
        "(it takes state_dict.module.encoder_k, averaged weights, and not state_dict.module.encoder_q)"
    )
    both["module.encoder_k.bn1.bias"][3] = float("nan")
    torch.save(both, file)
    assert "it will not do: weights" in texts(doctor.check_checkpoint(file), "problem")
    assert "no numbers (NaN or infinite) in bn1.bias;" in texts(doctor.check_checkpoint(file), "problem")
    torch.save({key: torch.zeros_like(value) for key, value in state.items()}, file)
    assert "make the same features of different images, as weights that are all zero do" in texts(
        doctor.check_checkpoint(file), "problem"
    )


# what it would cost


def cost(**changes: object) -> Cost:
    values = {"reading": 0.004, "copying": 0.0, "coloring": 0.001, "computing": 0.009, "memory": 3_000_000_000}
    values |= {"batch": 8, "workers": 2, "num_photos": 360_000, **changes}
    return Cost(precision="fp32", **values)  # type: ignore[arg-type]


def test_the_slower_of_reading_and_step_sets_the_pace() -> None:
    assert cost().photos_per_second == pytest.approx(100)
    assert cost().seconds == pytest.approx(3600)
    assert cost(reading=0.04).photos_per_second == pytest.approx(50)
    assert cost(reading=0.04, workers=0).photos_per_second == pytest.approx(25)


def test_cost_in_words() -> None:
    found = list(doctor.describe_cost(cost()))
    assert "100 photos/s in fp32, tried with 8 a step" in texts(found, "ok")
    assert "colours 10%, networks and losses 90%" in texts(found, "ok")
    assert "3.0 GB at most" in texts(found, "ok")
    assert not texts(found, "note")
    assert "more --workers" in texts(doctor.describe_cost(cost(reading=0.04)), "note")


def test_photos_that_are_looked_at_once_are_a_cost_of_their_own() -> None:
    once = cost(num_looked=1000, looking=0.4, reading=0.1, kept_memory=200_000_000)
    assert once.seconds == pytest.approx(1000 * 0.4 + 360_000 * 0.01)
    assert once.photos_per_second == pytest.approx(90)
    assert not once.by_loader
    found = list(doctor.describe_cost(once))
    assert "400 ms a photo, all of its views: 1,000 photos are looked at, steps take their maps" in texts(found, "ok")
    assert "3.0 GB at most, of which maps take 200.0 MB" in texts(found, "ok")
    assert "2 processes do it beside the looking" in texts(found, "ok")
    assert not texts(found, "note")
    slow = cost(num_looked=1000, looking=0.4, reading=1.0)
    assert slow.seconds == pytest.approx(1000 * 0.5 + 360_000 * 0.01)
    assert "more --workers" in texts(doctor.describe_cost(slow), "note")


DECODER = DecoderCost(
    looking=0.03,
    assigning=0.04,
    deciding=0.01,
    stepping=0.06,
    num_photos=160,
    steps=400,
    rounds=5,
    merging=False,
    photo_bytes=2_000_000,
)


def test_a_second_stage_is_a_cost_of_its_own() -> None:
    both = cost(decoder=DECODER)
    assert DECODER.seconds == pytest.approx(160 * (0.03 + 5 * 0.04 + 0.6 * 0.01) + 400 * 0.06)
    assert both.seconds == pytest.approx(3600 + DECODER.seconds)
    assert both.photos_per_second == pytest.approx(100)
    found = list(doctor.describe_cost(both))
    assert "1 min for 400 steps on 160 photos after the others: 60 ms a step, 40 ms a photo for targets, " in texts(
        found, "ok"
    )
    assert "made 5 times" in texts(found, "ok")
    assert "3.0 GB at most, of which photos for the decoder take 320.0 MB" in texts(found, "ok")
    once = cost(decoder=DECODER, num_looked=1000, looking=0.4, kept_memory=200_000_000)
    assert once.kept_bytes == 320_000_000
    assert "maps take 200.0 MB and then photos for the decoder take 320.0 MB" in texts(doctor.describe_cost(once), "ok")
    assert "decoder" not in {remark.subject for remark in doctor.describe_cost(cost())}


@pytest.mark.parametrize("kept", [{}, {"model.freeze_backbone": True, "views.kept": 4}], ids=["views", "kept maps"])
def test_a_trial_measures_the_second_stage(tiny_config: Callable[..., TrainConfig], kept: dict[str, object]) -> None:
    config = tiny_config({"steps": 100, "decoder.steps": 40, "decoder.photos": 500, **kept})
    whole = measure_cost(config, Scenes(700), device="cpu", workers=0)
    assert whole.decoder is not None
    assert (whole.decoder.num_photos, whole.decoder.steps) == (500, 40)
    assert whole.kept_bytes == max(whole.kept_memory, whole.decoder.memory)
    assert whole.memory > whole.kept_bytes + (100 << 20)
    assert measure_cost(tiny_config({"steps": 100, **kept}), Scenes(700), device="cpu", workers=0).decoder is None


def test_a_trial_measures_and_writes_nothing(
    tmp_path: Path, tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = tiny_config({"batch_size": 12, "steps": 100})
    measured = measure_cost(config, Scenes(30), device="cpu", workers=0)
    assert measured.num_photos == 1200
    assert measured.batch == trial.LARGEST_ON_CPU
    assert min(measured.reading, measured.coloring, measured.step) > 0
    assert measured.computing >= 0  # what is left of a step: nothing where a busy machine slows the rest
    assert measured.precision == "fp32"
    assert measured.memory > 100 << 20
    assert not list(tmp_path.iterdir())


def test_a_batch_that_does_not_fit_is_one_sentence(
    tiny_config: Callable[..., TrainConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise torch.cuda.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Learner, "train_step", full)
    with pytest.raises(ConfigError, match=r"a batch of 4 photos does not fit .* smaller --batch-size"):
        measure_cost(tiny_config(), Scenes(8), device="cpu", workers=0)
