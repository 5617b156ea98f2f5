"""CVAT's annotations for images become the right label map, or a sentence."""

import cmath
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from slotseg.data.labelled.annotations.cvat import CvatFile
from slotseg.data.labelled.annotations.shapes import NOTHING
from slotseg.errors import DataError

N = NOTHING
META = """<meta><task><labels>
 <label><name>sky</name><color>#0102ff</color><type>any</type>
  <attributes><attribute><name>wet</name><values>yes</values></attribute></attributes></label>
 <label><name>a &lt;tree&gt;</name><color>#102030</color><attributes/></label>
</labels></task></meta>"""
MASK = '<mask label="a &lt;tree>" rle="{}" left="1" top="0" width="2" height="2" z_order="{}"></mask>'
TREE = MASK.format("0, 4", 0)
SQUARE = [[N, 1, 1, N], [N, 1, 1, N], [N, N, N, N]]


def written(folder: Path, *shapes: str, meta: str = META, size: str = 'width="4" height="3"', head: str = "") -> Path:
    path = folder / "annotations.xml"
    image = f'<image id="0" name="deep/a.jpg" {size}>{"".join(shapes)}</image>'
    path.write_text(f"{head}<annotations><version>1.1</version>{meta}\n{image}</annotations>", encoding="utf-8")
    return path


def read(path: Path) -> list[list[int]]:
    label_map: list[list[int]] = CvatFile(path, ["deep/a"]).read("deep/a").tolist()
    return label_map


@pytest.mark.parametrize(
    "shape",
    [
        TREE,
        MASK.format("0,1,0,3", ""),
        '<polygon label="a &lt;tree>" points="1.0,0.0;3.0,0.0;3.0,2.0;1.0,2.0"/>',
        '<box label="a &lt;tree>" xtl="1" ytl="0" xbr="3" ybr="2"></box>',
        '<box label="a &lt;tree>" xtl="1" ytl="0" xbr="3" ybr="2" rotation="90.0"></box>',
        '<tag label="sky"/>' + TREE,
        TREE.replace("></mask>", '><attribute name="wet">yes</attribute></mask>'),
    ],
)
@pytest.mark.parametrize("head", ["", '<?xml version="1.0" encoding="utf-8"?>\n<!-- exported -->\n', "\ufeff"])
def test_every_shape(tmp_path: Path, shape: str, head: str) -> None:
    assert read(written(tmp_path, shape, head=head)) == SQUARE


def test_rows_and_not_columns(tmp_path: Path) -> None:
    shape = '<mask label="sky" rle="1, 3, 2" left="1" top="1" width="3" height="2"/>'
    assert read(written(tmp_path, shape)) == [[N] * 4, [N, N, 0, 0], [N, 0, N, N]]


def test_labels_of_the_file(tmp_path: Path) -> None:
    file = CvatFile(written(tmp_path), ["deep/a"])
    assert (file.names, file.colors, file.listed) == (("sky", "a <tree>"), ((1, 2, 255), (16, 32, 48)), "deep/a.jpg")
    skeleton = META.replace("</labels>", "<label><name>sky</name><parent>body</parent></label></labels>")
    assert CvatFile(written(tmp_path, meta=skeleton), []).names == ("sky", "a <tree>")
    job = META.replace("task>", "job>")
    assert CvatFile(written(tmp_path, meta=job), []).names == ("sky", "a <tree>")


def test_shapes_are_drawn_by_z_order_and_then_as_they_come(tmp_path: Path) -> None:
    box = '<box label="sky" xtl="0" ytl="0" xbr="2" ybr="3" z_order="{}"/>'
    over, under = [[0, 0, 1, N], [0, 0, 1, N], [0, 0, N, N]], [[0, 1, 1, N], [0, 1, 1, N], [0, 0, N, N]]
    assert read(written(tmp_path, MASK.format("0, 4", 0), box.format(0))) == over
    assert read(written(tmp_path, box.format(0), MASK.format("0, 4", 0))) == under
    assert read(written(tmp_path, MASK.format("0, 4", 1), box.format(0))) == under
    assert read(written(tmp_path, MASK.format("0, 4", -1), box.format(-2))) == under


