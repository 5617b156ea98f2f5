"""Runs of earlier versions: segmented, scored and resumed with what those versions made of them.

On the machine that made them all is equal, bit for bit; the bounds leave room for another CPU's rounding, several
times what AVX2 or SSE instead of AVX-512 change.
"""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from earlier_runs import Masks, one_thread, resume, score, segment, with_segment
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor

from slotseg import Segmenter
from slotseg.values import flatten

GOLDEN = Path(__file__).parent / "golden" / "run-088b0e1"
MASKS = json.loads((GOLDEN / "made/masks.json").read_text())
SCORES = json.loads((GOLDEN / "made/scores.json").read_text())
PHOTOS = sorted((GOLDEN / "photos").iterdir())
ROUNDING_NOISE = re.compile(r"(projector|predictor)\.([03]\.bias|[14]\.running_mean)$")
"""Biases that a BatchNorm takes away again, so that their gradient is rounding and no more, and its mean of them."""
METRIC_BOUNDS = {
    **{name: {"abs": 1} for name in ("active_prototypes", "common_prototypes")},
    **{name: {"abs": 5e-3} for name in ("largest_share", "agreement")},  # two of 512 cells
}

Resumed = tuple[Path, dict[str, Tensor], list[dict[str, Any]]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="module")
def kept() -> Masks:
    with np.load(GOLDEN / "made/masks.npz") as file:
        return dict(file)


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    copy = tmp_path_factory.mktemp("resumed") / "run"
    return copy, *resume(GOLDEN / "run", copy)


def masks_of(kept: Masks, number: int) -> Masks:
    return {name.partition("/")[2]: mask for name, mask in kept.items() if name.startswith(f"{number}/")}


def assert_equal_masks(ours: Masks, theirs: Masks, share: float = 0.999) -> None:
    """The same files, in which more than this share of the pixels of all of them are equal."""
    assert ours.keys() == theirs.keys()
    assert {name: (mask.shape, mask.dtype) for name, mask in ours.items()} == {
        name: (mask.shape, mask.dtype) for name, mask in theirs.items()
    }
    equal = np.concatenate([same(name, ours[name], theirs[name]).ravel() for name in theirs])
    assert equal.mean() > share, f"{(~equal).sum()} of {equal.size} pixels differ"


def same(name: str, ours: NDArray[Any], theirs: NDArray[Any]) -> NDArray[np.bool_]:
    """Where two masks are equal, or two pictures of how sure they are nearly so."""
    return abs(ours.astype(int) - theirs) <= (1 if name.startswith("confidence/") else 0)


def words(call: dict[str, Any]) -> str:
    changed = [f"{name}={value}" for name, value in call.get("segment", {}).items()] if "segment" in call else []
    return " ".join([call.get("of", "eval"), *changed, *call["options"]])


OF_FILES = [(i, call) for i, call in enumerate(MASKS) if call["of"] != "resumed"]


@pytest.mark.parametrize(("number", "call"), OF_FILES, ids=[words(call) for _, call in OF_FILES])
def test_masks_are_as_they_were(kept: Masks, number: int, call: dict[str, Any], tmp_path: Path) -> None:
    file = with_segment(GOLDEN / call["of"], tmp_path / "changed.safetensors", call.get("segment"))
    ours = segment(file, GOLDEN / "photos", tmp_path / "masks", call["options"])
    assert_equal_masks(ours, masks_of(kept, number))


@pytest.mark.parametrize("file", ["run", "segmenter.safetensors", "field.safetensors"])
def test_python_gives_the_maps_that_the_command_line_gave(kept: Masks, file: str) -> None:
    segmenter = Segmenter.load(GOLDEN / file, device="cpu")
    maps = {photo.with_suffix(".png").name: segmenter(photo) for photo in PHOTOS}
    for options, name in (([], "class_map"), (["--labels", "prototypes"], "prototype_map")):
        number = MASKS.index({"of": file, "options": options})
        ours = {photo: getattr(made, name).astype(np.uint8) for photo, made in maps.items()}
        assert_equal_masks(ours, masks_of(kept, number))
    labels = json.loads((GOLDEN / "run/labels.json").read_text())
    assert [*segmenter.labels.classes] == labels["classes"]
    assert [*segmenter.labels.names] == labels["names"]


