"""Monitor: have the inputs moved, does the model still keep its promise, who must be told?"""

from __future__ import annotations

from mlops_kit.stages.monitor.alerts import (
    append_alerts,
    build_alert_records,
    make_monitoring_verdicts,
    summarize_monitoring,
)
from mlops_kit.stages.monitor.drift import check_schema, measure_drift, select_reference_and_current
from mlops_kit.stages.monitor.realized import (
    get_reference_performance,
    measure_performance_by_day,
    measure_realized_performance,
)

__all__ = [
    "append_alerts",
    "build_alert_records",
    "check_schema",
    "get_reference_performance",
    "make_monitoring_verdicts",
    "measure_drift",
    "measure_performance_by_day",
    "measure_realized_performance",
    "select_reference_and_current",
    "summarize_monitoring",
]
