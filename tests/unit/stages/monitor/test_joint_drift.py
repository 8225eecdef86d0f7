"""Joint drift: a changed dependence is found and its features are named; days alone are none."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from sklearn.metrics import roc_auc_score

from mlops_kit.core.results import CheckOutcome, Table
from mlops_kit.core.serialization import from_json_value, to_json_value
from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.domain_classifier import (
    compute_auc_from_ranks,
    fit_domain_classifier,
    rank_within_folds,
)
from mlops_kit.stages.monitor.drift import measure_drift
from mlops_kit.stages.monitor.drift_sides import DriftDesign, SideDays
from mlops_kit.stages.monitor.joint_checks import check_joint_drift
from mlops_kit.stages.monitor.joint_drift import (
    JointDrift,
    judge_joint_drift,
    measure_joint_drift,
    run_joint_test,
)
from mlops_kit.stats.monitoring_tables import DriftStatus

pytestmark = pytest.mark.slow  # each test fits models

LIMITS = MonitorConfig()
CONFIG = ProjectConfig(name="t", source="t.csv", target="y", task="binary")


def make_rows(
    seed: int, days: int, correlation: float = 0.0, day_sd: float = 0.0, rows_per_day: int = 150
) -> tuple[pd.DataFrame, np.ndarray]:
    """Make normal features of some days; a and b are correlated, c and d are noise."""
    rng = np.random.default_rng(seed)
    day = np.arange(days).repeat(rows_per_day)
    values = rng.normal(size=(len(day), 4)) + rng.normal(0, day_sd, (days, 4))[day]
    rows = pd.DataFrame(values, columns=list("abcd"))
    rows["b"] = correlation * rows["a"] + np.sqrt(1 - correlation**2) * rows["b"]
    return rows, day


def measure(
    reference: tuple[pd.DataFrame, np.ndarray], window: tuple[pd.DataFrame, np.ndarray]
) -> tuple[Table, JointDrift]:
    design = DriftDesign(SideDays(reference[1], window[1]), other_tests=1)
    table = measure_drift(reference[0], window[0], list("abcd"), LIMITS, 0, design)
    return table, measure_joint_drift(reference[0], window[0], table, LIMITS, 0, design)


def test_changed_dependence_is_joint_drift_of_its_two_features() -> None:
    table, joint = measure(make_rows(0, 28), make_rows(1, 7, correlation=0.8))
    assert not (table.data["status"] == DriftStatus.ALERT).any()
    assert joint.status == DriftStatus.ALERT
    assert set(joint.features) == {"a", "b"}
    assert joint.sentence.startswith("A classifier tells the window from the reference (ROC-AUC 0.")
    assert "permutation importance" in joint.sentence
    assert check_joint_drift(joint, CONFIG).outcome is CheckOutcome.FAILED
    assert from_json_value(to_json_value(joint)) == joint
    assert joint.to_frame()["feature"].tolist() == list(joint.features)


def test_same_distribution_and_days_of_their_own_are_no_joint_drift() -> None:
    for day_sd in (0.0, 0.3):
        _, joint = measure(make_rows(2, 28, day_sd=day_sd), make_rows(3, 7, day_sd=day_sd))
        assert joint.status == DriftStatus.NONE
        assert joint.features == ()
        assert check_joint_drift(joint, CONFIG).outcome is CheckOutcome.PASSED


def test_many_small_shifts_are_joint_drift() -> None:
    reference, days = make_rows(4, 28)
    window, window_days = make_rows(5, 7)
    window = window + 0.15
    _, joint = measure((reference, days), (window, window_days))
    assert joint.is_drifted
    assert joint.adjusted_p is not None
    assert joint.adjusted_p < LIMITS.alpha


def test_rows_of_too_few_days_or_too_few_rows_are_not_tested() -> None:
    _, joint = measure(make_rows(6, 28), make_rows(7, 2))
    assert joint.status == DriftStatus.NOT_TESTED
    assert "3 days" in joint.sentence
    assert check_joint_drift(joint, CONFIG).outcome is CheckOutcome.NOT_APPLICABLE
    reference, _ = make_rows(6, 28)
    assert fit_domain_classifier(reference, reference.head(100), list("abcd")) is None
    assert fit_domain_classifier(reference, reference, ["absent"]) is None
    none = judge_joint_drift(None, None, Table("Drift", "", pd.DataFrame()), LIMITS)
    assert none.status == DriftStatus.NOT_TESTED


def test_joint_drift_of_seasonal_features_is_seasonal() -> None:
    reference = make_rows(8, 28)
    window, window_days = make_rows(9, 7)
    table, joint = measure(reference, (window.assign(a=window["a"] + 1), window_days))
    assert joint.status == DriftStatus.ALERT
    is_a = table.data["column"] == "a"
    data = table.data.assign(
        status=table.data["status"].mask(is_a, "none"),
        reason=table.data["reason"].mask(is_a, "seasonal"),
    )
    seasonal = Table("Drift", "", data)
    shifted = window.assign(a=window["a"] + 1)
    design = DriftDesign(SideDays(reference[1], window_days))
    marked = measure_joint_drift(reference[0], shifted, seasonal, LIMITS, 0, design)
    assert marked.status == DriftStatus.NONE
    assert marked.sentence.startswith("Seasonal: a classifier tells")


def test_area_of_ranks_is_that_of_scikit_learn() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 20, 300).astype(float)
    is_window = rng.random(300) < 0.3
    one_fold = rank_within_folds(values, np.zeros(300, dtype=int))
    assert compute_auc_from_ranks(one_fold, is_window) == pytest.approx(
        roc_auc_score(is_window, values)
    )


def test_p_value_without_days_is_that_of_the_rank_test_with_twice_the_variance() -> None:
    reference, _ = make_rows(10, 10)
    window, _ = make_rows(11, 10)
    window = window.assign(a=window["a"] + 0.2)
    domain = fit_domain_classifier(reference, window, list("abcd"))
    assert domain is not None
    test = run_joint_test(domain, None)
    assert test is not None
    ranks = rank_within_folds(domain.probability, domain.folds)
    independent_p = scipy_stats.mannwhitneyu(
        ranks[domain.is_window], ranks[~domain.is_window], alternative="greater"
    ).pvalue
    expected = scipy_stats.norm.sf(scipy_stats.norm.isf(independent_p) / np.sqrt(2))
    assert test.p_value == pytest.approx(expected, rel=0.1)


def test_area_varies_as_much_as_its_p_value_says() -> None:
    deviations = []
    for seed in range(100, 130):
        reference, days = make_rows(2 * seed, 12, day_sd=0.3, rows_per_day=25)
        window, window_days = make_rows(2 * seed + 1, 12, day_sd=0.3, rows_per_day=25)
        side_days = (days, window_days)
        domain = fit_domain_classifier(reference, window, list("abcd"), side_days)
        assert domain is not None
        test = run_joint_test(domain, side_days)
        assert test is not None
        if test.p_value < 1:
            deviations.append(scipy_stats.t.isf(test.p_value, 22))
    # With the variance of independent folds, the mean square of these is 1.7.
    assert np.mean(np.square(deviations)) < 1.3
