"""Batch."""

from __future__ import annotations

from typing import Any

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.stages.stage import Stage


def select_period_rows(stage: Stage) -> pd.DataFrame:
    """The rows to score: those between ``as_of`` and ``until``; without time, those without a label."""
    rows, config = stage.read_source(stage.until), stage.config
    due = rows[config.target].isna() if config.time is None else rows[config.time] >= stage.as_of
    return rows[due].reset_index(drop=True)


def summarize_scores_by_day(scored: pd.DataFrame, config: Any) -> Table:
    """How many rows were scored each day, and how many of them were flagged."""
    if scored.empty:
        reason = (
            "the table has no time and no row without a label"
            if config.time is None
            else "no row lies between as_of and until"
        )
        return Table(
            "Scored by day",
            f"Nothing to score: {reason}.",
            pd.DataFrame(columns=["day", "rows", "mean score", "flagged"]),
        )
    data = (
        scored.groupby("day", sort=True)
        .agg(
            **{
                "rows": ("score", "size"),
                "mean score": ("score", "mean"),
                "flagged": ("decision", "mean"),
            }
        )
        .reset_index()
    )
    data["day"] = pd.to_datetime(data["day"]) if config.time else data["day"]
    flagged = scored["decision"].mean()
    tail = "" if pd.isna(flagged) else f"; {format_percent(float(flagged))} of them are flagged"
    return Table(
        "Scored by day",
        f"{format_number(len(scored))} rows were scored over {len(data)} days{tail}.",
        data,
    )
