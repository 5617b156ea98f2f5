"""``slotseg concepts`` as a user meets it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from slotseg.cli import main
from slotseg.data.scenes import draw_scene
from slotseg.labels.naming import read_names
from slotseg.runs.checkpoint import digest


@pytest.fixture(autouse=True)
def work(tmp_path: Path, saved_segmenter: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with a model and four photos."""
    (tmp_path / "photos").mkdir()
    for i in range(4):
        Image.fromarray(draw_scene(i)[0]).save(tmp_path / "photos" / f"{i}.jpg")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def concepts(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["concepts", "tiny.safetensors", "photos", *arguments, "--device", "cpu"])


def refusal(result: Result) -> str:
    assert result.exit_code == 1, result.output
    (line,) = (line for line in result.stderr.splitlines() if line.startswith("Error: "))
    return line


def test_page_data_and_figure_are_written() -> None:
    result = concepts("--figure", "fig.png", "--top", "2")
    assert result.exit_code == 0, result.output
    assert "of 4 photos: open concepts/index.html" in result.stdout
    assert sorted(path.name for path in Path("concepts").iterdir()) == ["concepts.json", "index.html"]
    content = json.loads(Path("concepts/concepts.json").read_text())
    assert (content["num_photos"], content["num_prototypes"], content["run"]) == (4, 6, "tiny")
    assert max(len(c["segments"]) for c in content["concepts"]) == 2
    with Image.open("fig.png") as figure:
        assert figure.width > 200
    assert "concepts/index.html exists; expected a new --output" in refusal(concepts())
    assert concepts("--overwrite").exit_code == 0


def test_a_broken_photo_is_named_and_costs_itself() -> None:
    Path("photos/broken.jpg").write_bytes(b"")
    result = concepts()
    assert result.exit_code == 3, result.output
    assert "1 photo failed: see concepts/failures.jsonl" in result.stdout
    assert "broken.jpg" in Path("concepts/failures.jsonl").read_text()


def test_nothing_but_broken_photos_is_one_sentence_and_no_page() -> None:
    for path in Path("photos").iterdir():
        path.write_bytes(b"")
    assert "none of the 4 photos could be read; expected one at least: see concepts/failures.jsonl." in refusal(
        concepts()
    )
    assert [path.name for path in Path("concepts").iterdir()] == ["failures.jsonl"]


def test_names_begin_the_page_and_the_figure() -> None:
    Path("names.json").write_text(json.dumps({"names": {"0": "a meadow at noon"}}))
    assert concepts("--names", "names.json").exit_code == 0
    assert "a meadow at noon" in Path("concepts/index.html").read_text()


@pytest.fixture
def old_run() -> Path:
    """A folder of a run with the same prototypes, each of them named."""
    (Path("old") / "checkpoints").mkdir(parents=True)
    shutil.copy("tiny.safetensors", "old/checkpoints/last.safetensors")
    Path("old/config.json").write_text("{}")
    names = {"names": {k: f"name {k}" for k in range(6)}, "checkpoint": digest(Path("tiny.safetensors"))}
    Path("old/names.json").write_text(json.dumps({**names, "unnamed": "ignore"}))
    return Path("old")


def test_names_of_an_old_run_are_carried(old_run: Path) -> None:
    result = concepts("--carry-names", str(old_run), "--figure", "fig.png")
    assert result.exit_code == 0, result.output
    assert "Names of old: " in result.stdout
    assert "of 6 carried, to " in result.stdout
    assert "was written for checkpoint" not in result.stderr
    content = json.loads(Path("concepts/concepts.json").read_text())
    assert content["carried_from"] == "old"
    of_most = max(content["concepts"], key=lambda c: c["share"])
    assert of_most["carried"]["name"] == f"name {of_most['id']}"
    assert of_most["carried"]["confidence"] > 0.99
    names = read_names(Path("concepts/names.json"))
    assert names.checkpoint == digest(Path("tiny.safetensors"))
    assert (names.name_of(of_most["id"]), names.unnamed) == (f"name {of_most['id']}", "ignore")
    assert f"name {of_most['id']}" in Path("concepts/index.html").read_text()
    painted = ["segment", "photos", "-o", "masks", "--checkpoint", "tiny.safetensors", "--device", "cpu"]
    assert CliRunner().invoke(main, [*painted, "--labels", "concepts/names.json"]).exit_code == 0


def test_names_that_are_there_stay(old_run: Path) -> None:
    Path("concepts").mkdir()
    Path("concepts/names.json").write_text(json.dumps({"names": {"0": "mine"}}))
    assert "concepts/names.json exists; expected a new" in refusal(concepts("--carry-names", "old"))
    given = ("--carry-names", "old", "--names", "concepts/names.json", "--overwrite")
    assert "concepts/names.json would be replaced" in refusal(concepts(*given))
    assert "mine" in Path("concepts/names.json").read_text()
    assert concepts("--carry-names", "old", "--overwrite").exit_code == 0
    assert "mine" not in Path("concepts/names.json").read_text()


def test_names_of_another_checkpoint_than_the_old_run_are_warned_of(old_run: Path) -> None:
    Path("names.json").write_text(json.dumps({"names": {"0": "sea"}, "checkpoint": "0123456789abcdef"}))
    result = concepts("--carry-names", "tiny.safetensors", "--names", "names.json")
    assert result.exit_code == 0, result.output
    assert "names.json was written for checkpoint 0123456789abcdef" in result.stderr


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (None, "old/names.json does not exist; expected --names with the names that were given to old"),
        ({"names": {"0": "sea"}, "num_prototypes": 7}, "names 7 prototypes and the model has 6"),
        ({"names": {"9": "sea"}}, "mentions prototype 9; expected 0 to 5"),
    ],
)
def test_names_that_cannot_be_carried(old_run: Path, names: dict[str, Any] | None, message: str) -> None:
    if names is None:
        Path("old/names.json").unlink()
    else:
        Path("old/names.json").write_text(json.dumps(names))
    assert message in refusal(concepts("--carry-names", "old"))
    assert not Path("concepts/names.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--figure", "fig.txt"), "ends in .png or .jpg"),
        (("--figure", "fig.png", "--figure-of", "one"), "expected numbers of concepts"),
        (("--figure", "fig.png", "--figure-of", "0,9"), "there is no concept 9 for the figure; expected 0 to 5"),
        (("--figure-of", "1"), "expected --figure FILE beside it"),
        (("--names", "nothing.json"), "nothing.json"),
    ],
)
def test_wrong_words_are_one_sentence(words: tuple[str, ...], message: str) -> None:
    assert message in refusal(concepts(*words))
    assert not Path("concepts").exists()
