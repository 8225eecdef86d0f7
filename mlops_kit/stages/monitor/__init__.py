"""Monitor: drift, realized performance, and the alerts that they raise."""

from __future__ import annotations

from mlops_kit.stages.monitor.alerts import (
    append_alerts,
    build_alert_records,
    make_monitoring_verdicts,
    summarize_monitoring,
)
from mlops_kit.stages.monitor.drift import measure_drift
from mlops_kit.stages.monitor.drift_sides import (
    get_drift_design,
    get_drift_weights,
    select_reference_and_current,
)
from mlops_kit.stages.monitor.realized import (
    measure_performance_by_day,
    measure_realized_performance,
)
from mlops_kit.stages.monitor.reference_performance import (
    get_reference_performance,
    select_held_out_rows,
)
from mlops_kit.stages.monitor.schema import check_schema

__all__ = [
    "append_alerts",
    "build_alert_records",
    "check_schema",
    "get_drift_design",
    "get_drift_weights",
    "get_reference_performance",
    "make_monitoring_verdicts",
    "measure_drift",
    "measure_performance_by_day",
    "measure_realized_performance",
    "select_held_out_rows",
    "select_reference_and_current",
    "summarize_monitoring",
]
