"""Performance by class equals scikit-learn's, for a few and for many classes."""

from __future__ import annotations

import string
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics as sklearn_metrics
from sklearn.calibration import calibration_curve

from mlops_kit.core.results import CheckOutcome
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages import review
from mlops_kit.stages.review import class_performance
from mlops_kit.stats import metrics

MakeConfig = Callable[..., ProjectConfig]
CLASS_COUNTS = [3, 7, 26]
for_each_class_count = pytest.mark.parametrize("class_count", CLASS_COUNTS)


def make_names(class_count: int) -> list[str]:
    return list(string.ascii_uppercase[:class_count])


def make_rows(class_count: int, rows: int = 2000) -> pd.DataFrame:
    """Make held-out rows with the scores of a mediocre model and its baselines."""
    rng = np.random.default_rng(0)
    shares = 1 / np.arange(2, class_count + 2)
    labels = rng.choice(class_count, rows, p=shares / shares.sum())
    strength = np.exp(rng.normal(0, 1, (rows, class_count)) + 2 * np.eye(class_count)[labels])
    scores = strength / strength.sum(axis=1, keepdims=True)
    constant = np.bincount(labels, minlength=class_count) / rows
    return pd.DataFrame(
        {
            "id": np.arange(rows),
            "moment": pd.Timestamp("2024-01-01", tz="UTC")
            + pd.to_timedelta(np.arange(rows), unit="h"),
            "late": labels.astype(float),
            "group": rng.choice(["x", "y"], rows),
            "score": scores.tolist(),
            "refitted": scores.tolist(),
            "baseline_constant": [constant.tolist()] * rows,
            "baseline_linear": scores[:, ::-1].tolist(),
        }
    )


def to_array(rows: pd.DataFrame) -> np.ndarray:
    return np.array(rows["score"].tolist())


@for_each_class_count
def test_every_metric_equals_that_of_scikit_learn(
    make_config: MakeConfig, class_count: int
) -> None:
    rows = make_rows(class_count)
    table = review.evaluate_performance(rows, make_config("multiclass"), draws=20)
    values = table.data.set_index("metric")["value"]
    labels, scores = rows["late"], to_array(rows)
    predicted = scores.argmax(axis=1)
    expected = {
        "accuracy": sklearn_metrics.accuracy_score(labels, predicted),
        "balanced_accuracy": sklearn_metrics.balanced_accuracy_score(labels, predicted),
        "f1_macro": sklearn_metrics.f1_score(labels, predicted, average="macro"),
        "multiclass_log_loss": sklearn_metrics.log_loss(labels, scores),
        "roc_auc_ovr": sklearn_metrics.roc_auc_score(labels, scores, multi_class="ovr"),
    }
    for name, value in expected.items():
        assert values[name] == pytest.approx(value, rel=1e-9)
    for name, interval in table.to_intervals().items():
        assert interval.low < interval.high
        if name != "classwise_calibration_error":  # resampling increases it
            assert interval.low < interval.value < interval.high


@for_each_class_count
def test_confusion_matrix_equals_that_of_scikit_learn(class_count: int) -> None:
    rows = make_rows(class_count)
    names = make_names(class_count)
    weights = np.random.default_rng(1).random(len(rows))
    table = review.compute_confusion_matrix(rows["late"], rows["score"], names, weights)
    predicted = to_array(rows).argmax(axis=1)
    matrix = table.data.pivot(index="true class", columns="predicted class", values="rows")
    assert matrix.to_numpy().tolist() == (
        sklearn_metrics.confusion_matrix(rows["late"], predicted).tolist()
    )
    shares = table.data.pivot(index="true class", columns="predicted class", values="share")
    expected = sklearn_metrics.confusion_matrix(
        rows["late"], predicted, sample_weight=weights, normalize="true"
    )
    assert shares.to_numpy() == pytest.approx(expected)
    assert list(matrix.index) == names


@for_each_class_count
def test_precision_and_recall_equal_those_of_scikit_learn(class_count: int) -> None:
    rows = make_rows(class_count)
    table = review.evaluate_predicted_classes(rows["late"], rows["score"], make_names(class_count))
    predicted = to_array(rows).argmax(axis=1)
    precision, recall, f1, counts = sklearn_metrics.precision_recall_fscore_support(
        rows["late"], predicted, zero_division=np.nan
    )
    data = table.data
    assert data["precision"].to_numpy() == pytest.approx(precision, nan_ok=True)
    assert data["recall"].to_numpy() == pytest.approx(recall)
    assert data["f1"].to_numpy() == pytest.approx(f1)
    assert data["rows"].tolist() == counts.tolist()
    assert "without a threshold and without costs" in table.sentence


@for_each_class_count
def test_reliability_of_a_class_equals_scikit_learns_curve(class_count: int) -> None:
    rows = make_rows(class_count)
    names = make_names(class_count)
    curves = class_performance.compute_class_calibration_curves(rows["late"], rows["score"], names)
    errors = review.evaluate_class_calibration(rows["late"], rows["score"], names).data
    assert errors["class"].tolist() == names
    scores = to_array(rows)
    for code in (0, class_count - 1):
        curve = curves.data[curves.data["class"] == names[code]]
        observed, predicted = calibration_curve(
            rows["late"] == code, scores[:, code], n_bins=10, strategy="quantile"
        )
        assert curve["observed"].to_numpy() == pytest.approx(observed)
        assert curve["predicted"].to_numpy() == pytest.approx(predicted)
        expected = (curve["share"] * (curve["observed"] - curve["predicted"]).abs()).sum()
        assert errors["calibration_error"].iloc[code] == pytest.approx(expected)
    mean_error = metrics.compute_metric("classwise_calibration_error", rows["late"], rows["score"])
    assert errors["calibration_error"].mean() == pytest.approx(mean_error)


