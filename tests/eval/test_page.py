"""The page of a result: its numbers, its pictures, hostile names, and how a real browser shows it."""

import base64
import html
import io
import json
import re
import shutil
import subprocess
from dataclasses import asdict, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from slotseg.data.labelled.image_lists import ImageList
from slotseg.data.labelled.labelled import LabelledImage, ScoredPhoto
from slotseg.data.labelled.taxonomy import Taxonomy, load_taxonomy, plain_taxonomy
from slotseg.errors import DataError
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.contingency import UNASSIGNED, ImageCounts
from slotseg.eval.evaluate import evaluate
from slotseg.eval.examples import PICTURE_SIDE, best_and_worst, example, paint
from slotseg.eval.metrics import confusion_matrix, score
from slotseg.eval.page import (
    class_rows,
    frequent_confusions,
    matrix_rows,
    outcome,
    prototype_rows,
    render,
    write_result_page,
)
from slotseg.eval.report import truth_line
from slotseg.eval.result import PredictorInfo, Provenance, Result, citation
from slotseg.labels.label_map import LabelMap

SCRIPT = "<script>document.documentElement.dataset.hacked = 1</script>"
BREAKOUT = '"\'><img src=x onerror="document.documentElement.dataset.hacked=1"></style></title>{{ 7 * 7 }}'
HOSTILE = (SCRIPT, BREAKOUT, "x" * 300, "\u202eright to left", "two\nlines \udcff", "'); background: url(https://a.b/c")


class Patches:
    """Noisy pictures of patches of every class, the first row of pixels void."""

    name, split, labels = "patches", "val", "drawn"

    def __init__(self, taxonomy: Taxonomy, number: int = 14, key: str = "patch {}") -> None:
        self.taxonomy, self.number, self.key = taxonomy, number, key
        self.image_list = ImageList.of([f"patch-{i}" for i in range(number)])

    def __len__(self) -> int:
        return self.number

    def read(self, index: int) -> LabelledImage:
        rng = np.random.default_rng(index)
        patches = rng.integers(0, len(self.taxonomy.classes), (6, 8))
        class_map = patches.repeat(10, axis=0).repeat(10, axis=1).astype(np.uint8)
        class_map[0] = self.taxonomy.ignore
        image = rng.integers(0, 256, (60, 80, 3)).astype(np.uint8)
        return LabelledImage(key=self.key.format(index), image=image, size_hw=(60, 80), class_map=class_map)

    def read_image(self, index: int) -> NDArray[np.uint8]:
        return self.read(index).image


class Blurry:
    """Knows the truth but for a part of it, more of it in later images: other ids, and pixels without one."""

    vectors = None

    def __init__(self, data: Patches, num_prototypes: int, name: str = "blurry") -> None:
        self.truth = {data.read(i).image.tobytes(): (i, data.read(i).class_map) for i in range(len(data))}
        self.num_prototypes, self.num_classes = num_prototypes, len(data.taxonomy.classes)
        self.info = PredictorInfo(name=name, checkpoint=name, network_size=123, seed=7)

    def __call__(self, photo: ScoredPhoto) -> NDArray[np.int64]:
        index, truth = self.truth[photo.image.tobytes()]
        prototypes = np.where(truth < self.num_classes, truth, 0).astype(np.int64) % self.num_prototypes
        prototypes[:, : 2 * index] = np.arange(prototypes[:, : 2 * index].size).reshape(60, -1) % self.num_prototypes
        prototypes[-3:, -3:] = UNASSIGNED
        return prototypes


def made(taxonomy: Taxonomy, num_prototypes: int, **names: str) -> tuple[Result, Blurry, Benchmark]:
    data = Patches(taxonomy, key=names.pop("key", "patch {}"))
    benchmark = Benchmark.of(data)
    predictor = Blurry(data, num_prototypes, **names)
    return evaluate(predictor, benchmark, remember=True), predictor, benchmark


THREE = plain_taxonomy("three", ("sky", "tree", "road"))


