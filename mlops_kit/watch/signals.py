"""Signals from which incidents are opened, besides drift and what the labels prove.

To add a signal, in the package or in a plugin of a project:

1. Write a function ``(WindowEvidence) -> sentence`` that returns an empty text if nothing is wrong.
2. Decorate it with ``@register_incident_signal(name, title)``.

The watch calls it once for each window. An incident is opened when the signal appears and closed
when a later window does not show it.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Sequence
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from mlops_kit.core.extensions import (
    ExtensionKind,
    ExtensionRegistry,
    convert_option,
    describe_exception,
)
from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import pd
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor import incidents
from mlops_kit.stages.monitor.incidents import IncidentSeverity, IncidentSignal
from mlops_kit.stats.arrivals import estimate_dispersion, predict_count
from mlops_kit.stats.monitoring_tables import CONCEPT_DRIFT_CHECK, REALIZED_PERFORMANCE_CHECK
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance

NO_ROWS_SIGNAL = "no_rows"
FEW_ROWS_SIGNAL = "few_rows"
LATE_LABELS_SIGNAL = "late_labels"
ARRIVAL_SIGNALS = (NO_ROWS_SIGNAL, FEW_ROWS_SIGNAL, LATE_LABELS_SIGNAL)
RETRAINING_SIGNAL = "retraining"
BLOCKED_SIGNAL = "retraining_blocked"
SCHEMA_SIGNAL = "schema"
# Those that are not registered below.
BUILT_IN_SIGNALS = frozenset(
    {
        incidents.DRIFT_SIGNAL,
        SCHEMA_SIGNAL,
        RETRAINING_SIGNAL,
        BLOCKED_SIGNAL,
        incidents.PROMOTION_STOP_SIGNAL,
        incidents.FEED_FAULT_SIGNAL,
        *incidents.PERFORMANCE_SIGNALS,
        *ARRIVAL_SIGNALS,
    }
)

# What people call the signals that are stored under the names of earlier versions.
_PUBLIC_NAMES = {
    REALIZED_PERFORMANCE_CHECK: "realized_performance",
    CONCEPT_DRIFT_CHECK: "concept_drift",
}
_STORED_NAMES = {public: stored for stored, public in _PUBLIC_NAMES.items()}

_MIN_VOLUME_SHARE = 0.5  # of the usual rows of a window, while few windows are known
_MAX_LOW_VOLUME_SHARE = 0.8  # of the usual rows: a smaller reduction is no incident
_MIN_INTERVAL_WINDOWS = 4  # from which an interval of the rows is predicted
_MAX_INTERVAL_WINDOWS = 8
_VOLUME_COVERAGE = 0.999
_MIN_LABELED_SHARE = 0.8  # of the rows of a window whose labels are due


class SignalTime(StrEnum):
    """When a signal is looked for."""

    WINDOW_ENDED = "window_ended"
    LABELS_DUE = "labels_due"


class WindowEvidence(NamedTuple):
    """What a signal may look at.

    Attributes
    ----------
    config : ProjectConfig
        The project's settings.
    start : datetime
        Where the window begins, in UTC.
    end : datetime
        Where it ends, in UTC.
    version : str
        The version whose predictions it is about.
    predictions : DataFrame
        The predictions, one row each: ``prediction_id``, ``version``, ``key`` (the row's id, as
        JSON), ``moment`` (the row's timestamp, in UTC), ``score``, ``decision`` (the predicted
        class), ``at`` (when it was scored), ``label`` (NaN while unknown), ``raw_label`` (as it
        came) and ``known`` (from when the label was known).
    features : DataFrame
        The features from which they were made, in the same order.
    monitoring : WindowMonitoring
        What is known without labels: the numbers of rows, drift and estimated performance.
    performance : WindowPerformance or None
        What the labels show; None before they are due.
    earlier_row_counts : sequence of int
        Rows of the windows before this one.
    """

    config: ProjectConfig
    start: datetime
    end: datetime
    version: str
    predictions: pd.DataFrame
    features: pd.DataFrame
    monitoring: WindowMonitoring
    performance: WindowPerformance | None = None
    earlier_row_counts: Sequence[int] = ()


_SignalFunction = Callable[[WindowEvidence], str]


class RegisteredSignal(NamedTuple):
    """A signal: what it is called, how severe it is, when and how it is looked for."""

    title: str
    severity: IncidentSeverity
    when: SignalTime
    function: _SignalFunction


INCIDENT_SIGNALS: ExtensionRegistry[RegisteredSignal] = ExtensionRegistry(
    ExtensionKind.INCIDENT_SIGNAL
)


def register_incident_signal(
    name: str,
    title: str,
    severity: IncidentSeverity = IncidentSeverity.WARNING,
    when: SignalTime = SignalTime.WINDOW_ENDED,
) -> Callable[[_SignalFunction], _SignalFunction]:
    """Register the decorated function as an incident signal.

    Parameters
    ----------
    name : str
        The signal's name; at most one incident of a name is open.
    title : str
        The title of the incident.
    severity : IncidentSeverity
        How urgent the incident is: ``WARNING``, or ``CRITICAL``. ``alerts.jsonl`` has ``watch``
        and ``act`` for them.
    when : SignalTime
        Look for it when a window has ended, or when the labels of a window are due.

    Examples
    --------
    >>> @register_incident_signal("all_flagged", "Every row is flagged")
    ... def detect_all_flagged(evidence):
    ...     share = evidence.monitoring.flagged_share
    ...     return "All rows are predicted positive." if share == 1 else ""
    >>> INCIDENT_SIGNALS["all_flagged"].title
    'Every row is flagged'
    >>> del INCIDENT_SIGNALS["all_flagged"]
    """
    signal_severity = convert_option(IncidentSeverity, severity, "severity")
    signal_time = convert_option(SignalTime, when, "time")

    def register(function: _SignalFunction) -> _SignalFunction:
        signal = RegisteredSignal(title, signal_severity, signal_time, function)
        INCIDENT_SIGNALS.register(name)(signal)
        return function

    return register


def detect_registered_signals(evidence: WindowEvidence, when: SignalTime) -> list[IncidentSignal]:
    """Detect the registered signals that are looked for at this time.

    A signal that fails is an incident itself.
    """
    detected = []
    for name, signal in INCIDENT_SIGNALS.items():
        if signal.when != when:
            continue
        try:
            sentence = _evaluate_signal(signal, evidence)
        except Exception as error:  # of a plugin: the watch goes on, and an incident tells of it
            title = f"The incident signal {name!r} failed"
            message = f"{describe_exception(error)} ({_find_line(signal.function, error)})."
            detected.append(IncidentSignal(name, IncidentSeverity.WARNING, title, message))
            continue
        if sentence:
            detected.append(IncidentSignal(name, signal.severity, signal.title, sentence))
    return detected


def _evaluate_signal(signal: RegisteredSignal, evidence: WindowEvidence) -> str:
    sentence = signal.function(evidence) or ""
    if not isinstance(sentence, str):
        raise TypeError(f"it returned {sentence!r}; expected a sentence")
    return sentence


def _find_line(function: _SignalFunction, error: BaseException) -> str:
    """Find the line of a signal's file where it failed; that of its definition if it returned."""
    code = inspect.unwrap(function).__code__
    line = code.co_firstlineno
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == code.co_filename and frame.lineno is not None:
            line = frame.lineno
    return f"{Path(code.co_filename).name}, line {line}"


