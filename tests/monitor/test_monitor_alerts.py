"""Alerts: drift warns, a proven fall blocks, and the file holds each alert once."""

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
from mlops_kit.stages.monitor.drift import DRIFT_COLUMNS

CONFIG = ProjectConfig(name="t", source="x.csv", target="y", task="binary", id=["k"], time="t")
SCHEMA = Verdict("schema", "columns", "passed", "blocks", "All there.")


def drift(**words: str) -> Table:
    """A drift table with these words."""
    rows = [
        dict.fromkeys(DRIFT_COLUMNS, None)
        | {
            "column": c,
            "word": w,
            "why": "because",
            "missing_reference": 0.0,
            "missing_current": 0.0,
        }
        for c, w in words.items()
    ]
    return Table("Drift", "Drift.", pd.DataFrame(rows, columns=DRIFT_COLUMNS))


def realised(
    value: float | None,
    low: float | None = None,
    high: float | None = None,
    metric: str = "roc_auc",
    promised: float | None = 0.8,
) -> Table:
    """A table of one realised metric."""
    return Table(
        "Realised",
        "Cannot tell: no label." if value is None else "Realised.",
        pd.DataFrame(
            [(metric, value, low, high, 900, promised)],
            columns=["metric", "value", "low", "high", "rows", "promised"],
        ),
    )


NOTHING = Table(
    "Realised",
    "Not applicable: no row was scored.",
    pd.DataFrame(columns=["metric", "value", "low", "high", "rows", "promised"]),
)


@pytest.mark.parametrize(
    ("table", "outcome"),
    [
        (realised(0.79, 0.77, 0.81), "passed"),
        (realised(0.76, 0.74, 0.78), "cannot tell"),
        (realised(0.70, 0.68, 0.72), "failed"),
        (realised(0.70, None, None), "cannot tell"),
        (realised(0.70, 0.6, 0.7, promised=None), "cannot tell"),
        (realised(None), "cannot tell"),
        (NOTHING, "not applicable"),
    ],
)
def test_a_fall_blocks_only_when_its_whole_interval_is_beyond_the_limit(
    table: Table, outcome: str
) -> None:
    found = alerts.check_realized_performance(table, CONFIG)
    assert found.outcome == outcome
    assert found.is_blocking == (outcome == "failed")


def test_a_loss_falls_by_rising() -> None:
    config = CONFIG.model_copy(
        update={"review": CONFIG.review.model_copy(update={"metric": "log_loss"})}
    )
    assert alerts.check_realized_performance(
        realised(0.5, 0.48, 0.52, "log_loss", 0.3), config
    ).is_blocking
    assert (
        alerts.check_realized_performance(
            realised(0.2, 0.18, 0.22, "log_loss", 0.3), config
        ).outcome
        == "passed"
    )


def test_drift_alone_never_blocks() -> None:
    found = alerts.make_monitoring_verdicts(
        drift(a="alert", b="alert", score="alert"), realised(0.8, 0.78, 0.82), SCHEMA, CONFIG
    )
    assert not found.is_blocked
    assert {v.check for v in found if v.outcome == "failed"} == {"drift", "score_drift"}
    assert alerts.summarize_monitoring(found).startswith(
        "As good as promised: ROC-AUC realised 0.800"
    )
    assert "no fall is seen: 2 of 2 features drifted" in alerts.summarize_monitoring(found)
    unlabelled = alerts.make_monitoring_verdicts(
        drift(a="alert", b="alert", score="alert"), realised(None), SCHEMA, CONFIG
    )
    assert alerts.summarize_monitoring(unlabelled).startswith("Look: 2 of 2 features drifted")


def test_watch_and_cannot_tell_are_no_alert() -> None:
    assert alerts.check_feature_drift(drift(a="watch", b="no drift"), CONFIG).outcome == "passed"
    assert (
        "Worth a look: a"
        in alerts.check_feature_drift(drift(a="watch", b="no drift"), CONFIG).sentence
    )
    assert alerts.check_feature_drift(drift(a="cannot tell"), CONFIG).outcome == "cannot tell"
    assert (
        alerts.check_prediction_drift(drift(score="cannot tell"), CONFIG).outcome == "cannot tell"
    )


def test_nothing_scored_is_not_applicable_everywhere() -> None:
    schema = Verdict("schema", "columns", "not applicable", "blocks", "no rows")
    found = alerts.make_monitoring_verdicts(drift(), NOTHING, schema, CONFIG)
    assert found.count_outcome("not applicable") == len(found) == 4
    assert alerts.summarize_monitoring(found) == "Nothing to monitor: no row was scored."


def test_verdicts_are_the_same_after_the_file() -> None:
    table = realised(0.70, 0.68, 0.72)
    assert alerts.check_realized_performance(
        from_json_value(to_json_value(table)), CONFIG
    ) == alerts.check_realized_performance(table, CONFIG)
    assert (
        alerts.check_realized_performance(
            from_json_value(to_json_value(realised(None))), CONFIG
        ).outcome
        == "cannot tell"
    )


def test_headline_puts_the_worst_first() -> None:
    calm = alerts.make_monitoring_verdicts(
        drift(a="no drift", score="no drift"), realised(0.8, 0.78, 0.82), SCHEMA, CONFIG
    )
    assert (
        alerts.summarize_monitoring(calm)
        == "As good as promised: ROC-AUC realised 0.800 [0.780, 0.820], promised 0.800. Nothing drifted."
    )
    fell = alerts.make_monitoring_verdicts(
        drift(a="alert"), realised(0.7, 0.68, 0.72), SCHEMA, CONFIG
    )
    assert alerts.summarize_monitoring(fell).startswith("Act: ROC-AUC fell to")
    unknown = alerts.make_monitoring_verdicts(drift(a="no drift"), realised(None), SCHEMA, CONFIG)
    assert alerts.summarize_monitoring(unknown) == "Cannot tell: no label."
    assert alerts.summarize_monitoring(Verdicts(())) == "Nothing to monitor: no row was scored."


def test_records_are_what_failed() -> None:
    found = alerts.make_monitoring_verdicts(
        drift(a="alert"), realised(0.7, 0.68, 0.72), SCHEMA, CONFIG
    )
    lines = alerts.build_alert_records(found, pd.Timestamp("2024-01-01", tz="UTC"), None)
    assert [x["check"] for x in lines] == ["realised", "drift"]
    assert lines[0]["as_of"] == "2024-01-01 00:00:00+00:00"
    assert lines[0]["until"] == ""


def test_append_adds_an_alert_once(tmp_path: Path) -> None:
    sink = tmp_path / "deep" / "alerts.jsonl"
    line = {"as_of": "a", "until": "b", "check": "drift", "sentence": "ä"}
    assert alerts.append_alerts(sink, [line, line]) == 1
    assert (
        alerts.append_alerts(
            sink, [{**line, "sentence": "reworded"}, {**line, "check": "realised"}]
        )
        == 1
    )
    assert [json.loads(x)["check"] for x in sink.read_text(encoding="utf-8").splitlines()] == [
        "drift",
        "realised",
    ]
    assert alerts.append_alerts(sink, []) == 0


def test_append_survives_a_torn_line(tmp_path: Path) -> None:
    sink = tmp_path / "alerts.jsonl"
    sink.write_text('{"as_of": "a", "unt')
    assert alerts.append_alerts(sink, [{"as_of": "a", "until": "b", "check": "drift"}]) == 1
    assert json.loads(sink.read_text().splitlines()[1])["check"] == "drift"


def test_append_by_many_at_once_doubles_nothing(tmp_path: Path) -> None:
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
