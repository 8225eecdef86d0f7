"""A watch that is told and not made: windows, incidents, decisions, answers and labels as rows of the database."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from mlops_kit.core.results import Interval, Table, Verdict, Verdicts
from mlops_kit.core.serialization import to_json_value
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import (
    IncidentRecord,
    LabelRecord,
    PredictionRecord,
    RetrainingRecord,
    WatchRecord,
    WindowRecord,
)
from mlops_kit.db.timestamps import current_timestamp, format_timestamp
from mlops_kit.project import loader

SINCE, WEEK, DAY = datetime(2013, 7, 1, 4, tzinfo=UTC), timedelta(days=7), timedelta(days=1)
PROMISED, A_DAY, LAST = 0.786, 12, 3  # the review's ROC-AUC; rows a day; fewer on the last
SCRIPT = "</script><script>document.title = 'owned'</script>"
COLUMNS = [
    "column",
    "kind",
    "statistic",
    "effect",
    "limit",
    "p_value",
    "adjusted_p",
    "missing_reference",
    "missing_current",
    "status",
    "explanation",
    "cost",
]


def drift(week: int) -> Table:
    """Wind costs much, temp little, gust nobody knows, carrier nothing; visib went missing; score is the model's own."""
    rows = [
        (
            "wind",
            "number",
            0.4,
            0.4,
            0.1,
            0.0,
            0.0,
            0.01,
            0.01,
            "alert",
            "effect 0.400, limit 0.1",
            0.031 + week / 1000,
        ),
        (
            "temp",
            "number",
            0.3,
            0.3,
            0.1,
            0.0,
            0.0,
            0.0,
            0.0,
            "alert",
            "effect 0.300, limit 0.1",
            0.012,
        ),
        (
            "gust",
            "number",
            0.2,
            0.2,
            0.1,
            0.0,
            0.0,
            0.0,
            0.0,
            "alert",
            "effect 0.200, limit 0.1",
            None,
        ),
        (
            "visib",
            "number",
            0.2,
            0.2,
            0.1,
            0.0,
            0.0,
            0.02,
            0.34,
            "alert",
            "34 % missing, was 2 %",
            0.001,
        ),
        (
            f"carrier {SCRIPT}",
            "category",
            0.02,
            0.02,
            0.1,
            0.3,
            0.31,
            0.0,
            0.0,
            "none",
            "within the noise",
            None,
        ),
        (
            "score",
            "number",
            0.2,
            0.2,
            0.1,
            0.0,
            0.0,
            0.0,
            0.0,
            "alert",
            "effect 0.200, limit 0.1",
            0.02,
        ),
    ]
    return Table(
        "Drift by column",
        "wind drifted most (effect 0.400, limit 0.1); 5 of 6 columns alert.",
        pd.DataFrame(rows, columns=COLUMNS),
        notes=("p-values take rows as independent.",),
    )


def looked(week: int, version: str, rows: int = 84) -> dict[str, Any]:
    """A window without labels."""
    table = drift(week)
    sketches = {
        c: {"bins": ["< 3", "≥ 3"], "reference": [0.5, 0.5], "current": [0.2, 0.8]}
        for c in table.data["column"]
    }
    schema = Verdict(
        "schema",
        "The columns are those the model was judged on",
        "passed",
        "blocks",
        "All 6 columns are there with their types.",
    )
    estimate = Interval(0.781 + week / 1000, 0.751, 0.812)
    found: dict[str, Any] = to_json_value(
        {
            "rows": rows,
            "flagged": 0.3,
            "mean_score": 0.25,
            "estimated": estimate,
            "drift": table,
            "sketches": sketches,
            "verdicts": Verdicts((schema,)),
            "names": {version: rows},
        }
    )
    return found


