"""The evidence behind monitoring: what each tab after the first shows, and the cards beside the pictures of the first.

To add a tab: 1. a function here from the page to HTML, 2. its key in ``TABS`` and its name in ``monitoring.TABS``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

from mlops_kit.dashboards import draw, theme
from mlops_kit.dashboards.theme import Html, card, grid, guarded, join, tag, words
from mlops_kit.dashboards.watching import ASKED, DAY, LATEST, known
from mlops_kit.dashboards.wording import amount, day, full, length, months, span, upper
from mlops_kit.database import DUE
from mlops_kit.metrics import METRICS
from mlops_kit.results import Interval, money, number, percent
from mlops_kit.stage import WAITING

if TYPE_CHECKING:
    from mlops_kit.dashboards.monitoring import Monitoring
    from mlops_kit.database import Incident, Retraining

SAID = {"retrain": ("good", "yes"), "keep": ("", "no"), "wait": ("watch", "not yet"), "stop": ("act", "stop")}
NEWEST, SHOWN = 4, 60  # decisions and incidents on the first tab; days of rows that are drawn
LONG = 90  # letters of a sentence that a narrow card takes whole
OVER = re.compile(r"(; )?over by [-\d]+( [\d:]+)?$")  # when an incident ended, which stands beside it as a date
AGAIN = "mlops watch --once"


LOW = Html('<span class="st watch">◆ yes</span>')  # realised below estimated


def when(said: str) -> Html:
    """A moment in a table, on one line."""
    return tag("<span class=day>{}</span>", said)


def row_of(incident: Incident, page: Monitoring) -> Html:
    """An incident in a few lines."""
    zone, opened = page.found.zone, datetime.fromisoformat(incident.opened)
    if incident.closed:
        head = Html('<span class="st good">● closed</span>')
        told = f"{span(opened, datetime.fromisoformat(incident.closed), zone)} · {OVER.sub('', incident.ended) or 'over'}"
    else:
        head = tag('<span class="st {}">{} {}</span>', incident.severity, "▲" if incident.severity == "act" else "◆", incident.severity)
        lasts = f" · {words(incident.windows, 'window')}" if incident.cause != "retraining" else ""
        told = f"since {day(opened, zone)}{lasts} · {f'{incident.seen_by}: {incident.seen_why}' if incident.seen_by else 'not acknowledged'}"
    about = incident.sentence if len(incident.sentence) < LONG else f"{incident.sentence.partition('; ')[0].removesuffix('.')}."
    return tag("<tr><th scope=row>{}</th><td><b>{}</b><div class=unit>{}</div><div class=unit>{}</div></td></tr>", head, incident.title, about, told)


def open_incidents(page: Monitoring) -> Html:
    """What is open, the worst first, and what was closed last."""
    still = page.found.still
    closed = sorted((i for i in page.found.incidents if i.closed), key=lambda i: i.closed or "", reverse=True)
    over = next((i for i in closed if i.severity == "act"), None) or next(iter(closed), None)
    shown = tag("<table>{}</table>", join(row_of(i, page) for i in still[:NEWEST])) if still else Html("<p class=note>None. Drift alone opens none: it must last, and cost something.</p>")
    more = tag("<p class=note>… and {} more in the tab Incidents</p>", len(still) - NEWEST) if len(still) > NEWEST else Html("")
    last = tag("<h2>Last closed</h2><table>{}</table>", row_of(over, page)) if over else Html("")
    return card("Open incidents", shown, more, last, span=4)


def came(page: Monitoring, row: Retraining) -> Html:
    """What came of a decision, in words."""
    if row.state in {DUE, WAITING}:
        return Html("the new version is on its way" if row.state == DUE else "the new version waits for a decision")
    if not row.run:
        return Html("")
    version = page.found.outcomes.get(row.run)
    if row.state != "succeeded" or version is None:
        return tag("run {}: {}", row.run, row.state)
    serves = "serves now" if version.serves else "was promoted" if version.promotion else "was made"
    return tag("version {} {}", version.number, serves)


def reason(text: str) -> str:
    """A decision's reason without the word that stands beside it.

    >>> reason("No, and stop: Values went missing."), reason("No: no proof of a fall."), reason("a new airport opens")
    ('Values went missing.', 'No proof of a fall.', 'A new airport opens')
    """
    head, _, rest = text.partition(": ")
    return upper(rest if head in {"Yes", "No", "Not yet", "No, and stop"} else text)


def decision(page: Monitoring, row: Retraining, brief: bool) -> Html:
    """A decision on retraining as a row."""
    colour, word = SAID.get(row.action, ("", row.action))
    why = reason(row.reason)
    told = why.partition(". ")[0].removesuffix(".") if brief else why.removesuffix(".")
    by = "" if row.by == "policy" else f", {row.by} asked"
    result = came(page, row)
    return tag('<tr><th scope=row class=day>{}</th><td class="st {}">{}</td><td>{}{}{}</td></tr>', day(datetime.fromisoformat(row.moment), page.found.zone), colour, word, told, by, tag("; {}", result) if result else "")


def newest_decisions(page: Monitoring) -> Html:
    """The last decisions on retraining."""
    made = page.found.decided
    if not made:
        return card("Retraining", note=f"Decided when a window's labels are in{f', {length(page.config.label_delay)} after its end' if page.config.label_delay else ''}. {policy(page)}", span=4)
    return card("Retraining", tag("<table>{}</table>", join(decision(page, r, True) for r in made[:NEWEST])), note=policy(page), span=4)


def policy(page: Monitoring) -> str:
    """When a new model is made, from the settings."""
    own, limit = page.config.retrain, number(page.config.monitor.fall)
    ways = [
        (own.on_fall, f"labels prove a fall of more than {limit}"), (own.on_gap, f"they stay below the estimate for {words(page.config.watch.persist, 'window')} in a row"),
        (own.on_drift, "a column drifts"), (own.after is not None, f"it is older than {length(own.after) if own.after else ''}"),
    ]  # fmt: skip
    told = " or ".join(word for on, word in ways if on)
    return f"When {told}." if told else "Only when somebody asks."


def performance(page: Monitoring) -> Html:
    """Every window's metrics, estimate, promise and cost."""
    found, unit = page.found, page.config.cost.unit
    names = list(dict.fromkeys(str(m) for w in found.settled for m in (w.settled or {})["realised"].data["metric"]))
    costs = any((w.settled or {}).get("cost") is not None for w in found.settled)
    heads = ["Window", "Version", "Rows", "Labelled", *(METRICS[m].title if m in METRICS else m for m in names), "Estimated", "Promised", *(["Cost a " + page.config.row, "Saved"] if costs else []), "Below the estimate"]
    rows = []
    for w in reversed(found.windows):
        s = w.settled or {}
        money_cells = [money(s.get("cost"), unit) if s.get("cost") is not None else "", amount(s["saved"], unit) if s.get("saved") is not None else ""] if costs else []
        kept = found.promised(w.version)
        rows.append((when(span(w.start, w.end, found.zone)), w.version, f"{w.looked['rows']:,}", f"{s['labelled']:,}" if s else "not due", *(shown(w.realised(m)) for m in names), shown(w.estimated), number(kept) if kept is not None else "", *money_cells, (LOW if s["gap"] else "no") if s else ""))
    table = theme.table(heads, rows, right=range(2, len(heads) - 1), label="Performance by window") if rows else Html("")
    return grid(card("How good was it, window by window?", table, note=f"{words(len(found.windows), 'window')}, the newest first, intervals of 95 % that draw whole days. Saved: against flagging every {page.config.row} or none, whichever is cheaper."))


