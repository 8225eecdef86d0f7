"""Findings against hand calculation and statsmodels-free formulas, and on tables that are hardly any."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mlops_kit.core.errors import KitError
from mlops_kit.core.results import Table, Verdict
from mlops_kit.project import validation
from mlops_kit.project.config import root
from mlops_kit.stages.explore import columns, issues, summary, target


def config(**given: Any) -> root.ProjectConfig:
    return validation.validate_config(
        {"name": "t", "source": "t.csv", "target": "y", "task": "binary", **given}, "test"
    )


def rows(n: int = 40) -> pd.DataFrame:
    when = pd.date_range("2024-01-01", periods=n, freq="6h", tz="UTC")
    return pd.DataFrame(
        {
            "k": range(n),
            "t": when,
            "g": ["a", "b"] * (n // 2),
            "v": np.arange(n) * 1.5,
            "y": [0, 1, 1, 1] * (n // 4),
        }
    )


TIMED = {"id": "k", "time": "t"}


def test_overview_tells_role_kind_missing_and_distinct() -> None:
    frame = rows().assign(empty=None, g=lambda d: d["g"].mask(d["k"] < 10))
    found = summary.summarize_columns(frame, config(**TIMED, excluded_columns="v"))
    told = found.data.set_index("column")
    assert list(told["role"]) == ["id", "time", "feature", "left out", "target", "feature"]
    assert list(told["kind"]) == ["number", "moment", "text", "number", "number", "nothing"]
    assert told.loc["g", "missing"] == 0.25
    assert told.loc["g", "distinct"] == 2
    assert found.sentence.startswith("40 rows and 6 columns")


def test_overview_counts_lists_too() -> None:
    assert summary.summarize_columns(pd.DataFrame({"y": [0, 1], "l": [[1], [1]]}), config()).data[
        "distinct"
    ].tolist() == [2, 1]


def test_missing_puts_the_emptiest_first() -> None:
    found = summary.summarize_missing(
        pd.DataFrame({"a": [1, None, 3, 4], "b": [None] * 4, "c": [1] * 4})
    )
    assert found.data["column"].tolist() == ["b", "a"]
    assert found.data["missing"].tolist() == [1.0, 0.25]
    assert "b lacks most, 100%" in found.sentence


def test_nothing_missing_is_said() -> None:
    assert (
        summary.summarize_missing(pd.DataFrame({"a": [1]})).sentence
        == "No value is missing in 1 columns."
    )


def test_wilson_interval_is_the_formulas() -> None:
    mean, low, high = target.estimate_mean(pd.Series([1.0] * 8 + [0.0] * 2), "binary")
    z, n, p = stats.norm.ppf(0.975), 10, 0.8
    centre, half = (
        (p + z**2 / (2 * n)) / (1 + z**2 / n),
        z * math.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)) / (1 + z**2 / n),
    )
    assert (mean, low, high) == pytest.approx((0.8, centre - half, centre + half))


def test_t_interval_is_scipys() -> None:
    values = np.array([1.0, 2.0, 4.0, 9.0])
    expected = stats.t.interval(0.95, 3, values.mean(), stats.sem(values))
    assert target.estimate_mean(pd.Series(values), "regression") == pytest.approx((4.0, *expected))


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_no_rows_give_no_number_and_no_error(task: str) -> None:
    assert all(math.isnan(v) for v in target.estimate_mean(pd.Series([], dtype=float), task))


def test_one_row_has_a_mean_without_interval() -> None:
    mean, low, high = target.estimate_mean(pd.Series([3.0]), "regression")
    assert mean == 3.0
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize(("n", "word"), [(40, "day"), (1000, "week"), (6000, "month")])
def test_the_period_follows_the_span(n: int, word: str) -> None:
    found = target.summarize_target_over_time(rows(n), config(**TIMED))
    assert isinstance(found, Table)
    assert found.data.columns[0] == word
    assert found.data["rows"].sum() == n


def test_a_day_is_the_projects_day() -> None:
    frame = pd.DataFrame(
        {"k": [1, 2], "t": pd.to_datetime(["2024-01-01T23:30Z", "2024-01-02T12:00Z"]), "y": [0, 1]}
    )
    utc, berlin = (
        target.summarize_target_over_time(frame, config(**TIMED, timezone=z))
        for z in ("UTC", "Europe/Berlin")
    )
    assert isinstance(utc, Table)
    assert isinstance(berlin, Table)
    assert (len(utc.data), len(berlin.data)) == (2, 1)


def test_without_time_the_trend_is_not_applicable() -> None:
    found = target.summarize_target_over_time(rows(), config())
    assert isinstance(found, Verdict)
    assert found.outcome == "not applicable"


def test_without_labels_the_trend_cannot_be_told() -> None:
    found = target.summarize_target_over_time(rows().assign(y=None), config(**TIMED))
    assert isinstance(found, Verdict)
    assert found.outcome == "cannot tell"


def test_groups_have_their_shares_the_highest_first() -> None:
    found = target.summarize_target_by_group(rows(), config(**TIMED), ["g"])
    assert found.data["group"].tolist() == ["g = b", "g = a"]
    assert found.data["share"].tolist() == [1.0, 0.5]
    assert found.data["rows"].tolist() == [20, 20]
    assert "g = b has the highest share of y, 1" in found.sentence


def test_numbers_are_cut_into_quantile_bins_that_keep_every_row() -> None:
    found = target.summarize_target_by_group(rows(), config(task="regression", **TIMED), ["v"])
    assert found.data["rows"].tolist() == [8] * 5
    assert "mean" in found.data


def test_missing_is_a_group_and_unlabelled_rows_are_none() -> None:
    frame = rows().assign(
        g=lambda d: d["g"].mask(d["k"] < 4), y=lambda d: d["y"].mask(d["k"] >= 30)
    )
    found = target.summarize_target_by_group(frame, config(**TIMED), ["g"])
    assert dict(zip(found.data["value"], found.data["rows"], strict=True)) == {
        "missing": 4,
        "a": 13,
        "b": 13,
    }


def test_many_values_leave_an_other_group() -> None:
    assert set(columns.assign_groups(pd.Series([f"v{i % 30}" for i in range(300)])).unique()) >= {
        "other"
    }
    assert (
        columns.assign_groups(pd.Series([f"v{i % 30}" for i in range(300)])).nunique()
        == columns.MAX_GROUPS + 1
    )


def test_one_class_and_empty_columns_are_no_error() -> None:
    found = target.summarize_target_by_group(
        rows().assign(y=1, e=None), config(**TIMED), ["g", "e"]
    )
    assert found.data["share"].tolist() == [1.0] * 3


def test_no_groups_at_all_is_said() -> None:
    found = target.summarize_target_by_group(pd.DataFrame({"y": [0, 1]}), config())
    assert found.data.empty
    assert "no groups" in found.sentence


def test_an_unknown_column_is_an_error_that_names_the_nearest() -> None:
    with pytest.raises(KitError, match="'g'"):
        target.summarize_target_by_group(rows().rename(columns={"v": "z"}), config(**TIMED), ["gg"])


SEEN: dict[str, list[Any]] = {
    "all missing": [None] * 40,
    "constant": [7] * 40,
    "mostly missing": [None] * 30 + [1.0, 2.0] * 5,
    "nearly unique": [f"n{i}" for i in range(40)],
    "own number for each row": [1000 + i for i in range(40)],
    "infinite": [float("inf"), *range(39)],
    "number as text": ["1", "2"] * 20,
    "one sort of value": [1, "x"] * 20,
}


@pytest.mark.parametrize("sign", sorted(set(issues.ISSUE_DETECTORS) - {"many values"}))
def test_each_sign_is_seen_on_its_column_and_on_no_sound_one(sign: str) -> None:
    found = issues.find_data_issues(rows().assign(odd=SEEN[sign]), config(**TIMED)).data
    assert (found["column"] == "odd").all()
    assert sign in set(found["sign"])


def test_a_wide_text_is_seen() -> None:
    frame = pd.DataFrame(
        {"y": [0, 1] * 200, "w": [f"w{i % 150}" for i in range(400)], "k": range(400)}
    )
    assert issues.find_data_issues(frame, config(id="k")).data["sign"].tolist() == ["many values"]


def test_a_sound_table_has_no_sign() -> None:
    found = issues.find_data_issues(rows(), config(**TIMED))
    assert found.data.empty
    assert "Nothing looks wrong" in found.sentence


def test_a_copy_is_seen_though_its_type_differs() -> None:
    found = issues.find_data_issues(
        rows().assign(w=lambda d: d["y"].astype(float)), config(**TIMED)
    ).data
    assert found.to_numpy().tolist() == [["w", "copy", "the same values as y"]]


def test_an_id_that_occurs_twice_is_counted() -> None:
    frame = pd.concat([rows(), rows().head(3)], ignore_index=True)
    found = issues.find_data_issues(frame, config(**TIMED)).data.set_index("sign")
    assert found.loc["id twice", "what is seen"] == "3 rows repeat an earlier one"


def test_findings_leave_the_frame_as_it_was() -> None:
    frame, before = rows(), rows()
    for made in (
        summary.summarize_columns,
        issues.find_data_issues,
        target.summarize_target_over_time,
        target.summarize_target_by_group,
    ):
        made(frame, config(**TIMED))
    pd.testing.assert_frame_equal(frame, before)
