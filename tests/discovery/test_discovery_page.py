"""The report of a discovery: its words, hostile names in it, and how it looks without the concepts' figure."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from slotseg.concepts.collection import Collection, Concept, Segment, Thumbnail
from slotseg.concepts.concept_figure import concept_figure
from slotseg.data.finding.inputs import Inputs
from slotseg.data.scenes import draw_scene
from slotseg.discovery.discovery_page import (
    NUM_CLASSES,
    NUM_EXAMPLES,
    NUM_FAILURES,
    Report,
    examples,
    figure_columns,
    named_words,
    render,
    shares,
)
from slotseg.discovery.record import STAGES, DiscoveryRecord, Stage
from slotseg.labels.label_map import LabelMap, palette
from slotseg.labels.naming import Naming
from slotseg.painting.outputs import OutputOptions, Outputs
from slotseg.segment_config import ReadingConfig

HOSTILE = "\"'><img src=x onerror=alert(1)></style>{{ 7 * 7 }}<script>alert(2)</script>"


def collection(*share_of_each: float) -> Collection:
    segment = Segment(photo="a", score=0.5, pixels=100, box_xyxy=(0, 0, 10, 10))
    return Collection(
        run="found",
        checkpoint="0123456789abcdef",
        num_photos=3,
        concepts=tuple(
            Concept(
                id=k,
                name=f"prototype {k}",
                color=palette(k + 1)[k],
                share=share,
                num_photos=2,
                confidence=0.5,
                segments=(segment,),
            )
            for k, share in enumerate(share_of_each)
        ),
    )


@pytest.fixture
def report(tmp_path: Path) -> Report:
    """Four concepts, of which one is named, in three photos."""
    found = collection(0.5, 0.3, 0.2, 0.0)
    image, classes = draw_scene(0)
    thumbnails = {"a": Thumbnail(image=image, prototype_map=classes.astype(np.uint16) % 4)}
    figure = concept_figure(found, thumbnails, [1, 2])
    figure.image.save(tmp_path / "figure.png")
    naming = Naming(names={1: "grass"})
    return Report(
        record=DiscoveryRecord(
            path=tmp_path,
            photos=["/photos"],
            settings={},
            num_photos=3,
            photo_names="",
            command="slotseg discover /photos -o found",
            expected_memory=10**9,
            stages={name: Stage(expected_seconds=100.0, seconds=130.0) for name in STAGES},
            figure=figure.ids,
            figure_cells=figure.cells,
        ),
        collection=found,
        labels=naming.label_map(4),
        naming=naming,
        figure=tmp_path / "figure.png",
        examples=[],
        failures=[],
    )


def text(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.split("</style>", 1)[1]))


def test_what_the_page_says(report: Report) -> None:
    page = text(render(replace(report, scores=["On msrc: 28.8 mIoU."])))
    for words in (
        "1 of 4 concepts named: 30 % of the pixels.",
        "On msrc: 28.8 mIoU.",
        "grass 30 %",
        "training about 2 min 2 min",
        "slotseg discover /photos -o found",
        "Painted with your names",
    ):
        assert words in page, words
    assert "Unreadable" not in page
    assert "decoder about 2 min 2 min concepts" in page
    assert "agrees" not in page
    learned = replace(report, learned="The decoder agrees with its targets in 95 % of held-out photos.")
    assert "masks about 2 min 2 min The decoder agrees with its targets in 95 %" in text(render(learned))
    unnamed = text(render(replace(report, labels=LabelMap.prototypes(4), naming=None)))
    assert "Each colour is a concept that has no name yet." in unnamed
    assert "concepts named" not in unnamed


def test_hostile_names_are_text(report: Report) -> None:
    naming = Naming(names={1: HOSTILE})
    record = replace(report.record, photos=[HOSTILE], command=HOSTILE, path=Path(f"/{HOSTILE.replace('/', '')}"))
    page = render(
        replace(
            report,
            record=record,
            naming=naming,
            labels=naming.label_map(4),
            failures=[HOSTILE] * (NUM_FAILURES + 2),
            scores=[HOSTILE],
        )
    )
    assert "<script" not in page
    assert "<img src=x" not in page
    assert "&lt;img src=x" in page
    assert "and 2 more, in masks/failures.jsonl" in page


def test_many_classes_are_cut_short(report: Report) -> None:
    many = collection(*[1 / 300] * 300)
    page = text(render(replace(report, collection=many, labels=LabelMap.prototypes(300), naming=None)))
    assert f"And {300 - NUM_CLASSES} smaller ones." in page


def test_examples_are_spread_and_what_is_gone_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    for i in range(30):
        Image.fromarray(draw_scene(i)[0]).save(tmp_path / "photos" / f"{i:02} #.jpg")
    outputs = Outputs(Inputs([tmp_path / "photos"]), tmp_path / "masks", OutputOptions(overlay=True))
    for item in list(outputs.inputs)[1:]:
        overlay = outputs.files(item).overlay
        assert overlay is not None
        overlay.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (500, 400)).save(overlay)
    (tmp_path / "photos" / "01 #.jpg").write_bytes(b"")
    found = examples(outputs, ReadingConfig())
    assert len(found) == NUM_EXAMPLES - 1
    assert found[0].link == "masks/overlay/03%20%23.jpg"
    assert found[0].overlay.size == (360, 288)
    assert "29 #.jpg" not in {example.name for example in found[:-1]}


def test_a_figure_is_cut_into_its_columns(report: Report) -> None:
    columns = figure_columns(report.figure, report.record.figure_cells)
    assert [[picture.size for picture in column] for column in columns] == [[(200, 200)], [(200, 200)]]
    assert columns[0] != columns[1]


def test_a_figure_without_known_cells_is_left_out(report: Report) -> None:
    assert "The clearest ones" in text(render(report))
    of_an_earlier_version = replace(report, record=replace(report.record, figure_cells=[]))
    pages = [render(of_an_earlier_version)]
    Image.new("RGB", (300, 100)).save(report.figure)
    pages.append(render(report))
    report.figure.write_text("no picture")
    pages.append(render(report))
    report.figure.unlink()
    pages.append(render(report))
    for page in pages:
        assert "<figure>" not in page
        assert "The clearest ones" not in page
        assert "All are on the page of concepts" in text(page)


def test_shares_are_of_classes(report: Report) -> None:
    naming = Naming(names={0: "sky", 2: "sky"}, ignore=frozenset([1]))
    assert [(s.name, round(s.share, 3)) for s in shares(report.collection, naming.label_map(4))] == [("sky", 0.7)]
    assert named_words(report.collection, naming) == "2 of 4 concepts named, 1 ignored: 100 % of the pixels"
