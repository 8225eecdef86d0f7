"""What opens an incident, and what does not: drift alone never does."""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd

from mlops_kit.core.results import Interval, Table, Verdict
from mlops_kit.project.config import root
from mlops_kit.stages.monitor import incidents
from mlops_kit.stages.monitor.joint_cost import JointCost
from mlops_kit.stats.monitoring_tables import REALIZED_PERFORMANCE_CHECK

CONFIG = root.ProjectConfig(name="t", source="t.csv", target="y", task="binary")


class Window(NamedTuple):
    """A monitored window."""

    drift: Table
    estimated: Interval
    joint_cost: JointCost | None = None


def make_window(
    status: str,
    cost: float | None,
    column: str = "wind",
    estimated: float | None = 0.78,
    high: float | None = None,
) -> Window:
    """A window with one column."""
    data = pd.DataFrame([{"column": column, "status": status, "cost": cost}])
    return Window(Table("Drift", "It is.", data), Interval(estimated, None, high))


def detect_signals(
    *windows: Window, reference: float | None = 0.78
) -> list[incidents.IncidentSignal]:
    performance = None if reference is None else Interval(reference)
    return incidents.detect_costly_drift(windows, performance, CONFIG)


def test_persistent_costly_drift_is_a_signal_with_its_cost() -> None:
    (found,) = detect_signals(make_window("alert", 0.02), make_window("alert", 0.02))
    assert (found.name, found.severity) == ("drift", "watch")
    assert found.title == "wind has drifted"
    assert "costs about 0.020 of ROC-AUC" in found.sentence


def test_cost_close_to_the_margin_does_not_close_an_incident_by_chance() -> None:
    costs = (0.0053, 0.0051, 0.0049)  # the margin is 0.005
    windows = [make_window("alert", cost) for cost in costs]
    (found,) = detect_signals(*windows)
    assert found.title == "wind has drifted"
    cheap = [make_window("alert", cost) for cost in (0.0051, 0.001, 0.001)]
    assert detect_signals(*cheap) == []


def test_short_cheap_unknown_or_past_drift_is_no_signal() -> None:
    assert detect_signals(make_window("none", None), make_window("alert", 0.02)) == []
    assert detect_signals(make_window("alert", 0.001), make_window("alert", 0.001)) == []
    assert detect_signals(make_window("alert", None), make_window("alert", None)) == []
    assert (
        detect_signals(
            make_window("alert", 0.02), make_window("alert", 0.02), make_window("none", None)
        )
        == []
    )
    assert detect_signals() == []
    assert (
        detect_signals(make_window("alert", 0.02, "score"), make_window("alert", 0.02, "score"))
        == []
    )


def test_two_of_three_windows_suffice_and_older_ones_are_ignored() -> None:
    assert detect_signals(
        make_window("alert", 0.02), make_window("none", None), make_window("alert", 0.02)
    )
    assert (
        detect_signals(
            make_window("alert", 0.02),
            make_window("none", None),
            make_window("none", None),
            make_window("alert", 0.02),
        )
        == []
    )


def test_drift_is_critical_only_if_estimate_drops() -> None:
    assert (
        detect_signals(make_window("alert", 0.1), make_window("alert", 0.1))[0].severity == "watch"
    )
    assert (
        detect_signals(make_window("alert", 0.1), make_window("alert", 0.1, estimated=0.74))[
            0
        ].severity
        == "act"
    )
    assert (
        detect_signals(
            make_window("alert", 0.1), make_window("alert", 0.1, estimated=0.74), reference=None
        )[0].severity
        == "watch"
    )


def test_several_columns_are_one_signal_led_by_the_costliest() -> None:
    rows = [{"column": c, "status": "alert", "cost": v} for c, v in (("a", 0.01), ("b", 0.03))]
    both = Window(Table("Drift", "It is.", pd.DataFrame(rows)), Interval(None))
    (found,) = detect_signals(both, both)
    assert found.title == "b and a have drifted"
    assert found.sentence.index("b costs") < found.sentence.index("a costs")


