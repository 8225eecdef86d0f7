"""Explore: what is in the table, what is missing, how the target behaves, what looks wrong."""

from mlops_kit.explore.findings import (
    missing,
    overview,
    suspicious,
    target_by_group,
    target_over_time,
)
from mlops_kit.explore.profile import profile_html
from mlops_kit.explore.widgets import distribution, explorer

__all__ = [
    "distribution",
    "explorer",
    "missing",
    "overview",
    "profile_html",
    "suspicious",
    "target_by_group",
    "target_over_time",
]
