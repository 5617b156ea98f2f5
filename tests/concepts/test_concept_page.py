"""The page of concepts: what it holds, and what it does in a browser."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from slotseg.concepts import concept_page
from slotseg.concepts.collection import CarriedName, Collection, Concept, Merge, Segment, Thumbnail
from slotseg.concepts.concept_page import outline, page_data, render, write_concept_page
from slotseg.data.scenes import draw_scene
from slotseg.errors import DataError
from slotseg.labels.label_map import palette
from slotseg.labels.naming import Naming, name_color, read_names

BREAKOUT = """</script><script>document.documentElement.dataset.hacked='1'</script><img src=x onerror="
document.documentElement.dataset.hacked='2'">'"--><style>*{display:none}</style>"""
CHECKPOINT = "0123456789abcdef"


class Scenes(Mapping[str, Thumbnail]):
    """Built-in scenes whose K prototypes are 8 classes, each split by the scene's number."""

    def __init__(self, number: int, num_prototypes: int, size: int = 64, prefix: str = "scene ") -> None:
        self.number, self.num_prototypes, self.size, self.prefix = number, num_prototypes, size, prefix

    def __len__(self) -> int:
        return self.number

    def __iter__(self) -> Iterator[str]:
        return (f"{self.prefix}{i}" for i in range(self.number))

    def __getitem__(self, name: str) -> Thumbnail:
        index = int(name.removeprefix(self.prefix))
        image, classes = draw_scene(index % 500, self.size)
        split = index % max(1, self.num_prototypes // 8)
        return Thumbnail(image=image, prototype_map=classes.astype(np.uint16) + 8 * split)


def collection(thumbnails: Mapping[str, Thumbnail], num_prototypes: int, top: int = 5) -> Collection:
    """What those thumbnails show, found the slow way; the larger a segment, the better."""
    found: dict[int, list[Segment]] = {k: [] for k in range(num_prototypes)}
    for name, thumbnail in thumbnails.items():
        for k in np.unique(thumbnail.prototype_map).tolist():
            rows, columns = np.nonzero(thumbnail.prototype_map == k)
            box = int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1
            score = round(len(rows) / thumbnail.prototype_map.size, 4)
            found[k].append(Segment(photo=name, score=score, pixels=len(rows), box_xyxy=box))
    total = sum(s.pixels for segments in found.values() for s in segments)
    concepts = [
        Concept(
            id=k,
            name=f"prototype {k}",
            color=palette(num_prototypes)[k],
            share=sum(s.pixels for s in segments) / total,
            num_photos=len(segments),
            confidence=0.5 if segments else None,
            near=(((k + 1) % num_prototypes, 0.5),),
            segments=tuple(sorted(segments, key=lambda s: -s.score)[:top]),
        )
        for k, segments in found.items()
    ]
    merges = (Merge(one=0, other=1, strength=0.9), Merge(one=2, other=3, strength=0.8))
    return Collection(
        run="run", checkpoint=CHECKPOINT, num_photos=len(thumbnails), concepts=tuple(concepts), merges=merges
    )


@pytest.fixture(scope="module")
def scenes() -> Scenes:
    return Scenes(24, 16)


@pytest.fixture(scope="module")
def found(scenes: Scenes) -> Collection:
    return collection(scenes, 16)


def filled(path: str, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """What an SVG path of ``outline`` covers, its edge included."""
    parts = [np.array(part.split(), np.int32).reshape(-1, 2) for part in re.findall(r"M([\d ]+)z", path)]
    canvas = np.zeros((shape[0] + 1, shape[1] + 1), np.uint8)
    cv2.fillPoly(canvas, parts, 1)
    return canvas[:-1, :-1].astype(bool)


def test_an_outline_is_that_of_the_mask() -> None:
    rows, columns = np.mgrid[:90, :120]
    distance = np.hypot(rows - 40, columns - 60)
    ring = (distance < 35) & (distance > 15) | (rows > 80)
    path, box = outline(ring)
    covered = filled(path, ring.shape)
    assert (covered & ring).sum() / (covered | ring).sum() > 0.93
    assert not covered[40, 60], "the hole is none"
    assert box == [0, 6, 120, 90]
    assert "120 90" in path, "it reaches the picture's corner"
    assert len(path) < 600


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (2, 2)])
def test_outlines_of_small_masks(shape: tuple[int, int]) -> None:
    mask = np.zeros((40, 50), bool)
    mask[5 : 5 + shape[0], 6 : 6 + shape[1]] = True
    path, box = outline(mask)
    assert path
    assert box == [6, 5, 6 + shape[1], 5 + shape[0]]
    assert outline(np.zeros((40, 50), bool)) == ("", [0, 0, 50, 40])


