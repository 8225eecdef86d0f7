"""How much of the headline metric may be lost."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from mlops_kit.core.results import Interval
from mlops_kit.project.config.monitoring import MonitorConfig
from mlops_kit.stages.monitor.limits import compute_bound, compute_max_drop, describe_max_drop
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
from mlops_kit.stats.metrics import METRICS


@pytest.mark.parametrize(
    ("name", "reference", "bound"),
    [
        ("mae", Interval(846.0, 820.0, 870.0), 930.6),  # 10% of the error
        ("brier", Interval(0.12, 0.115, 0.125), 0.132),
        ("roc_auc", Interval(0.8, 0.79, 0.81), 0.77),  # 10% of the skill of 0.3
        ("roc_auc", Interval(0.75, 0.70, 0.79), 0.70),  # its noise is larger
        ("r2", Interval(0.4, None, None), 0.36),  # its noise is not known
        ("accuracy", ReferencePerformance(0.9, 0.895, 0.905, no_skill=0.8), 0.89),
        ("accuracy", Interval(0.9, 0.895, 0.905), 0.81),  # of earlier versions
    ],
)
def test_default_limit_follows_scale_and_noise(
    name: str, reference: Interval, bound: float
) -> None:
    setting = MonitorConfig().max_drop
    assert compute_bound(setting, METRICS[name], reference) == pytest.approx(bound)


def test_number_is_an_absolute_drop() -> None:
    setting = MonitorConfig(max_drop=0.03).max_drop
    assert compute_max_drop(setting, METRICS["mae"], Interval(846.0, 820.0, 870.0)) == 0.03
    assert describe_max_drop(setting) == "0.03"


def test_without_a_reference_there_is_no_bound() -> None:
    assert compute_bound("10%", METRICS["r2"], Interval(None)) is None


@pytest.mark.parametrize("value", ["a lot", "-5%", -0.1, "0.03 %%"])
def test_other_settings_are_errors(value: object) -> None:
    with pytest.raises(ValidationError, match="percentage"):
        MonitorConfig(max_drop=value)
