"""The windows of the watch: their borders, concept drift and cost."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from mlops_kit.core.results import Interval, Table
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.watch import windows
from mlops_kit.watch.status import format_local_time
from mlops_kit.watch.window_borders import list_ended_windows, list_filled_windows

START = datetime(2024, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)


def make_config(**values: Any) -> ProjectConfig:
    return ProjectConfig(
        name="t", source="x.csv", target="y", task="binary", time="at", timezone="Europe/Berlin"
    ).model_copy(update=values)


def make_realized(value: float | None, low: float | None, high: float | None) -> Table:
    row = {"metric": "roc_auc", "value": value, "low": low, "high": high, "rows": 900}
    return Table("Realized performance", "ROC-AUC is unknown.", pd.DataFrame([row]))


@pytest.mark.parametrize(("days", "count"), [(0, 0), (6.9, 0), (7, 1), (20, 2), (21, 3), (-3, 0)])
def test_windows_end_in_time_and_leave_no_gap(days: float, count: int) -> None:
    ended = list_ended_windows(START, START + days * DAY, 7 * DAY)
    assert len(ended) == count
    borders = [START, *(end for _, end in ended)]
    assert [start for start, _ in ended] == borders[:-1]


def test_windows_of_rows_end_with_a_row_and_leave_no_gap() -> None:
    times = [START + minutes * timedelta(minutes=1) for minutes in (0, 1, 2, 2, 2, 3, 4, 5, 6)]
    filled = list_filled_windows(START, times, 3)
    borders = [START, *(end for _, end in filled)]
    assert [start for start, _ in filled] == borders[:-1]
    rows = [sum(start <= time < end for time in times) for start, end in filled]
    assert rows == [5, 3]  # rows of the same time are together; the last row waits for others
    assert list_filled_windows(filled[-1][1], times[-1:], 3) == []


def test_windows_of_rows_do_not_depend_on_the_passes() -> None:
    times = [START + hours * timedelta(hours=1) for hours in range(40)]
    at_once = list_filled_windows(START, times, 7)
    pass_by_pass = []
    for known in range(len(times)):
        start = pass_by_pass[-1][1] if pass_by_pass else START
        new_times = [time for time in times[: known + 1] if time >= start]
        pass_by_pass += list_filled_windows(start, new_times, 7)
    assert pass_by_pass == at_once


def test_realized_performance_is_below_all_of_the_interval_of_the_estimate() -> None:
    config = make_config()
    estimated = Interval(0.8, 0.75, 0.85)
    assert windows._is_below_estimate(make_realized(0.7, 0.6, 0.81), estimated, config)
    assert not windows._is_below_estimate(make_realized(0.76, 0.7, 0.79), estimated, config)
    assert not windows._is_below_estimate(make_realized(0.9, 0.88, 0.92), estimated, config)
    assert not windows._is_below_estimate(make_realized(None, None, None), estimated, config)
    assert not windows._is_below_estimate(make_realized(0.7, 0.6, 0.7), Interval(None), config)


@pytest.mark.parametrize(
    ("windows_below", "estimated", "realized", "outcome"),
    [
        (2, Interval(0.8, 0.75, 0.85), make_realized(0.7, 0.65, 0.75), "failed"),
        (1, Interval(0.8, 0.75, 0.85), make_realized(0.7, 0.65, 0.75), "passed"),
        (0, Interval(0.8, 0.75, 0.85), make_realized(0.8, 0.75, 0.85), "passed"),
        (0, Interval(0.8, 0.75, 0.85), make_realized(None, None, None), "cannot tell"),
        (0, Interval(None), make_realized(0.7, 0.65, 0.75), "not applicable"),
    ],
)
def test_concept_drift_needs_several_windows_below_the_estimate(
    windows_below: int, estimated: Interval, realized: Table, outcome: str
) -> None:
    config = make_config()
    assert config.watch.min_drifted_windows == 2
    verdict = windows._check_concept_drift(windows_below, realized, estimated, config)
    assert verdict.outcome == outcome
    assert verdict.sentence.endswith(".")


def test_cost_and_saving_of_a_window_by_hand() -> None:
    config = make_config()
    cost = config.cost.model_copy(update={"false_alarm": 1.0, "miss": 3.0})
    config = config.model_copy(update={"cost": cost})
    rows = pd.DataFrame({"label": [1.0, 1.0, 0.0, 0.0], "decision": [1.0, 0.0, 1.0, 0.0]})
    # One miss and one false alarm cost 4; flagging every row costs 2, flagging none costs 6.
    assert windows._compute_window_cost(rows, config) == (1.0, -2.0)
    assert windows._compute_window_cost(rows.assign(decision=float("nan")), config) == (None, None)
    assert windows._compute_window_cost(rows.head(0), config) == (None, None)


def test_midnight_is_shown_as_the_day_in_the_projects_time_zone() -> None:
    config = make_config()
    assert format_local_time(config, datetime(2024, 1, 1, 23, tzinfo=UTC)) == "2024-01-02"
    assert format_local_time(config, datetime(2024, 1, 1, 22, tzinfo=UTC)) == "2024-01-01 23:00"
