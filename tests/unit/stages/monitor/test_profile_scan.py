"""Profiles of files: the same counts as of rows in memory, and windows that are sums of days."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.stages.monitor import drift, drift_tests
from mlops_kit.stages.monitor.column_bins import (
    assign_bins,
    assign_numbers,
    make_column_bins,
    make_number_bins,
)
from mlops_kit.stages.monitor.drift_sides import DriftDesign, SideDays
from mlops_kit.stages.monitor.profile_scan import profile_parquet
from mlops_kit.stages.monitor.profiles import profile_rows

ROWS = 30_000
LIMITS = MonitorConfig()


def make_rows() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    seconds = np.sort(rng.integers(0, 60 * 86_400, ROWS))
    return pd.DataFrame(
        {
            "at": pd.Timestamp("2024-03-01", tz="UTC") + pd.to_timedelta(seconds, unit="s"),
            "number": pd.Series(rng.normal(size=ROWS)).mask(rng.random(ROWS) < 0.02),
            "whole": rng.integers(0, 500, ROWS),
            "text": rng.choice(["1.5", "2.5", "n/a"], ROWS),
            "name": pd.Series(rng.choice(["a", "b", "c"], ROWS)).mask(rng.random(ROWS) < 0.03),
            "flag": rng.random(ROWS) < 0.3,
            'odd "name"': rng.choice([1, 2, 3], ROWS),
        }
    )


def make_bins(rows: pd.DataFrame) -> dict:
    kinds = {
        "number": "number",
        "whole": "number",
        "text": "number",
        "name": "category",
        "flag": "boolean",
        'odd "name"': "code",
    }
    head = rows.head(5_000)
    head = head.assign(name=head["name"].replace("c", "b"))
    return {name: make_column_bins(head[name], kind) for name, kind in kinds.items()}


def test_file_has_the_profile_of_its_rows(tmp_path: Path) -> None:
    rows = make_rows()
    rows.to_parquet(tmp_path / "rows.parquet")
    bins = make_bins(rows)
    scanned = profile_parquet(tmp_path / "rows.parquet", bins, "at", "America/New_York")
    days = rows["at"].dt.tz_convert("America/New_York").dt.strftime("%Y-%m-%d")
    counted = profile_rows(rows, bins, days.to_numpy())
    assert scanned.days == counted.days
    np.testing.assert_array_equal(scanned.rows, counted.rows)
    for name in bins:
        np.testing.assert_array_equal(scanned.counts[name], counted.counts[name])
    assert scanned.unseen_names["name"] == ("c",)
    unseen = scanned.counts["text"][:, bins["text"].unseen_bin].sum()
    assert unseen == (rows["text"] == "n/a").sum()
    missing = scanned.counts["number"][:, bins["number"].missing_bin].sum()
    assert missing == rows["number"].isna().sum()


def test_file_without_timestamps_has_an_empty_profile(tmp_path: Path) -> None:
    rows = make_rows()
    bins = make_bins(rows)
    rows["at"] = pd.Series(pd.NaT, rows.index).dt.tz_localize("UTC")
    rows.to_parquet(tmp_path / "r.parquet")
    assert profile_parquet(tmp_path / "r.parquet", bins, "at").row_count == 0


@pytest.mark.parametrize("kind", ["naive", "date", "text", "text with zone"])
def test_times_of_each_kind_have_the_days_of_the_time_zone(tmp_path: Path, kind: str) -> None:
    times = pd.Series(pd.to_datetime(["2024-03-01 23:30", "2024-03-02 12:00", None]))
    values = {
        "naive": times,
        "date": times.dt.date,
        "text": times.dt.strftime("%Y-%m-%d %H:%M"),
        "text with zone": times.dt.strftime("%Y-%m-%dT%H:%M+02:00"),
    }[kind]
    rows = pd.DataFrame({"at": values, "x": [1.0, 2.0, 3.0]})
    rows.to_parquet(tmp_path / "rows.parquet")
    bins = {"x": make_column_bins(rows["x"], "number")}
    profile = profile_parquet(tmp_path / "rows.parquet", bins, "at", "Asia/Tokyo")
    expected = {
        "naive": ("2024-03-02",),
        "date": ("2024-03-01", "2024-03-02"),
        "text": ("2024-03-02",),
        "text with zone": ("2024-03-02",),
    }[kind]
    assert profile.days == expected
    assert profile.row_count == 2


def test_files_of_a_pattern_add_up_in_any_order_of_their_rows(tmp_path: Path) -> None:
    rows = make_rows()
    bins = make_bins(rows)
    shuffled = rows.sample(frac=1, random_state=0)
    shuffled["name"] = shuffled["name"].astype("category")
    for part, start in enumerate(range(0, ROWS, ROWS // 3)):
        shuffled.iloc[start : start + ROWS // 3].to_parquet(tmp_path / f"part_{part}.parquet")
    scanned = profile_parquet(tmp_path / "part_*.parquet", bins, "at")
    counted = profile_rows(rows, bins, rows["at"].dt.strftime("%Y-%m-%d").to_numpy())
    assert scanned.days == counted.days
    for name in bins:
        np.testing.assert_array_equal(scanned.counts[name], counted.counts[name])
    assert scanned.unseen_names == counted.unseen_names


def test_window_of_a_profile_has_the_drift_of_its_rows() -> None:
    rows = make_rows().drop(columns="text")
    rows.loc[rows.index >= ROWS // 2, "number"] += 0.3
    days = rows["at"].dt.strftime("%Y-%m-%d").to_numpy()
    is_reference = days < "2024-03-15"
    is_window = (days >= "2024-04-08") & (days < "2024-04-15")
    columns = ["number", "whole", "name", "flag"]
    design = DriftDesign(SideDays(days[is_reference], days[is_window]))
    from_rows = drift.measure_drift(
        rows[is_reference], rows[is_window], columns, LIMITS, 0, design
    ).data
    bins = {
        name: make_column_bins(rows.loc[is_reference, name], kind)
        for name, kind in zip(
            columns, from_rows.set_index("column").loc[columns, "kind"], strict=True
        )
    }
    profile = profile_rows(rows, bins, days)
    profile_days = np.array(profile.days)
    window = profile.select_days((profile_days >= "2024-04-08") & (profile_days < "2024-04-15"))
    reference = profile.select_days(profile_days < "2024-03-15")
    from_profile = drift.compare_profiles(bins, reference, window, LIMITS).data
    pd.testing.assert_frame_equal(from_rows, from_profile)
    assert from_rows["column"].iloc[0] == "number"
    assert from_rows["status"].iloc[0] == "alert"
    # The test of a plugin needs rows: profiles are compared with the default test of the kind.
    drift_tests.register_drift_test("row_test", "number")(lambda before, now: (0.0, 0.0, 1.0))
    limits = MonitorConfig(tests={"number": "row_test"})
    with_default = drift.compare_profiles(bins, reference, window, limits)
    del drift_tests.DRIFT_TESTS["row_test"]
    pd.testing.assert_frame_equal(with_default.data, from_profile)
    assert "row_test" not in " ".join(with_default.notes)


@pytest.mark.parametrize("name", ["normal", "lognormal", "rounded", "heavy", "whole"])
def test_table_of_cells_finds_the_bins_of_a_search(name: str) -> None:
    rng = np.random.default_rng(1)
    values = {
        "normal": rng.normal(size=40_000),
        "lognormal": rng.lognormal(0, 3, 40_000),
        "rounded": rng.normal(size=40_000).round(1),
        "heavy": rng.standard_cauchy(40_000),
        "whole": rng.integers(0, 1_000, 40_000).astype(float),
    }[name]
    bins = make_number_bins(values[:5_000])
    values[:3] = [np.inf, -np.inf, 1e300]
    expected = np.searchsorted(bins.edges, values, side="left")
    np.testing.assert_array_equal(assign_numbers(values, bins), expected)


def test_value_that_fills_a_bin_is_separate() -> None:
    values = pd.Series([0.0] * 700 + list(np.linspace(0.01, 1, 300)))
    bins = make_column_bins(values, "number")
    positions = assign_bins(pd.Series([-0.001, 0.0, 0.001]), bins).bins
    assert len(set(positions)) == 3
