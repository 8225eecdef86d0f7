"""Stored profiles: the same after a round trip, and windows that add up day by day."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from mlops_kit.stages.monitor.column_bins import make_column_bins
from mlops_kit.stages.monitor.profile_records import (
    ReferenceProfile,
    profile_from_json,
    profile_to_json,
    sum_profiles,
)
from mlops_kit.stages.monitor.profiles import DriftProfile, profile_rows


def make_rows(seed: int = 0, rows: int = 900) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    number = pd.Series(rng.normal(size=rows)).mask(rng.random(rows) < 0.1)
    number[0] = np.inf
    return pd.DataFrame(
        {
            "number": number,
            "name": rng.choice(["a", "b", "1"], rows),
            "flag": rng.random(rows) < 0.2,
        }
    )


def make_bins(rows: pd.DataFrame) -> dict:
    kinds = {"number": "number", "name": "category", "flag": "boolean"}
    return {name: make_column_bins(rows[name], kind) for name, kind in kinds.items()}


def assert_same_profile(first: DriftProfile, second: DriftProfile) -> None:
    assert first.days == second.days
    for name in ("rows", "weights", "squared_weights"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name))
    assert first.counts.keys() == second.counts.keys()
    for name, counts in first.counts.items():
        np.testing.assert_allclose(counts, second.counts[name])
    assert first.unseen_names == second.unseen_names


@pytest.mark.parametrize("has_weights", [False, True])
def test_profile_survives_storage(has_weights: bool) -> None:
    rows = make_rows()
    days = np.array(["2024-01-01", "2024-01-02", "2024-01-03"]).repeat(300)
    weights = np.linspace(0.5, 2, len(rows)) if has_weights else None
    profile = profile_rows(rows, make_bins(rows.tail(500)), days, weights)
    text = profile_to_json(profile)
    assert json.loads(text)["schema_version"] == 1
    assert_same_profile(profile_from_json(text), profile)


def test_reference_with_its_bins_survives_storage() -> None:
    rows = make_rows()
    bins = make_bins(rows)
    profile = profile_rows(rows, bins)
    text = ReferenceProfile(bins, profile, None).to_json()
    assert "NaN" not in text
    assert "Infinity" not in text
    restored = ReferenceProfile.from_json(text)
    assert restored.history is None
    assert_same_profile(restored.reference, profile)
    for name, column in bins.items():
        np.testing.assert_array_equal(restored.bins[name].edges, column.edges)
        assert restored.bins[name].tails == column.tails
        assert restored.bins[name].categories == column.categories
        assert restored.bins[name].kind == column.kind
        assert restored.bins[name].distinct == column.distinct
    with_history = ReferenceProfile(bins, profile, profile).to_json()
    history = ReferenceProfile.from_json(with_history).history
    assert history is not None
    assert_same_profile(history, profile)


def test_sum_of_windows_is_the_profile_of_all_their_rows() -> None:
    rows = make_rows()
    bins = make_bins(rows)
    days = np.array(["2024-01-01", "2024-01-02", "2024-01-03"]).repeat(300)
    is_first = np.arange(len(rows)) < 450  # the second day is in both windows
    parts = [
        profile_rows(rows[is_inside].reset_index(drop=True), bins, days[is_inside])
        for is_inside in (is_first, ~is_first)
    ]
    assert_same_profile(sum_profiles(parts[::-1]), profile_rows(rows, bins, days))