def test_a_segment_of_one_pixel_is_drawn_on_the_smallest_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    prototypes = np.zeros((300, 300), np.uint16)
    prototypes[100, 200] = 1
    shown = {"a": Thumbnail(image=np.zeros((300, 300, 3), np.uint8), prototype_map=prototypes)}
    monkeypatch.setattr(concept_page, "MAX_PICTURE_BYTES", 1)
    (photo, _, path, box) = page_data(collection(shown, 4), shown)["concepts"][1]["segments"][0]
    assert (photo, box) == (0, [40, 20, 41, 21])
    assert path


def test_pictures_become_smaller_where_there_are_many(
    found: Collection, scenes: Scenes, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = len(json.dumps(page_data(found, scenes)["photos"]))
    monkeypatch.setattr(concept_page, "SIDES", (320, 40, 20))
    monkeypatch.setattr(concept_page, "MAX_PICTURE_BYTES", large)
    data = page_data(found, scenes)
    assert {photo["width"] for photo in data["photos"]} == {40}
    assert len(json.dumps(data)) < 1.1 * large


def test_every_photo_is_there_once(found: Collection, scenes: Scenes) -> None:
    data = page_data(found, scenes)
    names = [photo["name"] for photo in data["photos"]]
    assert len(names) == len(set(names)) < sum(len(c.segments) for c in found.concepts)
    for concept, shown in zip(found.concepts, data["concepts"], strict=True):
        assert [names[s[0]] for s in shown["segments"]] == [s.photo for s in concept.segments]


def test_the_page_loads_nothing(found: Collection, scenes: Scenes) -> None:
    page = render(found, scenes)
    assert "default-src 'none'" in page
    assert not re.findall(r"""(?:src|href)=["']?(?!data:)[^"'\s>]+""", page)
    assert set(re.findall(r"https?://[^\"\s]+", page)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"/(?:home|root|tmp)/", page)


def test_names_of_files_cannot_end_the_data(tmp_path: Path, found: Collection, scenes: Scenes) -> None:
    page = render(replace(found, run=BREAKOUT), scenes)
    assert page.count("</script>") == 2
    assert "<img" not in page
    undecodable = Scenes(3, 16, prefix="caf\udce9 ")
    write_concept_page(tmp_path / "concepts.html", collection(undecodable, 16), undecodable)
    assert "caf? 0" in (tmp_path / "concepts.html").read_text(encoding="utf-8")


def test_what_is_there_is_not_overwritten(tmp_path: Path, found: Collection, scenes: Scenes) -> None:
    file = tmp_path / "concepts.html"
    write_concept_page(file, found, scenes)
    write_concept_page(file, found, scenes)
    file.write_text("my own page")
    with pytest.raises(DataError, match="is no page of concepts; expected another --output, or --overwrite"):
        write_concept_page(file, found, scenes)
    write_concept_page(file, found, scenes, overwrite=True)
    with pytest.raises(DataError, match="has segments and no thumbnail"):
        write_concept_page(file, found, {})
    with pytest.raises(DataError, match="cannot be written"):
        write_concept_page(tmp_path, found, scenes, overwrite=True)


# In a browser.

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def usual(found: Collection, scenes: Scenes) -> str:
    return render(found, scenes)


@pytest.fixture
def opened(browser: Any, tmp_path: Path, usual: str) -> Iterator[Open]:
    """Opens the page of a collection in a browser that remembers nothing; at the end, nothing had gone wrong in it."""
    wrong: list[str] = []
    contexts = []

    def open_page(content: str = usual, *, width: int = 1200, script: str = "") -> Any:
        file = tmp_path / "concepts.html"
        file.write_text(content, encoding="utf-8")
        contexts.append(browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True))
        if script:
            contexts[-1].add_init_script(script)
        page = contexts[-1].new_page()
        page.set_default_timeout(10_000)
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith(("file:", "data:")) else wrong.append("web"))
        page.goto(file.as_uri())
        page.wait_for_selector(".tile svg, #nothing:not([hidden])")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def name(page: Any, prototype: int) -> Any:
    return page.locator(f"#n{prototype}")


