"""The parts of a page, as functions that return HTML: every value from outside is escaped on its way in.

Text is put in by ``Html.format``, which escapes whatever is not ``Html`` itself; so no part can let a
script through. Style and script stand in ``templates/voila``, once for Voilà, JupyterLab and the file
that is sent by mail.

To add a part: a function here that builds it by ``join`` and ``.format``; its style in ``style.css``.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from markupsafe import Markup

from mlops_kit.config import Project, resources
from mlops_kit.errors import KitError
from mlops_kit.results import COLOURS, MARKS, Number, Table, Verdict, Verdicts, cell_html

SHOWN = 4  # verdicts that stand open at the top of the checks, where all is well


class Html(Markup):
    """HTML that is safe to show; in JupyterLab it brings its style along, in Voilà the template has it."""

    def _repr_html_(self) -> str:
        return str(self) if served() else f"<style>{css()}</style><div class=dash>{self}</div>"


def served() -> bool:
    """Whether the page is shown by Voilà, and not in JupyterLab or a file."""
    return "VOILA_PREHEAT" in os.environ


def folder() -> Path:
    """Where style, script and Voilà's template stand."""
    return resources("templates") / "voila" / "templates" / "mlops"


def css() -> str:
    """The style sheet of the pages."""
    return (folder() / "style.css").read_text(encoding="utf-8")


def join(parts: Iterable[Any], between: str = "") -> Html:
    """Parts one after another; text among them is escaped."""
    return Html(between).join(parts)


def tag(html: str, *values: Any, **named: Any) -> Html:
    """A piece of our own HTML with values put in, escaped."""
    return Html(html).format(*values, **named)


def words(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun.

    >>> words(1, "check"), words(12_000, "check"), words(0, "check")
    ('1 check', '12,000 checks', 'no checks')
    """
    return f"{f'{count:,}' if count else 'no'} {noun if count == 1 else plural or noun + 's'}"


def moment(project: Project, when: str) -> str:
    """A stored moment in the project's zone, as a person writes it."""
    from datetime import datetime
    from zoneinfo import ZoneInfo

    there = datetime.fromisoformat(when).astimezone(ZoneInfo(project.config.timezone))
    return f"{there:%-d %B %Y, %H:%M}"


def link(project: Project, path: Path, word: str, file: Path | None = None) -> Html:
    """A link to a file of a run: by the server, or as seen from where the page will stand; the word alone in a notebook."""
    if served():
        return tag('<a href="{}reports/{}">{}</a>', os.environ.get("VOILA_BASE_URL", "/"), path.relative_to(project.reports).as_posix(), word)
    return tag('<a href="{}">{}</a>', Path(os.path.relpath(path, file.parent)).as_posix(), word) if file else tag("{}", word)


def top(title: str, about: Any, right: str = "", who: bool = False) -> Html:
    """The line above everything: what page this is, of what; the moment, and who looks at it."""
    person = Html(" · <span data-who>…</span>") if who else Html("")
    return tag("<header class=top><b>{}</b><span>{}</span><span class=right>{}{}</span></header>", title, about, right, person)


def badge(colour: str, state: str) -> Html:
    """A state in shape, word and colour."""
    return tag('<span class="badge {}">{}</span>', colour, state)


def button(act: str, word: str, main: bool = False, closed: str = "") -> Html:
    """A button that opens the dialog of a decision; the page opens it once the server knows who is here."""
    kept = tag(' data-closed=1 title="{}"', closed) if closed else Html("")
    return tag('<button type=button data-act="{}"{}{} disabled>{}</button>', act, Html(" class=main") if main else Html(""), kept, word)


def dialog(act: str, title: str, about: Mapping[str, str], text: str, word: str, more: Any = "") -> Html:
    """The dialog of a decision: what it does, the reason (required), and what the server is told; ``more`` are fields that are told too."""
    body = """<dialog data-act="{act}" data-about="{about}" aria-labelledby="ask-{act}"><form method=dialog novalidate><h2 id="ask-{act}">{title}</h2><p class=note>{text}</p>{more}
<label for="why-{act}">Why? Others read it later</label><textarea id="why-{act}" name=reason required maxlength=2000></textarea><p role=alert></p>
<div class=buttons><button type=button data-close>Cancel</button><button type=submit class=main>{word}</button></div></form></dialog>"""
    return tag(body, act=act, about=json.dumps(dict(about)), title=title, text=text, word=word, more=more)


def kept(sentence: str) -> Html:
    """A sentence in which an amount and a version are not broken over two lines."""
    parts = re.split(r"([$€£¥] [\d.,]*\d|\d[\d.,]* %|[Vv]ersion \w+)", sentence)
    return join(tag("<span class=kept>{}</span>", part) if i % 2 else part for i, part in enumerate(parts))


def say(colour: str, state: str, sentence: str, detail: Any = "", buttons: Sequence[Html] = (), dialogs: Sequence[Html] = ()) -> Html:
    """The first thing on a page: the state, one sentence, what hangs on it, and what one can do."""
    row = tag("<div class=buttons>{}</div>", join(buttons)) if buttons else Html("")
    answer = Html('<p class=answer role=status aria-live=polite></p>') if buttons else Html("")
    return tag("<section class=say>{}<h1>{}</h1>{}<p>{}</p>{}</section>{}", badge(colour, state), kept(sentence), row, detail, answer, join(dialogs))


def number(item: Number) -> Html:
    """A number that matters, large, with its lines beside."""
    return tag("<div class='card c3'><h2>{}</h2><div class=big>{}</div>{}</div>", item.title, item.value, join(tag("<div class=unit>{}</div>", b) for b in item.beside))


def grid(*cards: Any) -> Html:
    """Cards on the page's twelve columns."""
    return tag("<div class=grid>{}</div>", join(cards))


def card(title: str, *parts: Any, note: Any = "", span: int = 12) -> Html:
    """A card: its question, a note on how to read it, what it shows."""
    told = tag("<p class=note>{}</p>", note) if note else Html("")
    return tag('<section class="card c{}"><h2>{}</h2>{}{}</section>', span, title, told, join(parts))


def guarded(title: str, make: Callable[[], Html], span: int = 12, cure: str = "mlops run --from review") -> Html:
    """A card that, if it fails, says itself what failed and what to do; the rest of the page stands."""
    try:
        return make()
    except KitError as error:
        told, cure = error.what, error.cure
    except Exception as error:  # noqa: BLE001 - a damaged file may raise anything, and must not take the page along
        told = f"{type(error).__name__}: {error}"
    mend = tag("<p>To mend it: <code>{}</code></p>", cure) if cure else Html("")
    return card(title, tag("<p><b class=watch>◆ This card cannot be shown.</b> {}</p>{}", f"{told[:1].upper()}{told[1:]}.", mend), span=span)


def cell(value: Any) -> Html:
    """A value in a table: numbers short, nothing for what is missing."""
    return value if isinstance(value, Html) else Html(cell_html(value))


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]], right: Iterable[int] = (), kind: str = "", label: str = "") -> Html:
    """A table; the columns numbered in ``right`` hold numbers."""
    right = set(right)
    mark = [Html(" class=num") if i in right else Html("") for i in range(len(heads))]
    top = join(tag("<th scope=col{}>{}</th>", m, h) for m, h in zip(mark, heads, strict=True))
    body = join(tag("<tr>{}</tr>", join(tag("<td{}>{}</td>", m, cell(v)) for m, v in zip(mark, row, strict=True))) for row in rows)
    return tag('<div class=wide tabindex=0 role=region aria-label="{}"><table class="{}"><thead><tr>{}</tr></thead><tbody>{}</tbody></table></div>', label or ", ".join(heads), kind, top, body)