def result_of(table: list[list[int]], assignment: list[int], num_prototypes: int | None = None) -> Result:
    """A result of three classes by its table and match, each field of its provenance another value."""
    counts, match = np.array(table), np.array(assignment)
    return Result(
        metrics=score(counts, match),
        things=None,
        stuff=None,
        protocol=Provenance(
            dataset="the dataset",
            protocol="the protocol",
            split="the split",
            image_list="the list",
            image_list_sha256="0123456789abcdef" * 4,
            image_list_published=False,
            label_set="the label set",
            labels="the label files",
            num_images=1_234,
            num_labelled_pixels=5_678_901,
            num_prototypes=num_prototypes or len(table),
            num_classes=3,
            resolution="the resolution",
            crop="the crop",
            void="the void",
            matching="the matching",
            matched_on="the match set",
            predictor=PredictorInfo(
                name="the predictor",
                checkpoint="fedcba",
                network_size=321,
                tile=512,
                precision="the precision",
                augmentation="the augmentation",
                postprocessing="the post-processing",
                seed=42,
            ),
            limit=777,
            version="9.8.7",
        ),
        taxonomy=THREE,
        assignment=match,
        table=counts,
    )


# Prototypes of sky, of road, of nothing, of nothing and unused, and pixels without an id.
HAND_MADE = result_of([[60, 20, 0], [0, 30, 10], [0, 50, 0], [0, 0, 0], [0, 0, 30]], [0, 2, -1, -1, -1], 4)


def test_outcome_by_hand() -> None:
    assert outcome(HAND_MADE) == {"right": 0.35, "wrong": 0.25, "none": 0.4}


def test_class_rows_are_sorted_and_say_what_became_them() -> None:
    rows = class_rows(HAND_MADE)
    assert [(r.id, r.prototypes) for r in rows] == [(0, (0,)), (2, (1,)), (1, ())]
    assert [r.iou for r in rows] == pytest.approx([60 / 80, 10 / 70, 0])
    assert [r.share for r in rows] == pytest.approx([0.3, 0.2, 0.5])


def test_class_that_occurs_nowhere_comes_last_without_a_score() -> None:
    rows = class_rows(result_of([[5, 5, 0], [5, 0, 0]], [1, -1]))
    assert [(r.id, r.iou) for r in rows] == [(1, 0.5), (0, 0.0), (2, None)]


def test_matrix_rows_are_the_confusion_matrix_without_its_small_cells() -> None:
    rng = np.random.default_rng(0)
    result = result_of((rng.integers(0, 1_000, (9, 3)) ** 2).tolist(), [0, 1, 2, -1, 0, 0, 1, -1, 2])
    result = replace(result, table=np.where(np.arange(9)[:, None] == 1, 1, result.table))
    confusion = confusion_matrix(result.table, result.assignment).T
    for true, cells in enumerate(matrix_rows(result)):
        shares = np.zeros(4)
        assert sum(span for _, span, _ in cells) == 4
        for column, span, share in cells:
            shares[column : column + span] = share
        expected = confusion[true] / confusion[true].sum()
        assert shares == pytest.approx(np.where(expected >= 0.005, expected, 0))


def test_small_neighbours_in_the_matrix_are_one_cell() -> None:
    result = result_of([[1, 1, 1], [1, 1, 997], [998, 0, 0]], [0, 1, 2])
    assert matrix_rows(result)[0] == [(0, 2, 0.0), (2, 1, 0.998), (3, 1, 0.0)]


def test_most_frequent_confusions_by_hand() -> None:
    assert frequent_confusions(HAND_MADE) == [(1, 2, 0.3, 0.15), (1, 0, 0.2, 0.1)]
    assert frequent_confusions(HAND_MADE, 1) == [(1, 2, 0.3, 0.15)]
    assert frequent_confusions(result_of([[9, 0, 0]], [0])) == []