@pytest.mark.parametrize("image", ["<image {}/>", "<image {}></image>", "<image {}>\n</image >"])
def test_photos_without_shapes_are_void(tmp_path: Path, image: str) -> None:
    empty = image.format('id="{}" name="{}" width="4" height="3"')
    path = tmp_path / "annotations.xml"
    images = [
        empty.format(0, "a.jpg"),
        f'<image id="1" name="b.jpg" width="4" height="3">{TREE}</image>',
        empty.format(2, "c"),
    ]
    path.write_text(f"<annotations>{META}{''.join(images)}</annotations>")
    file = CvatFile(path, ["a", "b", "c"])
    void = [[N] * 4] * 3
    assert [file.read(key).tolist() for key in ("a", "b", "c")] == [void, SQUARE, void]


def test_other_encodings(tmp_path: Path) -> None:
    meta = META.replace("sky", "Bäume")
    path = written(tmp_path, TREE.replace("a &lt;tree>", "Bäume"), meta=meta)
    text = path.read_text(encoding="utf-8")
    path.write_bytes(('<?xml version="1.0" encoding="iso-8859-1"?>\n' + text).encode("latin-1"))
    file = CvatFile(path, ["deep/a"])
    assert file.names[0] == "Bäume"
    assert file.read("deep/a").max() == N
    assert file.read("deep/a")[0].tolist() == [N, 0, 0, N]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("shape", [TREE, ""])
def test_utf_16(tmp_path: Path, encoding: str, shape: str) -> None:
    """With a byte order mark, and without one."""
    path = written(tmp_path, shape)
    text = '<?xml version="1.0" encoding="utf-16"?>\n' + path.read_text().replace(
        "></image>", " />" if not shape else "></image>"
    )
    path.write_bytes(text.encode(encoding))
    assert read(path) == (SQUARE if shape else [[N] * 4] * 3)


def test_names_go_without_needless_spaces_and_in_one_form_of_unicode(tmp_path: Path) -> None:
    path = written(tmp_path, TREE.replace("a &lt;tree>", "e\u0301 "), meta=META.replace("a &lt;tree&gt;", " \u00e9"))
    path.write_text(path.read_text(encoding="utf-8").replace("a.jpg", "u\u0308.jpg"), encoding="utf-8")
    assert CvatFile(path, ["deep/\u00fc"]).read("deep/\u00fc").tolist() == SQUARE


@pytest.mark.parametrize("rotation", [0, 30, 90, 205.5])
def test_an_ellipse_is_every_pixel_whose_middle_is_in_it(tmp_path: Path, rotation: float) -> None:
    """As a loop finds it, with the corner of a turned box of the same middle to say which way it is turned."""
    cx, cy, rx, ry = 11.3, 8.8, 9.4, 3.1
    shape = f'<ellipse label="sky" cx="{cx}" cy="{cy}" rx="{rx}" ry="{ry}" rotation="{rotation}"/>'
    found = np.array(read(written(tmp_path, shape, size='width="24" height="20"'))) == 0
    turn = cmath.rect(1, -math.radians(rotation))
    for y, x in np.ndindex(20, 24):
        middle = complex(x + 0.5 - cx, y + 0.5 - cy) * turn
        assert found[y, x] == ((middle.real / rx) ** 2 + (middle.imag / ry) ** 2 <= 1)
    sides = f'xtl="{cx - rx}" ytl="{cy - ry}" xbr="{cx + rx}" ybr="{cy + ry}"'
    box = f'<box label="sky" {sides} rotation="{rotation}"/>'
    outside = np.array(read(written(tmp_path, box, size='width="24" height="20"'))) != 0
    assert (found & outside).sum() <= 4 < found.sum()


