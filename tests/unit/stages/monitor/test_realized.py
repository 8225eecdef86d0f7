"""Realized performance: only labels that have arrived count; the reference is beside it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss, roc_auc_score

from mlops_kit.core.results import Interval
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.realized import (
    REALIZED_COLUMNS,
    measure_performance_by_day,
    measure_realized_performance,
)

CONFIG = ProjectConfig(
    name="t", source="x.csv", target="y", task="binary", id=["k"], time="t", review={"draws": 100}
)


def make_scores_and_source(
    rows: int = 600, labeled: int = 500
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores, and the source in which the newest rows have no label yet; text classes."""
    rng = np.random.default_rng(0)
    score = rng.random(rows)
    timestamps = pd.date_range("2024-01-01", periods=rows, freq="h", tz="UTC")
    label = np.where(rng.random(rows) < score, "yes", "no").astype(object)
    label[labeled:] = None
    scores = pd.DataFrame({"k": range(rows), "t": timestamps, "score": score})
    return scores, pd.DataFrame({"k": range(rows), "t": timestamps, "y": label}).sample(
        frac=1, random_state=1
    )


def test_values_match_sklearn_on_labeled_rows() -> None:
    scores, labels = make_scores_and_source()
    table = measure_realized_performance(scores, labels, CONFIG, Interval(0.8, 0.75, 0.85), 0)
    joined = scores.merge(labels[["k", "y"]], on="k").dropna()
    y = (joined["y"] == "yes").astype(int)
    data = table.data.set_index("metric")
    assert data.loc["roc_auc", "value"] == pytest.approx(roc_auc_score(y, joined["score"]))
    assert data.loc["log_loss", "value"] == pytest.approx(log_loss(y, joined["score"]))
    assert data["rows"].tolist() == [500, 500]
    assert data.loc["roc_auc", "reference"] == 0.8
    assert data.loc["roc_auc", "low"] < data.loc["roc_auc", "value"] < data.loc["roc_auc", "high"]
    assert "100 of 600" in table.notes[0]


def test_interval_depends_on_seed() -> None:
    scores, labels = make_scores_and_source()
    first, repeated, different = (
        measure_realized_performance(scores, labels, CONFIG, None, seed).data for seed in (1, 1, 2)
    )
    pd.testing.assert_frame_equal(first, repeated)
    assert first["low"].tolist() != different["low"].tolist()


def test_without_labels_cannot_tell() -> None:
    scores, labels = make_scores_and_source(labeled=0)
    table = measure_realized_performance(scores, labels, CONFIG, None)
    assert table.sentence.startswith("Cannot tell")
    assert table.data["value"].isna().all()
    assert len(table.data) == 2


def test_with_one_class_cannot_tell() -> None:
    scores, labels = make_scores_and_source()
    labels["y"] = pd.Series(1, index=labels.index)
    assert measure_realized_performance(scores, labels, CONFIG, None).sentence.startswith(
        "Cannot tell: the 600 labeled rows"
    )


def test_without_scored_rows_or_time_is_not_applicable() -> None:
    scores, labels = make_scores_and_source()
    timeless = ProjectConfig(name="t", source="x.csv", target="y", task="binary", id=["k"])
    for table in (
        measure_realized_performance(scores.head(0), labels, CONFIG, None),
        measure_realized_performance(scores, labels, timeless, None),
    ):
        assert table.sentence.startswith("Not applicable")
        assert list(table.data.columns) == REALIZED_COLUMNS
        assert len(table.data) == 0
    assert len(measure_performance_by_day(scores.head(0), labels, CONFIG).data) == 0


def test_regression_measures_r2_and_rmse() -> None:
    scores, labels = make_scores_and_source()
    config = CONFIG.model_copy(update={"task": "regression"})
    labels["y"] = pd.Series(scores["score"] + 0.1)
    data = measure_realized_performance(scores, labels, config, None).data.set_index("metric")
    assert data.loc["rmse", "value"] == pytest.approx(0.1)
    assert list(data.index) == ["r2", "rmse"]


def test_days_partition_labeled_rows_in_project_timezone() -> None:
    scores, labels = make_scores_and_source()
    table = measure_performance_by_day(scores, labels, CONFIG)
    assert table.data["rows"].sum() == 500
    assert table.data["day"].is_monotonic_increasing
    local = measure_performance_by_day(
        scores, labels, CONFIG.model_copy(update={"timezone": "America/New_York"})
    )
    assert local.data["day"].iloc[0] == pd.Timestamp("2023-12-31")
    assert "The worst of" in table.sentence