def card(page: Any, prototype: int) -> Any:
    return page.locator(f"#c{prototype}")


def shown(page: Any) -> list[int]:
    numbers: list[int] = page.eval_on_selector_all(
        ".card:not([hidden])", "all => all.map((c) => Number(c.id.slice(1)))"
    )
    return numbers


def saved(page: Any, folder: Path) -> dict[str, Any]:
    """What the page hands over as names.json."""
    with page.expect_download() as download:
        page.click("#save")
    assert download.value.suggested_filename == "names.json"
    download.value.save_as(folder / "names.json")
    values: dict[str, Any] = json.loads((folder / "names.json").read_text())
    return values


def drop(page: Any, content: str) -> None:
    page.evaluate(
        """(content) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([content], "names.json", { type: "application/json" }));
          for (const type of ["dragover", "drop"]) {
            dispatchEvent(new DragEvent(type, { dataTransfer: transfer, cancelable: true }));
          }
        }""",
        content,
    )
    page.wait_for_selector("#notice:not([hidden])")


def test_naming_from_the_keyboard(opened: Open, tmp_path: Path) -> None:
    page = opened()
    first, second, third = shown(page)[:3]
    name(page, first).click()
    page.keyboard.type("  tall   grass")
    page.keyboard.press("Enter")
    page.keyboard.type("sky")
    page.keyboard.press("Enter")
    page.keyboard.type("Tall grass ")
    page.keyboard.press("Shift+Enter")
    page.keyboard.type("!")
    values = saved(page, tmp_path)
    assert values["names"] == {str(first): "tall grass", str(second): "sky!", str(third): "Tall grass"}
    assert (values["checkpoint"], values["num_prototypes"], values["unnamed"]) == (CHECKPOINT, 16, "keep")
    assert "one class with" in card(page, third).inner_text()
    assert "3 of 16 named, 2 names" in page.inner_text("#progress")
    labels = read_names(tmp_path / "names.json").label_map(16)
    assert labels.names[:2] == ("sky!", "Tall grass")
    assert labels.classes[first] == labels.classes[third]


def test_a_reload_loses_nothing(opened: Open, tmp_path: Path) -> None:
    page = opened()
    name(page, 3).fill("sky")
    card(page, 5).locator(".same").fill("3")
    card(page, 5).locator(".same").press("Enter")
    card(page, 4).locator(".toggle").click()
    page.select_option("#unnamed", "ignore")
    assert page.inner_text("#kept") == "Kept in this browser."
    before = saved(page, tmp_path)
    page.reload()
    page.wait_for_selector(".tile svg")
    assert saved(page, tmp_path) == before
    assert before["same_as"] == {"5": 3}
    assert before["ignore"] == [4]
    assert before["unnamed"] == "ignore"
    assert name(page, 5).input_value() == "sky"


def test_same_as(opened: Open, tmp_path: Path) -> None:
    page = opened()

    def say(prototype: int, words: str) -> str:
        field = card(page, prototype).locator(".same")
        field.fill(words)
        field.press("Tab")
        text: str = card(page, prototype).locator(".wrong").inner_text()
        return text

    name(page, 3).fill("3d printer")
    assert say(5, "3D Printer") == ""
    assert say(6, "5") == ""
    assert name(page, 6).input_value() == "3d printer"
    assert not name(page, 6).is_editable()
    assert "closes" not in say(3, "6")
    assert say(3, "6") == "6 is the same as 3 already."
    assert say(7, "7") == "That is this concept."
    assert say(7, "99") == "There is no concept “99”; expected 0 to 15, or a name."
    assert "There is no concept “3 trees”" in say(7, "3 trees")
    assert say(7, "prototype 4") == ""
    assert saved(page, tmp_path)["same_as"] == {"5": 3, "6": 5, "7": 4}
    assert say(6, "") == ""
    assert name(page, 6).is_editable()
    assert saved(page, tmp_path)["same_as"] == {"5": 3, "7": 4}