def test_names_that_xml_cannot_hold(tmp_path: Path) -> None:
    path = written(tmp_path, TREE)
    path.write_text(path.read_text().replace("a.jpg", "\ufffd.jpg"), encoding="utf-8")
    assert CvatFile(path, ["deep/\x1b"]).read("deep/\x1b").tolist() == SQUARE


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            '<polyline label="sky" points="1,1;2,2"/>',
            "has a shape of the kind polyline; expected masks, polygons, boxes",
        ),
        ('<skeleton label="sky"><points label="sky" points="1,1"/></skeleton>', "of the kind skeleton"),
        (
            '<ellipse label="sky" cx="1" cy="1" rx="1" ry="0"/>',
            "has an ellipse of the radii 1 and 0; expected two above 0",
        ),
        ('<ellipse label="sky" cx="1" cy="1" rx="99" ry="1"/>', "has an ellipse far beyond the photo"),
        ('<ellipse label="sky" cx="1" cy="1" rx="1"/>', "has an ellipse with ry null; expected a number"),
        ('<box label="sea" xtl="1" ytl="0" xbr="3" ybr="2"/>', "has the label 'sea'; expected one of the labels"),
        ('<box label="sky" xtl="1" ytl="0" xbr="3"/>', "has a box with ybr null; expected a number"),
        ('<box label="sky" xtl="1" ytl="0" xbr="3" ybr="nan"/>', 'has a box with ybr "nan"; expected a number'),
        ('<polygon label="sky" points="1,1;2,2"/>', "has a polygon of 2 points"),
        ('<polygon label="sky" points="1,1;2"/>', "no list of x and y"),
        ('<polygon label="sky"/>', "no list of x and y"),
        (MASK.format("0, 3", 0), "has run lengths that do not cover"),
        (MASK.format("0, 5", 0), "has run lengths that do not cover"),
        (MASK.format("", 0), "no whole numbers"),
        (MASK.format("0, four", 0), "no whole numbers"),
        (MASK.format("0, 4", "first"), 'has a mask with z_order "first"; expected a number'),
        (TREE.replace('left="1"', 'left="3"'), "has a mask of 2 x 2 at 3, 0; expected one inside the photo"),
        (TREE.replace('top="0"', 'top="-1"'), "expected one inside the photo"),
        (TREE.replace('height="2"', 'height="1e999"'), 'has a mask with height "1e999"; expected a number'),
    ],
)
def test_a_shape_that_cannot_be_drawn_names_the_photo(tmp_path: Path, shape: str, message: str) -> None:
    with pytest.raises(DataError, match=f"^photo deep/a of .*annotations.xml .*{message}"):
        read(written(tmp_path, shape))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "cannot be used"),
        ("<annotations><image", "cannot be used"),
        ("<annotation><filename>a.jpg</filename></annotation>", "begins with annotation"),
        (f"<annotations>{META}<track id='0'/></annotations>", "tracks of a video"),
        ('<!DOCTYPE annotations [<!ENTITY a "sky">]><annotations/>', "has a document type"),
        ("<annotations/>", "has no classes"),
        (f"<annotations>{META.replace('a &lt;tree&gt;', 'sky')}</annotations>", "two classes named 'sky'"),
        (f"<annotations>{META}<image name='deep/a.jpg' width='4'/></annotations>", "has width 4 and height null"),
    ],
)
def test_a_file_that_cannot_be_used_is_one_sentence(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "annotations.xml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message) as error:
        read(path)
    assert "annotations.xml" in str(error.value)


def test_absent_photos_are_told(tmp_path: Path) -> None:
    path = written(tmp_path)
    assert CvatFile(path, ["deep/a", "b"]).missing(["deep/a", "b"]) == [f"photo b of {path}"]
    with pytest.raises(DataError, match="cannot be read"):
        CvatFile(tmp_path / "none.xml", ["a"])


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    """A file of 40 MB: an index of it is kept, and one photo is decoded at a time."""
    lengths = ", ".join(map(str, np.full(4_000, 10)))
    shape = f'<mask label="sky" rle="{lengths}" left="0" top="0" width="200" height="200"/>'
    image = f'<image id="0" name="{{}}.jpg" width="200" height="200">{shape}</image>\n'
    path = tmp_path / "annotations.xml"
    path.write_text(f"<annotations>{META}{''.join(image.format(i) for i in range(2_500))}</annotations>")
    keys = [str(i) for i in range(2_500)]
    tracemalloc.start()
    file = CvatFile(path, keys)
    assert (file.read("2499") == 0).sum() == 20_000
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6_000_000 < path.stat().st_size / 6
