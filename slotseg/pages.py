"""Common parts of the HTML pages: one style, one file that loads nothing else, and names that are escaped."""

import base64
import io
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup
from PIL import Image

from slotseg.errors import DataError
from slotseg.files import write_bytes, writing


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A picture inside a page."""

    uri: str
    """The picture itself, as a ``data:`` URI."""
    size: tuple[int, int]
    """Width and height in pixels."""


def render_page(package: str, template: str, filters: dict[str, Any], **values: Any) -> str:
    """Fill a template of a package with values. Whatever is not markup of ours is escaped.

    Args:
        package: Package that holds the template, such as ``slotseg.eval``.
        template: File name of the template. It also gets ``shared_style``, the style of all pages, and ``generator``.
        filters: Functions the template may format values with, by name.
        **values: Values that the template shows.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters)
    environment.globals["shared_style"] = Markup(page_text("slotseg", "page.css").strip())
    environment.globals["generator"] = generator
    return environment.from_string(page_text(package, template)).render(**values)


def page_text(package: str, name: str) -> str:
    """A file of a package, such as a style sheet or a script that a page holds."""
    return (resources.files(package) / name).read_text(encoding="utf-8")


def generator(command: str) -> Markup:
    """The element that marks a page as written by ``slotseg <command>``."""
    return Markup('<meta name="generator" content="slotseg {}">').format(command)


def is_page(file: Path, command: str) -> bool:
    """Whether a file was written by ``slotseg <command>``."""
    try:
        with file.open("rb") as opened:
            return generator(command).encode() in opened.read(4096)
    except OSError:
        return False


def check_replaceable(file: Path, command: str, what: str) -> None:
    """Refuse to replace a file of somebody else's.

    Args:
        file: File that a page is to be written to.
        command: Command that writes the page, such as ``report``.
        what: Name of such a page in the error, such as ``page of a run``.

    Raises:
        DataError: If there is a file that the command did not write.
    """
    if file.is_file() and not is_page(file, command):
        raise DataError(f"{file} is no {what}; expected another --output, or --overwrite to replace it")


def write_page(file: Path, html: str, advice: str = "choose another --output") -> None:
    """Write a page atomically.

    Args:
        file: File to write.
        html: Content of the page; bytes of file names that could not be decoded become question marks.
        advice: End of the error, which says what to do.

    Raises:
        DataError: If it cannot be written.
    """
    with writing(file, advice):
        write_bytes(file, html.encode(errors="replace"))


def data_uri(content: bytes, form: str) -> str:
    """The content of a picture's file as a URI; ``form`` as Pillow calls it, such as ``JPEG``."""
    return f"data:image/{form.lower()};base64,{base64.b64encode(content).decode()}"


def picture_uri(picture: Image.Image, form: str, **options: Any) -> str:
    """A picture as a URI; ``form`` and ``options`` as in ``PIL.Image.Image.save``."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return data_uri(buffer.getvalue(), form)
