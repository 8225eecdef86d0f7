"""Alerts: what drift, realised performance and the schema amount to, and the file they are added to.

Drift alone warns: most drift costs the model nothing. Only a fall that the labels prove, or columns
that broke, block.

To add an alert: 1. a function that returns a ``Verdict``, 2. a call of it in ``judge``; the sink,
the headline and the retraining policy take whatever verdicts there are.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.results import CheckOutcome, CheckSeverity, Table, Verdict, Verdicts
from mlops_kit.core.serialization import to_json_value
from mlops_kit.project.config import root
from mlops_kit.stats.metrics import METRICS

_ALERT_KEY_FIELDS = ("as_of", "until", "check")  # what makes two lines of the file the same alert


def make_monitoring_verdicts(
    drift: Table, realised: Table, schema: Verdict, config: root.ProjectConfig
) -> Verdicts:
    """All verdicts of monitoring, the worst first."""
    return Verdicts.from_verdicts(
        [
            schema,
            check_feature_drift(drift, config),
            check_prediction_drift(drift, config),
            check_realized_performance(realised, config),
        ]
    )


def check_feature_drift(drift: Table, config: root.ProjectConfig) -> Verdict:
    """Whether any feature drifted; warns at most."""
    title, data = (
        "The features look as they did at review",
        drift.data[drift.data["column"] != "score"],
    )
    limit = f"effect below {config.monitor.alert_effect:g}, or not significant"
    if data.empty:
        return Verdict(
            "drift",
            title,
            CheckOutcome.NOT_APPLICABLE,
            CheckSeverity.WARNS,
            "There are no scored rows whose features could have drifted.",
        )
    alerts = [f"{r.column} ({r.why})" for r in data[data["word"] == "alert"].itertuples()]
    looks = data[data["word"].isin(["watch", "new category", "infinite"])]["column"].tolist()
    facts = {
        "alerts": data[data["word"] == "alert"]["column"].tolist(),
        "watch": looks,
        "columns": len(data),
    }
    count = f"{len(alerts)} of {len(data)} features"
    if alerts:
        sentence = f"{count} drifted{', most of all' if len(alerts) > 1 else ':'} {alerts[0]}."
        return Verdict(
            "drift",
            title,
            CheckOutcome.FAILED,
            CheckSeverity.WARNS,
            sentence,
            count,
            limit,
            "look at the columns; drift alone is no reason to retrain",
            facts,
        )
    if (data["word"] == "cannot tell").all():
        return Verdict(
            "drift",
            title,
            CheckOutcome.CANNOT_TELL,
            CheckSeverity.WARNS,
            f"Drift cannot be judged: {data['why'].iloc[0]}.",
            f"{len(data)} features unjudged",
            limit,
            "wait for more rows",
            facts,
        )
    tail = f" Worth a look: {', '.join(looks[:3])}." if looks else ""
    return Verdict(
        "drift",
        title,
        CheckOutcome.PASSED,
        CheckSeverity.WARNS,
        f"None of {len(data)} features drifted.{tail}",
        count,
        limit,
        "",
        facts,
    )


def check_prediction_drift(drift: Table, config: root.ProjectConfig) -> Verdict:
    """Whether the model's own answers drifted; warns at most."""
    title, row = (
        "The predictions look as they did at review",
        drift.data[drift.data["column"] == "score"],
    )
    if row.empty:
        return Verdict(
            "score_drift",
            title,
            CheckOutcome.NOT_APPLICABLE,
            CheckSeverity.WARNS,
            "There are no scores that could have drifted.",
        )
    word, why = row["word"].iloc[0], row["why"].iloc[0]
    outcome: Any = {"alert": "failed", "cannot tell": "cannot tell"}.get(word, "passed")
    cure = {
        "failed": "hasten the labels of this period, they tell whether it matters",
        "cannot tell": "wait for more rows",
    }.get(outcome, "")
    says = {
        "failed": "The predictions drifted",
        "cannot tell": "Drift of the predictions cannot be judged",
    }.get(outcome, "The predictions did not drift")
    return Verdict(
        "score_drift",
        title,
        outcome,
        CheckSeverity.WARNS,
        f"{says}: {why}.",
        str(why),
        f"effect below {config.monitor.alert_effect:g}, or not significant",
        cure,
    )


