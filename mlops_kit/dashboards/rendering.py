"""How the parts of a page become HTML: templates, which escape every value from outside on its way in.

The templates stand in ``templates/dashboards``; style and script in ``templates/voila``, once for
Voilà, JupyterLab and the file that is sent by mail.

To add a part: a macro in ``templates/dashboards/parts.html``; its style in ``style.css``.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from mlops_kit.core.errors import KitError
from mlops_kit.core.formatting import format_cell_html, format_money, format_number, format_percent
from mlops_kit.core.lazy import pd
from mlops_kit.core.resources import find_resource_folder
from mlops_kit.core.results import OUTCOME_COLORS, OUTCOME_MARKS, Table
from mlops_kit.dashboards import text_formats
from mlops_kit.dashboards.text_formats import capital, heading, words
from mlops_kit.stats.metrics import METRICS


class Html(Markup):
    """HTML that is safe to show; in JupyterLab it brings its style along, in Voilà the template has it."""

    def _repr_html_(self) -> str:
        return str(self) if served() else f"<style>{css()}</style><div class=dash>{self}</div>"


def served() -> bool:
    """Whether the page is shown by Voilà, and not in JupyterLab or a file."""
    return "VOILA_PREHEAT" in os.environ


def base() -> str:
    """Where the server's pages stand."""
    return os.environ.get("VOILA_BASE_URL", "/")


def folder() -> Path:
    """Where style, script and Voilà's template stand."""
    return find_resource_folder("templates") / "voila" / "templates" / "mlops"


def css() -> str:
    """The style sheet of the pages."""
    return (folder() / "style.css").read_text(encoding="utf-8")


@cache
def templates() -> Environment:
    """The parts' templates with the words they use; a value that is missing is an error and not nothing."""
    made = Environment(
        loader=FileSystemLoader([find_resource_folder("templates") / "dashboards", folder()]),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    said = (
        text_formats.ago,
        text_formats.amount,
        text_formats.between,
        text_formats.day,
        text_formats.duration,
        text_formats.ended,
        text_formats.full,
        text_formats.moment,
        text_formats.reason,
        text_formats.small,
        text_formats.span,
        capital,
        heading,
        words,
    )
    made.filters |= {
        f.__name__: f
        for f in (*said, format_money, format_number, format_percent, cell, kept, numeric, seen)
    }
    made.filters |= {"json": json.dumps, "pixels": "{:.1f}".format, "places": "{:.2f}".format}
    made.globals |= {
        "base": base,
        "guarded": guarded,
        "relative": os.path.relpath,
        "served": served,
        "COLOURS": OUTCOME_COLORS,
        "MARKS": OUTCOME_MARKS,
        "METRICS": METRICS,
    }
    made.tests["known"] = lambda value: value is not None and value == value
    return made


def part(file: str, name: str, *values: Any, **named: Any) -> Html:
    """A part of a page: a macro of a template, with values put in, escaped."""
    return Html(getattr(templates().get_template(f"{file}.html").module, name)(*values, **named))


def guarded(
    title: str, span: int = 12, cure: str = "mlops run --from review", *, caller: Callable[[], str]
) -> Html:
    """A part that, if it fails, says itself what failed and what to do; the rest of the page stands.

    A template gives what it may fail at by ``{% call guarded(…) %}``.
    """
    try:
        return Html(caller())
    except KitError as error:
        told, cure = error.message, error.hint
    except Exception as error:
        told = f"{type(error).__name__}: {error}"
    return part("parts", "broken", title, capital(told), cure, span)


def kept(sentence: str) -> Html:
    """A sentence in which an amount and a version are not broken over two lines."""
    parts = map(
        type(sentence), re.split(r"([$€£¥] [\d.,]*\d|\d[\d.,]* %|[Vv]ersion \w+)", sentence)
    )  # what was escaped stays so
    return Html().join(
        Html("<span class=kept>{}</span>").format(part) if i % 2 else part
        for i, part in enumerate(parts)
    )


def cell(value: Any) -> Html:
    """A value in a table: numbers short, nothing for what is missing."""
    return Html(value if isinstance(value, Markup) else format_cell_html(value))


def numeric(data: Any) -> list[int]:
    """Which columns of a table hold numbers."""
    return [
        i
        for i, t in enumerate(data.dtypes)
        if pd.api.types.is_numeric_dtype(t) and not pd.api.types.is_bool_dtype(t)
    ]


def seen(found: Table) -> Any:
    """The columns of a stored table that are worth seeing, with their units."""
    data = found.data[list(found.visible_columns)] if found.visible_columns else found.data
    return data.rename(columns={c: f"{c} ({u})" for c, u in found.units.items()})


def asked(rehearse: Callable[[], object]) -> dict[str, str]:
    """What a visitor's address asks for (``?version=8``); a kernel made beforehand waits here for its visitor.

    Before that it makes the page once for nobody, so that what is slow the first time is over.
    """
    if os.environ.get("VOILA_PREHEAT") != "True":
        return dict(parse_qsl(os.environ.get("QUERY_STRING", "")))
    with suppress(Exception):  # what goes wrong is told to the visitor
        rehearse()
    return dict(parse_qsl(visitor().get("QUERY_STRING", "")))


def visitor() -> dict[str, str]:
    """Wait until the server sends a visitor, and say what it tells of them.

    As ``voila.utils.wait_for_request``, whose import alone takes a second of every kernel; and it gives up.
    """
    from websockets.exceptions import WebSocketException
    from websockets.sync.client import connect

    address = (
        "ws://127.0.0.1:{VOILA_APP_PORT}{VOILA_SERVER_URL}voila/query/{VOILA_KERNEL_ID}".format(
            **os.environ
        )
    )
    while True:
        with suppress(OSError, WebSocketException), connect(address, proxy=None) as line:
            found: dict[str, str] = json.loads(line.recv())
            return found
        time.sleep(0.1)