def test_suggested_merges(opened: Open, tmp_path: Path) -> None:
    page = opened()
    page.select_option("#show", "suggested")
    assert sorted(shown(page)) == [0, 1, 2, 3]
    name(page, 1).fill("sky")
    card(page, 1).locator(".suggestion .main").click()
    card(page, 2).locator(".suggestion .text").click()
    values = saved(page, tmp_path)
    assert values["same_as"] == {"0": 1}, "the one without a name follows"
    page.select_option("#show", "all")
    page.select_option("#show", "suggested")
    assert shown(page) == []
    assert page.is_visible("#nothing")
    page.reload()
    page.select_option("#show", "suggested")
    assert shown(page) == [], "what was declined stays so"


def test_ignoring(opened: Open, tmp_path: Path) -> None:
    page = opened()
    name(page, 2).fill("noise")
    card(page, 3).locator(".same").fill("2")
    card(page, 3).locator(".same").press("Enter")
    card(page, 2).locator(".toggle").click()
    assert card(page, 3).locator(".toggle").get_attribute("aria-pressed") == "true"
    assert "2 ignored" in page.inner_text("#progress")
    assert saved(page, tmp_path)["ignore"] == [2]
    labels = read_names(tmp_path / "names.json").label_map(16)
    assert labels.classes[2] == labels.classes[3] == labels.ignore
    card(page, 2).locator(".toggle").click()
    assert name(page, 3).input_value() == "noise"


def test_search_filter_and_order(opened: Open, found: Collection) -> None:
    page = opened()
    shares = [found.concepts[k].share for k in shown(page)]
    assert shares == sorted(shares, reverse=True)
    first = shown(page)[0]
    page.select_option("#sort", "alike")
    assert shown(page) == [(first + k) % 16 for k in range(16)]
    page.select_option("#sort", "number")
    assert shown(page) == list(range(16))
    name(page, 4).fill("water")
    name(page, 9).fill("Ball")
    page.select_option("#show", "named")
    assert shown(page) == [4, 9]
    page.select_option("#sort", "name")
    assert shown(page) == [9, 4]
    page.select_option("#show", "open")
    assert len(shown(page)) == 14
    page.select_option("#show", "all")
    page.locator("h1").click()
    page.keyboard.press("/")
    page.keyboard.type("wat")
    assert shown(page) == [4]
    page.fill("#search", "12")
    assert shown(page) == [12]
    page.fill("#search", found.concepts[6].segments[0].photo)
    assert 6 in shown(page)
    page.fill("#search", "nowhere")
    assert shown(page) == []
    page.click("#clear")
    assert len(shown(page)) == 16


def test_files_are_taken_back(opened: Open, tmp_path: Path) -> None:
    page = opened()
    name(page, 1).fill("sea")
    name(page, 2).fill("sand")
    ours = Naming(names={2: "snow", 3: "sky"}, same_as={4: 3}, ignore=frozenset({5}), checkpoint=CHECKPOINT)
    drop(page, json.dumps(ours.to_dict()))
    assert page.inner_text("#notice p") == "Taken: 2 names, 1 same as another, 1 ignored."
    assert name(page, 2).input_value() == "snow", "also where the cursor is"
    assert saved(page, tmp_path)["names"] == {"1": "sea", "2": "snow", "3": "sky"}
    page.click("#undo")
    assert saved(page, tmp_path)["names"] == {"1": "sea", "2": "sand"}
    other = {"checkpoint": "f" * 16, "num_prototypes": 27, "names": {"0": "tree", "20": "car", "x": "bus", "3": ""}}
    (tmp_path / "other.json").write_text("\ufeff" + json.dumps({**other, "same_as": {"7": 8, "8": 7}}))
    page.set_input_files("#file", tmp_path / "other.json")
    page.locator("#notice").filter(has_text="27 prototypes").wait_for()
    said = page.inner_text("#notice")
    assert "given to another run" in said
    assert "of 27 prototypes, this page of 16" in said
    assert "Not in this run, and left out: 20, x." in said
    assert "the name of 3" in said
    assert "closes a circle" in said
    assert saved(page, tmp_path)["names"] == {"0": "tree", "1": "sea", "2": "sand"}
    for content in ("{", "[]", "{}", json.dumps({"names": 3}), "null", '{"format": 9, "names": {"1": "x"}}'):
        drop(page, content)
        assert "was not taken" in page.inner_text("#notice")
    assert saved(page, tmp_path)["names"] == {"0": "tree", "1": "sea", "2": "sand"}


