"""Alerts: what drift, realized performance and the schema amount to, and the file of alerts.

Drift alone warns: most drift costs the model nothing. Only a performance drop that the labels
prove, or a broken schema, blocks.

These are the alerts of the monitor stage. ``mlops watch`` sends word of incidents instead: see
``mlops_kit.watch.signals`` for what opens one, and ``mlops_kit.watch.alert_queue`` for who is told.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from mlops_kit.core.formatting import capitalize_first, format_number
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Interval, Table, Verdict, Verdicts
from mlops_kit.core.serialization import to_json_value
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.drift_sides import SCORE_COLUMN
from mlops_kit.stages.monitor.limits import compute_bound
from mlops_kit.stats.metrics import METRICS, Metric
from mlops_kit.stats.monitoring_tables import (
    REALIZED_PERFORMANCE_CHECK,
    DriftReason,
    DriftStatus,
)

_ALERT_KEY_FIELDS = ("as_of", "until", "check")  # two lines with the same values are one alert
_ALERT_FIELDS = ("check", "severity", "sentence", "observed", "limit", "hint")
_MAX_LISTED_WARNINGS = 3


def make_monitoring_verdicts(
    drift: Table,
    realized: Table,
    schema: Verdict,
    config: ProjectConfig,
    others: Iterable[Verdict] = (),
) -> Verdicts:
    """Make all verdicts of monitoring, the worst first.

    ``others`` are further ones, such as those of ``check_joint_drift`` and ``check_slice_drift``.
    """
    return Verdicts.from_verdicts(
        [
            schema,
            check_feature_drift(drift, config),
            check_prediction_drift(drift, config),
            check_realized_performance(realized, config),
            *others,
        ]
    )


def _describe_drift_limit(config: ProjectConfig) -> str:
    return f"effect below {config.monitor.alert_effect:g}, or not significant"


def check_feature_drift(drift: Table, config: ProjectConfig) -> Verdict:
    """Check whether any feature drifted; warns at most."""
    make_verdict = partial(
        Verdict,
        "drift",
        "Features are distributed as at the review",
        severity=CheckSeverity.WARNS,
    )
    data = drift.data[drift.data["column"] != SCORE_COLUMN]
    if data.empty:
        return make_verdict(
            outcome=CheckOutcome.NOT_APPLICABLE,
            sentence="There are no scored rows whose features could have drifted.",
        )
    alerts = data[data["status"] == DriftStatus.ALERT]
    warnings = data.loc[data["status"] == DriftStatus.WARNING, "column"].tolist()
    diagnostics = {
        "alerts": alerts["column"].tolist(),
        "warnings": warnings,
        "columns": len(data),
    }
    make_verdict = partial(
        make_verdict,
        limit=_describe_drift_limit(config),
        diagnostics=diagnostics,
    )
    count = f"{len(alerts)} of {len(data)} features"
    if len(alerts):
        strongest = f"{alerts['column'].iloc[0]} ({alerts['explanation'].iloc[0]})"
        lead = "drifted:" if len(alerts) == 1 else "drifted, most of all"
        return make_verdict(
            outcome=CheckOutcome.FAILED,
            sentence=f"{count} {lead} {strongest}.",
            observed=count,
            hint="look at the columns; drift alone is no reason to retrain",
        )
    if (data["reason"] == DriftReason.TOO_FEW_ROWS).all():
        return make_verdict(
            outcome=CheckOutcome.CANNOT_TELL,
            sentence=f"Drift cannot be tested: {data['explanation'].iloc[0]}.",
            observed=f"{len(data)} features not tested",
            hint="wait for more rows",
        )
    sentence = f"None of {len(data)} features drifted."
    if warnings:
        sentence += f" Warnings: {', '.join(warnings[:_MAX_LISTED_WARNINGS])}."
    return make_verdict(outcome=CheckOutcome.PASSED, sentence=sentence, observed=count)


def check_prediction_drift(drift: Table, config: ProjectConfig) -> Verdict:
    """Check whether the model's scores, or its predicted classes, drifted; warns at most."""
    subject = "predicted classes" if config.task == "multiclass" else "scores"
    make_verdict = partial(
        Verdict,
        "score_drift",
        f"{capitalize_first(subject)} are distributed as at the review",
        severity=CheckSeverity.WARNS,
    )
    row = drift.data[drift.data["column"] == SCORE_COLUMN]
    if row.empty:
        return make_verdict(
            outcome=CheckOutcome.NOT_APPLICABLE,
            sentence=f"There are no {subject} that could have drifted.",
        )
    explanation = str(row["explanation"].iloc[0])
    make_verdict = partial(make_verdict, observed=explanation, limit=_describe_drift_limit(config))
    if row["status"].iloc[0] == DriftStatus.ALERT:
        return make_verdict(
            outcome=CheckOutcome.FAILED,
            sentence=f"The {subject} drifted: {explanation}.",
            hint="get the labels of this period early; they show whether it matters",
        )
    if row["reason"].iloc[0] == DriftReason.TOO_FEW_ROWS:
        return make_verdict(
            outcome=CheckOutcome.CANNOT_TELL,
            sentence=f"Drift of the {subject} cannot be tested: {explanation}.",
            hint="wait for more rows",
        )
    return make_verdict(
        outcome=CheckOutcome.PASSED,
        sentence=f"The {subject} did not drift: {explanation}.",
    )


