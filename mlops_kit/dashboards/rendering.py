"""How view models become HTML: templates that escape every value.

The templates are in ``templates/dashboards``; the style sheet and the script are in
``templates/voila`` and shared by Voilà, JupyterLab and the static export.
"""

from __future__ import annotations

import os
import re
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mlops_kit.core.resources import find_resource_folder

_VERSION_PHRASE = re.compile(r"([Vv]ersion \w+)")


class Html(Markup):
    """HTML that is safe to show; values put into it by ``format`` and ``join`` are escaped.

    In JupyterLab it brings its style sheet along; in Voilà the page template contains it.
    """

    def _repr_html_(self) -> str:
        if is_served():
            return str(self)
        return f"<style>{read_style_sheet()}</style><div class=dash>{self}</div>"


def is_served() -> bool:
    """Whether the page is shown by Voilà, not in JupyterLab or as a static export."""
    return "VOILA_PREHEAT" in os.environ


def get_base_url() -> str:
    """Return the path below which the server's pages are."""
    return os.environ.get("VOILA_BASE_URL", "/")


def get_template_folder() -> Path:
    """Return the folder of the style sheet, the script and Voilà's template."""
    return find_resource_folder("templates") / "voila" / "templates" / "mlops"


def read_style_sheet() -> str:
    """Read the style sheet of the pages."""
    return (get_template_folder() / "style.css").read_text(encoding="utf-8")


@cache
def load_templates() -> Environment:
    """Load the templates; a value that a template names and does not have is an error."""
    folders = [find_resource_folder("templates") / "dashboards", get_template_folder()]
    return Environment(
        loader=FileSystemLoader(folders),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )


def render_macro(macro: str, view: object) -> Html:
    """Render a view model by the macro of ``components.html`` that shows it."""
    module = load_templates().get_template("components.html").module
    return Html(getattr(module, macro)(view))


def render_document(title: str, body: Html) -> Html:
    """Render a page as one HTML document with its style sheet and script."""
    template = load_templates().get_template("document.html")
    return Html(template.render(title=title, body=body))


def keep_versions_unbroken(sentence: str) -> Html:
    """Keep "version 8" from being broken over two lines."""
    parts = []
    for index, part in enumerate(_VERSION_PHRASE.split(str(sentence))):
        is_version = index % 2 == 1
        parts.append(Html("<span class=kept>{}</span>").format(part) if is_version else part)
    return Html().join(parts)
