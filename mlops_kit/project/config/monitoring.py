"""Settings of monitoring, retraining and ``mlops watch``."""

from __future__ import annotations

from datetime import timedelta
from typing import Literal

from pydantic import Field

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import Duration, Share

TestedKind = Literal["number", "category", "code", "boolean"]
# The drift tests of this package by the kind of column they are for, the default first.
DRIFT_TESTS_BY_KIND: dict[TestedKind, tuple[str, ...]] = {
    "number": ("ranks", "ks"),
    "category": ("cramers_v",),
    "code": ("cramers_v",),
    "boolean": ("cramers_v",),
}


class MonitorConfig(ConfigSection):
    """When drift is a warning or an alert, and where alerts are written."""

    tests: dict[TestedKind, str] = Field(
        default_factory=dict,
        description="Drift test by kind of column (number, category, code: whole numbers with few "
        "values, boolean); default: ranks for numbers, cramers_v for the others",
    )
    warning_effect: float = Field(
        0.05,
        ge=0,
        description="Effect size from which significant drift is a warning (on the scale "
        "of the KS distance, bias-corrected Cramér's V, or what the test of a plugin returns)",
    )
    alert_effect: float = Field(
        0.075,
        ge=0,
        description="Effect size from which significant drift is an alert; a shift by 0.2 standard "
        "deviations has an effect of 0.08",
    )
    alpha: float = Field(
        0.01,
        gt=0,
        lt=1,
        description="False discovery rate of alerts over all columns (Benjamini-Hochberg)",
    )
    warning_alpha: float = Field(
        0.1,
        gt=0,
        lt=1,
        description="False discovery rate of warnings over all columns",
    )
    warning_ratio: float = Field(
        1.4,
        gt=1,
        description="Ratio to the reference from which a significant change of a rare category, "
        "of missing values or of the share of extreme values is a warning",
    )
    alert_ratio: float = Field(
        3.0,
        gt=1,
        description="Ratio to the reference from which such an increase is an alert, if it is at "
        "least one percentage point",
    )
    max_missing_increase: Share = Field(
        0.05, description="Maximum increase in a column's share of missing values"
    )
    min_rows: int = Field(200, ge=20, description="Minimum number of rows to test for drift")
    max_drop: float = Field(
        0.03,
        ge=0,
        description="Maximum drop of the headline metric below the reference performance",
    )
    alerts_file: str = Field(
        "reports/alerts.jsonl",
        description="File to which the monitor stage, and the alert sink 'file', append alerts as "
        "JSON lines",
    )


class RetrainConfig(ConfigSection):
    """When to retrain."""

    on_performance_drop: bool = Field(
        True, description="Retrain when the realized performance dropped below its limit"
    )
    on_drift: bool = Field(
        False, description="Retrain on drift alone; drift alone rarely costs performance"
    )
    max_age: Duration | None = Field(
        None, description="Retrain when the model is older; null: never because of its age"
    )
    min_labels: int = Field(
        500, ge=0, description="Minimum number of new labeled rows for a retraining"
    )
    on_concept_drift: bool = Field(
        True,
        description="Retrain on concept drift: realized performance stays below the estimated "
        "performance for watch.min_drifted_windows windows in a row",
    )
    cooldown: Duration = Field(
        timedelta(days=14), description="Minimum time between two automatic retrainings"
    )


class WatchConfig(ConfigSection):
    """The schedule of ``mlops watch``."""

    interval: Duration = Field(
        timedelta(days=1), description="How often new rows are scored and labels imported"
    )
    window: Duration = Field(timedelta(days=7), description="Length of a monitoring window")
    heartbeat_url: str = Field(
        "",
        description="Address that is called after each pass, such as one of healthchecks.io, which "
        "raises an alarm when the calls stop; with /start before a pass and /fail after one that "
        "failed. ${NAME} is replaced by an environment variable. Empty: none",
    )
    min_drifted_windows: int = Field(
        2,
        ge=1,
        description="How many of the last three windows must show a drift before an incident is "
        "opened",
    )