def test_estimated_drop_alone_is_a_signal_once_its_whole_interval_is_beyond_the_limit() -> None:
    (found,) = detect_signals(make_window("none", None, estimated=0.70, high=0.74))
    assert (found.name, found.severity) == ("drift", "act")
    assert found.title == "Estimated performance below its reference"
    assert "depend on one another in another way" in found.sentence
    assert detect_signals(make_window("none", None, estimated=0.70, high=0.76)) == []
    assert detect_signals(make_window("none", None, estimated=0.70)) == []
    without_reference = make_window("none", None, estimated=0.70, high=0.74)
    assert detect_signals(without_reference, reference=None) == []


def test_estimated_rise_of_an_error_metric_is_a_drop() -> None:
    config = root.ProjectConfig.model_validate(
        {
            "name": "t",
            "source": "t.csv",
            "target": "y",
            "task": "regression",
            "review": {"metric": "mae"},
        }
    )
    table = Table("Drift", "It is.", pd.DataFrame([{"column": "a", "status": "none", "cost": 0}]))
    window = Window(table, Interval(1.2, 1.1, 1.3))
    assert incidents.detect_costly_drift([window], Interval(0.99), config)
    assert incidents.detect_costly_drift([window], Interval(1.09), config) == []
    # The noise of the reference counts as it does for the realized performance.
    assert incidents.detect_costly_drift([window], Interval(0.99, 0.8, 1.2), config) == []


def test_drift_outside_the_support_ranks_first_and_asks_for_an_investigation() -> None:
    rows = [
        {"column": "a", "status": "alert", "cost": 0.05, "outside_support": False},
        {"column": "b", "status": "alert", "cost": None, "outside_support": True},
        {"column": "c", "status": "alert", "cost": None, "outside_support": False},
    ]
    both = Window(Table("Drift", "It is.", pd.DataFrame(rows)), Interval(None))
    (found,) = detect_signals(both, both)
    assert found.title == "b and a have drifted"
    assert found.sentence.startswith("b is outside the training support, at an unknown cost: find")
    assert "a costs about 0.050" in found.sentence


def test_columns_that_cost_little_alone_are_a_signal_if_they_cost_much_together() -> None:
    window = make_window("alert", 0.001)._replace(joint_cost=JointCost(0.04, 1234, 0.7))
    (found,) = detect_signals(make_window("alert", 0.001), window)
    assert "wind costs about 0.001 of ROC-AUC." in found.sentence
    assert "together cost about 0.040 of ROC-AUC (effective sample: 1,234 rows)" in found.sentence
    unknown = window._replace(joint_cost=JointCost(None, 12, 0.99))
    assert detect_signals(make_window("alert", 0.001), unknown) == []


def test_only_a_passed_check_of_realized_performance_is_a_recovery() -> None:
    def make_verdict(outcome: str) -> Verdict:
        return Verdict(REALIZED_PERFORMANCE_CHECK, "t", outcome, "blocks", f"It {outcome}.")

    assert incidents.describe_recovery([make_verdict("passed")]) == "It passed."
    assert incidents.describe_recovery([make_verdict("cannot tell")]) == ""
    assert incidents.describe_recovery([make_verdict("failed")]) == ""
    assert incidents.describe_recovery([Verdict("gap", "t", "passed", "warns", "Fine.")]) == ""


def test_proven_failures_are_signals_at_once() -> None:
    verdicts = [
        Verdict(REALIZED_PERFORMANCE_CHECK, "t", "failed", "blocks", "It fell."),
        Verdict("gap", "t", "passed", "warns", "Fine."),
        Verdict("drift", "t", "failed", "warns", "Moved."),
        Verdict("schema", "t", "failed", "blocks", "Gone."),
    ]
    assert [
        (c.name, c.severity, c.sentence) for c in incidents.detect_proven_failures(verdicts)
    ] == [
        (REALIZED_PERFORMANCE_CHECK, "act", "It fell."),
        ("schema", "act", "Gone."),
    ]
