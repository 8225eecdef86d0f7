"""The judged scores as numbers: days, joins, the headline, agreement."""

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
    evidence,
    join_scores_to_features,
    measure_refit_agreement,
)

Judged = Callable[..., pd.DataFrame]
Make = Callable[..., ProjectConfig]


def test_a_day_is_the_projects_day(config: Make) -> None:
    frame = pd.DataFrame({"moment": pd.to_datetime(["2013-06-01T03:59Z", "2013-06-01T04:00Z"])})
    assert list(get_row_days(frame, config())) == ["2013-05-31", "2013-06-01"]
    assert get_row_days(frame, config(time=None)) is None


def test_features_are_laid_beside_the_scores_in_their_order(config: Make) -> None:
    scores = pd.DataFrame({"id": [3, 1], "late": [0.0, 1.0], "score": [0.1, 0.2]})
    table = pd.DataFrame({"id": [1, 2, 3], "late": [1.0, 0.0, 0.0], "x": [10, 20, 30]})
    assert join_scores_to_features(scores, table, config()).to_dict("list") == {
        "id": [3, 1],
        "late": [0.0, 1.0],
        "score": [0.1, 0.2],
        "x": [30, 10],
    }
    with pytest.raises(KitError, match="1 judged rows are not"):
        join_scores_to_features(scores.assign(id=[3, 9]), table, config())
    with pytest.raises(KitError, match="share their id"):
        join_scores_to_features(scores.assign(id=[3, 3]), table, config())


def test_the_headline_says_metric_interval_rows_and_the_linear_model(
    config: Make, judged: Judged
) -> None:
    frame = judged()
    found = evaluate_performance(frame, config(), draws=100)
    row = found.to_frame().set_index("metric").loc["roc_auc"]
    assert row["value"] == pytest.approx(roc_auc_score(frame["late"], frame["score"]))
    assert row["low"] < row["value"] < row["high"]
    assert row["baseline_constant"] == 0.5
    assert (
        found.sentence
        == f"ROC-AUC {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}] on the newest 3,000 rows; a linear model has {row['baseline_linear']:.3f}."
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
    assert len(found.to_frame()) == 5


def test_a_table_without_time_speaks_of_rows_put_aside(config: Make, judged: Judged) -> None:
    frame = judged("regression", 300).drop(columns=["moment", "baseline_linear"])
    found = evaluate_performance(frame, config("regression", time=None), draws=100)
    assert found.sentence.startswith("R² ")
    assert found.sentence.endswith("on 300 rows put aside.")
    assert found.to_frame()["value"].iloc[0] == pytest.approx(
        r2_score(frame["late"], frame["score"])
    )
    assert found.to_frame()["baseline_linear"].isna().all()


def test_unlabelled_rows_are_not_counted(config: Make, judged: Judged) -> None:
    frame = judged(rows=600)
    frame.loc[:99, "late"] = np.nan
    assert "newest 500 rows" in evaluate_performance(frame, config(), draws=100).sentence


def test_agreement_is_spearmans_and_the_shift_of_the_mean(config: Make, judged: Judged) -> None:
    frame = judged().assign(refitted=lambda f: f["score"] ** 2 + 0.1)
    found = measure_refit_agreement(frame, config())
    assert (
        found.rank_correlation
        == pytest.approx(spearmanr(frame["score"], frame["refitted"]).statistic)
        == pytest.approx(1.0)
    )
    assert found.mean_shift == pytest.approx(frame["refitted"].mean() - frame["score"].mean())


def test_a_regressions_shift_is_in_standard_deviations(config: Make, judged: Judged) -> None:
    frame = judged("regression").assign(refitted=lambda f: f["score"] + f["late"].std())
    assert measure_refit_agreement(frame, config("regression")).mean_shift == pytest.approx(1.0)


def test_a_constant_score_has_no_rank(config: Make, judged: Judged) -> None:
    assert np.isnan(
        measure_refit_agreement(judged().assign(refitted=0.5), config()).rank_correlation
    )


def test_evidence_gathers_what_the_checks_ask(config: Make, judged: Judged) -> None:
    frame, made = judged(), config(review={"draws": 100}, sample=7)
    found = evidence(frame, evaluate_performance(frame, made, 100), made)
    assert found.rows == 3000
    assert found.sample == 7
    assert found.classes == {
        "0": int((frame["late"] == 0).sum()),
        "1": int((frame["late"] == 1).sum()),
    }
    assert found.baselines["baseline_constant"] == 0.5
    assert found.gains["baseline_constant"].value == pytest.approx(
        found.metrics[found.config.headline].value - 0.5
    )
    assert found.agreement is not None
    assert found.agreement.rank == pytest.approx(1.0)


def test_without_a_refit_there_is_nothing_to_agree(config: Make, judged: Judged) -> None:
    made = config(train={"refit": False}, review={"draws": 100})
    assert evidence(judged(), evaluate_performance(judged(), made, 100), made).agreement is None
