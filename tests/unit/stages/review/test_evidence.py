"""Evidence of a review: days, joins, performance, refit agreement."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import r2_score, roc_auc_score

from mlops_kit.core.errors import KitError
from mlops_kit.data.columns import get_row_days
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review import (
    evaluate_performance,
    gather_evidence,
    join_scores_to_features,
    measure_refit_agreement,
)
from mlops_kit.stats.metrics import list_task_metrics

MakeRows = Callable[..., pd.DataFrame]
MakeConfig = Callable[..., ProjectConfig]


def test_days_are_in_the_projects_time_zone(make_config: MakeConfig) -> None:
    frame = pd.DataFrame({"moment": pd.to_datetime(["2013-06-01T03:59Z", "2013-06-01T04:00Z"])})
    assert list(get_row_days(frame, make_config())) == ["2013-05-31", "2013-06-01"]
    assert get_row_days(frame, make_config(time=None)) is None


def test_features_are_joined_in_the_order_of_the_scores(make_config: MakeConfig) -> None:
    scores = pd.DataFrame({"id": [3, 1], "late": [0.0, 1.0], "score": [0.1, 0.2]})
    table = pd.DataFrame({"id": [1, 2, 3], "late": [1.0, 0.0, 0.0], "x": [10, 20, 30]})
    assert join_scores_to_features(scores, table, make_config()).to_dict("list") == {
        "id": [3, 1],
        "late": [0.0, 1.0],
        "score": [0.1, 0.2],
        "x": [30, 10],
    }
    with pytest.raises(KitError, match="1 scored rows are not"):
        join_scores_to_features(scores.assign(id=[3, 9]), table, make_config())
    with pytest.raises(KitError, match="have a duplicate id"):
        join_scores_to_features(scores.assign(id=[3, 3]), table, make_config())


def test_performance_sentence_names_metric_rows_and_linear_model(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame = make_rows()
    found = evaluate_performance(frame, make_config(), draws=100)
    row = found.to_frame().set_index("metric").loc["roc_auc"]
    assert row["value"] == pytest.approx(roc_auc_score(frame["late"], frame["score"]))
    assert row["low"] < row["value"] < row["high"]
    assert row["baseline_constant"] == 0.5
    assert found.sentence == (
        f"ROC-AUC {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}] on the newest 3,000 "
        f"rows; a linear model has {row['baseline_linear']:.3f}."
    )
    assert list(found.to_frame().columns) == [
        "metric",
        "value",
        "low",
        "high",
        "baseline_linear",
        "baseline_constant",
    ]
    assert next(iter(found.to_frame()["metric"])) == "roc_auc"
    assert list(found.to_frame()["metric"]) == list_task_metrics("binary")


def test_table_without_time_names_held_out_rows(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame = make_rows("regression", 300).drop(columns=["moment", "baseline_linear"])
    found = evaluate_performance(frame, make_config("regression", time=None), draws=100)
    assert found.sentence.startswith("R² ")
    assert found.sentence.endswith("on 300 held-out rows.")
    assert found.to_frame()["value"].iloc[0] == pytest.approx(
        r2_score(frame["late"], frame["score"])
    )
    assert found.to_frame()["baseline_linear"].isna().all()


def test_unlabeled_rows_are_not_counted(make_config: MakeConfig, make_rows: MakeRows) -> None:
    frame = make_rows(rows=600)
    frame.loc[:99, "late"] = np.nan
    assert "newest 500 rows" in evaluate_performance(frame, make_config(), draws=100).sentence


def test_refit_agreement_is_spearman_and_mean_shift(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame = make_rows().assign(refitted=lambda f: f["score"] ** 2 + 0.1)
    found = measure_refit_agreement(frame, make_config())
    assert (
        found.correlation
        == pytest.approx(spearmanr(frame["score"], frame["refitted"]).statistic)
        == pytest.approx(1.0)
    )
    assert found.mean_shift == pytest.approx(frame["refitted"].mean() - frame["score"].mean())


def test_shift_of_a_regression_is_in_standard_deviations(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame = make_rows("regression").assign(refitted=lambda f: f["score"] + f["late"].std())
    assert measure_refit_agreement(frame, make_config("regression")).mean_shift == pytest.approx(
        1.0
    )


def test_constant_score_has_no_rank_correlation(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    assert np.isnan(
        measure_refit_agreement(make_rows().assign(refitted=0.5), make_config()).correlation
    )


def test_evidence_gathers_what_the_checks_need(
    make_config: MakeConfig, make_rows: MakeRows
) -> None:
    frame, made = make_rows(), make_config(review={"draws": 100}, sample=7)
    found = gather_evidence(frame, evaluate_performance(frame, made, 100), made)
    assert found.labeled_rows == 3000
    assert found.sample_rows == 7
    assert found.rows_by_class == {
        "0": int((frame["late"] == 0).sum()),
        "1": int((frame["late"] == 1).sum()),
    }
    assert found.baseline_values["baseline_constant"] == 0.5
    assert found.baseline_gains["baseline_constant"].value == pytest.approx(
        found.metrics[found.config.headline_metric].value - 0.5
    )
    assert found.refit_agreement is not None
    assert found.refit_agreement.correlation == pytest.approx(1.0)


def test_no_refit_agreement_without_refit(make_config: MakeConfig, make_rows: MakeRows) -> None:
    made = make_config(train={"refit": False}, review={"draws": 100})
    assert (
        gather_evidence(
            make_rows(), evaluate_performance(make_rows(), made, 100), made
        ).refit_agreement
        is None
    )