def settled(value: float | None, week: int, promised: float = PROMISED) -> dict[str, Any]:
    """What the labels of a window said: the outcome follows the value."""
    low, high = (None, None) if value is None else (value - 0.02, value + 0.02)
    data = pd.DataFrame(
        [("roc_auc", value, low, high, 80, promised), ("log_loss", 0.41, 0.39, 0.43, 80, None)],
        columns=["metric", "value", "low", "high", "rows", "reference"],
    )
    outcome = (
        "cannot tell"
        if value is None
        else "passed"
        if value > promised - 0.03
        else "failed"
        if value + 0.02 < promised - 0.03
        else "cannot tell"
    )
    proof = Verdict(
        "realised",
        "ROC-AUC keeps what the review promised",
        outcome,
        "blocks",
        f"ROC-AUC realised {value}.",
    )  # type: ignore[arg-type]
    action, said = ("retrain", "") if outcome == "failed" else ("keep", "")
    decision = {
        "retrain": action == "retrain",
        "action": action,
        "reason": "why",
        "evidence": [{"rule": "cooldown", "role": "guard", "said": said, "applies": bool(said)}],
        "command": "",
    }
    found: dict[str, Any] = to_json_value(
        {
            "labelled": 80,
            "realised": Table("Realised performance", "It is.", data),
            "cost": 4.1 + week / 100,
            "saved": 1000.5 + week,
            "gap": outcome == "failed",
            "verdicts": Verdicts.from_verdicts([proof]),
            "decision": decision,
        }
    )
    return found


def tell(
    project: loader.Project,
    values: Sequence[float | None | str],
    versions: Sequence[str] = (),
    at: str = "",
    upto: datetime | None = None,
) -> None:
    """Write a watch of so many weeks: a number is what the labels said, None that they were not enough, ``due`` that they are not in."""
    end = SINCE + WEEK * len(values) if upto is None else upto
    names = [*versions, *["7"] * (len(values) - len(versions))]
    with open_transaction(project) as opened:
        opened.add(
            WatchRecord(
                "flights", format_timestamp(SINCE), format_timestamp(end), at or current_timestamp()
            )
        )
        for i, (value, version) in enumerate(zip(values, names, strict=True)):
            start = SINCE + i * WEEK
            done = None if value == "due" else json.dumps(settled(value, i))  # type: ignore[arg-type]
            opened.add(
                WindowRecord(
                    "flights",
                    format_timestamp(start),
                    format_timestamp(start + WEEK),
                    version,
                    format_timestamp(start + WEEK),
                    json.dumps(looked(i, version)),
                    format_timestamp(start + WEEK + DAY) if done else None,
                    done,
                )
            )


def answer(
    project: loader.Project, days: int, version: str = "7", until: datetime | None = None
) -> None:
    """Twelve answers a day up to a moment, three on the last; each but those of the last day with a label a day later."""
    end = until or SINCE + days * DAY
    with open_transaction(project) as opened:
        for d in range(days):
            for i in range(LAST if d == days - 1 else A_DAY):
                moment, name = end - (days - d) * DAY + i * timedelta(hours=2), f"{d}-{i}"
                opened.add(
                    PredictionRecord(
                        name,
                        "flights",
                        version,
                        f"m{version}",
                        "",
                        "",
                        f'["{name}"]',
                        format_timestamp(moment),
                        0.3,
                        0.0,
                        "[]",
                        "watch",
                        format_timestamp(end - (days - d - 1) * DAY),
                    )
                )
                if d < days - 1:
                    opened.add(
                        LabelRecord(
                            "flights",
                            name,
                            0.0,
                            "0",
                            format_timestamp(moment + DAY),
                            "source",
                            "joined",
                            format_timestamp(moment + DAY),
                            True,
                        )
                    )


def incident(
    project: loader.Project,
    severity: str = "watch",
    title: str = "Fewer rows than usual",
    seen: str = "",
    closed: bool = False,
) -> int:
    """Something that somebody should know; its number."""
    over = (
        (format_timestamp(SINCE + 2 * WEEK), "version 8 serves; over by 2013-07-15")
        if closed
        else (None, "")
    )
    knows = (seen, current_timestamp(), f"known, says {seen}") if seen else (None, None, None)
    made = IncidentRecord(
        "flights",
        f"{title}{closed}",
        severity,
        title,
        f"{title}: so it is.",
        format_timestamp(SINCE + WEEK),
        format_timestamp(SINCE + 2 * WEEK),
        2,
        *over,
        *knows,
    )
    with open_transaction(project) as opened:
        opened.add(made)
    return made.id


def decide(
    project: loader.Project,
    week: int,
    action: str,
    reason: str,
    state: str = "",
    run: str = "",
    by: str = "policy",
) -> None:
    """A decision on retraining, a day after a week's end."""
    with open_transaction(project) as opened:
        opened.add(
            RetrainingRecord(
                "flights",
                format_timestamp(SINCE + week * WEEK + DAY),
                action,
                reason,
                by,
                current_timestamp(),
                state,
                run,
            )
        )