def shown(found: Interval) -> str:
    """A value with its interval; nothing where there is none."""
    return "" if found.value is None else str(found)


def drift(page: Monitoring) -> Html:
    """The newest window's drift, column by column."""
    windows = page.found.windows
    if not windows or not windows[-1].drift:
        return grid(card("How far is each column from what it was judged on?", note="No window with rows to compare has ended yet."))
    last = windows[-1]
    table, limit = last.looked["drift"], page.config.monitor.effect_alert
    rows = [(r["column"], r["kind"], r["word"], r["effect"], cost_text(r), p_value(r["adjusted_p"]), f"{percent(r['missing_reference'])} → {percent(r['missing_current'])}", r["why"]) for r in last.drift]
    heads = ("Column", "Kind", "Word", "Effect", f"Cost in {METRICS[page.config.headline].title}", "p, adjusted", "Missing", "Because")
    note = f"{span(last.start, last.end, page.found.zone)}, {last.looked['rows']:,} rows of version {last.version}. {table.sentence} An alert needs an effect of {limit:g} and proof; a cost is asked for only where a column moved."
    checks = guarded("Checks", lambda: card("Checks of this window", theme.checks(last.verdicts), note=theme.tally(last.verdicts)), cure=AGAIN)
    return grid(checks, card("How far is each column from what it was judged on?", theme.table(heads, rows, right=[3, 4, 5, 6], label="Drift"), *(tag("<p class=note>{}</p>", n) for n in table.notes), note=note))


