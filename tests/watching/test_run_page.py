"""The page of a run: what it says, hostile names, its size, and how a real browser shows it."""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slotseg.errors import DataError
from slotseg.labels.label_map import LabelMap
from slotseg.pages import is_page
from slotseg.presets import PRESETS
from slotseg.runs.record import CheckpointFile, RunRecord
from slotseg.values import to_dict
from slotseg.watching.run_page import (
    MAX_SHEET_BYTES,
    MAX_SHEETS,
    NUM_FAILURES,
    decoder_sentence,
    render,
    settings,
    sheets,
    write_run_page,
)

SCRIPT = "<script>document.documentElement.dataset.hacked = 1</script>"
BREAKOUT = '"\'><img src=x onerror="document.documentElement.dataset.hacked=1"></style></title>{{ 7 * 7 }}'
HOSTILE = (SCRIPT, BREAKOUT, "x" * 300, "\u202eright to left", "'); background: url(https://a.b/c", "\udcff")
NOW = 1_700_000_000.0


@dataclass(frozen=True)
class Finding:
    kind: str = "collapse"
    what: str = "One prototype wins nearly everything since step 40."
    advice: str = "Lower the learning rate."
    since_step: int = 40


def line(step: int) -> dict[str, Any]:
    rng = np.random.default_rng(step)
    metrics = {
        "loss": 5 / (1 + step / 1_000) + rng.random(),
        "grouping_loss": rng.random(),
        "slot_loss": 1.5,
        "active_prototypes": int(rng.integers(1, 16)),
        "largest_share": rng.random(),
        "entropy_overall": rng.random(),
        "entropy_per_pixel": rng.random(),
        "agreement": rng.random(),
        "feature_similarity": rng.random(),
        "prototype_similarity": rng.random(),
        "learning_rate": 1e-3 * rng.random(),
        "teacher_momentum": 0.95,
        "skipped_steps": step // 100,
        "photos_per_second": 32.0,
    }
    return {"step": step, "epoch": step / 10, **metrics}


def record(path: Path = Path("runs/one"), **changes: Any) -> RunRecord:
    config = to_dict(PRESETS["tiny"]())
    sources = {"steps": "option", "views.image_size": "preset tiny", "seed": "default"}
    values: dict[str, Any] = {
        "path": path,
        "settings": {"config": config, "sources": sources, "preset": "tiny", "photos": []},
        "header": {"step": 100, "num_photos": 320, "computed_in": {"device": "cpu", "precision": "fp32"}},
        "lines": [line(step) for step in range(20, 200, 20)],
        "failures": [],
        "checkpoints": [CheckpointFile(name="last.safetensors", size=3_456_789, written=NOW)],
        "previews": [],
        "labels": None,
        "last_words": "",
        "started": NOW - 3_600,
        "heard": NOW,
        "step_by_checkpoint": False,
        "now": NOW + 5,
    }
    return RunRecord(**values | changes)


def noted(**notes: Any) -> dict[str, Any]:
    return {**record().settings, **notes}


def sheet(folder: Path, step: int, side: int = 40) -> tuple[int, Path]:
    file = folder / f"step-{step:08d}.jpg"
    Image.fromarray(np.random.default_rng(step).integers(0, 256, (side, 2 * side, 3)).astype(np.uint8)).save(file)
    return step, file


class Parsed(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def shown(*arguments: Any, **changes: Any) -> str:
    """The text of a page."""
    return Parsed(render(record(**changes), *arguments)).text


def test_page_says_how_far_the_run_is() -> None:
    text = shown()
    assert "320 photos of the built-in scenes, preset tiny" in text
    for words in ("step 180 of 600", "epoch 18 of 60", "photos per second 32", "left 7 min"):
        assert words in text, words
    assert "on cpu in fp32, last heard of 5 s ago. About 7 min left" in text
    assert "last.safetensors 3.5 MB" in text
    assert "The monitor finds nothing wrong." in text


def test_page_says_the_unit_of_entropies() -> None:
    assert "In units of log P, P being the number of trained prototypes." in shown()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"header": {"step": 600}, "step_by_checkpoint": True}, "Finished .*; it took 1 h since it was last started"),
        (
            {"last_words": "x" * 24 + "Interrupted at step 180; go on"},
            "Interrupted .*, after 1 h on cpu in fp32; --resume",
        ),
        ({"now": NOW + 7_200}, "not heard of for 2 h: it was stopped, or hangs"),
        ({"settings": noted(official={"a": 1}), "lines": []}, "Imported .* and not trained further; --resume"),
    ],
)
def test_page_says_how_the_run_stands(changes: dict[str, Any], expected: str) -> None:
    assert re.search(expected, shown(**changes))