def title(name: str) -> str:
    """A name as the head of a column.

    >>> title("false_alarms"), title("ROC-AUC")
    ('False alarms', 'ROC-AUC')
    """
    said = name.replace("_", " ")
    return f"{said[:1].upper()}{said[1:]}"


def frame(data: Any, most: int = 40) -> Html:
    """A stored table as it is; what is more than ``most`` rows is counted."""
    import pandas as pd

    right = [i for i, t in enumerate(data.dtypes) if pd.api.types.is_numeric_dtype(t) and not pd.api.types.is_bool_dtype(t)]
    rest = tag("<p class=note>… and {} more</p>", words(len(data) - most, "row")) if len(data) > most else Html("")
    return table([title(str(c)) for c in data.columns], data.head(most).itertuples(index=False, name=None), right) + rest


def stored(found: Table) -> Html:
    """A stored table with the columns that are worth seeing, its units and its notes."""
    seen = found.data[list(found.shown)] if found.shown else found.data
    named = seen.rename(columns={c: f"{c} ({u})" for c, u in found.units.items()})
    return frame(named) + join(tag("<p class=note>{}</p>", n) for n in found.notes)


def pairs(rows: Iterable[tuple[str, Any]]) -> Html:
    """What is called what: a table of two columns."""
    return tag("<table>{}</table>", join(tag("<tr><th scope=row class=day>{}</th><td>{}</td></tr>", k, v) for k, v in rows))


def outcome(verdict: Verdict) -> Html:
    """A verdict's outcome in shape, word and colour."""
    word = {"passed": "passes", "failed": "fails"}.get(verdict.outcome, verdict.outcome)
    colour = "watch" if verdict.outcome == "failed" and not verdict.blocks else COLOURS[verdict.outcome]
    return tag('<span class="st {}">{} {}</span>', colour, MARKS[verdict.outcome], word)