def test_what_is_kept_tells_settings_apart(kept: Masks) -> None:
    """The mean field of strength 3, 1.5 and 0, the guided filter, a match and numbers: none has the maps of another."""
    plain = {"scales": [1.0], "mirror": False}
    calls = [{"of": "field.safetensors", "options": ["--labels", "prototypes"]}]
    calls += [{"of": "run", "options": options} for options in ([], ["--labels", "prototypes"], ["-k", "5"])]
    for refinement, edges in ((1.5, "auto"), (0.0, "auto"), (1.5, "guided")):
        settings = {**plain, "refinement": refinement, "edges": edges}
        calls.append({"of": "segmenter.safetensors", "segment": settings, "options": ["--labels", "prototypes"]})
    sets = [masks_of(kept, MASKS.index(call)) for call in calls]
    for i, one in enumerate(sets):
        for other in sets[:i]:
            assert np.mean([np.mean(one[name] != other[name]) for name in one]) > 0.02


@pytest.mark.parametrize("kept_score", SCORES, ids=words)
def test_scores_are_as_they_were(kept_score: dict[str, Any], tmp_path: Path) -> None:
    run = shutil.copytree(GOLDEN / "run", tmp_path / "run")
    ours, theirs = score(run, tmp_path / "score.json", kept_score["options"]), kept_score["result"]
    one, two = np.array(ours["table"]), np.array(theirs["table"])
    assert one.shape == two.shape
    assert one.sum() == two.sum()
    assert abs(one - two).sum() / 2 < 1e-3 * two.sum()
    bound = 1e-9 if np.array_equal(one, two) else 2e-3
    for name in ("miou", "pixel_accuracy", "iou_per_class", "ceiling"):
        assert ours[name] == (theirs[name] and pytest.approx(theirs[name], abs=bound)), name
    assert ours["assignment"] == theirs["assignment"]
    for name in ("image_list_sha256", "num_images", "num_labelled_pixels", "num_prototypes", "num_classes", "matching"):
        assert ours["protocol"][name] == theirs["protocol"][name], name
    for name in ("checkpoint", "network_size", "precision"):
        assert ours["protocol"]["predictor"][name] == theirs["protocol"]["predictor"][name], name


def test_a_resumed_run_has_the_tensors_that_it_had(resumed: Resumed) -> None:
    _, ours, _ = resumed
    theirs = load_file(GOLDEN / "made/resumed.safetensors")
    assert {name for name in ours if not name.startswith("optimizer.")} == theirs.keys()
    assert ours.keys() == load_file(GOLDEN / "run/checkpoints/last.safetensors").keys()
    for name, tensor in theirs.items():
        apart = (ours[name].double() - tensor.double()).abs().max().item()
        if ROUNDING_NOISE.search(name):
            assert apart < 0.03, name  # ten steps of the learning rate
        elif name == "teacher.confusion.wins":
            assert apart < 0.01, name
        else:
            assert apart <= 1e-3 * tensor.double().abs().max().item(), name


def test_a_resumed_run_says_where_its_settings_of_today_came_from(resumed: Resumed) -> None:
    kept = json.loads((resumed[0] / "config.json").read_text())
    sources = kept["sources"]
    assert sources.keys() == flatten(kept["config"]).keys()
    assert sources["steps"] == "option, from step 6"
    assert (sources["batch_size"], sources["views.area"]) == ("option", "preset tiny")
    assert sources["views.kept"] == sources["decoder.steps"] == "default"  # there were none
    assert sources["segment.edges"] == sources["segment.field_strength"] == "earlier version"  # were "refinement"


def test_a_resumed_run_has_the_metrics_that_it_had(resumed: Resumed) -> None:
    _, _, ours = resumed
    theirs = [json.loads(line) for line in (GOLDEN / "made/resumed.jsonl").read_text().splitlines()]
    before = (GOLDEN / "run/metrics.jsonl").read_text().splitlines()
    assert ours[: len(before)] == [json.loads(line) for line in before]
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for one, two in zip(ours, theirs, strict=True):
        for name in two.keys() - {"photos_per_second"}:
            assert one[name] == pytest.approx(two[name], **METRIC_BOUNDS.get(name, {"rel": 1e-4})), (one["step"], name)


@pytest.mark.parametrize("options", [[], ["--labels", "prototypes"]], ids=["classes", "prototypes"])
def test_a_resumed_run_has_the_masks_that_it_had(
    kept: Masks, resumed: Resumed, options: list[str], tmp_path: Path
) -> None:
    ours = segment(resumed[0], GOLDEN / "photos", tmp_path / "masks", options)
    number = MASKS.index({"of": "resumed", "options": options})
    assert_equal_masks(ours, masks_of(kept, number), 0.99)  # noise and all