def test_prototype_rows_by_hand() -> None:
    rows = prototype_rows(HAND_MADE)
    assert [(r.id, r.label, r.pixels) for r in rows] == [
        (0, 0, 80),
        (2, -1, 50),
        (1, 2, 40),
        (None, -1, 30),
        (3, -1, 0),
    ]
    assert [r.purity for r in rows] == [0.75, None, 0.25, None, None]
    assert [r.share for r in rows] == [0.4, 0.25, 0.2, 0.15, 0]
    assert [r.top for r in rows] == [((0, 0.75), (1, 0.25)), ((1, 1),), ((1, 0.75), (2, 0.25)), ((2, 1),), ()]
    assert prototype_rows(HAND_MADE, top=1)[0].top == ((0, 0.75),)


@pytest.mark.parametrize(("number", "best", "worst"), [(0, 0, 0), (1, 1, 0), (5, 3, 2), (12, 6, 6), (20, 6, 6)])
def test_best_and_worst_images(number: int, best: int, worst: int) -> None:
    right = np.random.default_rng(0).permutation(number)
    zero = np.array([0])
    images = [ImageCounts(i, np.array([0, 1]), zero.repeat(2), np.array([r, 99 - r])) for i, r in enumerate(right)]
    first, last = best_and_worst(images, zero)
    assert [int(right[i.index]) for i in first] == sorted(range(number), reverse=True)[:best]
    assert [int(right[i.index]) for i in last] == list(range(worst))


def test_paint_keeps_class_colours_and_gives_the_rest_a_texture() -> None:
    labels = LabelMap.of_classes(("a", "b"), ((40, 40, 40), (225, 225, 225)))
    class_map = np.full((24, 24), 255)
    class_map[:6], class_map[6:12] = 0, 1
    truth, prediction = (paint(class_map, labels, truth=truth) for truth in (True, False))
    assert (truth[:6] == 40).all()
    assert (prediction[6:12] == 225).all()
    for texture in (truth[12:], prediction[12:]):
        assert len(np.unique(texture)) == 2, "a flat colour could be a class"
    assert not np.array_equal(truth[12:], prediction[12:])


def pixels(uri: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",")[1]))).convert("RGB"))