def checks(verdicts: Verdicts) -> Html:
    """The table of checks: what failed or cannot be told first; of those that pass a few, the rest folded."""
    found = Verdicts.of(verdicts).items
    bad = sum(v.outcome in {"failed", "cannot tell"} for v in found)
    order = [*found[:bad], *(v for v in found[bad:] if v.outcome == "passed"), *(v for v in found[bad:] if v.outcome != "passed")]
    few = max(SHOWN, bad + 1)
    shown, folded = rows(order[:few]), order[few:]
    if len(folded) < 2:
        return rows(order)
    passed = sum(v.outcome == "passed" for v in folded)
    more = [f"{passed} more {'passes' if passed == 1 else 'pass'}"] * bool(passed) + [f"{len(folded) - passed} not applicable"] * (passed < len(folded))
    mark = Html("<span class=good>●</span>") if passed else Html("<span class=faint>○</span>")
    return shown + tag("<details><summary>{} {}</summary>{}</details>", mark, ", ".join(more), rows(folded))


def tally(verdicts: Verdicts) -> str:
    """How many checks there are, and what they say, in a sentence."""
    verbs = {"passed": ("passes", "pass"), "failed": ("fails", "fail"), "cannot tell": ("cannot tell",) * 2, "not applicable": ("does not apply", "do not apply")}
    counts = [(verdicts.count(o), one, many) for o, (one, many) in verbs.items()]  # type: ignore[arg-type]
    return f"{words(len(verdicts), 'check')}: {', '.join(f'{n} {one if n == 1 else many}' for n, one, many in counts if n)}."


def doubts(verdicts: Verdicts) -> str:
    """What does not speak for a version without blocking it; nothing where all is well."""
    warned, unsure = sum(v.outcome == "failed" and not v.blocks for v in verdicts), verdicts.count("cannot tell")
    told = [f"{words(warned, 'check')} {'fails' if warned == 1 else 'fail'} without blocking it"] * bool(warned) + [f"{words(unsure, 'check')} cannot tell yet"] * bool(unsure)
    return f"{' and '.join(told)}." if told else ""


def rows(verdicts: Sequence[Verdict]) -> Html:
    """Verdicts as rows: result, check, found, limit, what to do."""
    return table(("Result", "Check", "Found", "Limit", "What to do"), [(outcome(v), v.title, v.found or v.sentence, v.limit, v.cure) for v in verdicts], right=[3], kind="checks", label="Checks")


def tabs(names: Mapping[str, str]) -> Html:
    """The row of tabs, by the id of the panel that each opens."""
    made = [tag('<button type=button role=tab id="tab-{0}" aria-controls="{0}" aria-selected={2} tabindex={3}>{1}</button>', key, name, *(("true", 0) if i == 0 else ("false", -1))) for i, (key, name) in enumerate(names.items())]
    return tag("<div role=tablist aria-label='Parts of this page'>{}</div>", join(made))


def panel(key: str, *parts: Any, first: bool = False) -> Html:
    """What a tab opens."""
    hidden = Html("") if first or not served() else Html(" hidden")
    return tag('<div role=tabpanel id="{0}" aria-labelledby="tab-{0}" tabindex=-1{1}>{2}</div>', key, hidden, join(parts))


def empty(title: str, about: str, sentence: str, detail: str, command: str) -> Html:
    """A page that has nothing to show yet: what to run."""
    return top(title, about) + say("faint", "○ Nothing yet", sentence, tag("{} <code>{}</code>", detail, command))


def document(title: str, body: Html) -> str:
    """A page as one file that needs nothing else: style and script inside, no network."""
    script = (folder() / "page.js").read_text(encoding="utf-8")
    return tag(
        "<!doctype html><html lang=en><head><meta charset=utf-8><meta name=viewport content='width=device-width,initial-scale=1'><title>{}</title>"
        "<link rel=icon href='data:,'><style>{}</style></head><body class=dash><main>{}</main><script>{}</script></body></html>\n", title, Html(css()), body, Html(script),
    )  # fmt: skip


def asked(rehearse: Callable[[], object]) -> dict[str, str]:
    """What a visitor's address asks for (``?version=8``); a kernel made beforehand waits here for its visitor.

    Before that it makes the page once for nobody, so that what is slow the first time is over.
    """
    from urllib.parse import parse_qsl

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

    address = "ws://127.0.0.1:{VOILA_APP_PORT}{VOILA_SERVER_URL}voila/query/{VOILA_KERNEL_ID}".format(**os.environ)
    while True:
        with suppress(OSError, WebSocketException), connect(address, proxy=None) as line:
            found: dict[str, str] = json.loads(line.recv())
            return found
        time.sleep(0.1)
