"""What all pages have in common: how they are written, told apart and hold pictures."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from slotseg.errors import DataError
from slotseg.pages import check_replaceable, generator, is_page, picture_uri, write_page


def test_a_page_is_told_from_others(tmp_path: Path) -> None:
    ours, others, mine = (tmp_path / name for name in ("ours.html", "others.html", "mine.html"))
    write_page(ours, f"<head>{generator('report')}</head>")
    write_page(others, f"<head>{generator('concepts')}</head>")
    mine.write_bytes(b"\xff")
    assert [is_page(file, "report") for file in (ours, others, mine, tmp_path / "gone", tmp_path)] == [
        True,
        *[False] * 4,
    ]
    for file in (ours, tmp_path / "gone.html"):
        check_replaceable(file, "report", "page of a run")
    for file in (others, mine):
        with pytest.raises(DataError, match=rf"{file.name} is no page of a run; expected another --output, or --over"):
            check_replaceable(file, "report", "page of a run")


def test_bytes_of_names_that_are_no_text_are_question_marks(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", "caf\udce9")
    assert (tmp_path / "page.html").read_bytes() == b"caf?"


def test_a_page_that_cannot_be_written_is_an_error_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"cannot be written \(Is a directory\); choose another file$"):
        write_page(tmp_path, "", "choose another file")


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_a_picture_is_inside_its_uri(form: str) -> None:
    head, content = picture_uri(Image.new("RGB", (7, 5), "red"), form).split(",")
    assert head == f"data:image/{form.lower()};base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        assert (image.format, image.size) == (form, (7, 5))