def check_realized_performance(realized: Table, config: ProjectConfig) -> Verdict:
    """Check whether the headline metric is further below its reference than the limit allows.

    It blocks only if the whole interval is beyond the limit. If the value is and the interval is
    not, the check cannot tell.
    """
    metric = METRICS[config.headline_metric]
    make_verdict = partial(
        Verdict,
        REALIZED_PERFORMANCE_CHECK,
        f"{metric.title} holds at its reference performance",
        severity=CheckSeverity.BLOCKS,
    )
    if realized.data.empty:
        return make_verdict(outcome=CheckOutcome.NOT_APPLICABLE, sentence=realized.sentence)
    row = realized.data[realized.data["metric"] == config.headline_metric].iloc[0]
    interval = realized.to_intervals()[config.headline_metric]
    reference = to_json_value(row["reference"])
    if interval.value is None or reference is None:
        return make_verdict(
            outcome=CheckOutcome.CANNOT_TELL,
            sentence=realized.sentence,
            hint="wait for labels" if interval.value is None else "review the model again",
        )
    bound = to_json_value(row.get("limit"))
    if bound is None:  # stored by an earlier version
        bound = compute_bound(config.monitor.max_drop, metric, Interval(reference))
    reference_text = format_number(reference)
    comparison = "at least" if metric.greater_is_better else "at most"
    make_verdict = partial(
        make_verdict,
        observed=str(interval),
        limit=f"{comparison} {format_number(bound)} (reference {reference_text})",
        diagnostics={
            "value": interval.value,
            "low": interval.low,
            "high": interval.high,
            "reference": reference,
            "bound": bound,
            "rows": int(row["rows"]),
        },
    )
    if metric.compute_gain(interval.value, bound) >= 0:
        return make_verdict(
            outcome=CheckOutcome.PASSED,
            sentence=f"Realized {metric.title} {interval}, reference {reference_text}.",
        )
    best_end = _get_best_limit(metric, interval)
    if best_end is None or metric.compute_gain(best_end, bound) >= 0:
        return make_verdict(
            outcome=CheckOutcome.CANNOT_TELL,
            sentence=(
                f"Realized {metric.title} {interval} is beyond the limit, "
                "but its interval includes the limit."
            ),
            hint="wait for more labels",
        )
    return make_verdict(
        outcome=CheckOutcome.FAILED,
        sentence=(
            f"{metric.title} dropped to {interval}; the reference performance is {reference_text}."
        ),
        hint="retrain, or roll back to the previous version",
    )