@pytest.mark.parametrize(
    ("untrained", "own", "expected"),
    [
        (0.737, 0.797, "in 80 % of the pixels of held-out photos, 74 % without learning."),
        (0.71, 0.657, "in 66 % of the pixels of held-out photos, 71 % without learning. So new photos may be painted"),
        (0.71, None, ""),
    ],
)
def test_what_the_decoder_has_learned(untrained: float, own: float | None, expected: str) -> None:
    last = {"step": 200, "decoder_agreement": own, "untrained_agreement": untrained}
    sentence = decoder_sentence(record(lines=[line(180), last]))
    assert expected in sentence
    assert bool(sentence) == bool(expected)
    assert ("worse" in sentence) == (own == 0.657)


def test_findings_are_shown_with_their_advice_and_marked_in_every_curve() -> None:
    text = render(record(), [Finding(), Finding(what="Nothing moves.", since_step=1_000_000)])
    words = Parsed(text).text
    assert "One prototype wins nearly everything since step 40. Lower the learning rate." in words
    assert "Nothing moves." in words
    assert "The monitor finds nothing wrong" not in words
    assert text.count('class="since"') == text.count('<figure class="chart">'), "the second lies beyond the curves"


def test_failures_are_counted_and_listed() -> None:
    assert "1 photo was unreadable; others stood in for it: a.jpg is empty" in shown(failures=["a.jpg is empty"])
    text = shown(failures=[f"{i}.jpg is empty" for i in range(NUM_FAILURES + 1_003)])
    assert "1,023 photos were unreadable; others stood in for them: 0.jpg is empty" in text
    assert "19.jpg is empty and 1,003 more, in failures.jsonl" in text
    assert "20.jpg" not in text
    assert "Unreadable photos" not in shown()


def test_settings_have_sources_and_those_given_by_hand_come_first() -> None:
    rows = settings(record().settings)
    assert (rows[0].name, rows[0].value, rows[0].source) == ("steps", "600", "option")
    assert [row.source for row in rows if row.name == "seed"] == ["default"]
    assert {row.source for row in rows} == {"option", "preset tiny", "default", "not known"}
    values = {row.name: row.value for row in rows}
    assert (values["epochs"], values["compile"], values["views.area"]) == ("none", "no", "0.15, 0.6")


@pytest.mark.parametrize(
    ("photos", "expected"),
    [
        ([], "320 photos of the built-in scenes"),
        (["/a"], "320 photos from /a , preset tiny"),
        (["/a", "/b", "/c", "/d", "/e"], "320 photos from /a, /b, /c and 2 more"),
        (None, "320 photos, preset tiny"),
        (7, "320 photos, preset tiny"),
    ],
)
def test_page_says_where_photos_are_from(photos: Any, expected: str) -> None:
    assert expected in shown(settings=noted(photos=photos))


def test_header_of_nulls_and_settings_without_notes() -> None:
    header = {"step": 50, "total_steps": 200, "num_photos": None, "steps_per_epoch": 25, "photos": None}
    text = shown(settings={"config": {}}, header=header, lines=[], step_by_checkpoint=True)
    assert "photos not known step 50 of 200 epoch 2 of 8 " in text


def test_page_without_anything() -> None:
    text = shown(settings={"config": {}}, header={}, lines=[], checkpoints=[])
    assert "There is nothing to draw yet: the first metrics are written after 1 step." in text
    assert "There is none yet." in text
    assert "The monitor" not in text


