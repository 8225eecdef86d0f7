"""Incomplete recoveries: when another retraining is due although no performance dropped."""

from __future__ import annotations

from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.results import Table
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.realized import REALIZED_COLUMNS
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
from mlops_kit.watch import incomplete_recovery
from mlops_kit.watch.incomplete_recovery import describe_incomplete_recovery

BINARY = ProjectConfig(name="t", source="t.csv", target="y", task="binary", time="at")
REGRESSION = ProjectConfig(
    name="t", source="t.csv", target="y", task="regression", time="at", review={"metric": "mae"}
)
EARLIER = {
    "1": ReferencePerformance(0.83, 0.81, 0.85, no_skill=0.5),
    "2": ReferencePerformance(0.60, 0.55, 0.65, no_skill=0.5),
    "3": ReferencePerformance(None),
}


def make_realized(metric: str, value: float, half_width: float) -> Table:
    """Make the realized performance of a window."""
    row = (metric, value, value - half_width, value + half_width, 400, None, None)
    return Table("Realized", "", pd.DataFrame([row], columns=REALIZED_COLUMNS))


def test_champion_below_the_limit_of_the_best_earlier_version_has_not_recovered() -> None:
    sentence = describe_incomplete_recovery(make_realized("roc_auc", 0.7, 0.03), EARLIER, BINARY)
    assert "realized ROC-AUC 0.700 [0.670, 0.730]" in sentence
    assert (
        "version 1, which was in service before, has a reference performance of 0.830" in sentence
    )


@pytest.mark.parametrize(("value", "half_width"), [(0.82, 0.02), (0.7, 0.1)])
def test_champion_whose_interval_reaches_the_limit_may_have_recovered(
    value: float, half_width: float
) -> None:
    realized = make_realized("roc_auc", value, half_width)
    assert describe_incomplete_recovery(realized, EARLIER, BINARY) == ""


def test_lower_errors_are_better() -> None:
    earlier = {
        "1": ReferencePerformance(10.0, 9.0, 11.0, no_skill=30.0),
        "2": ReferencePerformance(20.0, 18.0, 22.0, no_skill=30.0),
    }
    worse = describe_incomplete_recovery(make_realized("mae", 20.0, 1.0), earlier, REGRESSION)
    assert "version 1" in worse
    better = make_realized("mae", 9.0, 1.0)
    assert describe_incomplete_recovery(better, earlier, REGRESSION) == ""


def test_first_version_has_nothing_to_recover() -> None:
    assert describe_incomplete_recovery(make_realized("roc_auc", 0.6, 0.01), {}, BINARY) == ""


@pytest.fixture
def context(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A watch whose champion is version 2, with the attempts and labels that a test sets."""
    state = SimpleNamespace(config=BINARY, project=None, attempts=0, labels=0, accepted=None)
    version = SimpleNamespace(version="2", as_of="2026-01-01T00:00:00+00:00")
    state.get_champion = lambda: SimpleNamespace(version=version)
    references = {"1": SimpleNamespace(performance=EARLIER["1"])}

    def get_reference(name: str) -> Any:
        if name not in references:
            raise RunFailedError("the run is gone")
        return references[name]

    state.get_reference = get_reference
    for name, function in {
        "count_retrainings_since": lambda *_: state.attempts,
        "count_new_labels": lambda _: state.labels,
        "find_accepted_reference": lambda *_: state.accepted,
        "list_earlier_versions": lambda _: ["0", "1"],
    }.items():
        monkeypatch.setattr(incomplete_recovery, name, function)
    monkeypatch.setattr(incomplete_recovery.approvals, "list_promotions", lambda _: [])
    return state


@pytest.mark.parametrize(
    ("attempts", "labels", "is_due"),
    [(0, 499, False), (0, 500, True), (1, 999, False), (1, 1000, True), (3, 3999, False)],
)
def test_each_attempt_waits_for_twice_as_many_labels(
    context: Any, attempts: int, labels: int, is_due: bool
) -> None:
    context.attempts = attempts
    context.labels = labels
    performance: Any = SimpleNamespace(realized=make_realized("roc_auc", 0.7, 0.03))
    as_of = datetime.fromisoformat("2026-01-01T00:00:00+00:00") + timedelta(days=30)
    reason = incomplete_recovery.find_incomplete_recovery(context, performance, as_of)
    assert bool(reason) == is_due


def test_accepted_performance_is_not_asked_about_again(context: Any) -> None:
    context.labels = 10_000
    context.accepted = SimpleNamespace(value=0.7)
    performance: Any = SimpleNamespace(realized=make_realized("roc_auc", 0.7, 0.03))
    as_of = datetime.fromisoformat("2026-02-01T00:00:00+00:00")
    assert incomplete_recovery.find_incomplete_recovery(context, performance, as_of) == ""