def test_calibration_curve_of_all_classes_is_that_of_the_predicted_class() -> None:
    rows = make_rows(7)
    scores = to_array(rows)
    curve = review.compute_calibration_curve(rows["late"], rows["score"]).data
    observed, predicted = calibration_curve(
        scores.argmax(axis=1) == rows["late"], scores.max(axis=1), n_bins=10, strategy="quantile"
    )
    assert curve["observed"].to_numpy() == pytest.approx(observed)
    assert curve["predicted"].to_numpy() == pytest.approx(predicted)


def test_other_tasks_have_no_tables_by_class(make_config: MakeConfig) -> None:
    assert review.evaluate_classes(make_rows(3), make_config("binary")) == {}
    tables = review.evaluate_classes(make_rows(3), make_config("multiclass"), make_names(3))
    assert list(tables) == ["confusion", "calibration_by_class", "calibration_curves_by_class"]


def test_perfect_and_unlabeled_rows_have_a_sentence() -> None:
    perfect = np.eye(3)[[0, 1, 2, 2]].tolist()
    table = review.compute_confusion_matrix([0, 1, 2, 2], perfect)
    assert table.sentence == "All 4 rows are predicted correctly."
    for function in (
        review.compute_confusion_matrix,
        review.evaluate_predicted_classes,
        review.evaluate_class_calibration,
    ):
        empty = function([np.nan], perfect[:1], ["a", "b", "c"])
        assert "There is no labeled row." in empty.sentence


@for_each_class_count
def test_checks_look_at_every_class(make_config: MakeConfig, class_count: int) -> None:
    rows = make_rows(class_count, 600)
    config = make_config("multiclass", review={"draws": 100, "max_calibration_error": 0.5})
    quality = review.evaluate_performance(rows, config, 100)
    slices = review.evaluate_slices(rows, config, ["group"], 100)
    assert slices.data["mean_target"].isna().all()
    assert "mean_target" not in slices.visible_columns
    evidence = review.gather_evidence(rows, quality, config, slices)
    evidence = review.name_classes(evidence, make_names(class_count))
    verdicts = {verdict.check: verdict for verdict in review.run_checks(evidence)}
    # The mean error is below the limit, but these scores are not calibrated.
    assert verdicts["calibration"].outcome == CheckOutcome.FAILED
    assert "bins they differ by more than chance" in verdicts["calibration"].sentence
    assert verdicts["better_than_baseline"].outcome == CheckOutcome.PASSED
    assert evidence.refit_agreement is not None
    assert evidence.refit_agreement.correlation == pytest.approx(1)
    rarest = int(rows["late"].value_counts().min())
    expected = CheckOutcome.PASSED if rarest >= 10 else CheckOutcome.CANNOT_TELL
    assert verdicts["both_classes_seen"].outcome == expected
    without_last = rows[rows["late"] != class_count - 1]
    evidence = review.gather_evidence(without_last, quality, config, slices)
    evidence = review.name_classes(evidence, make_names(class_count))
    verdicts = {verdict.check: verdict for verdict in review.run_checks(evidence)}
    assert verdicts["both_classes_seen"].outcome == CheckOutcome.FAILED
    assert f"{make_names(class_count)[-1]} (0)" in verdicts["both_classes_seen"].sentence


def test_champion_is_compared_by_all_metrics_of_the_task(make_config: MakeConfig) -> None:
    rows = make_rows(7)
    config = make_config("multiclass", review={"draws": 100})
    challenger = review.make_challenger(rows, {"threshold": None, "features": []}, None)
    worse = review.ScoredModel("version 1", to_array(rows)[:, ::-1], note="It is the same.")
    slices = review.evaluate_slices(rows, config, ["group"], 100)
    table = review.compare_with_champion(rows, challenger, worse, slices, config)
    assert table.data["metric"].tolist() == [
        "accuracy",
        "multiclass_log_loss",
        "classwise_calibration_error",
        "worst_slice",
    ]
    assert (table.data["verdict"] == "better").all()


class ShareModel:
    """A model whose probability of class 1 is the column ``share``."""

    def fit(self, frame: pd.DataFrame, labels: Any) -> ShareModel:
        return self

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        share = frame["share"].to_numpy()
        return np.column_stack([(1 - share) * 0.8, share, (1 - share) * 0.2])


def test_what_if_follows_the_class_that_is_predicted(make_config: MakeConfig) -> None:
    shares = np.linspace(0.05, 0.95, 12)
    rows = pd.DataFrame({"id": range(12), "share": shares, "late": 1.0})
    rows["score"] = ShareModel().predict_proba(rows).tolist()
    config = make_config("multiclass", review={"draws": 100})
    importance = review.compute_permutation_importance(ShareModel(), rows, ["share"], config)
    table = review.run_what_if_analysis(
        ShareModel(), rows, ["share"], importance, config, ["a", "b", "c"]
    )
    data = table.data
    assert set(data["row"].str.extract(r"\((\w)\)")[0]) == {"a", "b"}
    for row in data.itertuples():
        is_b = row.row.endswith("(b)")
        new_share = float(row.new_value)
        expected = new_share if is_b else (1 - new_share) * 0.8
        assert row.new_score == pytest.approx(expected, abs=0.002)
