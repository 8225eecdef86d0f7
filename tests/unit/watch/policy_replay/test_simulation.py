"""A replayed policy decides as the watch does on what a window shows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.results import (
    CheckOutcome,
    CheckSeverity,
    Interval,
    Table,
    Verdict,
    Verdicts,
)
from mlops_kit.project import loader
from mlops_kit.stats.monitoring_tables import REALIZED_PERFORMANCE_CHECK
from mlops_kit.watch.policy_replay.history import ReplayHistory
from mlops_kit.watch.policy_replay.policies import load_policies
from mlops_kit.watch.policy_replay.simulation import (
    PolicySimulation,
    _EvaluatedWindow,
    _WindowFindings,
)
from mlops_kit.watch.policy_replay.store import ReplayStore
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance
from tests.support import watched_project as watched

START = datetime(2024, 1, 1, tzinfo=UTC)
DAYS = 40
ROWS_PER_DAY = 24
DRIFT_COLUMNS = ["column", "status", "missing_reference", "missing_current"]
NO_DRIFT = Table("Drift", "", pd.DataFrame([("x", "none", 0.0, 0.0)], columns=DRIFT_COLUMNS))
YAML = """
name: tiny
source: t.csv
target: y
task: regression
time: at
label_delay: 2d
review: {metric: mae}
retrain: {min_labels: 10, cooldown: 21d}
"""


@pytest.fixture
def simulation(tmp_path: Path) -> PolicySimulation:
    """The project's own policy on forty days of 24 rows."""
    (tmp_path / "mlops.yaml").write_text(YAML)
    project = loader.load_project(tmp_path)
    count = DAYS * ROWS_PER_DAY
    times = pd.Series(pd.Timestamp(START) + pd.to_timedelta(np.arange(count), unit="h"))
    history = ReplayHistory(
        project=project,
        table=pd.DataFrame({"at": times, "x": 1.0, "y": 0.0}),
        label_times=times + pd.Timedelta(days=2),
        rejected=np.zeros(count, dtype=bool),
        classes=(),
        start=START,
        end=START + timedelta(days=DAYS),
        digest="d",
    )
    store = ReplayStore(history, watched.RECIPE, tmp_path / "replay")
    return PolicySimulation(store, load_policies(project, ["default"])[0])


def make_performance(mae: float) -> WindowPerformance:
    """Make the performance of a window that has dropped."""
    verdict = Verdict(
        REALIZED_PERFORMANCE_CHECK,
        "Performance",
        CheckOutcome.FAILED,
        CheckSeverity.BLOCKS,
        f"MAE rose to {mae:g}.",
    )
    columns = ["metric", "value", "low", "high", "rows"]
    data = pd.DataFrame([("mae", mae, mae - 0.1, mae + 0.1, 168)], columns=columns)
    return WindowPerformance(
        labeled_rows=168,
        realized=Table("Realized performance", "", data),
        cost=None,
        saved=None,
        is_below_estimate=True,
        verdicts=Verdicts((verdict,)),
    )


@pytest.mark.parametrize(("mae", "action"), [(3.0, "retrain"), (1.5, "wait")])
def test_only_a_drop_that_grows_does_not_wait_for_the_cooldown(
    simulation: PolicySimulation, monkeypatch: pytest.MonkeyPatch, mae: float, action: str
) -> None:
    monkeypatch.setattr(PolicySimulation, "_find_change", lambda *_arguments: None)
    earlier, window = simulation.history.windows[:2]
    champion = simulation.champion
    simulation._evaluated.append(_EvaluatedWindow(earlier, champion, make_performance(2.0)))
    simulation._decided_at.append(earlier.labels_due_at)
    monitoring = WindowMonitoring(
        rows=168,
        flagged_share=None,
        mean_score=0.0,
        estimated=Interval(1.0, 0.9, 1.1),
        drift=NO_DRIFT,
        sketches={},
        verdicts=Verdicts(()),
        rows_by_version={champion.key: 168},
    )
    positions = simulation.history.list_positions(window.start, window.end)
    findings = _WindowFindings(window, champion, positions, monitoring, make_performance(mae))
    decision = simulation._decide(findings, window.evaluated_at, "")
    assert decision.action == action, decision.reason
