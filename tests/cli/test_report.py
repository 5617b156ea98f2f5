"""``slotseg report`` as a user meets it, on a real run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from PIL import Image

from slotseg.cli import main
from slotseg.pages import is_page
from slotseg.watching.diagnosis import Finding


def slotseg(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of four steps on six photos, one of which is empty, with a page written after two of them."""
    folder = tmp_path_factory.mktemp("work")
    (folder / "photos").mkdir()
    for i in range(6):
        Image.effect_noise((60, 50), 30 * i).convert("RGB").save(folder / "photos" / f"{i}.png")
    (folder / "photos" / "5.png").write_bytes(b"")
    options = ["--preset", "tiny", "--steps", "4", "--out", folder / "run", "--device", "cpu", "--workers", "0"]
    options += ["--batch-size", "2", "--image-size", "32", "--set", "model.hidden_dim=16", "--set", "log_every=1"]
    options += ["--set", "previews=2", "--set", "optimizer.warmup_epochs=0"]
    options += ["--set", 'backbone.options={"channels":[8,8,8,8],"layers":[1,1,1,1]}']
    with pytest.MonkeyPatch.context() as patch:
        from slotseg.training.learner import Learner

        train_step = Learner.train_step

        def and_report(learner: Learner, batch: object) -> object:
            if learner.step == 2:
                result = slotseg("report", folder / "run", "-o", folder / "meanwhile.html")
                assert result.exit_code == 0, result.output
            return train_step(learner, batch)  # type: ignore[arg-type]

        patch.setattr(Learner, "train_step", and_report)
        result = slotseg("train", folder / "photos", *options)
    assert result.exit_code in (0, 3), result.output
    return folder


@pytest.fixture
def work(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with the run under runs/."""
    shutil.copytree(trained / "run", tmp_path / "runs" / "mine")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_page_of_the_newest_run_is_written_into_it(work: Path) -> None:
    shutil.copytree(work / "runs" / "mine", work / "runs" / "older")
    for file in (work / "runs" / "older").iterdir():
        os.utime(file, (1e9, 1e9))
    result = slotseg("report")
    assert result.exit_code == 0, result.output
    assert result.stdout == "runs/mine/report.html\n"
    text = (work / "runs" / "mine" / "report.html").read_text(encoding="utf-8")
    for words in ("6 photos", "preset", "Finished", "Loss", "model.hidden_dim", "last.safetensors", "5.png"):
        assert words in text, words
    assert text.count("<img") == len(list((work / "runs" / "mine" / "preview").iterdir())) >= 2


def test_page_is_written_where_it_is_asked_for_and_anew(work: Path) -> None:
    for _ in range(2):
        result = slotseg("report", "runs/mine", "-o", "deep/page.html")
        assert result.exit_code == 0, result.output
        assert result.stdout == "deep/page.html\n"
        assert is_page(work / "deep" / "page.html", "report")
    assert not (work / "runs" / "mine" / "report.html").exists()


def test_page_while_the_run_goes_on(trained: Path) -> None:
    text = (trained / "meanwhile.html").read_text(encoding="utf-8")
    assert "Running since" in text
    assert "step 2 of 4" in text
    assert "Finished" not in text


def test_findings_of_the_monitor_are_on_the_page(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diagnose(lines: list[dict[str, object]], config: dict[str, object]) -> list[Finding]:
        assert [line["step"] for line in lines] == [1, 2, 3, 4]
        assert config["steps"] == 4
        return [Finding(kind="trouble", what="Nothing moves.", advice="Push.", since_step=3)]

    monkeypatch.setattr("slotseg.watching.diagnosis.diagnose", diagnose)
    assert slotseg("report").exit_code == 0
    text = (work / "runs" / "mine" / "report.html").read_text(encoding="utf-8")
    assert "Nothing moves." in text
    assert "Push." in text
    assert 'class="since"' in text


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["nowhere"], "nowhere has no config.json of a run; expected the folder of a training run"),
        (["runs"], "runs has no config.json of a run; expected the folder of a training run"),
        (["runs/mine/config.json"], "runs/mine/config.json has no config.json of a run"),
        (["-o", "mine.html"], "mine.html is no page of a run; expected another --output, or --overwrite to replace it"),
        (["-o", "runs"], "runs cannot be written (Is a directory); choose another --output"),
        (["-o", "mine.html/page.html"], "mine.html/page.html cannot be written (File exists)"),
    ],
)
def test_refusals_are_one_sentence(work: Path, arguments: list[str], expected: str) -> None:
    (work / "mine.html").write_text("mine")
    result = slotseg("report", *arguments)
    assert result.exit_code == 1, result.output
    (sentence,) = [line for line in result.stderr.splitlines() if line]
    assert sentence.startswith(f"Error: {expected}")
    assert (work / "mine.html").read_text() == "mine"


def test_foreign_file_is_replaced_if_asked_to(work: Path) -> None:
    (work / "mine.html").write_text("mine")
    assert slotseg("report", "-o", "mine.html", "--overwrite").exit_code == 0
    assert is_page(work / "mine.html", "report")


def test_no_run_yet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = slotseg("report")
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: there is no run under ")


def test_run_of_another_version(work: Path) -> None:
    settings = json.loads((work / "runs" / "mine" / "config.json").read_text())
    settings["config"] |= {"unheard_of": {"deep": [1, None]}}
    del settings["sources"], settings["photos"], settings["preset"], settings["config"]["model"]
    (work / "runs" / "mine" / "config.json").write_text(json.dumps(settings))
    (work / "runs" / "mine" / "checkpoints" / "last.json").write_text("{}")
    result = slotseg("report")
    assert result.exit_code == 0, result.output
    assert "unheard_of.deep" in (work / "runs" / "mine" / "report.html").read_text(encoding="utf-8")


def test_torch_is_not_loaded(work: Path) -> None:
    code = "import sys; from slotseg.cli import main; main(['report'], standalone_mode=False); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    file, modules = done.stdout.splitlines()
    assert file == "runs/mine/report.html"
    assert "slotseg.watching.run_page" in modules.split()
    assert {"torch", "timm"}.isdisjoint(modules.split())