def test_page_of_one_line_shows_points() -> None:
    text = render(record(lines=[line(20)]))
    assert text.count(" dot") >= len(re.findall('<figure class="chart">', text))
    assert json.loads(text.split('id="points">')[1].split("</script>")[0])["charts"][0]["steps"] == [20]


def test_page_of_a_long_run_is_light() -> None:
    first = line(20)
    lines = [first | {"step": 20 * (i + 1), "loss": i % 7 + i / 1e5, "agreement": i % 3 / 3} for i in range(50_000)]
    text = render(record(lines=lines))
    assert len(text.encode()) < 2_000_000
    steps = json.loads(text.split('id="points">')[1].split("</script>")[0])["charts"][0]["steps"]
    assert (steps[0], steps[-1]) == (20, 1_000_000)
    assert "1,000,000" in text


def hostile(folder: Path) -> RunRecord:
    path = folder / (SCRIPT.replace("/", "") + BREAKOUT.replace("/", ""))[:200]
    nasty = {name: name for name in HOSTILE}
    config = {**record().settings["config"], **nasty, "backbone": nasty}
    labels = LabelMap(classes=(0, 1), names=HOSTILE[:2], colors=((1, 2, 3), (4, 5, 6)), origin="names", source=BREAKOUT)
    return record(
        path,
        settings={"config": config, "sources": nasty, "preset": SCRIPT, "photos": list(HOSTILE[:3])},
        header={"num_photos": 1, "computed_in": {"device": SCRIPT, "precision": BREAKOUT}},
        failures=list(HOSTILE),
        checkpoints=[CheckpointFile(name=SCRIPT, size=1, written=NOW)],
        labels=labels,
        previews=[sheet(folder, 1), sheet(folder, 300_000)],
    )


def test_hostile_names_are_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    finding = Finding(what=SCRIPT, advice=BREAKOUT)
    write_run_page(tmp_path / "page.html", hostile(tmp_path), [finding])
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Parsed(text)
    assert page.tags.count("style") == page.tags.count("title") == 1
    assert page.tags.count("script") == 2
    assert page.tags.count("img") == 2
    assert {"iframe", "object", "embed", "base", "form", "video", "image", "use"}.isdisjoint(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    links = [value for name, value in page.attributes if name in ("src", "href", "srcset", "action", "poster")]
    assert all(value.startswith(("data:", "#")) for value in links), links
    assert not [value for name, value in page.attributes if name == "style" and "url(" in value]
    assert not re.search(r"url\(|@import", text[text.index("<style>") : text.index("</style>")])
    assert "http" not in text.replace("http-equiv", "").replace("https://a.b/c", "")
    assert any(name == "content" and "default-src 'none'" in value for name, value in page.attributes)
    for name in (*HOSTILE[:5], "1 photo from"):
        assert " ".join(name.split()) in page.text, name


def test_sheets_are_chosen_evenly_with_the_first_and_the_last(tmp_path: Path) -> None:
    previews = [sheet(tmp_path, step) for step in range(1, 101)]
    chosen = [found.step for found in sheets(previews)]
    assert len(chosen) == MAX_SHEETS
    assert (chosen[0], chosen[-1]) == (1, 100)
    assert set(np.diff(chosen).tolist()) == {4, 5}
    assert [found.step for found in sheets(previews[:3])] == [1, 2, 3]
    assert sheets(previews[:1])[0].size == (80, 40)
    assert sheets([]) == []


def test_big_sheets_are_fewer(tmp_path: Path) -> None:
    previews = [sheet(tmp_path, step, side=500) for step in range(1, 21)]
    size = max(file.stat().st_size for _, file in previews)
    chosen = [found.step for found in sheets(previews)]
    assert len(chosen) == MAX_SHEET_BYTES // size
    assert (chosen[0], chosen[-1]) == (1, 20)


def test_sheet_that_is_no_picture_or_gone_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "step-00000002.jpg").write_bytes(b"\xff\xd8 torn")
    (tmp_path / "step-00000003.jpg").touch()
    Image.new("RGB", (4, 4)).save(tmp_path / "png.png")
    (tmp_path / "png.png").rename(tmp_path / "step-00000004.jpg")
    previews = [sheet(tmp_path, 1), *((i, tmp_path / f"step-0000000{i}.jpg") for i in (2, 3, 4, 5))]
    assert [found.step for found in sheets(previews)] == [1]