def test_names_of_another_page_are_kept_apart(opened: Open, tmp_path: Path, usual: str) -> None:
    page = opened()
    name(page, 1).fill("sea")
    (tmp_path / "concepts.html").write_text(usual.replace(CHECKPOINT, "f" * 16), encoding="utf-8")
    page.reload()
    page.wait_for_selector(".tile svg")
    assert name(page, 1).input_value() == ""


def test_names_that_were_carried_over(opened: Open, found: Collection, scenes: Scenes) -> None:
    page = opened(render(found, scenes, Naming(names={1: "sea"}, unnamed="ignore")))
    assert name(page, 1).input_value() == "sea"
    assert page.input_value("#unnamed") == "ignore"
    name(page, 1).fill("ocean")
    page.reload()
    page.wait_for_selector(".tile svg")
    assert name(page, 1).input_value() == "ocean"


def test_carried_names_say_how_sure_they_are(opened: Open, found: Collection, scenes: Scenes) -> None:
    said = {
        3: CarriedName(name="<i>sea</i>", confidence=0.826),
        5: CarriedName(name="sky", confidence=0.4),
        7: CarriedName(name=None, confidence=1),
    }
    concepts = tuple(replace(c, carried=said.get(c.id)) for c in found.concepts)
    page = opened(render(replace(found, concepts=concepts, carried_from="photos-1"), scenes))
    page.select_option("#sort", "carried")
    assert shown(page)[:3] == [5, 3, 7]
    words = [card(page, k).locator(".carried").inner_text() for k in (3, 5, 7, 0)]
    assert words == [
        "carried from photos-1: <i>sea</i>, 83 %",
        "not carried from photos-1: 40 % of it was sky",
        "carried from photos-1: ignored, 100 %",
        "",
    ]
    assert not opened().locator("#sort option[value=carried]").count()


def test_a_browser_that_keeps_nothing_is_said(opened: Open) -> None:
    refuse = "Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('', 'SecurityError') } })"
    page = opened(script=refuse)
    name(page, 1).fill("sea")
    assert page.inner_text("#kept").startswith("This browser keeps nothing of it: save names.json before you leave")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == ["beforeunload"]


def test_markup_does_no_harm(opened: Open, tmp_path: Path) -> None:
    shown_photos = Scenes(9, 16, prefix=BREAKOUT)
    hostile = collection(shown_photos, 16)
    concepts = tuple(replace(c, name=BREAKOUT) for c in hostile.concepts)
    page = opened(render(replace(hostile, run=BREAKOUT, concepts=concepts), shown_photos))
    name(page, 1).fill(BREAKOUT[:80])
    drop(page, json.dumps({"names": {"2": BREAKOUT, "__proto__": BREAKOUT, BREAKOUT: "x"}, "same_as": {"3": BREAKOUT}}))
    card(page, 1).locator(".same").focus()
    card(page, 1).locator(".tile").first.click()
    page.wait_for_timeout(100)
    assert BREAKOUT.splitlines()[0] in page.inner_text("#caption")
    assert page.evaluate("document.documentElement.dataset.hacked ?? ''") == ""
    assert page.evaluate("document.querySelectorAll('img, main script, main style').length") == 0
    assert page.evaluate("document.scripts.length") == 2
    page.keyboard.press("Escape")
    assert saved(page, tmp_path)["names"]["2"] == " ".join(BREAKOUT.split())


def test_pictures(opened: Open, found: Collection) -> None:
    page = opened()
    first = shown(page)[0]
    picture = card(page, first).locator(".tile svg").first
    square = [float(v) for v in picture.get_attribute("viewBox").split()]
    assert square[2] == square[3] < 64.01
    page.check("#whole")
    assert card(page, first).locator(".tile svg").first.get_attribute("viewBox") == "0 0 64 64"
    card(page, first).locator(".tile").nth(1).click()
    assert f"segment 2 of {len(found.concepts[first].segments)}" in page.inner_text("#caption")
    page.keyboard.press("ArrowLeft")
    assert "segment 1 of" in page.inner_text("#caption")
    page.keyboard.press("Escape")
    assert not page.is_visible("#viewer")


def test_colours_are_those_of_the_masks(opened: Open) -> None:
    page = opened()
    words = ["sky", "Tall  Grass", "Straße", "空", "traffic-light", "🚗", "İstanbul", "\u212b"]
    colors = page.evaluate("(words) => words.map((word) => colorOf(word, data))", words)
    assert [tuple(color) for color in colors] == [name_color(word) for word in words]


