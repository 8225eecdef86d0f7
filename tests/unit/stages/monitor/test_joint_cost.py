"""What the joint drift of all features costs, also where no single column drifts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.project.config import root
from mlops_kit.stages.monitor.domain_classifier import fit_domain_classifier
from mlops_kit.stages.monitor.estimate import estimate_drift_costs
from mlops_kit.stages.monitor.feature_matrix import encode_columns
from mlops_kit.stages.monitor.joint_cost import JointCost, estimate_joint_cost

pytestmark = pytest.mark.slow  # each test fits models

ROWS = 4000
FEATURES = ["a", "b"]


def make_config(task: str, metric: str) -> root.ProjectConfig:
    return root.ProjectConfig.model_validate(
        {"name": "t", "source": "t.csv", "target": "y", "task": task, "review": {"metric": metric}}
    )


BINARY = make_config("binary", "roc_auc")
REGRESSION = make_config("regression", "mae")


def make_features(correlation: float, seed: int, mean: float = 0.0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    covariance = [[1, correlation], [correlation, 1]]
    return pd.DataFrame(rng.multivariate_normal([mean, mean], covariance, ROWS), columns=FEATURES)


def make_reference(task: str) -> pd.DataFrame:
    """Labeled rows of a model that is good where a and b have one sign, and bad elsewhere."""
    rows = make_features(0.0, 0)
    rng = np.random.default_rng(1)
    is_easy = rows["a"] * rows["b"] > 0
    score = rows["a"] + rng.normal(size=ROWS) * 0.1
    if task == "regression":
        noise = rng.normal(size=ROWS) * np.where(is_easy, 0.1, 2.0)
        return rows.assign(score=score, y=score + noise)
    probability = np.where(is_easy, 1 / (1 + np.exp(-4 * rows["a"])), 0.5)
    return rows.assign(score=score, y=(rng.random(ROWS) < probability).astype(float))


def estimate_cost(
    reference: pd.DataFrame,
    current: pd.DataFrame,
    features: list[str],
    config: root.ProjectConfig,
) -> JointCost | None:
    domain = fit_domain_classifier(reference, current, features)
    return estimate_joint_cost(reference, domain, config)


@pytest.mark.parametrize(
    ("config", "least_cost"), [(BINARY, 0.05), (REGRESSION, 0.2)], ids=["binary", "regression"]
)
def test_changed_dependence_costs_jointly_and_not_by_column(
    config: root.ProjectConfig, least_cost: float
) -> None:
    reference = make_reference(config.task)
    harmful = estimate_cost(reference, make_features(-0.6, 2), FEATURES, config)
    helpful = estimate_cost(reference, make_features(0.6, 3), FEATURES, config)
    none = estimate_cost(reference, make_features(0.0, 4), FEATURES, config)
    single = estimate_drift_costs(reference, make_features(-0.6, 2), FEATURES, config)
    costs: list[Any] = [item.cost for item in (harmful, helpful, none) if item is not None]
    assert costs[0] > least_cost
    assert costs[1] < -least_cost
    assert abs(costs[2]) < least_cost / 3
    assert all(abs(cost) < least_cost / 3 for cost in single.values())
    assert harmful is not None
    assert 400 < harmful.effective_rows < ROWS


def test_cost_outside_the_support_is_not_known() -> None:
    reference = make_reference("binary")
    far = estimate_cost(reference, make_features(0.0, 5, mean=4.0), FEATURES, BINARY)
    assert far is not None
    assert far.cost is None
    assert far.domain_auc > 0.95


def test_texts_count_and_few_rows_have_no_cost() -> None:
    reference = make_reference("binary").assign(
        c=np.where(np.arange(ROWS) % 2, "x", "y"), d=pd.Timestamp("2024-01-01", tz="UTC")
    )
    current = reference.iloc[: ROWS // 2].assign(c="x")
    found = estimate_cost(reference, current, ["a", "b", "c", "d", "gone"], BINARY)
    assert found is not None
    assert found.domain_auc > 0.6
    assert estimate_cost(reference, current.head(50), FEATURES, BINARY) is None
    assert estimate_cost(reference, current, ["gone"], BINARY) is None


def test_one_value_has_one_code_in_every_storage() -> None:
    plain = pd.DataFrame({"n": [1.0, 2.0, None], "c": ["x", "y", "x"]})
    stored = plain.astype({"n": "Int64", "c": "category"})
    expected = [[1, 3], [2, 2], [np.nan, 3], [2, 2], [np.nan, 3]]
    for reference in (plain, stored):
        np.testing.assert_array_equal(encode_columns(reference, stored.tail(2)), expected)
    mixed = encode_columns(pd.DataFrame({"v": [1.0, 0.5]}), pd.DataFrame({"v": ["1", None]}))
    np.testing.assert_array_equal(mixed[:, 0], [2, 1, 2, np.nan])
