"""Drift by slice: shares that changed, and what drifted within a slice only."""

from __future__ import annotations

import numpy as np
import pandas as pd

from mlops_kit.core.results import CheckOutcome
from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.stages.monitor.drift_sides import DriftDesign, SideDays
from mlops_kit.stages.monitor.drift_tests import SideWeights
from mlops_kit.stages.monitor.joint_checks import check_slice_drift
from mlops_kit.stages.monitor.slice_drift import measure_slice_drift

LIMITS = MonitorConfig()


def make_rows(seed: int, share: float, rows: int = 4_000) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "origin": rng.choice(["EWR", "JFK"], rows, p=[share, 1 - share]),
            "wind": rng.normal(size=rows),
            "temp": rng.normal(size=rows),
            "score": rng.random(rows),
        }
    )


def test_share_that_changed_is_an_alert_with_both_shares() -> None:
    table = measure_slice_drift(make_rows(0, 0.3), make_rows(1, 0.5), ["origin"], LIMITS)
    row = table.data.set_index("slice").loc["origin = EWR"]
    assert row["status"] == "alert"
    assert row["explanation"] == "30% of the reference, 50% of the window"
    assert (round(row["reference_share"], 1), round(row["current_share"], 1)) == (0.3, 0.5)
    assert row["within"] == "none"
    verdict = check_slice_drift(table)
    assert verdict.outcome is CheckOutcome.FAILED
    assert "origin = " in verdict.hint


def test_drift_within_one_slice_is_informational() -> None:
    reference = make_rows(2, 0.3)
    current = make_rows(3, 0.3)
    current["wind"] += np.where(current["origin"] == "EWR", 1.0, 0.0)
    table = measure_slice_drift(reference, current, ["origin"], LIMITS)
    within = table.data.set_index("slice")["within"]
    assert within.to_dict() == {"origin = JFK": "none", "origin = EWR": "wind"}
    assert check_slice_drift(table).outcome is CheckOutcome.PASSED


def test_missing_new_and_small_groups_and_absent_columns_are_named() -> None:
    reference = make_rows(4, 0.3)
    current = make_rows(5, 0.3)
    current.loc[:99, "origin"] = None
    current.loc[100:299, "origin"] = "LGA"
    table = measure_slice_drift(reference, current, ["origin", "gone"], LIMITS)
    rows = table.data.set_index("slice")
    assert set(rows.index) == {"origin = JFK", "origin = EWR", "origin = LGA", "origin = missing"}
    assert rows.loc["origin = LGA", "status"] in ("alert", "warning")
    assert rows.loc["origin = missing", "within"] == "not tested: 0 rows on one side"
    assert table.notes[0].endswith("gone.")


def test_slices_without_rows_or_columns_are_not_applicable() -> None:
    rows = make_rows(6, 0.3)
    for table in (
        measure_slice_drift(rows, rows.head(0), ["origin"], LIMITS),
        measure_slice_drift(rows, rows, [], LIMITS),
    ):
        assert table.data.empty
        assert check_slice_drift(table).outcome is CheckOutcome.NOT_APPLICABLE
    few = measure_slice_drift(rows, rows.head(100), ["origin"], LIMITS)
    assert check_slice_drift(few).outcome is CheckOutcome.CANNOT_TELL
    assert few.sentence.startswith("Cannot tell: no slice could be tested (")


def test_days_and_weights_of_the_rows_count() -> None:
    reference = make_rows(7, 0.3, 2_800)
    current = make_rows(8, 0.3, 700)
    days = SideDays(np.arange(28).repeat(100), np.arange(7).repeat(100))
    # Whole days of one origin: the share differs, but only as days differ.
    for rows, day, seed in ((reference, days.reference, 9), (current, days.current, 10)):
        is_ewr = np.random.default_rng(seed).random(day.max() + 1) < 0.4
        rows["origin"] = np.where(is_ewr[day], "EWR", "JFK")
    independent = measure_slice_drift(reference, current, ["origin"], LIMITS)
    with_days = measure_slice_drift(reference, current, ["origin"], LIMITS, 0, DriftDesign(days))
    assert with_days.data["adjusted_p"].iloc[0] > independent.data["adjusted_p"].iloc[0]
    weights = SideWeights(np.ones(len(reference)), (current["origin"] == "EWR").to_numpy(float))
    weighted = measure_slice_drift(
        reference, current, ["origin"], LIMITS, 0, DriftDesign(weights=weights)
    )
    shares = weighted.data.set_index("slice")["current_share"]
    assert shares["origin = EWR"] == 1.0


def test_shares_are_those_that_are_tested_with_weights() -> None:
    reference = make_rows(11, 0.3)
    current = make_rows(12, 0.3)
    current_weights = np.where(current["origin"] == "EWR", 3.0, 1.0)
    weights = SideWeights(np.ones(len(reference)), current_weights)
    table = measure_slice_drift(
        reference, current, ["origin"], LIMITS, 0, DriftDesign(weights=weights)
    )
    row = table.data.set_index("slice").loc["origin = EWR"]
    is_ewr = current["origin"] == "EWR"
    assert row["current_share"] == 3 * is_ewr.sum() / (3 * is_ewr.sum() + (~is_ewr).sum())
    assert row["status"] == "alert"
    assert row["explanation"] == "31% of the reference, 56% of the window"
