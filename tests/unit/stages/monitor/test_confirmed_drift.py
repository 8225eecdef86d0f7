"""Drift is confirmed where features drifted, at an estimated cost, and labels prove the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import pytest

from mlops_kit.core.results import Interval, Table
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.confirmed_drift import check_confirmed_drift
from mlops_kit.stages.monitor.joint_cost import JointCost
from mlops_kit.stages.monitor.joint_drift import JointDrift
from mlops_kit.stats.monitoring_tables import OUTSIDE_SUPPORT_COLUMN

CONFIG = ProjectConfig(name="t", source="t.csv", target="y", task="binary")
REFERENCE = Interval(0.972, 0.968, 0.976)


@dataclass
class Window:
    """A monitored window in which ``a`` drifted, at an estimated cost of 0.01."""

    status: str = "alert"
    column: str = "a"
    cost: float = 0.001
    is_outside: bool = False
    estimated: Interval = Interval(0.962)  # noqa: RUF009 - it is immutable
    joint_cost: JointCost | None = None
    joint_drift: JointDrift | None = None

    @property
    def drift(self) -> Table:
        row = {"column": self.column, "status": self.status, "cost": self.cost}
        return Table("Drift", "", pd.DataFrame([row | {OUTSIDE_SUPPORT_COLUMN: self.is_outside}]))


def make_realized(value: float | None, half_width: float, metric: str = "roc_auc") -> Table:
    low, high = (None, None) if value is None else (value - half_width, value + half_width)
    data = pd.DataFrame([{"metric": metric, "value": value, "low": low, "high": high}])
    return Table("Realized performance", "", data)


def check(window: Window, value: float | None = 0.96, half_width: float = 0.005) -> str:
    realized = make_realized(value, half_width)
    return check_confirmed_drift(window, realized, REFERENCE, CONFIG).outcome.value


def test_costly_drift_that_labels_prove_is_confirmed() -> None:
    verdict = check_confirmed_drift(Window(), make_realized(0.96, 0.005), REFERENCE, CONFIG)
    assert verdict.outcome == "failed"
    assert verdict.sentence == (
        "a drifted, at an estimated cost of 0.010 of ROC-AUC; realized 0.960 [0.955, 0.965], "
        "reference 0.972 [0.968, 0.976]."
    )
    assert not verdict.is_blocking


@pytest.mark.parametrize(
    ("window", "value", "half_width"),
    [
        (Window(status="warning"), 0.96, 0.005),  # no drift
        (Window(column="score"), 0.96, 0.005),  # of the score only
        (Window(estimated=Interval(0.971)), 0.96, 0.005),  # the estimate does not drop
        (Window(), 0.968, 0.001),  # a loss below the margin
        (Window(), 0.96, 0.02),  # a loss within noise
        (Window(), 0.96, 0.007),  # 2.9 standard errors: so far by chance in one of 10 years
    ],
)
def test_one_finding_short_is_no_confirmation(
    window: Window, value: float, half_width: float
) -> None:
    assert check(window, value, half_width) == "passed"


def test_each_estimate_of_the_cost_counts() -> None:
    steady = Interval(0.972)
    assert check(Window(cost=0.006, estimated=steady)) == "failed"
    assert check(Window(cost=math.nan, estimated=steady)) == "passed"
    joint_cost = JointCost(0.007, 900, 0.7)
    assert check(Window(estimated=steady, joint_cost=joint_cost)) == "failed"


def test_joint_drift_is_drift() -> None:
    joint = JointDrift("alert", "A classifier tells the window from the reference.", 0.8)
    assert check(Window(status="none", joint_drift=joint)) == "failed"


def test_values_outside_the_support_ask_for_an_investigation() -> None:
    assert check(Window(cost=math.nan, is_outside=True)) == "cannot tell"


def test_without_labels_or_reference_it_does_not_apply() -> None:
    assert check(Window(), None) == "not applicable"
    realized = make_realized(0.96, 0.005)
    verdict = check_confirmed_drift(Window(), realized, None, CONFIG)
    assert verdict.outcome == "not applicable"
    accepted = Interval(0.972)  # by a person, so that its noise is not known
    assert check_confirmed_drift(Window(), realized, accepted, CONFIG).outcome == "cannot tell"


def test_rise_of_an_error_is_a_loss() -> None:
    config = ProjectConfig(
        name="t", source="t.csv", target="y", task="regression", review={"metric": "mae"}
    )
    metric = config.headline_metric
    window = Window(estimated=Interval(11.0))
    reference = Interval(10.0, 9.8, 10.2)
    for value, outcome in ((11.0, "failed"), (9.0, "passed")):
        realized = make_realized(value, 0.3, metric)
        assert check_confirmed_drift(window, realized, reference, config).outcome == outcome
