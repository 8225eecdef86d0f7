"""Signals."""

from __future__ import annotations

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.stages.monitor import incidents

_MIN_VOLUME_SHARE = 0.5  # a window with less than this share of the usual rows is told
_MIN_LABELED_SHARE = 0.8  # a window of which fewer rows have their label, though it is due, is told


def detect_low_volume(count: int, usual: list[int]) -> list[incidents.IncidentSignal]:
    """Far fewer rows than the windows before had."""
    middle = usual[len(usual) // 2] if usual else 0
    return (
        [
            incidents.IncidentSignal(
                "volume",
                "watch",
                "Fewer rows than usual",
                f"{format_number(count)} rows in the window, usual {format_number(middle)}.",
            )
        ]
        if count < _MIN_VOLUME_SHARE * middle
        else []
    )


def detect_missing_labels(labelled: int, count: int) -> list[incidents.IncidentSignal]:
    """Labels that are due and have not come."""
    share = labelled / count if count else 1.0
    return (
        [
            incidents.IncidentSignal(
                "labels",
                "watch",
                "Labels are missing",
                f"Only {format_percent(share)} of {format_number(count)} rows have their label, though it is due.",
            )
        ]
        if share < _MIN_LABELED_SHARE
        else []
    )