def test_example_shows_photo_truth_and_prediction() -> None:
    result, predictor, benchmark = made(THREE, 3)
    shown = example(result.images[0], result, predictor, benchmark)  # right but for the pixels without an id
    photo, truth, prediction = (pixels(picture.uri) for picture in shown.pictures)
    assert photo.shape == truth.shape == prediction.shape == (PICTURE_SIDE * 6 // 8, PICTURE_SIDE, 3)
    assert [picture.size for picture in shown.pictures] == [(PICTURE_SIDE, PICTURE_SIDE * 6 // 8)] * 3
    colors = np.array(THREE.colors)[benchmark.dataset.read(0).class_map[5::10, 5::10]]
    assert np.array_equal(truth[22::45, 22::45], colors)
    assert np.array_equal(prediction[22::45, 22::45], colors)
    assert {tuple(c) for c in truth[:4].reshape(-1, 3)}.isdisjoint(THREE.colors), "void"
    assert {tuple(c) for c in prediction[-10:, -10:].reshape(-1, 3)}.isdisjoint(THREE.colors), "without an id"
    assert {c for c, _ in shown.pictures[1].shares} == {-1, 0, 1, 2}
    assert sum(share for _, share in shown.pictures[1].shares) == pytest.approx(1)
    assert set(shown.classes) == {0, 1, 2}
    assert shown.accuracy == 1 - 9 / (59 * 80)


class Parsed(HTMLParser):
    """Elements and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += f"{data} "


def test_page_holds_everything_that_the_score_depends_on() -> None:
    text = Parsed(render(HAND_MADE)).text
    assert truth_line(HAND_MADE) in text
    values = asdict(HAND_MADE.protocol)
    values |= values.pop("predictor") | {"image_list_published": "no"}
    for name, value in values.items():
        assert (f"{value:,}" if name.startswith("num_") else str(value)) in text, name
    for label in ("image list SHA-256", "labelled pixels", "network size"):
        assert label in text
    assert citation(HAND_MADE) in text


def test_page_holds_every_class_and_score() -> None:
    result, _, _ = made(load_taxonomy("cocostuff27"), 30)
    text = Parsed(render(result)).text
    assert result.things is not None
    assert result.stuff is not None
    for metrics in (result.metrics, result.things, result.stuff):
        assert f"{100 * metrics.miou:.2f}" in text
        assert f"{100 * metrics.pixel_accuracy:.2f}" in text
    rows = text[text.index("prototypes that were matched") :]
    for name, iou in zip(result.taxonomy.names, result.metrics.iou_per_class, strict=True):
        assert iou is not None
        assert re.search(rf"{re.escape(name)}\s*{100 * iou:.1f}\s", rows), name


def test_page_says_what_was_left_out() -> None:
    whole = replace(HAND_MADE, protocol=replace(HAND_MADE.protocol, limit=None))
    assert "asked for" not in Parsed(render(whole)).text
    text = Parsed(render(replace(HAND_MADE, skipped=("a.jpg is empty",)))).text
    assert "Only the first 777 images were asked for" in text
    assert "1 photo was unreadable" in text
    assert "a.jpg is empty" in text


def written(folder: Path, result: Result, predictor: Blurry, benchmark: Benchmark) -> str:
    write_result_page(folder / "page.html", result, predictor, benchmark)
    return (folder / "page.html").read_text(encoding="utf-8")


def test_no_pictures_unless_images_were_remembered(tmp_path: Path) -> None:
    result, predictor, benchmark = made(THREE, 5)
    assert Parsed(written(tmp_path, result, predictor, benchmark)).tags.count("img") == 12 * 3
    page = Parsed(written(tmp_path, replace(result, images=()), predictor, benchmark))
    assert "img" not in page.tags
    assert ("id", "images") not in page.attributes
    assert ("href", "#images") not in page.attributes


def hostile() -> tuple[Result, Blurry, Benchmark]:
    result, predictor, benchmark = made(plain_taxonomy(SCRIPT, HOSTILE), 9, key=f"{{}} {SCRIPT} \udcff", name=BREAKOUT)
    names = dict.fromkeys(("dataset", "split", "protocol", "image_list", "labels", "matched_on"), BREAKOUT)
    return replace(result, protocol=replace(result.protocol, **names), skipped=(SCRIPT,)), predictor, benchmark


def test_hostile_names_are_text_and_nothing_is_loaded(tmp_path: Path) -> None:
    text = written(tmp_path, *hostile())
    page = Parsed(text)
    assert page.tags.count("script") == page.tags.count("style") == page.tags.count("title") == 1
    assert page.tags.count("img") == 12 * 3
    assert {"iframe", "object", "embed", "base", "form", "video", "svg"}.isdisjoint(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    links = [value for name, value in page.attributes if name in ("src", "href", "srcset", "action", "poster")]
    assert all(value.startswith(("data:", "#")) for value in links), links
    assert not [value for name, value in page.attributes if name == "style" and "url(" in value]
    assert not re.search(r"url\(|@import", text[text.index("<style>") : text.index("</style>")])
    assert any(name == "content" and "default-src 'none'" in value for name, value in page.attributes)
    for name in (SCRIPT, BREAKOUT, HOSTILE[2], HOSTILE[3], HOSTILE[5], "two\nlines ?"):
        assert name in page.text, name


@pytest.mark.parametrize("place", ["a file/page.html", "a folder"])
def test_unwritable_page_is_an_error_in_one_sentence(tmp_path: Path, place: str) -> None:
    (tmp_path / "a file").touch()
    (tmp_path / "a folder").mkdir()
    result, predictor, benchmark = made(THREE, 3)
    with pytest.raises(DataError, match=r"cannot be written \(.*\); choose another file for the page$"):
        write_result_page(tmp_path / place, replace(result, images=()), predictor, benchmark)
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["a file", "a folder"]


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")
needs_browser = pytest.mark.skipif(not BROWSER, reason="there is no Chromium on the PATH")

HARNESS = """<!doctype html><title></title><body style="margin:0">
<iframe srcdoc="{page}" style="border:0;display:block;width:390px;height:1500px"></iframe>
<iframe srcdoc="{page}" style="border:0;display:block;width:1200px;height:1500px"></iframe>
<script>addEventListener("load", () => {{
  document.title = JSON.stringify([...document.querySelectorAll("iframe")].map((frame) => {{
    const page = frame.contentDocument, root = page.documentElement;
    const column = () => [...page.querySelectorAll("#prototypes tbody tr")].map((row) => row.cells[0].textContent);
    page.querySelector("#prototypes thead button").click();
    const ascending = column();
    page.querySelector("#prototypes thead button").click();
    return {{
      needed: root.scrollWidth, width: root.clientWidth, hacked: root.dataset.hacked ?? "", ascending,
      descending: column(), classes: page.querySelectorAll("#classes tbody tr").length,
      broken: [...page.images].filter((image) => !image.naturalWidth).length,
      copy: page.getElementById("copy").offsetWidth,
    }};
  }}));
}});</script>"""


def browse(file: Path, *options: str) -> tuple[str, NDArray[np.uint8], list[str]]:
    """What a page has become in a browser: its DOM, a picture of it, and the messages in the console."""
    picture = file.with_suffix(".png")
    switches = "headless no-sandbox disable-gpu disable-dev-shm-usage hide-scrollbars enable-logging=stderr dump-dom"
    folders = [f"--screenshot={picture}", f"--user-data-dir={file.parent / 'profile'}"]
    command = [BROWSER, *(f"--{switch}" for switch in switches.split()), *folders, *options, file.as_uri()]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=60, check=True)
    console = [line for line in done.stderr.splitlines() if ":CONSOLE" in line]
    return done.stdout, np.asarray(Image.open(picture).convert("RGB")), console


def num_colors(picture: NDArray[np.uint8]) -> int:
    return len(np.unique(picture.astype(int) @ [65_536, 256, 1]))


@needs_browser
def test_page_opens_in_a_browser_from_its_file(tmp_path: Path) -> None:
    text = written(tmp_path, *made(load_taxonomy("cocostuff27"), 40))
    dom, light, console = browse(tmp_path / "page.html", "--window-size=1200,900")
    assert console == []
    assert "<button" in dom.split("<thead>")[-1], "the script made no buttons"
    assert dom.count("<img") == text.count("<img")
    _, dark, _ = browse(tmp_path / "page.html", "--window-size=1200,900", "--blink-settings=preferredColorScheme=0")
    assert num_colors(light) > 50
    assert light[0, 0].mean() > 200
    assert dark[0, 0].mean() < 60


@needs_browser
@pytest.mark.parametrize("case", ["hostile", "many classes", "one class"])
def test_page_fits_its_window_and_sorts(tmp_path: Path, case: str) -> None:
    parts = {
        "hostile": hostile,
        "many classes": lambda: made(load_taxonomy("cocostuff171"), 600),
        "one class": lambda: made(plain_taxonomy("one", ("everything",)), 1),
    }[case]()
    page = html.escape(written(tmp_path, *parts))
    (tmp_path / "harness.html").write_text(HARNESS.format(page=page), encoding="utf-8")
    dom, picture, console = browse(tmp_path / "harness.html", "--window-size=1200,3000")
    assert console == []
    title = re.search(r"<title>(.*?)</title>", dom, re.DOTALL)
    assert title
    frames: list[dict[str, Any]] = json.loads(html.unescape(title[1]))
    assert [frame["width"] for frame in frames] == [390, 1200]
    ids = [str(k) for k in range(parts[0].protocol.num_prototypes)]
    for frame in frames:
        assert frame["needed"] <= frame["width"], "the page scrolls sideways"
        assert frame["hacked"] == ""
        assert frame["broken"] == 0
        assert frame["copy"] > 0
        assert frame["classes"] == len(parts[0].taxonomy.classes)
        assert frame["ascending"] == [*ids, "no id"]
        assert frame["descending"] == ["no id", *reversed(ids)]
    assert num_colors(picture[:1500, :390]) > 50
    assert num_colors(picture[1500:]) > 50


@needs_browser
def test_errors_in_the_console_would_be_seen(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<script>console.error('seen')</script>")
    _, picture, console = browse(tmp_path / "page.html")
    assert len(console) == 1
    assert "seen" in console[0]
    assert num_colors(picture) == 1
