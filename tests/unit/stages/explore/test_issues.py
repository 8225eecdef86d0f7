"""Explore functions against hand calculation, and on degenerate tables."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlops_kit.core.errors import KitError
from mlops_kit.core.formatting import format_percent
from mlops_kit.core.results import Table, Verdict
from mlops_kit.project import validation
from mlops_kit.project.config import root
from mlops_kit.stages.explore import columns, issues, summary, target


def make_config(**values: Any) -> root.ProjectConfig:
    return validation.validate_config(
        {"name": "t", "source": "t.csv", "target": "y", "task": "binary", **values}, "test"
    )


def make_rows(n: int = 40) -> pd.DataFrame:
    timestamps = pd.date_range("2024-01-01", periods=n, freq="6h", tz="UTC")
    return pd.DataFrame(
        {
            "k": range(n),
            "t": timestamps,
            "g": ["a", "b"] * (n // 2),
            "v": np.arange(n) * 1.5,
            "y": [0, 1, 1, 1] * (n // 4),
        }
    )


TIMED = {"id": "k", "time": "t"}


def test_column_summary_has_role_kind_missing_and_distinct() -> None:
    frame = make_rows().assign(empty=None, g=lambda d: d["g"].mask(d["k"] < 10))
    found = summary.summarize_columns(frame, make_config(**TIMED, excluded_columns="v"))
    by_column = found.data.set_index("column")
    assert list(by_column["role"]) == ["id", "time", "feature", "excluded", "target", "feature"]
    assert list(by_column["kind"]) == ["number", "timestamp", "text", "number", "number", "empty"]
    assert by_column.loc["g", "missing"] == 0.25
    assert by_column.loc["g", "distinct"] == 2
    assert found.sentence.startswith("40 rows and 6 columns")


def test_column_summary_counts_distinct_lists() -> None:
    assert summary.summarize_columns(
        pd.DataFrame({"y": [0, 1], "l": [[1], [1]]}), make_config()
    ).data["distinct"].tolist() == [2, 1]


def test_missing_summary_is_sorted_by_share() -> None:
    found = summary.summarize_missing(
        pd.DataFrame({"a": [1, None, 3, 4], "b": [None] * 4, "c": [1] * 4})
    )
    assert found.data["column"].tolist() == ["b", "a"]
    assert found.data["missing"].tolist() == [1.0, 0.25]
    assert f"b has the most, in {format_percent(1.0)} of the rows" in found.sentence


def test_table_without_missing_values_says_so() -> None:
    assert (
        summary.summarize_missing(pd.DataFrame({"a": [1]})).sentence
        == "No values are missing in 1 columns."
    )


def test_wilson_interval_matches_formula() -> None:
    mean, low, high = target.estimate_mean(pd.Series([1.0] * 8 + [0.0] * 2), "binary")
    z, n, p = stats.norm.ppf(0.975), 10, 0.8
    center = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    assert (mean, low, high) == pytest.approx((0.8, center - half, center + half))


def test_t_interval_matches_scipy() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert target.estimate_mean(pd.Series(values), "regression") == pytest.approx((4.0, *expected))


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_mean_of_no_rows_is_nan(task: str) -> None:
    assert all(math.isnan(v) for v in target.estimate_mean(pd.Series([], dtype=float), task))


def test_mean_of_one_row_has_no_interval() -> None:
    mean, low, high = target.estimate_mean(pd.Series([3.0]), "regression")
    assert mean == 3.0
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize(("n", "period"), [(40, "day"), (1000, "week"), (6000, "month")])
def test_period_depends_on_time_span(n: int, period: str) -> None:
    found = target.summarize_target_over_time(make_rows(n), make_config(**TIMED))
    assert isinstance(found, Table)
    assert found.data.columns[0] == period
    assert found.data["rows"].sum() == n


def test_day_is_in_project_timezone() -> None:
    frame = pd.DataFrame(
        {"k": [1, 2], "t": pd.to_datetime(["2024-01-01T23:30Z", "2024-01-02T12:00Z"]), "y": [0, 1]}
    )
    utc, berlin = (
        target.summarize_target_over_time(frame, make_config(**TIMED, timezone=z))
        for z in ("UTC", "Europe/Berlin")
    )
    assert isinstance(utc, Table)
    assert isinstance(berlin, Table)
    assert (len(utc.data), len(berlin.data)) == (2, 1)


def test_target_over_time_is_not_applicable_without_time() -> None:
    found = target.summarize_target_over_time(make_rows(), make_config())
    assert isinstance(found, Verdict)
    assert found.outcome == "not applicable"


def test_target_over_time_cannot_tell_without_labels() -> None:
    found = target.summarize_target_over_time(make_rows().assign(y=None), make_config(**TIMED))
    assert isinstance(found, Verdict)
    assert found.outcome == "cannot tell"


def test_group_shares_are_sorted_highest_first() -> None:
    found = target.summarize_target_by_group(make_rows(), make_config(**TIMED), ["g"])
    assert found.data["group"].tolist() == ["g = b", "g = a"]
    assert found.data["share"].tolist() == [1.0, 0.5]
    assert found.data["rows"].tolist() == [20, 20]
    assert "g = b has the highest share of y = 1: 1; g = a the lowest: 0.500." in found.sentence


def test_quantile_bins_keep_every_row() -> None:
    found = target.summarize_target_by_group(
        make_rows(), make_config(task="regression", **TIMED), ["v"]
    )
    assert found.data["rows"].tolist() == [8] * 5
    assert "mean" in found.data


def test_missing_values_are_a_group_and_unlabeled_rows_are_excluded() -> None:
    frame = make_rows().assign(
        g=lambda d: d["g"].mask(d["k"] < 4), y=lambda d: d["y"].mask(d["k"] >= 30)
    )
    found = target.summarize_target_by_group(frame, make_config(**TIMED), ["g"])
    assert dict(zip(found.data["value"], found.data["rows"], strict=True)) == {
        "missing": 4,
        "a": 13,
        "b": 13,
    }


def test_many_values_have_an_other_group() -> None:
    assert set(columns.assign_groups(pd.Series([f"v{i % 30}" for i in range(300)])).unique()) >= {
        "other"
    }
    assert (
        columns.assign_groups(pd.Series([f"v{i % 30}" for i in range(300)])).nunique()
        == columns.MAX_GROUPS + 1
    )


def test_one_class_and_empty_columns_are_accepted() -> None:
    found = target.summarize_target_by_group(
        make_rows().assign(y=1, e=None), make_config(**TIMED), ["g", "e"]
    )
    assert found.data["share"].tolist() == [1.0] * 3


def test_table_without_groups_says_so() -> None:
    found = target.summarize_target_by_group(pd.DataFrame({"y": [0, 1]}), make_config())
    assert found.data.empty
    assert "no groups" in found.sentence


def test_unknown_column_error_suggests_nearest() -> None:
    with pytest.raises(KitError, match="'g'"):
        target.summarize_target_by_group(
            make_rows().rename(columns={"v": "z"}), make_config(**TIMED), ["gg"]
        )


VALUES_WITH_ISSUE: dict[str, list[Any]] = {
    "all missing": [None] * 40,
    "constant": [7] * 40,
    "mostly missing": [None] * 30 + [1.0, 2.0] * 5,
    "nearly unique": [f"n{i}" for i in range(40)],
    "unique integers": [1000 + i for i in range(40)],
    "infinite values": [float("inf"), *range(39)],
    "numbers as text": ["1", "2"] * 20,
    "mixed types": [1, "x"] * 20,
}


@pytest.mark.parametrize("issue", sorted(set(issues.ISSUE_DETECTORS) - {"many values"}))
def test_each_issue_is_found_only_on_its_column(issue: str) -> None:
    found = issues.find_data_issues(
        make_rows().assign(odd=VALUES_WITH_ISSUE[issue]), make_config(**TIMED)
    ).data
    assert (found["column"] == "odd").all()
    assert issue in set(found["issue"])


def test_text_with_many_values_is_found() -> None:
    frame = pd.DataFrame(
        {"y": [0, 1] * 200, "w": [f"w{i % 150}" for i in range(400)], "k": range(400)}
    )
    assert issues.find_data_issues(frame, make_config(id="k")).data["issue"].tolist() == [
        "many values"
    ]


def test_clean_table_has_no_issues() -> None:
    found = issues.find_data_issues(make_rows(), make_config(**TIMED))
    assert found.data.empty
    assert "No issues found" in found.sentence


def test_duplicate_column_of_another_type_is_found() -> None:
    found = issues.find_data_issues(
        make_rows().assign(w=lambda d: d["y"].astype(float)), make_config(**TIMED)
    ).data
    assert found.to_numpy().tolist() == [["w", "duplicate column", "the same values as y"]]


def test_duplicate_ids_are_counted() -> None:
    frame = pd.concat([make_rows(), make_rows().head(3)], ignore_index=True)
    found = issues.find_data_issues(frame, make_config(**TIMED)).data.set_index("issue")
    assert found.loc["duplicate ids", "details"] == "3 rows repeat an earlier one"


def test_functions_do_not_change_the_frame() -> None:
    frame, before = make_rows(), make_rows()
    for summarize in (
        summary.summarize_columns,
        issues.find_data_issues,
        target.summarize_target_over_time,
        target.summarize_target_by_group,
    ):
        summarize(frame, make_config(**TIMED))
    pd.testing.assert_frame_equal(frame, before)
