"""``slotseg concepts`` as a user meets it."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from slotseg.cli import main
from slotseg.data.scenes import draw_scene


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
    assert "1 photos failed: see concepts/failures.jsonl" in result.stdout
    assert "broken.jpg" in Path("concepts/failures.jsonl").read_text()


def test_names_begin_the_page_and_the_figure() -> None:
    Path("names.json").write_text(json.dumps({"names": {"0": "a meadow at noon"}}))
    assert concepts("--names", "names.json").exit_code == 0
    assert "a meadow at noon" in Path("concepts/index.html").read_text()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--figure", "fig.txt"), "ends in .png or .jpg"),
        (("--figure", "fig.png", "--figure-of", "one"), "expected numbers of concepts"),
        (("--figure", "fig.png", "--figure-of", "9"), "there is no concept 9"),
        (("--names", "nothing.json"), "nothing.json"),
    ],
)
def test_wrong_words_are_one_sentence(words: tuple[str, ...], message: str) -> None:
    assert message in refusal(concepts(*words))
