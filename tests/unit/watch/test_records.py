"""The stored records of a window: written, read back, and read from schema version 1."""

from __future__ import annotations

import json
from dataclasses import replace

import pandas as pd

from mlops_kit.core.results import (
    CheckOutcome,
    CheckSeverity,
    Interval,
    Table,
    Verdict,
    Verdicts,
)
from mlops_kit.core.serialization import to_json_value
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
from mlops_kit.stages.retrain.policy import RetrainingAction, RetrainingDecision
from mlops_kit.stats.monitoring_tables import REALIZED_PERFORMANCE_CHECK
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance, is_drop_growing

DRIFT = Table("Drift", "Nothing drifted.", pd.DataFrame({"column": ["a"], "cost": [None]}))
REALIZED = Table(
    "Realized performance",
    "ROC-AUC 0.700.",
    pd.DataFrame({"metric": ["roc_auc"], "value": [0.7], "rows": [280]}),
)
VERDICTS = Verdicts(
    (Verdict("schema", "Schema", CheckOutcome.PASSED, CheckSeverity.BLOCKS, "No change."),)
)
MONITORING = WindowMonitoring(
    rows=280,
    flagged_share=0.4,
    mean_score=0.45,
    estimated=Interval(0.8, 0.75, 0.85),
    drift=DRIFT,
    sketches={"a": {"bins": [1, 2]}},
    verdicts=VERDICTS,
    rows_by_version={"1": 280},
    estimated_cost=Interval(0.3, 0.2, 0.4),
    reference=ReferencePerformance(0.81, 0.78, 0.84, no_skill=0.5, threshold=0.3),
)
PERFORMANCE = WindowPerformance(
    labeled_rows=270,
    realized=REALIZED,
    cost=0.3,
    saved=12.0,
    is_below_estimate=True,
    verdicts=VERDICTS,
    decision=RetrainingDecision(RetrainingAction.KEEP, "No: it holds.", ()),
)


def test_monitoring_record_can_be_read_back() -> None:
    read = WindowMonitoring.from_json(MONITORING.to_json())
    assert read.to_json() == MONITORING.to_json()
    assert read.rows == 280
    assert read.estimated_cost == MONITORING.estimated_cost
    assert read.reference == MONITORING.reference
    assert read.estimated == Interval(0.8, 0.75, 0.85)
    assert read.drift.to_frame()["column"].tolist() == ["a"]
    assert json.loads(MONITORING.to_json())["schema_version"] == 2


def test_performance_record_can_be_read_back() -> None:
    read = WindowPerformance.from_json(PERFORMANCE.to_json())
    assert read.to_json() == PERFORMANCE.to_json()
    assert read.decision == PERFORMANCE.decision
    assert read.is_below_estimate is True


def test_monitoring_record_of_schema_version_1_can_be_read() -> None:
    stored = {
        "rows": 280,
        "flagged": 0.4,
        "mean_score": 0.45,
        "estimated": Interval(0.8, 0.75, 0.85),
        "drift": DRIFT,
        "sketches": {"a": {"bins": [1, 2]}},
        "verdicts": VERDICTS,
        "names": {"1": 280},
    }
    read = WindowMonitoring.from_json(json.dumps(to_json_value(stored)))
    assert read.to_json() == replace(MONITORING, estimated_cost=None, reference=None).to_json()


def test_performance_record_of_schema_version_1_can_be_read() -> None:
    stored = {
        "labelled": 270,
        "realised": REALIZED,  # stored by earlier versions
        "cost": 0.3,
        "saved": 12.0,
        "gap": True,
        "verdicts": VERDICTS,
        "decision": {
            "retrain": False,
            "action": "keep",
            "reason": "No: it holds.",
            "evidence": [],
            "command": "",
        },
    }
    read = WindowPerformance.from_json(json.dumps(to_json_value(stored)))
    assert read.to_json() == PERFORMANCE.to_json()


def test_performance_record_without_cost_and_decision_can_be_read() -> None:
    stored = {
        "labelled": 1,
        "realised": REALIZED,  # stored by earlier versions
        "gap": False,
        "verdicts": VERDICTS,
    }
    read = WindowPerformance.from_json(json.dumps(to_json_value(stored)))
    assert (read.cost, read.saved, read.decision) == (None, None, None)


def test_a_drop_grows_if_the_value_is_worse_than_in_the_window_before_by_more_than_chance() -> None:
    failed = Verdict(
        REALIZED_PERFORMANCE_CHECK,
        "Performance",
        CheckOutcome.FAILED,
        CheckSeverity.BLOCKS,
        "ROC-AUC fell.",
    )
    columns = ["metric", "value", "low", "high", "rows"]
    performances = {}
    for value in (0.6, 0.68, 0.7):
        data = pd.DataFrame([("roc_auc", value, value - 0.02, value + 0.02, 280)], columns=columns)
        performances[value] = replace(
            PERFORMANCE, realized=replace(REALIZED, data=data), verdicts=Verdicts((failed,))
        )
    assert is_drop_growing(performances[0.6], performances[0.7], "roc_auc")
    assert not is_drop_growing(performances[0.68], performances[0.7], "roc_auc")
    assert not is_drop_growing(performances[0.7], performances[0.6], "roc_auc")
    assert is_drop_growing(performances[0.7], None, "roc_auc")
    assert not is_drop_growing(PERFORMANCE, None, "roc_auc")


def test_a_drop_grows_if_an_error_is_larger_than_in_the_window_before() -> None:
    failed = Verdict(
        REALIZED_PERFORMANCE_CHECK,
        "Performance",
        CheckOutcome.FAILED,
        CheckSeverity.BLOCKS,
        "MAE rose.",
    )
    columns = ["metric", "value", "low", "high", "rows"]
    performances = {}
    for value in (2.0, 3.0):
        data = pd.DataFrame([("mae", value, value - 0.2, value + 0.2, 280)], columns=columns)
        performances[value] = replace(
            PERFORMANCE, realized=replace(REALIZED, data=data), verdicts=Verdicts((failed,))
        )
    assert is_drop_growing(performances[3.0], performances[2.0], "mae")
    assert not is_drop_growing(performances[2.0], performances[3.0], "mae")
