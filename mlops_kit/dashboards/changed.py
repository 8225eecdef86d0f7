"""What changed, and does it matter? Drift by column and window: cells to point at, and the two distributions behind each."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mlops_kit.config import Config
from mlops_kit.dashboards import draw
from mlops_kit.dashboards.theme import Html, card, tag, words
from mlops_kit.dashboards.watching import Stretch
from mlops_kit.dashboards.wording import SHORT, span
from mlops_kit.metrics import METRICS
from mlops_kit.results import number

if TYPE_CHECKING:
    from mlops_kit.dashboards.monitoring import Monitoring

FIRST, RECENT = 7, 3  # columns before the fold; windows that say which those are
YEARS = 2 * 365.25  # days in which a season comes twice
JUDGED = {"alert", "watch", "new category", "infinite"}  # words of a drift whose cost was asked for
DEEP = 5.0  # times the limit at which a cell is as dark as it gets


def cost(row: dict[str, Any]) -> float | None:
    """What a column's drift costs as stored; None if that is not known."""
    value = row.get("cost")
    return None if value is None or value != value else float(value)


def colour(row: dict[str, Any], config: Config) -> str:
    """Blue: harmless; amber: it costs something; red: more than a fall that is let pass; grey: not known."""
    value = cost(row)
    if value is None:
        return "faint" if row["word"] in JUDGED else "blue"
    return "act" if value >= config.monitor.fall else "watch" if value >= config.review.margin else "blue"


def price(value: float, config: Config) -> str:
    """What a cost amounts to, in words."""
    if value < config.review.margin:
        return f"it costs about {number(max(value, 0.0))}, too little to act on" if value > 0 else "it costs nothing"
    return f"it costs about {number(value)} of {METRICS[config.headline].title}" + (f", over the limit of {number(config.monitor.fall)}" if value >= config.monitor.fall else "")


def words_of(row: dict[str, Any], when: str, config: Config) -> str:
    """A cell read aloud."""
    value = cost(row)
    told = price(value, config) if value is not None else "what it costs is not known" if row["word"] in JUDGED else row["word"]
    return f"{row['column']}, {when}: effect {number(row['effect'])}; {told}"


def ranked(windows: list[Stretch]) -> list[str]:
    """The columns, those that cost most lately first, then those that cost most ever, then by effect."""
    costs: dict[str, tuple[float, float, float]] = {}
    for i, window in enumerate(reversed(windows)):
        for row in window.drift:
            late, ever, effect = costs.get(row["column"], (0.0, 0.0, 0.0))
            value, moved = cost(row) or 0.0, float(row["effect"]) if row["effect"] is not None and row["effect"] == row["effect"] else 0.0
            costs[row["column"]] = (max(late, value if i < RECENT else 0.0), max(ever, value), max(effect, moved))
    return sorted(costs, key=lambda c: tuple(-v for v in costs[c]))


def heat(page: Monitoring) -> Html:
    """The card: the columns that matter first, the others folded."""
    title, config, windows = "What changed, and does it matter?", page.config, page.found.windows
    if not windows or not any(w.drift for w in windows):
        return card(title, note="No window with rows to compare has ended yet.", span=8)
    names = ranked(windows)
    few, rest = names[:FIRST], names[FIRST:]
    shown = draw.cells([line(page, c, windows) for c in few], ticks(page, windows), "Drift by column and window")
    folded = tag("<details><summary>{}</summary>{}</details>", f"Show {words(len(rest), 'more column')}", draw.cells([line(page, c, windows) for c in rest], ticks(page, windows), "Drift of the other columns")) if rest else Html("")
    whole = (page.found.upto - page.found.since).days
    season = " Whether a change comes with the season cannot be told from less than two years." if whole < YEARS else ""
    note = f"Depth: how far from what the model was judged on. Colour: what that is estimated to cost of {METRICS[config.headline].title}. Click a cell for the two distributions.{season}"
    return card(title, shown, folded, key(config), Html("<div class=sketch role=status hidden></div>"), note=note, span=8)


def key(config: Config) -> Html:
    """What the colours mean."""
    least, most = number(config.review.margin), number(config.monitor.fall)
    return tag("<div class=key><span><i class=cell-blue></i>under {}: harmless</span><span><i class=cell-watch>◆</i>from {}</span><span><i class=cell-act>▲</i>from {}</span><span><i class=cell-faint></i>not known</span></div>", least, least, most)


def line(page: Monitoring, column: str, windows: list[Stretch]) -> tuple[str, list[draw.Cell | None]]:
    """A column's cells."""
    out: list[draw.Cell | None] = []
    for window in windows:
        row = next((r for r in window.drift if r["column"] == column), None)
        moved = None if row is None or row["effect"] is None or row["effect"] != row["effect"] else float(row["effect"])
        if row is None or moved is None:
            out.append(None)
            continue
        depth = min(1.0, moved / (DEEP * page.config.monitor.effect_alert or 1.0))
        out.append(draw.Cell(depth, colour(row, page.config), words_of(row, span(window.start, window.end, page.found.zone), page.config), f"{window.row.id}|{column}"))
    return ("its answers" if column == "score" else column), out


def ticks(page: Monitoring, windows: list[Stretch]) -> list[str]:
    """A word below a window: the month where one begins; the day where there are few."""
    starts = [w.start.astimezone(page.found.zone) for w in windows]
    if len(starts) < 2 or (starts[-1] - starts[0]).days < SHORT:
        each = max(1, len(starts) // 6)
        return [f"{s:%-d %b}" if i % each == 0 else "" for i, s in enumerate(starts)]
    return [f"{s:%b}" if i == 0 or s.month != starts[i - 1].month else "" for i, s in enumerate(starts)]


def sketches(page: Monitoring) -> Html:
    """The distributions by window and column, as data for the script; ``<`` is written so that no text ends the element."""
    held = {str(w.row.id): w.looked.get("sketches", {}) for w in page.found.windows}
    text = json.dumps(held, ensure_ascii=False, separators=(",", ":")).replace("<", "\\u003c")
    return tag("<script type=application/json id=sketches>{}</script>", Html(text))
