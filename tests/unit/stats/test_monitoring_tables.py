"""Monitoring tables of earlier versions are read in their present form."""

from __future__ import annotations

import pandas as pd

from mlops_kit.core.results import Table
from mlops_kit.stats.monitoring_tables import upgrade_monitoring_table


def make_legacy_drift() -> Table:
    """A drift table as version 0.1.0 stored it."""
    rows = [
        ("a", 0.001, "alert", "effect 0.3, limit 0.1"),
        ("b", None, "alert", "missing rose from 0 % to 50 %"),
        ("c", 0.02, "watch", "effect 0.06, worth a look from 0.05"),
        ("d", 0.5, "new category", "new: z in 1 % of rows"),
        ("e", 0.5, "no drift", "effect 0, within the noise"),
        ("f", None, "cannot tell", "3 rows on one side, fewer than 200"),
        ("g", None, "not compared", "dates move on by themselves"),
    ]
    data = pd.DataFrame(rows, columns=["column", "p_value", "word", "why"])
    return Table("Drift by column", "a drifted most.", data, visible_columns=("column", "word"))


def test_legacy_words_become_status_and_reason() -> None:
    upgraded = upgrade_monitoring_table(make_legacy_drift())
    assert upgraded.data.columns.tolist() == [
        "column",
        "p_value",
        "status",
        "reason",
        "explanation",
    ]
    assert upgraded.data[["column", "status", "reason"]].to_numpy().tolist() == [
        ["a", "alert", "effect"],
        ["b", "alert", "missing_values"],
        ["c", "warning", "effect"],
        ["d", "warning", "new_values"],
        ["e", "none", "effect"],
        ["f", "not_tested", "too_few_rows"],
        ["g", "not_tested", "not_comparable"],
    ]
    assert upgraded.visible_columns == ("column", "status")


def test_current_table_is_unchanged() -> None:
    upgraded = upgrade_monitoring_table(make_legacy_drift())
    again = upgrade_monitoring_table(upgraded)
    pd.testing.assert_frame_equal(again.data, upgraded.data)


def test_legacy_table_of_performance_has_its_reference() -> None:
    columns = ["metric", "value", "promised"]  # stored by earlier versions
    legacy = pd.DataFrame([("roc_auc", 0.7, 0.8)], columns=columns)
    upgraded = upgrade_monitoring_table(Table("t", "s", legacy))
    assert upgraded.data.columns.tolist() == ["metric", "value", "reference"]