def _get_best_limit(metric: Metric, interval: Interval) -> float | None:
    """Return the end of an interval that is more favourable to the model."""
    if metric.greater_is_better:
        return interval.high
    return interval.low


def summarize_monitoring(verdicts: Iterable[Verdict]) -> str:
    """Summarize in one sentence: what blocks, else what the labels say, with the drift."""
    table = Verdicts.from_verdicts(verdicts)
    for verdict in table:
        if verdict.is_blocking:
            return f"Action needed: {verdict.sentence}"
    failed = [verdict.sentence for verdict in table if verdict.outcome is CheckOutcome.FAILED]
    by_check = {verdict.check: verdict for verdict in table}
    realized = by_check.get(REALIZED_PERFORMANCE_CHECK)
    realized_outcome = None if realized is None else realized.outcome
    realized_sentence = "" if realized is None else realized.sentence
    if realized_outcome == CheckOutcome.PASSED:
        drift_sentence = "Nothing drifted."
        if failed:
            drift_sentence = f"Drift without a performance drop: {failed[0]}"
        return f"Performance holds: {realized_sentence} {drift_sentence}"
    if failed:
        sentence = f"Warning: {failed[0]}"
        if realized_outcome == CheckOutcome.CANNOT_TELL:
            sentence += f" {realized_sentence}"
        return sentence
    if realized_outcome == CheckOutcome.CANNOT_TELL:
        return f"Cannot tell: {realized_sentence.removeprefix('Cannot tell: ')}"
    if table.count_outcome(CheckOutcome.PASSED):
        return "No check failed, as far as can be told without labels."
    if table.count_outcome(CheckOutcome.CANNOT_TELL):
        return "Cannot tell: nothing could be tested."
    return "Nothing to monitor: no rows were scored."


def build_alert_records(
    verdicts: Iterable[Verdict],
    as_of: pd.Timestamp | None,
    until: pd.Timestamp | None,
) -> list[dict[str, Any]]:
    """Build a record of each failed check: the period, the check, its sentence and its numbers.

    They contain neither the run nor the clock time: the same period gives the same records.
    """
    period = {
        "as_of": "" if as_of is None else str(as_of),
        "until": "" if until is None else str(until),
    }
    records = []
    for verdict in verdicts:
        if verdict.outcome == CheckOutcome.FAILED:
            values = {name: getattr(verdict, name) for name in _ALERT_FIELDS}
            records.append({**period, **values})
    return records


def append_alerts(path: Path, records: Iterable[dict[str, Any]]) -> int:
    """Append alerts to a file, one JSON object per line; those it already has are left out.

    All lines are written at once under a lock and flushed to disk, so that concurrent runs neither
    interleave nor duplicate alerts.

    Returns
    -------
    int
        How many were added.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = path.read_text(encoding="utf-8")
        known_keys = set()
        for line in text.splitlines():
            known_record = _parse_alert_line(line)
            if known_record is not None:
                known_keys.add(_get_alert_key(known_record))
        new_records = {}
        for record in records:
            key = _get_alert_key(record)
            if key not in known_keys:
                new_records[key] = record
        if not new_records:
            return 0
        # A line that a crash cut off stays on a line of its own.
        lines = ["\n"] if text and not text.endswith("\n") else []
        for record in new_records.values():
            values = to_json_value(record)
            lines.append(json.dumps(values, ensure_ascii=False, sort_keys=True) + "\n")
        file.write("".join(lines))
        file.flush()
        os.fsync(file.fileno())
        return len(new_records)


def _get_alert_key(record: dict[str, Any]) -> tuple[str, ...]:
    """Return what identifies an alert: the period and the check."""
    return tuple(str(record.get(name)) for name in _ALERT_KEY_FIELDS)


def _parse_alert_line(line: str) -> dict[str, Any] | None:
    """Parse a line of the file; None if it was cut off."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    if isinstance(record, dict):
        return record
    return None
