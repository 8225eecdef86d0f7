"""Explore: the columns of a table, missing values, the target, data issues, distributions."""

from __future__ import annotations

from mlops_kit.data.reading.summary import summarize_reading
from mlops_kit.stages.explore.issues import find_data_issues
from mlops_kit.stages.explore.profile import render_profile_html
from mlops_kit.stages.explore.summary import summarize_columns, summarize_missing
from mlops_kit.stages.explore.target import summarize_target_by_group, summarize_target_over_time
from mlops_kit.stages.explore.widgets import create_explorer, summarize_distribution

__all__ = [
    "create_explorer",
    "find_data_issues",
    "render_profile_html",
    "summarize_columns",
    "summarize_distribution",
    "summarize_missing",
    "summarize_reading",
    "summarize_target_by_group",
    "summarize_target_over_time",
]
