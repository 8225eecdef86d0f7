"""Alerts: drift warns, a proven performance drop blocks, and the file has each alert once."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pandas as pd
import pytest

from mlops_kit.core.results import Table, Verdict, Verdicts
from mlops_kit.core.serialization import from_json_value, to_json_value
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor import alerts
from mlops_kit.stages.monitor.drift_classification import DRIFT_COLUMNS
from mlops_kit.stats.monitoring_tables import REALIZED_PERFORMANCE_CHECK

CONFIG = ProjectConfig(name="t", source="x.csv", target="y", task="binary", id=["k"], time="t")
SCHEMA = Verdict("schema", "columns", "passed", "blocks", "All there.")


def make_drift(**statuses: str) -> Table:
    """A drift table with these statuses by column; ``too_few_rows`` is a column not tested."""
    rows = []
    for column, status in statuses.items():
        is_untested = status == "too_few_rows"
        rows.append(
            {
                **dict.fromkeys(DRIFT_COLUMNS, None),
                "column": column,
                "status": "not_tested" if is_untested else status,
                "reason": status if is_untested else "effect",
                "explanation": "effect 0.3",
                "missing_reference": 0.0,
                "missing_current": 0.0,
            }
        )
    return Table("Drift", "Drift.", pd.DataFrame(rows, columns=DRIFT_COLUMNS))


def make_realized(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    metric: str = "roc_auc",
    reference: float | None = 0.8,
) -> Table:
    """A table of one realized metric."""
    return Table(
        "Realized",
        "Cannot tell: no label." if value is None else "Realized.",
        pd.DataFrame(
            [(metric, value, low, high, 900, reference)],
            columns=["metric", "value", "low", "high", "rows", "reference"],
        ),
    )


NOTHING = Table(
    "Realized",
    "Not applicable: no row was scored.",
    pd.DataFrame(columns=["metric", "value", "low", "high", "rows", "reference"]),
)


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (make_realized(0.79, 0.77, 0.81), "passed"),
        (make_realized(0.76, 0.74, 0.78), "cannot tell"),
        (make_realized(0.70, 0.68, 0.72), "failed"),
        (make_realized(0.70, None, None), "cannot tell"),
        (make_realized(0.70, 0.6, 0.7, reference=None), "cannot tell"),
        (make_realized(None), "cannot tell"),
        (NOTHING, "not applicable"),
    ],
)
def test_drop_blocks_only_if_whole_interval_is_beyond_limit(table: Table, outcome: str) -> None:
    found = alerts.check_realized_performance(table, CONFIG)
    assert found.outcome == outcome
    assert found.is_blocking == (outcome == "failed")


def test_rising_loss_is_a_performance_drop() -> None:
    config = CONFIG.model_copy(
        update={"review": CONFIG.review.model_copy(update={"metric": "log_loss"})}
    )
    assert alerts.check_realized_performance(
        make_realized(0.5, 0.48, 0.52, "log_loss", 0.3), config
    ).is_blocking
    assert (
        alerts.check_realized_performance(
            make_realized(0.2, 0.18, 0.22, "log_loss", 0.3), config
        ).outcome
        == "passed"
    )


def test_drift_alone_never_blocks() -> None:
    found = alerts.make_monitoring_verdicts(
        make_drift(a="alert", b="alert", score="alert"),
        make_realized(0.8, 0.78, 0.82),
        SCHEMA,
        CONFIG,
    )
    assert not found.is_blocked
    assert {v.check for v in found if v.outcome == "failed"} == {"drift", "score_drift"}
    assert alerts.summarize_monitoring(found).startswith(
        "Performance holds: Realized ROC-AUC 0.800"
    )
    assert (
        "Drift without a performance drop: 2 of 2 features drifted"
        in alerts.summarize_monitoring(found)
    )
    unlabelled = alerts.make_monitoring_verdicts(
        make_drift(a="alert", b="alert", score="alert"), make_realized(None), SCHEMA, CONFIG
    )
    assert alerts.summarize_monitoring(unlabelled).startswith("Warning: 2 of 2 features drifted")


def test_warning_and_untested_columns_raise_no_alert() -> None:
    assert alerts.check_feature_drift(make_drift(a="warning", b="none"), CONFIG).outcome == "passed"
    assert (
        "Warnings: a"
        in alerts.check_feature_drift(make_drift(a="warning", b="none"), CONFIG).sentence
    )
    assert alerts.check_feature_drift(make_drift(a="too_few_rows"), CONFIG).outcome == "cannot tell"
    assert (
        alerts.check_prediction_drift(make_drift(score="too_few_rows"), CONFIG).outcome
        == "cannot tell"
    )


def test_verdicts_without_scored_rows_are_not_applicable() -> None:
    schema = Verdict("schema", "columns", "not applicable", "blocks", "no rows")
    found = alerts.make_monitoring_verdicts(make_drift(), NOTHING, schema, CONFIG)
    assert found.count_outcome("not applicable") == len(found) == 4
    assert alerts.summarize_monitoring(found) == "Nothing to monitor: no rows were scored."


def test_verdicts_survive_json_round_trip() -> None:
    table = make_realized(0.70, 0.68, 0.72)
    assert alerts.check_realized_performance(
        from_json_value(to_json_value(table)), CONFIG
    ) == alerts.check_realized_performance(table, CONFIG)
    assert (
        alerts.check_realized_performance(
            from_json_value(to_json_value(make_realized(None))), CONFIG
        ).outcome
        == "cannot tell"
    )


def test_summary_begins_with_the_worst() -> None:
    calm = alerts.make_monitoring_verdicts(
        make_drift(a="none", score="none"), make_realized(0.8, 0.78, 0.82), SCHEMA, CONFIG
    )
    assert (
        alerts.summarize_monitoring(calm)
        == "Performance holds: Realized ROC-AUC 0.800 [0.780, 0.820], reference 0.800. "
        "Nothing drifted."
    )
    fell = alerts.make_monitoring_verdicts(
        make_drift(a="alert"), make_realized(0.7, 0.68, 0.72), SCHEMA, CONFIG
    )
    assert alerts.summarize_monitoring(fell).startswith("Action needed: ROC-AUC dropped to")
    unknown = alerts.make_monitoring_verdicts(
        make_drift(a="none"), make_realized(None), SCHEMA, CONFIG
    )
    assert alerts.summarize_monitoring(unknown) == "Cannot tell: no label."
    assert alerts.summarize_monitoring(Verdicts(())) == "Nothing to monitor: no rows were scored."


def test_alert_records_are_the_failed_checks() -> None:
    found = alerts.make_monitoring_verdicts(
        make_drift(a="alert"), make_realized(0.7, 0.68, 0.72), SCHEMA, CONFIG
    )
    lines = alerts.build_alert_records(found, pd.Timestamp("2024-01-01", tz="UTC"), None)
    assert [x["check"] for x in lines] == [REALIZED_PERFORMANCE_CHECK, "drift"]
    assert lines[0]["as_of"] == "2024-01-01 00:00:00+00:00"
    assert lines[0]["until"] == ""


def test_append_writes_an_alert_once(tmp_path: Path) -> None:
    sink = tmp_path / "deep" / "alerts.jsonl"
    line = {"as_of": "a", "until": "b", "check": "drift", "sentence": "ä"}
    assert alerts.append_alerts(sink, [line, line]) == 1
    assert (
        alerts.append_alerts(
            sink, [{**line, "sentence": "reworded"}, {**line, "check": REALIZED_PERFORMANCE_CHECK}]
        )
        == 1
    )
    assert [json.loads(x)["check"] for x in sink.read_text(encoding="utf-8").splitlines()] == [
        "drift",
        REALIZED_PERFORMANCE_CHECK,
    ]
    assert alerts.append_alerts(sink, []) == 0


def test_append_accepts_a_truncated_line(tmp_path: Path) -> None:
    sink = tmp_path / "alerts.jsonl"
    sink.write_text('{"as_of": "a", "unt')
    assert alerts.append_alerts(sink, [{"as_of": "a", "until": "b", "check": "drift"}]) == 1
    assert json.loads(sink.read_text().splitlines()[1])["check"] == "drift"


def test_concurrent_appends_write_no_duplicates(tmp_path: Path) -> None:
    sink = tmp_path / "alerts.jsonl"
    lines = [{"as_of": "a", "until": "b", "check": f"c{i}"} for i in range(20)]
    threads = [threading.Thread(target=alerts.append_alerts, args=(sink, lines)) for _ in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(json.loads(x)["check"] for x in sink.read_text().splitlines()) == sorted(
        x["check"] for x in lines
    )
