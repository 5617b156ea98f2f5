"""What the HTML pages have in common: one look, one file that loads nothing, and every name in it text."""

from importlib import resources
from typing import Any

import jinja2
from markupsafe import Markup


def render_page(package: str, template: str, filters: dict[str, Any], **values: Any) -> str:
    """Lay values out by a template of a package; what is no markup of ours is escaped.

    Args:
        package: Holds the template, such as ``slotseg.eval``.
        template: Its file name; it is given ``shared_style``, the style sheet of all pages.
        filters: Functions the template may format values with, by name.
        **values: What the template shows.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(filters)
    environment.globals["shared_style"] = Markup(page_text("slotseg", "page.css").strip())
    return environment.from_string(page_text(package, template)).render(**values)


def page_text(package: str, name: str) -> str:
    """A file of a package, such as a style sheet or a script that a page holds."""
    return (resources.files(package) / name).read_text(encoding="utf-8")
