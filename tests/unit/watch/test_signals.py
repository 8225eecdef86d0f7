"""Signals of the watch: row volume, missing labels, and those that are registered."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest

from mlops_kit.core.results import Interval, Table, Verdicts
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.monitor.incidents import IncidentSeverity
from mlops_kit.watch import signals
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance
from mlops_kit.watch.signals import SignalTime, WindowEvidence

START = datetime(2024, 1, 1, tzinfo=UTC)
NO_TABLE = Table("None", "None.", pd.DataFrame())


def make_evidence(
    rows: int, labeled_rows: int | None = None, earlier_row_counts: Sequence[int] = ()
) -> WindowEvidence:
    monitoring = WindowMonitoring(
        rows=rows,
        flagged_share=None,
        mean_score=None,
        estimated=Interval(None),
        drift=NO_TABLE,
        sketches={},
        verdicts=Verdicts(()),
        rows_by_version={"1": rows},
    )
    performance = None
    if labeled_rows is not None:
        performance = WindowPerformance(
            labeled_rows=labeled_rows,
            realized=NO_TABLE,
            cost=None,
            saved=None,
            is_below_estimate=False,
            verdicts=Verdicts(()),
        )
    return WindowEvidence(
        config=ProjectConfig(name="t", source="x.csv", target="y", task="binary", time="at"),
        start=START,
        end=START + timedelta(days=7),
        version="1",
        predictions=pd.DataFrame({"score": [0.5] * rows}),
        features=pd.DataFrame({"x": range(rows)}),
        monitoring=monitoring,
        performance=performance,
        earlier_row_counts=earlier_row_counts,
    )


def test_low_volume_is_below_half_of_the_median() -> None:
    earlier = [100, 300, 280]
    assert signals.detect_low_volume(make_evidence(139, earlier_row_counts=earlier))
    assert signals.detect_low_volume(make_evidence(140, earlier_row_counts=earlier)) == ""
    assert signals.detect_low_volume(make_evidence(0)) == ""
    sentence = signals.detect_low_volume(make_evidence(10, earlier_row_counts=[280]))
    assert sentence == "10 rows in the window; usual are 280."


def test_low_volume_is_below_the_interval_of_the_earlier_windows() -> None:
    steady = [1000, 990, 1020, 1005, 1000, 980]
    sentence = signals.detect_low_volume(make_evidence(780, earlier_row_counts=steady))
    assert sentence.startswith("780 rows in the window; usual are ")
    assert sentence.endswith("(99.9% prediction interval).")
    assert signals.detect_low_volume(make_evidence(810, earlier_row_counts=steady)) == ""
    varying = [1000, 500, 1600, 800, 1300, 700]
    assert signals.detect_low_volume(make_evidence(500, earlier_row_counts=varying)) == ""


def test_missing_labels_are_fewer_than_80_percent() -> None:
    assert signals.detect_missing_labels(make_evidence(100, labeled_rows=80)) == ""
    assert signals.detect_missing_labels(make_evidence(0, labeled_rows=0)) == ""
    assert signals.detect_missing_labels(make_evidence(100)) == ""
    sentence = signals.detect_missing_labels(make_evidence(100, labeled_rows=79))
    assert sentence == "Only 79% of 100 rows have their label, although it is due."


@pytest.fixture
def few_rows_signal() -> Iterator[None]:
    @signals.register_incident_signal("few", "Few rows", severity=IncidentSeverity.CRITICAL)
    def detect_few_rows(evidence: WindowEvidence) -> str:
        return "There are few rows." if len(evidence.features) < 5 else ""

    yield
    del signals.INCIDENT_SIGNALS["few"]


@pytest.mark.usefixtures("few_rows_signal")
def test_registered_signal_is_detected_at_its_time() -> None:
    few = make_evidence(4, labeled_rows=4)
    (signal,) = signals.detect_registered_signals(few, SignalTime.WINDOW_ENDED)
    assert signal == ("few", "act", "Few rows", "There are few rows.")
    assert signals.detect_registered_signals(few, SignalTime.LABELS_DUE) == []
    assert signals.detect_registered_signals(make_evidence(5), SignalTime.WINDOW_ENDED) == []
    assert signals.list_signal_names(SignalTime.WINDOW_ENDED) == {
        "volume",
        "rejected_rows",
        "few",
    }
    assert signals.list_signal_names(SignalTime.LABELS_DUE) == {"labels"}


@pytest.mark.parametrize("result", ["1 / 0", "['a']", "True"])
def test_signal_that_fails_is_an_incident_and_the_others_are_looked_for(result: str) -> None:
    signals.register_incident_signal("odd", "Odd")(lambda _evidence: eval(result))
    try:
        evidence = make_evidence(10, earlier_row_counts=[280])
        detected = signals.detect_registered_signals(evidence, SignalTime.WINDOW_ENDED)
    finally:
        del signals.INCIDENT_SIGNALS["odd"]
    assert [signal.name for signal in detected] == ["volume", "odd"]
    assert detected[1].title == "The incident signal 'odd' failed"
    assert detected[1].sentence.startswith(("ZeroDivisionError: ", "TypeError: it returned "))
    assert re.search(r"\(test_signals\.py, line \d+\)\.$", detected[1].sentence)


def test_more_rejected_rows_than_a_run_tolerates_are_a_signal() -> None:
    evidence = make_evidence(95)
    monitoring = replace(
        evidence.monitoring, rejected_rows=5, contract_sentence="5 of 100 rows are rejected."
    )
    assert signals.detect_rejected_rows(evidence._replace(monitoring=monitoring)) == ""
    more = replace(monitoring, rejected_rows=6)
    assert signals.detect_rejected_rows(evidence._replace(monitoring=more)) == (
        "6% of the rows have no score. 5 of 100 rows are rejected."
    )
