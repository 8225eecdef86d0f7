"""What the parts of the monitoring page are built from, and the state of the model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from zoneinfo import ZoneInfo

from mlops_kit.core.column_labels import list_labeled_names
from mlops_kit.core.formatting import format_number
from mlops_kit.core.results import CheckOutcome, Verdict
from mlops_kit.dashboards.monitoring_data import MonitoringData
from mlops_kit.dashboards.page_base import make_run_link
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.text_formats import format_event_time
from mlops_kit.db.tables import IncidentRecord
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.stages.monitor.incidents import IncidentSeverity
from mlops_kit.stages.monitor.limits import compute_max_drop
from mlops_kit.stats.metrics import METRICS, Metric
from mlops_kit.stats.monitoring_tables import REALIZED_PERFORMANCE_CHECK

_DRIFT_SIGNAL = "drift"
REFRESH_COMMAND = "mlops watch --once"
_DAY_NAMES = {0: "today", 1: "tomorrow"}  # by days from now


class MonitoringStatus(StrEnum):
    """How the model in service is."""

    STOPPED = "stopped"
    NO_WINDOWS = "no windows"
    CRITICAL = "critical"
    WARNING = "warning"
    HEALTHY = "healthy"
    NO_LABELS = "no labels"


@dataclass(frozen=True)
class MonitoringContext:
    """The project, what its watch has stored, and where the static export will be."""

    project: Project
    file: Path | None
    data: MonitoringData

    @property
    def config(self) -> ProjectConfig:
        """The project's configuration."""
        return self.project.config

    @property
    def zone(self) -> ZoneInfo:
        """The project's time zone."""
        return ZoneInfo(self.config.timezone)

    @property
    def metric(self) -> Metric:
        """The headline metric."""
        return METRICS[self.config.headline_metric]

    @cached_property
    def performance_verdict(self) -> Verdict | None:
        """Whether the newest labels keep the reference performance; None while there are none."""
        window = self.data.last_labeled_window
        return window.find_verdict(REALIZED_PERFORMANCE_CHECK) if window else None

    @property
    def is_performance_below_reference(self) -> bool:
        """Whether the newest labels show a drop."""
        verdict = self.performance_verdict
        return verdict is not None and verdict.outcome is CheckOutcome.FAILED

    @property
    def is_performance_confirmed(self) -> bool:
        """Whether the newest labels show that performance matches its reference."""
        verdict = self.performance_verdict
        return verdict is not None and verdict.outcome is CheckOutcome.PASSED

    @property
    def is_performance_undecided(self) -> bool:
        """Whether the newest labels do not tell if there is a drop."""
        verdict = self.performance_verdict
        return verdict is not None and verdict.outcome is CheckOutcome.CANNOT_TELL

    @property
    def realized_value(self) -> float | None:
        """The realized performance of the newest labels; None without enough labels."""
        window = self.data.last_labeled_window
        return window.realized.value if window else None

    @property
    def is_replaced(self) -> bool:
        """Whether the newest labels are those of a version that is no longer in service."""
        window = self.data.last_labeled_window
        current = self.data.current_promotion
        return window is not None and current is not None and window.version != current.version

    @cached_property
    def status(self) -> MonitoringStatus:
        """How the model in service is."""
        data = self.data
        if data.is_stopped:
            return MonitoringStatus.STOPPED
        if not data.windows:
            return MonitoringStatus.NO_WINDOWS
        has_critical_incident = any(
            incident.severity == IncidentSeverity.CRITICAL for incident in data.open_incidents
        )
        is_critical = has_critical_incident or self.is_performance_below_reference
        if is_critical and not self.is_replaced:
            return MonitoringStatus.CRITICAL
        has_labels = self.realized_value is not None
        is_undecided = has_labels and self.is_performance_undecided
        if is_critical or data.unacknowledged_incidents or is_undecided:
            return MonitoringStatus.WARNING
        return MonitoringStatus.HEALTHY if has_labels else MonitoringStatus.NO_LABELS

    def describe_next_pass(self) -> str:
        """Describe when the next pass of the watch is."""
        next_pass = (self.data.watched_until + self.config.watch.interval).astimezone(self.zone)
        now = datetime.now(self.zone)
        if self.data.is_replay:
            return format_event_time(next_pass, self.zone)
        if next_pass < now:
            return "the next pass"
        days = (next_pass.date() - now.date()).days
        return f"{_DAY_NAMES.get(days, f'{next_pass:%-d %B}')}, {next_pass:%H:%M}"

    @cached_property
    def max_drop(self) -> float | None:
        """The largest accepted drop below the newest reference; None if that is not known."""
        windows = self.data.windows
        if not windows:
            return None
        reference = self.data.get_reference_performance(windows[-1].version)
        if reference is None or reference.value is None:
            return None
        return compute_max_drop(self.config.monitor.max_drop, self.metric, reference)

    def describe_threshold(self) -> str:
        """Describe from which score on rows of the newest window count as positive; may be empty.

        Only a metric of predicted classes depends on it.
        """
        window = self.data.last_window
        if window is None:
            return ""
        reference = self.data.get_reference_performance(window.version)
        return "" if reference is None else reference.describe_threshold()

    def describe_drift_cost(self, cost: float) -> str:
        """Describe what a drift is estimated to cost of the headline metric."""
        limit = self.max_drop
        if cost <= 0:
            return "it is estimated to cost nothing"
        if cost < self.config.review.margin:
            return f"it costs about {format_number(cost)}, too little to act on"
        text = f"it costs about {format_number(cost)} of {self.metric.title}"
        if limit is None or cost < limit:
            return text
        return f"{text}, over the limit of {format_number(limit)}"

    def make_link(self, path: Path, text: str) -> Html | str:
        """Make a link to a file of a run."""
        return make_run_link(self.project, self.file, path, text)


def list_named_columns(incident: IncidentRecord) -> list[str]:
    """List the columns with a label that the texts of an incident name: drift names columns."""
    return list_labeled_names() if incident.signal == _DRIFT_SIGNAL else []
