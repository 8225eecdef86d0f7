"""Monitoring."""

from __future__ import annotations

from datetime import timedelta

from pydantic import (
    Field,
)

from mlops_kit.project.config.base import ConfigSection
from mlops_kit.project.config.value_types import Duration, Share


class MonitorConfig(ConfigSection):
    """Floors under which a drift is never an alert, and the false discoveries allowed."""

    warning_effect: float = Field(
        0.05, ge=0, description="Effect (KS D or Cramér's V, less its bias) worth a look"
    )
    alert_effect: float = Field(
        0.10, ge=0, description="Effect that is an alert when it is also significant"
    )
    alpha: float = Field(
        0.01, gt=0, lt=1, description="False discovery rate over the columns (Benjamini-Hochberg)"
    )
    max_missing_increase: Share = Field(
        0.05, description="Largest rise in a column's share of missing values"
    )
    min_rows: int = Field(200, ge=20, description="Fewest rows on which drift is judged")
    max_drop: float = Field(
        0.03, ge=0, description="Largest fall of the headline metric below what the review promised"
    )
    alerts_file: str = Field(
        "reports/alerts.jsonl", description="File to which alerts are added, one JSON object a line"
    )


class RetrainConfig(ConfigSection):
    """When a new model is worth making."""

    on_performance_drop: bool = Field(
        True, description="Retrain when realised performance fell below the limit"
    )
    on_drift: bool = Field(
        False, description="Retrain on drift alone (drift alone rarely costs anything)"
    )
    max_age: Duration | None = Field(
        None, description="Retrain when the model is older than this; null: never for age alone"
    )
    min_labels: int = Field(
        500, ge=0, description="Fewest labelled new rows before a retrain is worth it"
    )
    on_concept_drift: bool = Field(
        True,
        description="Retrain when the labels stay below what the probabilities promise (watch.persist windows in a row)",
    )
    cooldown: Duration = Field(
        timedelta(days=14), description="Least time between two retrainings that nobody asked for"
    )


class WatchConfig(ConfigSection):
    """The daily round of ``mlops watch``."""

    interval: Duration = Field(
        timedelta(days=1), description="How often new rows are scored and labels imported"
    )
    window: Duration = Field(
        timedelta(days=7), description="Stretch of time that is monitored as one"
    )
    min_drifted_windows: int = Field(
        2,
        ge=1,
        description="Windows of the last three that must show a drift before somebody is told",
    )
