"""What changed, and does it matter? Drift by column and window, as cells to point at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mlops_kit.dashboards.draw import Cell
from mlops_kit.dashboards.watching import Stretch
from mlops_kit.dashboards.wording import SHORT, span
from mlops_kit.results import number

if TYPE_CHECKING:
    from mlops_kit.dashboards.monitoring import Monitoring

RECENT = 3  # windows that say which columns come first
JUDGED = {"alert", "watch", "new category", "infinite"}  # words of a drift whose cost was asked for
DEEP = 5.0  # times the limit at which a cell is as dark as it gets


def ranked(windows: list[Stretch]) -> list[str]:
    """The columns, those that cost most lately first, then those that cost most ever, then by effect."""
    costs: dict[str, list[float]] = {}
    for i, window in enumerate(reversed(windows)):
        for row in window.drift:
            value = row["cost"] or 0.0
            costs[row["column"]] = list(map(max, costs.get(row["column"], [0.0] * 3), (value if i < RECENT else 0.0, value, row["effect"] or 0.0)))
    return sorted(costs, key=lambda c: [-v for v in costs[c]])


def line(page: Monitoring, column: str, windows: list[Stretch]) -> tuple[str, list[Cell | None]]:
    """A column's cells, by window; None where its effect is not known."""
    found = [next((r for r in w.drift if r["column"] == column and r["effect"] is not None), None) for w in windows]
    return "its answers" if column == "score" else column, [cell(page, r, w) if r else None for r, w in zip(found, windows, strict=True)]


def cell(page: Monitoring, row: dict[str, Any], window: Stretch) -> Cell:
    """A cell. Blue: harmless; amber: it costs something; red: more than a fall that is let pass; grey: not known."""
    config, value, judged = page.config, row["cost"], row["word"] in JUDGED
    if value is None:
        colour, told = ("faint", "what it costs is not known") if judged else ("blue", row["word"])
    else:
        colour = "act" if value >= config.monitor.fall else "watch" if value >= config.review.margin else "blue"
        told = page.price(value)
    depth = min(1.0, row["effect"] / (DEEP * config.monitor.effect_alert or 1.0))
    return Cell(depth, colour, f"{row['column']}, {span(window.start, window.end, page.zone)}: effect {number(row['effect'])}; {told}", f"{window.row.id}|{row['column']}")


def ticks(page: Monitoring, windows: list[Stretch]) -> list[str]:
    """A word below a window: the month where one begins; the day where there are few."""
    starts = [w.start.astimezone(page.zone) for w in windows]
    if len(starts) < 2 or (starts[-1] - starts[0]).days < SHORT:
        each = max(1, len(starts) // 6)
        return [f"{s:%-d %b}" if i % each == 0 else "" for i, s in enumerate(starts)]
    return [f"{s:%b}" if i == 0 or s.month != starts[i - 1].month else "" for i, s in enumerate(starts)]
