"""What ``mlops watch`` stores about a window: typed records, and their JSON in the database.

The records are written by the watch and read by the monitoring dashboard. Records of schema
version 1 have no version number and other keys; they are translated when they are read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from mlops_kit.core.results import CheckOutcome, Interval, Table, Verdicts
from mlops_kit.core.serialization import from_json_value, to_json_value
from mlops_kit.stages.monitor.joint_cost import JointCost
from mlops_kit.stages.monitor.joint_drift import JointDrift
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
from mlops_kit.stages.retrain.policy import RetrainingDecision
from mlops_kit.stats.interval_difference import compute_difference_interval
from mlops_kit.stats.metrics import METRICS
from mlops_kit.stats.monitoring_tables import REALIZED_PERFORMANCE_CHECK, upgrade_monitoring_table

WINDOW_SCHEMA_VERSION = 2

# Keys of schema version 1 and the fields that they are now.
_OLD_MONITORING_KEYS = {"flagged": "flagged_share", "names": "rows_by_version"}
_OLD_PERFORMANCE_KEYS = {
    "labelled": "labeled_rows",
    "realised": "realized",  # stored by earlier versions
    "gap": "is_below_estimate",
}


@dataclass(frozen=True)
class WindowMonitoring:
    """What is known of a window without labels.

    Attributes
    ----------
    rows : int
        Scored rows of the version that the window is about.
    flagged_share, mean_score : float or None
        Share of rows predicted positive (None for a task without a positive class), and the mean
        score (of a multiclass task the mean probability of the predicted class); None without
        rows.
    estimated : Interval
        Estimated performance: the headline metric expected without labels.
    drift : Table
        Drift by feature; its ``data`` has a row per column, the score included, with ``column``,
        ``status`` (``alert``, ``warning``, ``none`` or ``not_tested``), ``effect``,
        ``adjusted_p``, ``explanation``, ``cost`` and others.
    sketches : dict
        The distribution of each feature in the reference and in the window.
    verdicts : Verdicts
        What the checks without labels conclude.
    rows_by_version : dict
        Rows that each version scored in the window.
    rejected_rows : int
        Rows of the window that the data contract rejects; they have no score.
    contract_sentence : str
        What the contract rejects in the window, or accepts although it is new; else empty.
    estimation_method, estimation_note : str
        How the performance was estimated (``EstimationMethod``), and a sentence about it; empty in
        records of earlier versions.
    joint_cost : JointCost or None
        What the joint drift of all features costs; None where nothing drifted.
    joint_drift : JointDrift or None
        Whether a classifier tells the window from the reference; None in records of earlier
        versions.
    slices : Table or None
        Drift by slice; None without ``review.slices``.
    estimated_cost : Interval or None
        Estimated cost of the decision on a row; None where the project states no costs, and in
        records of earlier versions.
    reference : ReferencePerformance or None
        Reference performance at that time; None if there is none, and in records of earlier
        versions.
    """

    rows: int
    flagged_share: float | None
    mean_score: float | None
    estimated: Interval
    drift: Table
    sketches: Mapping[str, Any]
    verdicts: Verdicts
    rows_by_version: Mapping[str, int]
    rejected_rows: int = 0
    contract_sentence: str = ""
    estimation_method: str = ""
    estimation_note: str = ""
    joint_cost: JointCost | None = None
    joint_drift: JointDrift | None = None
    slices: Table | None = None
    estimated_cost: Interval | None = None
    reference: ReferencePerformance | None = None

    def to_json(self) -> str:
        """Convert to the JSON text that the database stores."""
        return _dump_record(self)

    @classmethod
    def from_json(cls, text: str) -> WindowMonitoring:
        """Read the JSON text of a stored record."""
        stored = _load_record(text, _OLD_MONITORING_KEYS)
        return cls(
            rows=stored["rows"],
            flagged_share=stored.get("flagged_share"),
            mean_score=stored.get("mean_score"),
            estimated=stored["estimated"],
            drift=upgrade_monitoring_table(stored["drift"]),
            sketches=stored.get("sketches", {}),
            verdicts=stored["verdicts"],
            rows_by_version=stored.get("rows_by_version", {}),
            rejected_rows=stored.get("rejected_rows", 0),
            contract_sentence=stored.get("contract_sentence", ""),
            estimation_method=stored.get("estimation_method", ""),
            estimation_note=stored.get("estimation_note", ""),
            joint_cost=stored.get("joint_cost"),
            joint_drift=stored.get("joint_drift"),
            slices=stored.get("slices"),
            estimated_cost=stored.get("estimated_cost"),
            reference=stored.get("reference"),
        )

    @staticmethod
    def read_row_count(text: str) -> int:
        """Read only the number of rows of a stored record."""
        return int(json.loads(text)["rows"])

    @staticmethod
    def read_rejected_rows(text: str) -> int:
        """Read only the number of rejected rows of a stored record."""
        return int(json.loads(text).get("rejected_rows", 0))


@dataclass(frozen=True)
class WindowPerformance:
    """What the labels of a window show.

    Attributes
    ----------
    labeled_rows : int
        Scored rows of the window that have a label.
    realized : Table
        Realized performance with intervals, beside the reference performance.
    cost, saved : float or None
        Cost of errors per row, and the saving over all labeled rows against the cheaper rule
        without a model; None if the rows have no predicted class.
    is_below_estimate : bool
        Whether the realized performance is worse than all of the interval of the estimate.
    verdicts : Verdicts
        What the checks of the realized performance conclude.
    decision : RetrainingDecision or None
        The retraining decision that was made with these labels.
    """

    labeled_rows: int
    realized: Table
    cost: float | None
    saved: float | None
    is_below_estimate: bool
    verdicts: Verdicts
    decision: RetrainingDecision | None = None

    def has_failed(self, check: str) -> bool:
        """Whether a check of monitoring failed."""
        for verdict in self.verdicts:
            if verdict.check == check:
                return verdict.outcome == CheckOutcome.FAILED
        return False

    def with_decision(self, decision: RetrainingDecision) -> WindowPerformance:
        """Add the retraining decision."""
        return replace(self, decision=decision)

    def to_json(self) -> str:
        """Convert to the JSON text that the database stores."""
        return _dump_record(self)

    @classmethod
    def from_json(cls, text: str) -> WindowPerformance:
        """Read the JSON text of a stored record."""
        stored = _load_record(text, _OLD_PERFORMANCE_KEYS)
        decision = stored.get("decision")
        return cls(
            labeled_rows=stored["labeled_rows"],
            realized=upgrade_monitoring_table(stored["realized"]),
            cost=stored.get("cost"),
            saved=stored.get("saved"),
            is_below_estimate=stored["is_below_estimate"],
            verdicts=stored["verdicts"],
            decision=RetrainingDecision.from_json_dict(decision) if decision else None,
        )


def is_drop_growing(
    performance: WindowPerformance, earlier: WindowPerformance | None, headline: str
) -> bool:
    """Whether a drop is larger than in the window before, by more than chance.

    The whole interval of the difference of the two windows has to be on the worse side. A drop in
    the first window with labels counts as growing.

    Parameters
    ----------
    performance : WindowPerformance
        What the labels of the window show.
    earlier : WindowPerformance or None
        What the labels of the window before show of the same version; None if there is none.
    headline : str
        Name of the metric.
    """
    if not performance.has_failed(REALIZED_PERFORMANCE_CHECK):
        return False
    if earlier is None:
        return True
    value = performance.realized.to_intervals()[headline]
    earlier_value = earlier.realized.to_intervals()[headline]
    if METRICS[headline].greater_is_better:
        growth = compute_difference_interval(earlier_value, value)
    else:
        growth = compute_difference_interval(value, earlier_value)
    return growth.low is not None and growth.low > 0


def _dump_record(record: WindowMonitoring | WindowPerformance) -> str:
    return json.dumps({"schema_version": WINDOW_SCHEMA_VERSION, **to_json_value(vars(record))})


def _load_record(text: str, old_keys: Mapping[str, str]) -> dict[str, Any]:
    """Load a stored record with the keys of the current schema version."""
    stored: dict[str, Any] = from_json_value(json.loads(text))
    return {old_keys.get(key, key): value for key, value in stored.items()}