def get_public_name(signal: str) -> str:
    """Return what people call a stored signal.

    >>> get_public_name("gap"), get_public_name("drift")
    ('concept_drift', 'drift')
    """
    return _PUBLIC_NAMES.get(signal, signal)


def get_stored_name(signal: str) -> str:
    """Return the name under which the incidents of a signal are stored.

    >>> get_stored_name("concept_drift")
    'gap'
    """
    return _STORED_NAMES.get(signal, signal)


def list_all_signal_names() -> set[str]:
    """List the stored names of all signals from which the watch opens incidents."""
    return {*BUILT_IN_SIGNALS, *INCIDENT_SIGNALS}


def list_signal_names(when: SignalTime) -> set[str]:
    """List the names of the registered signals that are looked for at this time."""
    return {name for name, signal in INCIDENT_SIGNALS.items() if signal.when == when}


@register_incident_signal("volume", "Fewer rows than usual")
def detect_low_volume(evidence: WindowEvidence) -> str:
    """Detect that a window has far fewer rows than usual.

    With four windows before it or more, it is below the prediction interval of the last eight and
    below 80% of their median; with fewer, below half of the median.
    """
    earlier_rows = list(evidence.earlier_row_counts)
    if not earlier_rows:
        return ""
    rows = sum(evidence.monitoring.rows_by_version.values())
    if len(earlier_rows) < _MIN_INTERVAL_WINDOWS:
        usual_rows = sorted(earlier_rows)[len(earlier_rows) // 2]
        if rows >= _MIN_VOLUME_SHARE * usual_rows:
            return ""
        return f"{format_number(rows)} rows in the window; usual are {format_number(usual_rows)}."
    recent_rows = earlier_rows[-_MAX_INTERVAL_WINDOWS:]
    usual = predict_count(recent_rows, estimate_dispersion([recent_rows]), _VOLUME_COVERAGE)
    if rows >= usual.low or rows >= _MAX_LOW_VOLUME_SHARE * usual.expected:
        return ""
    return (
        f"{format_number(rows)} rows in the window; usual are {usual.low:,} to {usual.high:,} "
        f"({100 * _VOLUME_COVERAGE:g}% prediction interval)."
    )


@register_incident_signal("rejected_rows", "Rows violate the data contract")
def detect_rejected_rows(evidence: WindowEvidence) -> str:
    """Detect that the data contract rejects more of a window's rows than a run tolerates."""
    monitoring = evidence.monitoring
    rows = monitoring.rejected_rows + sum(monitoring.rows_by_version.values())
    limit = evidence.config.contract.max_quarantined_share
    if monitoring.rejected_rows <= limit * rows:
        return ""
    share = format_percent(monitoring.rejected_rows / rows)
    return f"{share} of the rows have no score. {monitoring.contract_sentence}"


@register_incident_signal("labels", "Labels are missing", when=SignalTime.LABELS_DUE)
def detect_missing_labels(evidence: WindowEvidence) -> str:
    """Detect that labels are due but have not arrived."""
    rows = len(evidence.predictions)
    if rows == 0 or evidence.performance is None:
        return ""
    labeled_share = evidence.performance.labeled_rows / rows
    if labeled_share >= _MIN_LABELED_SHARE:
        return ""
    return (
        f"Only {format_percent(labeled_share)} of {format_number(rows)} rows have their label, "
        "although it is due."
    )
