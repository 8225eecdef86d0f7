"""Signals about the flow of rows and labels, from which incidents are opened."""

from __future__ import annotations

from collections.abc import Sequence

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.stages.monitor.incidents import IncidentSeverity, IncidentSignal

_MIN_VOLUME_SHARE = 0.5  # of the usual rows of a window
_MIN_LABELED_SHARE = 0.8  # of the rows of a window whose labels are due


def detect_low_volume(rows: int, earlier_window_rows: Sequence[int]) -> list[IncidentSignal]:
    """Detect that a window has far fewer rows than usual (the median of the windows before)."""
    if not earlier_window_rows:
        return []
    usual_rows = sorted(earlier_window_rows)[len(earlier_window_rows) // 2]
    if rows >= _MIN_VOLUME_SHARE * usual_rows:
        return []
    message = f"{format_number(rows)} rows in the window; usual are {format_number(usual_rows)}."
    return [IncidentSignal("volume", IncidentSeverity.WARNING, "Fewer rows than usual", message)]


def detect_missing_labels(labeled_rows: int, rows: int) -> list[IncidentSignal]:
    """Detect that labels are due but have not arrived."""
    if rows == 0:
        return []
    labeled_share = labeled_rows / rows
    if labeled_share >= _MIN_LABELED_SHARE:
        return []
    message = (
        f"Only {format_percent(labeled_share)} of {format_number(rows)} rows have their label, "
        "although it is due."
    )
    return [IncidentSignal("labels", IncidentSeverity.WARNING, "Labels are missing", message)]
