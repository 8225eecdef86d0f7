"""Records of a watch: windows, incidents, decisions, predictions and labels in the database."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pandas as pd

from mlops_kit.core.results import CheckOutcome, CheckSeverity, Interval, Table, Verdict, Verdicts
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import (
    IncidentRecord,
    LabelOutcome,
    LabelRecord,
    PredictionRecord,
    RetrainingRecord,
    WatchRecord,
    WindowRecord,
)
from mlops_kit.db.timestamps import current_timestamp, format_timestamp
from mlops_kit.project import loader
from mlops_kit.stages.retrain.policy import (
    RetrainingAction,
    RetrainingDecision,
    RuleResult,
    RuleRole,
)
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance

WATCHED_FROM = datetime(2013, 7, 1, 4, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
REFERENCE = 0.786  # ROC-AUC that the review measured
ROWS_PER_DAY = 12
ROWS_ON_LAST_DAY = 3
SCRIPT = "</script><script>document.title = 'owned'</script>"
DRIFT_TABLE_COLUMNS = [
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


def make_drift_table(week: int) -> Table:
    """Make a drift table.

    wind costs much, temp little, gust an unknown amount, carrier nothing; visib went missing.
    """
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
            "34% missing, was 2%",
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
        pd.DataFrame(rows, columns=DRIFT_TABLE_COLUMNS),
        notes=("p-values take rows as independent.",),
    )


def make_monitoring(week: int, version: str, rows: int = 84) -> WindowMonitoring:
    """Make what is known of a window without labels."""
    table = make_drift_table(week)
    sketches = {}
    for column in table.data["column"]:
        sketches[column] = {"bins": ["< 3", "≥ 3"], "reference": [0.5, 0.5], "current": [0.2, 0.8]}
    schema = Verdict(
        "schema",
        "The columns are those of the reference",
        CheckOutcome.PASSED,
        CheckSeverity.BLOCKS,
        "All 6 columns are present with their types.",
    )
    return WindowMonitoring(
        rows=rows,
        flagged_share=0.3,
        mean_score=0.25,
        estimated=Interval(0.781 + week / 1000, 0.751, 0.812),
        drift=table,
        sketches=sketches,
        verdicts=Verdicts((schema,)),
        rows_by_version={version: rows},
    )


def make_performance(
    value: float | None, week: int, reference: float = REFERENCE
) -> WindowPerformance:
    """Make what the labels of a window show; the outcome follows the value."""
    low, high = (None, None) if value is None else (value - 0.02, value + 0.02)
    data = pd.DataFrame(
        [("roc_auc", value, low, high, 80, reference), ("log_loss", 0.41, 0.39, 0.43, 80, None)],
        columns=["metric", "value", "low", "high", "rows", "reference"],
    )
    outcome = CheckOutcome.CANNOT_TELL
    if value is not None and value > reference - 0.03:
        outcome = CheckOutcome.PASSED
    elif value is not None and value + 0.02 < reference - 0.03:
        outcome = CheckOutcome.FAILED
    verdict = Verdict(
        "realised",  # stored by earlier versions
        "Performance matches its reference",
        outcome,
        CheckSeverity.BLOCKS,
        f"ROC-AUC is {value}.",
    )
    has_dropped = outcome is CheckOutcome.FAILED
    action = RetrainingAction.RETRAIN if has_dropped else RetrainingAction.KEEP
    return WindowPerformance(
        labeled_rows=80,
        realized=Table("Realized performance", "It is.", data),
        cost=4.1 + week / 100,
        saved=1000.5 + week,
        is_below_estimate=has_dropped,
        verdicts=Verdicts.from_verdicts([verdict]),
        decision=RetrainingDecision(action, "why", (RuleResult("cooldown", RuleRole.GUARD, ""),)),
    )


def write_windows(
    project: loader.Project,
    values: Sequence[float | str | None],
    versions: Sequence[str] = (),
    updated_at: str = "",
    watched_until: datetime | None = None,
) -> None:
    """Write a watch of so many weeks.

    A value is the realized performance; None: too few labels, ``due``: the labels are not due.
    """
    until = watched_until or WATCHED_FROM + WEEK * len(values)
    window_versions = [*versions, *["7"] * (len(values) - len(versions))]
    with open_transaction(project) as session:
        session.add(
            WatchRecord(
                "flights",
                format_timestamp(WATCHED_FROM),
                format_timestamp(until),
                updated_at or current_timestamp(),
            )
        )
        for week, (value, version) in enumerate(zip(values, window_versions, strict=True)):
            start = WATCHED_FROM + week * WEEK
            end = start + WEEK
            record = WindowRecord(
                "flights",
                format_timestamp(start),
                format_timestamp(end),
                version,
                format_timestamp(end),
                make_monitoring(week, version).to_json(),
            )
            if not isinstance(value, str):
                record.realized_at = format_timestamp(end + DAY)
                record.realized_json = make_performance(value, week).to_json()
            session.add(record)


def write_predictions(
    project: loader.Project, days: int, version: str = "7", until: datetime | None = None
) -> None:
    """Write twelve predictions per day, and three on the last; the others have a label."""
    end = until or WATCHED_FROM + days * DAY
    with open_transaction(project) as session:
        for day in range(days):
            is_last = day == days - 1
            start = end - (days - day) * DAY
            for index in range(ROWS_ON_LAST_DAY if is_last else ROWS_PER_DAY):
                event_time = start + index * timedelta(hours=2)
                name = f"{day}-{index}"
                session.add(
                    PredictionRecord(
                        id=name,
                        model="flights",
                        version=version,
                        model_hash=f"m{version}",
                        request_id="",
                        request_hash="",
                        row_key=f'["{name}"]',
                        event_time=format_timestamp(event_time),
                        score=0.3,
                        predicted_class=0.0,
                        features="[]",
                        origin="watch",
                        scored_at=format_timestamp(start + DAY),
                    )
                )
                if not is_last:
                    known_at = format_timestamp(event_time + DAY)
                    session.add(
                        LabelRecord(
                            model="flights",
                            prediction_id=name,
                            value=0.0,
                            raw_value="0",
                            known_at=known_at,
                            origin="source",
                            outcome=LabelOutcome.JOINED,
                            imported_at=known_at,
                            is_current=True,
                        )
                    )


def write_incident(
    project: loader.Project,
    severity: str = "watch",
    title: str = "Fewer rows than usual",
    acknowledged_by: str = "",
    closed: bool = False,
) -> int:
    """Write an incident and return its number."""
    incident = IncidentRecord(
        model="flights",
        signal=f"{title}{closed}",
        severity=severity,
        title=title,
        message=f"{title}: so it is.",
        opened_at=format_timestamp(WATCHED_FROM + WEEK),
        updated_at=format_timestamp(WATCHED_FROM + 2 * WEEK),
        window_count=2,
    )
    if closed:
        incident.closed_at = format_timestamp(WATCHED_FROM + 2 * WEEK)
        incident.close_reason = "version 8 is in service; over by 2013-07-15"
    if acknowledged_by:
        incident.acknowledged_by = acknowledged_by
        incident.acknowledged_at = current_timestamp()
        incident.acknowledge_reason = f"known, says {acknowledged_by}"
    with open_transaction(project) as session:
        session.add(incident)
    return incident.id


def write_retraining(
    project: loader.Project,
    week: int,
    action: str,
    reason: str,
    status: str = "",
    run_id: str = "",
    actor: str = "policy",
) -> None:
    """Write a retraining decision, a day after the end of a week."""
    record = RetrainingRecord(
        model="flights",
        as_of=format_timestamp(WATCHED_FROM + week * WEEK + DAY),
        action=action,
        reason=reason,
        actor=actor,
        decided_at=current_timestamp(),
        status=status,
        run_id=run_id,
    )
    with open_transaction(project) as session:
        session.add(record)