def check_realized_performance(realised: Table, config: root.ProjectConfig) -> Verdict:
    """Whether the headline metric fell further below its promise than the limit allows.

    Blocks only if the whole interval lies beyond the limit; if the value does and the interval
    reaches back, one cannot tell.
    """
    metric, fall = METRICS[config.headline_metric], config.monitor.max_drop
    title = f"{metric.title} keeps what the review promised"
    if realised.data.empty:
        return Verdict(
            "realised", title, CheckOutcome.NOT_APPLICABLE, CheckSeverity.BLOCKS, realised.sentence
        )
    row, found = (
        realised.data[realised.data["metric"] == config.headline_metric].iloc[0],
        realised.to_intervals()[config.headline_metric],
    )
    promised, value, shown = to_json_value(row["promised"]), found.value, str(found)
    if value is None or promised is None:
        return Verdict(
            "realised",
            title,
            CheckOutcome.CANNOT_TELL,
            CheckSeverity.BLOCKS,
            realised.sentence,
            hint="wait for labels" if value is None else "review the model again",
        )
    bound = promised - fall if metric.greater_is_better else promised + fall
    limit = f"{'at least' if metric.greater_is_better else 'at most'} {format_number(bound)} (promised {format_number(promised)})"
    facts = {
        "value": value,
        "low": found.low,
        "high": found.high,
        "promised": promised,
        "bound": bound,
        "rows": int(row["rows"]),
    }
    nearest = (
        found.high if metric.greater_is_better else found.low
    )  # the end of the interval that speaks for the model
    if metric.compute_gain(value, bound) >= 0:
        return Verdict(
            "realised",
            title,
            CheckOutcome.PASSED,
            CheckSeverity.BLOCKS,
            f"{metric.title} realised {shown}, promised {format_number(promised)}.",
            shown,
            limit,
            "",
            facts,
        )
    if nearest is None or metric.compute_gain(nearest, bound) >= 0:
        return Verdict(
            "realised",
            title,
            CheckOutcome.CANNOT_TELL,
            CheckSeverity.BLOCKS,
            f"{metric.title} realised {shown} is beyond the limit, but its interval is not.",
            shown,
            limit,
            "wait for more labels",
            facts,
        )
    return Verdict(
        "realised",
        title,
        CheckOutcome.FAILED,
        CheckSeverity.BLOCKS,
        f"{metric.title} fell to {shown}; the review promised {format_number(promised)}.",
        shown,
        limit,
        "retrain, or go back to the version before",
        facts,
    )


def summarize_monitoring(verdicts: Iterable[Verdict]) -> str:
    """The state in one sentence: what blocks, else what the labels say, with the drift beside it."""
    table = Verdicts.from_verdicts(verdicts)
    found = {v.check: v for v in table}
    if blocking := next((v for v in table if v.is_blocking), None):
        return f"Act: {blocking.sentence}"
    proof, warned = found.get("realised"), [v.sentence for v in table if v.outcome == "failed"]
    if proof and proof.outcome == "passed":
        return f"As good as promised: {proof.sentence} " + (
            f"Worth a look, though no fall is seen: {warned[0]}" if warned else "Nothing drifted."
        )
    if warned:
        return f"Look: {warned[0]}" + (
            f" {proof.sentence}" if proof and proof.outcome == "cannot tell" else ""
        )
    if proof and proof.outcome == "cannot tell":
        return (
            proof.sentence
            if proof.sentence.startswith("Cannot tell")
            else f"Cannot tell: {proof.sentence}"
        )
    if not table.count_outcome(CheckOutcome.PASSED):
        return (
            "Cannot tell: nothing could be judged."
            if table.count_outcome(CheckOutcome.CANNOT_TELL)
            else "Nothing to monitor: no row was scored."
        )
    return "All is well, as far as can be seen without labels."


def build_alert_records(
    verdicts: Iterable[Verdict], as_of: Any, until: Any
) -> list[dict[str, Any]]:
    """What failed, as lines for the sink: the period, the check, its sentence and its numbers.

    No run and no clock in them: the same period judged again makes the same lines.
    """
    period = {
        "as_of": str(as_of) if as_of is not None else "",
        "until": str(until) if until is not None else "",
    }
    kept = ("check", "severity", "sentence", "found", "limit", "cure")
    return [
        {**period, **{k: getattr(v, k) for k in kept}} for v in verdicts if v.outcome == "failed"
    ]


def append_alerts(path: Path, lines: Iterable[dict[str, Any]]) -> int:
    """Add alerts to a file, one JSON object a line; those it already has are left out.

    One write of whole lines under a lock, then an fsync: two runs at once neither mix nor double them.

    Returns
    -------
    int
        How many were added.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        text = path.read_text(encoding="utf-8")
        seen = {
            _get_alert_key(x) for x in map(_parse_alert_line, text.splitlines()) if x is not None
        }
        if fresh := {_get_alert_key(x): x for x in lines if _get_alert_key(x) not in seen}:
            torn = (
                "\n" if text and not text.endswith("\n") else ""
            )  # a line cut off by a crash stays alone
            file.write(
                torn
                + "".join(
                    json.dumps(to_json_value(x), ensure_ascii=False, sort_keys=True) + "\n"
                    for x in fresh.values()
                )
            )
            file.flush()
            os.fsync(file.fileno())
        return len(fresh)


def _get_alert_key(line: dict[str, Any]) -> tuple[str, ...]:
    """What names an alert: the period and the check."""
    return tuple(str(line.get(k)) for k in _ALERT_KEY_FIELDS)


def _parse_alert_line(text: str) -> dict[str, Any] | None:
    """A line of the file, or None if it is torn."""
    with suppress(ValueError):
        return found if isinstance(found := json.loads(text), dict) else None
    return None