@pytest.mark.parametrize("width", [390, 1400])
def test_the_page_fits_its_window(opened: Open, width: int) -> None:
    page = opened(width=width)
    name(page, 1).fill("a very long name " * 4)
    card(page, 2).locator(".same").fill("1")
    card(page, 2).locator(".same").press("Enter")
    drop(page, json.dumps({"names": {"0": "tree" * 30}}))
    needed, there = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert needed <= there
    overflowing = page.evaluate(
        """[...document.querySelectorAll(".card *, #dock *, #tools *")].filter((e) => {
          const box = e.getBoundingClientRect();
          return box.width && !e.closest("svg") && (box.left < -17 || box.right > innerWidth + 17);
        }).map((e) => e.outerHTML.slice(0, 80))"""
    )
    assert overflowing == []


class Large(Mapping[str, Thumbnail]):
    """10,000 photos; in photo i the largest class of a scene is prototype i modulo 2,048."""

    def __init__(self) -> None:
        self.scenes = [draw_scene(i, 320) for i in range(40)]
        self.largest = [classes == np.bincount(classes.ravel()).argmax() for _, classes in self.scenes]

    def __len__(self) -> int:
        return 10_000

    def __iter__(self) -> Iterator[str]:
        return (f"survey/{i:05}.jpg" for i in range(len(self)))

    def __getitem__(self, name: str) -> Thumbnail:
        index = int(name[7:12])
        image, mask = self.scenes[index % 40][0], self.largest[index % 40]
        return Thumbnail(image=image, prototype_map=np.where(mask, index % 2048, 2048))

    def collection(self) -> Collection:
        concepts = [
            Concept(
                id=k,
                name=f"prototype {k}",
                color=color,
                share=1 / (k + 10),
                num_photos=1 + k % 9,
                confidence=0.5,
                near=(((k + 1) % 2048, 0.9), ((k + 7) % 2048, 0.8)),
                segments=tuple(
                    Segment(photo=f"survey/{i:05}.jpg", score=0.5, pixels=9, box_xyxy=(0, 0, 3, 3))
                    for i in range(k, len(self), 2048)
                ),
            )
            for k, color in enumerate(palette(2048))
        ]
        merges = tuple(Merge(one=k, other=k + 1, strength=0.9) for k in range(0, 600, 2))
        return Collection(
            run="large", checkpoint=CHECKPOINT, num_photos=len(self), concepts=tuple(concepts), merges=merges
        )


def one_of_each_scene(picture: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Makes the pictures of ``Large``, which are 40 but for their names, 40 times rather than 10,000."""
    made: dict[tuple[int, int], dict[str, Any]] = {}

    def remembered(photo: str, thumbnail: Thumbnail, prototypes: list[int], side: int) -> dict[str, Any]:
        key, (prototype,) = (int(photo[7:12]) % 40, side), prototypes
        if key not in made:
            made[key] = picture(photo, thumbnail, prototypes, side)
        (part,) = made[key]["parts"].values()
        return {**made[key], "name": photo, "parts": {prototype: part}}

    return remembered


@pytest.mark.slow
def test_a_large_page_draws_only_what_is_seen(opened: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10,000 photos, 2,048 prototypes with 5 segments each."""
    monkeypatch.setattr(concept_page, "_picture", one_of_each_scene(concept_page._picture))
    thumbnails = Large()
    page = opened(render(thumbnails.collection(), thumbnails))
    assert (tmp_path / "concepts.html").stat().st_size < 30e6
    page.wait_for_selector(".tile svg")
    drawn = "document.querySelectorAll('.tile svg').length"
    assert 0 < page.evaluate(drawn) < 400
    page.evaluate(
        """() => {
          window.changed = 0;
          const options = { subtree: true, childList: true };
          new MutationObserver((all) => { window.changed += all.length; }).observe(document.body, options);
        }"""
    )
    name(page, shown(page)[0]).fill("sky")
    page.wait_for_timeout(200)
    assert 0 < page.evaluate("window.changed") < 500, "a name changes its own card and the lists, not 2,048 cards"
    last = shown(page)[-1]
    card(page, last).scroll_into_view_if_needed()
    page.wait_for_selector(f"#c{last} .tile svg")
    assert page.evaluate(drawn) < 400, "pictures out of sight are let go"