def cost_text(row: dict[str, Any]) -> str:
    """What a drift costs, as a number; nothing where it was not asked for."""
    value = known(row.get("cost"))
    return "" if value is None else number(value)


def p_value(value: Any) -> str:
    """A p-value; very small ones are said so."""
    found = known(value)
    return "" if found is None else "< 0.001" if found < 0.001 else number(found)


def data(page: Monitoring) -> Html:
    """Rows by day, what is missing, and whether the columns stayed what they were."""
    return grid(guarded("Do rows come as usual?", lambda: volume(page), cure=AGAIN), guarded("What is missing?", lambda: missing(page), 6, AGAIN), guarded("Are the columns the same?", lambda: schema(page), 6, AGAIN))


def volume(page: Monitoring) -> Html:
    """Rows by day beside what is usual."""
    found = page.found
    days = found.days(SHOWN)
    counts = sorted(n for _, n in days)
    low, high = counts[len(counts) // 10], counts[-1 - len(counts) // 10]
    begin = days[0][0]
    ticks = months(begin, found.upto, found.zone, lambda m: (m - begin) / DAY, 8)
    picture = draw.columns([(i + 0.5, n, f"{day(a, found.zone)}: {n:,} rows") for i, (a, n) in enumerate(days)], ticks, (low, high), "Rows by day")
    note = f"The last {words(len(days), 'day')} up to {full(found.upto, found.zone)}. Shaded: eight days of ten, {low:,} – {high:,}."
    return card("Do rows come as usual?", picture, note=note)


def missing(page: Monitoring) -> Html:
    """The columns that lack more, or less, than they did."""
    windows = page.found.windows
    last = windows[-1] if windows else None
    lacking = [(r, (known(r["missing_current"]) or 0.0) - (known(r["missing_reference"]) or 0.0)) for r in (last.drift if last else []) if known(r["missing_current"]) or known(r["missing_reference"])]
    worst = sorted(lacking, key=lambda x: -x[1])
    told = [(r["column"], percent(r["missing_reference"]), percent(r["missing_current"]), Html('<span class="st watch">◆ more</span>') if more > page.config.monitor.missing else "") for r, more in worst]
    note = f"Share of values missing, {span(last.start, last.end, page.found.zone)}; told from {percent(page.config.monitor.missing)} more than before." if last else "No window has ended yet."
    return card("What is missing?", theme.table(("Column", "When judged", "Now", ""), told, right=[1, 2], label="Missing values") if told else Html("<p>Nothing.</p>"), note=note, span=6)


def schema(page: Monitoring) -> Html:
    """What was said of the columns themselves, window by window."""
    rows = [(when(span(w.start, w.end, page.found.zone)), theme.outcome(v), v.sentence) for w in reversed(page.found.windows) if (v := w.verdict("schema"))]
    return card("Are the columns the same?", theme.table(("Window", "Result", "Found"), rows[:SHOWN], label="Schema") if rows else Html(""), note="Against those that the model was judged on.", span=6)


def incident_cells(page: Monitoring, incident: Incident) -> tuple[Any, ...]:
    """An incident as the cells of a row."""
    zone, over = page.found.zone, incident.closed
    state = tag('<span class="st {}">{}</span>', "good" if over else incident.severity, "● closed" if over else f"{'▲' if incident.severity == 'act' else '◆'} {incident.severity}")
    told = tag("<b>{}</b><div class=unit>{}</div>", incident.title, incident.sentence)
    seen = f"{incident.seen_by}, {theme.moment(page.project, incident.seen_at)}: {incident.seen_why}" if incident.seen_by and incident.seen_at else "no"
    return (state, told, when(day(datetime.fromisoformat(incident.opened), zone)), when(day(datetime.fromisoformat(over), zone)) if over else "", incident.windows, seen, OVER.sub("", incident.ended))


def incidents(page: Monitoring) -> Html:
    """All that somebody had to know, and who knew."""
    rows = [incident_cells(page, i) for i in [*page.found.still, *(i for i in page.found.incidents if i.closed)]]
    table = theme.table(("State", "What", "From", "To", "Windows", "Acknowledged", "What ended it"), rows, right=[4], label="Incidents") if rows else Html("")
    return grid(card("What happened?", table, note=f"{words(len(rows), 'incident')}, the newest first. One stays open while it lasts and is told once."))


def retraining(page: Monitoring) -> Html:
    """All decisions on retraining, with the whole reason."""
    rows = [decision_cells(page, r) for r in page.found.decided]
    table = theme.table(("When", "New model?", "Because", "Decided by", "What came of it"), rows, label="Decisions on retraining") if rows else Html("")
    return grid(card("Was a new model worth making?", table, note=f"{policy(page)} At least {page.config.retrain.labels:,} new labels, and {length(page.config.retrain.cool_down)} since the one before. The newest first."))


def decision_cells(page: Monitoring, row: Retraining) -> tuple[Any, ...]:
    """A decision as the cells of a row."""
    colour, word = SAID.get(row.action, ("", row.action))
    who = row.by if row.by == "policy" else f"{row.by}, {theme.moment(page.project, row.at)}"
    return (when(full(datetime.fromisoformat(row.moment), page.found.zone)), tag('<span class="st {}">{}</span>', colour, word), reason(row.reason), who, run_link(page, row))


def run_link(page: Monitoring, row: Retraining) -> Html:
    """What came of a decision, with its run to open."""
    told, index = came(page, row), page.project.reports / row.run / "index.html" if row.run else None
    return tag("{} ({})", told, theme.link(page.project, index, row.run, page.file)) if index is not None and index.exists() else told


def answers(page: Monitoring) -> Html:
    """What served, who asked, and how labels came."""
    return grid(guarded("Which versions served?", lambda: served(page), 7, AGAIN), guarded("How do labels come?", lambda: labels(page), 5, AGAIN), guarded("Who asks?", lambda: asked(page), cure=AGAIN))


def served(page: Monitoring) -> Html:
    """The promotions, with where they stand on the watched line of time."""
    found = page.found
    rows = [(when(full(at, found.zone)) if (at := found.placed(p)) else "", p.version, p.before or "", p.by, p.why, theme.moment(page.project, p.at)) for p in found.promotions]
    table = theme.table(("From", "Version", "Before", "By", "Why", "Recorded"), rows, label="Promotions") if rows else Html("")
    return card("Which versions served?", table, note="From: the moment as of which it was made, where a past stretch of time is lived; recorded: by the clock.", span=7)


def labels(page: Monitoring) -> Html:
    """What became of the messages about labels, and how late they come."""
    said, late = page.found.words, page.found.late
    rows: list[tuple[str, Any]] = [(word, f"{said.get(word, 0):,}") for word in ("joined", "corrected", "repeated", "outdated", "unknown", "refused")]
    if late:
        rows += [("half of them after", f"{late[len(late) // 2]:.1f} days"), ("nine of ten after", f"{late[min(len(late) - 1, len(late) * 9 // 10)]:.1f} days")]
    note = f"All messages by what became of them; the delay of the newest {LATEST:,} at most. Unknown: of no answer that was given; refused: no value of {page.config.target}."
    return card("How do labels come?", theme.pairs(rows), note=note, span=5)


def asked(page: Monitoring) -> Html:
    """Answers by who asked and which version said it."""
    rows = [("the endpoint" if o == "endpoint" else "the watch", v, f"{n:,}", full(datetime.fromisoformat(at), page.found.zone)) for o, v, n, at in page.found.answers]
    return card("Who asks?", theme.table(("Asked by", "Version", "Answers", "The last"), rows, right=[2], label="Answers") if rows else Html(""), note=f"In the last {ASKED} days up to {full(page.found.upto, page.found.zone)}.")


TABS: dict[str, Callable[[Any], Html]] = {"performance": performance, "drift": drift, "data": data, "incidents": incidents, "retraining": retraining, "service": answers}