def test_page_replaces_a_page_and_nothing_else(tmp_path: Path) -> None:
    page, other = tmp_path / "deep" / "page.html", tmp_path / "other.html"
    write_run_page(page, record())
    assert is_page(page, "report")
    write_run_page(page, record(failures=["new"]))
    assert "new" in page.read_text()
    other.write_text("<html>mine</html>")
    with pytest.raises(DataError, match=r"other\.html is no page of a run; expected another --output, or --overwrite"):
        write_run_page(other, record())
    assert other.read_text() == "<html>mine</html>"
    write_run_page(other, record(), overwrite=True)
    assert is_page(other, "report")


@pytest.mark.parametrize("place", ["a file/page.html", "a folder"])
def test_unwritable_page_is_an_error_in_one_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "a folder").mkdir()
    with pytest.raises(DataError, match=r"cannot be written \(.*\); choose another --output$"):
        write_run_page(tmp_path / place, record())
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a file", "a folder"]


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
needs_browser = pytest.mark.skipif(not BROWSER, reason="there is no Chromium on the PATH")

HARNESS = """<!doctype html><title></title><body style="margin:0">
<iframe srcdoc="{page}" style="border:0;display:block;width:390px;height:1500px"></iframe>
<iframe srcdoc="{page}" style="border:0;display:block;width:1200px;height:1500px"></iframe>
<script>addEventListener("load", () => {{
  document.title = JSON.stringify([...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, root = page.documentElement, plot = page.querySelector(".plot");
    const box = plot.getBoundingClientRect(), about = page.querySelector(".about"), resting = about.textContent;
    const point = (type, x) => plot.dispatchEvent(new PointerEvent(type, {{ clientX: x }}));
    point("pointermove", box.right);
    const pointed = about.textContent;
    point("pointerleave", 0);
    const slider = page.querySelector("input");
    slider.value = 0;
    slider.dispatchEvent(new Event("input"));
    return {{
      needed: root.scrollWidth, width: root.clientWidth, hacked: root.dataset.hacked ?? "", pointed,
      rested: about.textContent === resting, label: page.querySelector("output").textContent,
      sheets: [...page.querySelectorAll(".film figure")].filter((sheet) => sheet.offsetHeight).length,
      broken: [...page.images].filter((image) => !image.naturalWidth).length,
    }};
  }}));
}});</script>"""


@needs_browser
def test_page_fits_its_window_and_answers(tmp_path: Path) -> None:
    run = replace(hostile(tmp_path), lines=[line(20), line(123_456), line(300_000)])
    page = html.escape(render(run, [Finding(what=BREAKOUT)]).encode(errors="replace").decode())
    (tmp_path / "harness.html").write_text(HARNESS.format(page=page), encoding="utf-8")
    switches = "headless no-sandbox disable-gpu disable-dev-shm-usage hide-scrollbars enable-logging=stderr dump-dom"
    command = [BROWSER, *(f"--{switch}" for switch in switches.split()), f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--window-size=1200,3000", (tmp_path / "harness.html").as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=True)
    assert ":CONSOLE" not in done.stderr
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title
    frames: list[dict[str, Any]] = json.loads(html.unescape(title[1]))
    assert [frame["width"] for frame in frames] == [390, 1200]
    for frame in frames:
        assert frame["needed"] <= frame["width"], "the page scrolls sideways"
        assert (frame["hacked"], frame["broken"]) == ("", 0)
        assert frame["pointed"].startswith("Step 300,000, epoch 300000")
        assert frame["rested"]
        assert (frame["label"], frame["sheets"]) == ("step 1", 1)
