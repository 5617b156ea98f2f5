"""Make the pictures of docs/concepts.md from the built-in scenes: the page, a name being typed, the figure, masks.

    python docs/pictures.py

trains on the scenes, which takes minutes, or takes such a run with ``--run``. The names are those of the
scenes' classes, each prototype's after what most of its pixels are; they are typed into the page. Needs playwright and
a Chromium.
"""

import argparse
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

from slotseg.cli import main as slotseg
from slotseg.data.labelled.labelled import LabelledScenes
from slotseg.data.views.unlabelled import Photos
from slotseg.eval.benchmark import Benchmark
from slotseg.eval.evaluate import evaluate
from slotseg.eval.matching import UNMATCHED, majority
from slotseg.eval.predictors import run_predictor
from slotseg.labels.naming import read_names
from slotseg.painting.render import colored, contact_sheet
from slotseg.segmenting.segmenter import Segmenter
from slotseg.training.launch import new_training

DOCS = Path(__file__).parent
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
NUM_SCENES = 80
NUM_SHOWN = 2
"""Names that stand on the page when its picture is taken."""
NUM_PAINTED = 6
MAX_BYTES = 240_000
"""Of a picture; one that is larger gets 256 colours."""


def main() -> None:
    """Make all pictures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="a run on the built-in scenes, instead of training one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        run = work / "scenes-1"
        if options.run:
            shutil.copytree(options.run, run)
        else:
            new_training(Photos(), {}, out=run).train()
        photos = write_scenes(work / "photos")
        invoke("concepts", run, photos, "-o", work / "concepts", "--top", 5)
        benchmark = Benchmark.of(LabelledScenes(NUM_SCENES))
        result = evaluate(run_predictor(benchmark, checkpoint=run), benchmark)
        classes = result.taxonomy.names
        names = {k: classes[c] for k, c in enumerate(majority(result.table).tolist()) if c != UNMATCHED}
        picture_page(work / "concepts" / "index.html", names, work / "names.json")
        figure = work / "figure.png"
        invoke("concepts", run, photos, "-o", work / "named", "--names", work / "names.json", "--figure", figure)
        shrink(Image.open(figure).convert("RGB"), DOCS / "concepts-figure.png", width=840)
        picture_masks(Segmenter.load(run, labels=read_names(work / "names.json")), DOCS / "concepts-masks.png")


def write_scenes(folder: Path) -> Path:
    """The scenes as photos, none of which training has seen."""
    folder.mkdir()
    scenes = LabelledScenes(NUM_SCENES)
    for index in range(NUM_SCENES):
        Image.fromarray(scenes.read_image(index)).save(folder / f"scene-{index:02}.png")
    return folder


def picture_page(page_file: Path, names: Mapping[int, str], names_file: Path) -> None:
    """Type all names into the page, with pictures taken on the way, and keep the file that it hands over."""
    path = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page(viewport={"width": 1180, "height": 1000}, accept_downloads=True)
        page.goto(page_file.as_uri())
        page.wait_for_selector(".tile svg")
        order = page.eval_on_selector_all(".card", "cards => cards.map((card) => Number(card.id.slice(1)))")
        named = [prototype for prototype in order if prototype in names]
        for prototype in named[:NUM_SHOWN]:
            page.fill(f"#n{prototype}", names[prototype])
        page.click("h1")
        page.screenshot(path=DOCS / "concepts-page.png")
        picture_card(page, named[NUM_SHOWN], names[named[NUM_SHOWN]])
        for prototype in named[NUM_SHOWN:]:
            page.fill(f"#n{prototype}", names[prototype])
        page.select_option("#unnamed", "ignore")
        with page.expect_download() as download:
            page.click("#save")
        download.value.save_as(names_file)
        browser.close()
    for name in ("concepts-page.png", "concepts-naming.png"):
        shrink(Image.open(DOCS / name).convert("RGB"), DOCS / name)


def picture_card(page: Any, prototype: int, name: str) -> None:
    """A card in which a name is being typed."""
    page.locator(f"#c{prototype}").scroll_into_view_if_needed()
    page.locator(f"#n{prototype}").press_sequentially(name[:-1])
    box = page.locator(f"#c{prototype}").bounding_box()
    margin = 14
    clip = {
        "x": box["x"] - margin,
        "y": box["y"] - margin,
        "width": box["width"] + 2 * margin,
        "height": box["height"] + 2 * margin,
    }
    page.screenshot(path=DOCS / "concepts-naming.png", clip=clip)


def picture_masks(segmenter: Segmenter, file: Path) -> None:
    """Scenes beside their masks, with the names below."""
    scenes = LabelledScenes(NUM_SCENES)
    rows = []
    for index in range(NUM_PAINTED):
        image = scenes.read_image(index)
        rows.append([image, colored(segmenter(image).class_map, segmenter.labels)])
    pairs = [left + right for left, right in zip(rows[::2], rows[1::2], strict=True)]
    shrink(contact_sheet(pairs, ["scene", "in your words"] * 2, segmenter.labels), file)


def shrink(picture: Image.Image, file: Path, width: int | None = None) -> None:
    """Write a picture, with few colours if it is large, and if asked for no wider than that."""
    if width and picture.width > width:
        picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    picture.save(file, optimize=True)
    if file.stat().st_size > MAX_BYTES:
        picture.quantize(256, kmeans=2, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file}: {file.stat().st_size / 1000:.0f} kB")


def invoke(*words: object) -> None:
    """Run a command of slotseg."""
    slotseg([str(word) for word in words], standalone_mode=False)


if __name__ == "__main__":
    main()
