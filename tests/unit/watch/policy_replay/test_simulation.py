"""A replayed policy decides as the watch does on what a window shows."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

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
from mlops_kit.stages.monitor.reference_performance import ReferencePerformance
from mlops_kit.stages.retrain.policy import RECOVERY_REASON
from mlops_kit.stats.monitoring_tables import REALIZED_PERFORMANCE_CHECK
from mlops_kit.stats.paired_gains import PairedGain
from mlops_kit.watch.policy_replay import simulation as policy_simulation
from mlops_kit.watch.policy_replay.fits import FitRequest
from mlops_kit.watch.policy_replay.policies import load_policies
from mlops_kit.watch.policy_replay.simulation import (
    PolicySimulation,
    ReplayDecision,
    ServingPeriod,
    _EvaluatedWindow,
    _WindowFindings,
)
from mlops_kit.watch.policy_replay.store import ReplayStore
from mlops_kit.watch.records import WindowMonitoring, WindowPerformance
from tests.support import watched_project as watched
from tests.support.replayed_history import START, make_history

DAYS = 40
ROWS_PER_DAY = 24
SETTINGS = "retrain: {min_labels: 10, cooldown: 21d}\n"
DRIFT_COLUMNS = ["column", "status", "missing_reference", "missing_current"]
NO_DRIFT = Table("Drift", "", pd.DataFrame([("x", "none", 0.0, 0.0)], columns=DRIFT_COLUMNS))


@pytest.fixture
def simulation(tmp_path: Path) -> PolicySimulation:
    """The project's own policy on forty days of 24 rows."""
    history = make_history(tmp_path, DAYS, ROWS_PER_DAY, SETTINGS)
    store = ReplayStore(history, watched.RECIPE, tmp_path / "replay")
    return PolicySimulation(store, load_policies(history.project, ["default"])[0])


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


@pytest.fixture
def recovering(simulation: PolicySimulation, monkeypatch: pytest.MonkeyPatch) -> PolicySimulation:
    """A policy whose second model, made as of the tenth day, has twice the errors of the first."""
    first = simulation.champion
    second = FitRequest(START + timedelta(days=10))
    simulation.timeline.periods.append(ServingPeriod(second, second.as_of))
    simulation._decided_at.append(second.as_of)
    references = {first: ReferencePerformance(1.0, 0.9, 1.1), second: ReferencePerformance(2.0)}
    monkeypatch.setattr(
        ReplayStore, "get_reference_performance", lambda _store, request: references[request]
    )
    return simulation


def test_a_model_made_during_a_change_is_compared_with_the_one_before(
    recovering: PolicySimulation,
) -> None:
    as_of = recovering.champion.as_of + timedelta(days=10)
    reason = recovering._find_incomplete_recovery(make_performance(2.0), as_of)
    assert "version as of 2024-01-01" in reason
    assert recovering._find_incomplete_recovery(make_performance(1.0), as_of) == ""
    recovering._rolled_back.add(recovering.timeline.periods[0].request)
    assert recovering._find_incomplete_recovery(make_performance(2.0), as_of) == ""


def test_each_attempt_to_recover_waits_for_twice_as_many_labels(
    recovering: PolicySimulation,
) -> None:
    recovering.config = recovering.config.model_copy(
        update={"retrain": recovering.config.retrain.model_copy(update={"min_labels": 150})}
    )
    as_of = recovering.champion.as_of + timedelta(days=8)
    assert 150 <= recovering._count_new_labels(as_of) < 300
    assert recovering._find_incomplete_recovery(make_performance(2.0), as_of)
    recovering._decided_at.append(as_of - timedelta(days=1))
    assert recovering._find_incomplete_recovery(make_performance(2.0), as_of) == ""


def test_a_further_retraining_learns_from_the_rows_after_the_cut_off_of_the_champion(
    recovering: PolicySimulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PolicySimulation, "_find_change", lambda *_arguments: None)
    as_of = recovering.champion.as_of + timedelta(days=8)
    change_time = recovering._find_change_time({RECOVERY_REASON}, as_of)
    assert change_time == recovering.champion.as_of - timedelta(days=2)
    assert recovering._find_change_time({"age"}, as_of) is None


def test_a_rollback_waits_for_the_labels_of_its_window(
    simulation: PolicySimulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = simulation.history.windows[:2]
    replaced = simulation.champion
    champion = FitRequest(START + timedelta(hours=1))
    simulation.timeline.periods.append(ServingPeriod(champion, champion.as_of))
    simulation.timeline.decisions.append(ReplayDecision(0, START, champion, "keep", "", False))
    simulation._replaced = replaced
    compared_rows = []

    def measure_loss(*arguments: object) -> PairedGain:
        rows = len(arguments[3])  # type: ignore[arg-type]
        compared_rows.append(rows)
        return PairedGain(-5.0, 1e-6, 50, rows)

    monkeypatch.setattr(policy_simulation, "measure_window_gain", measure_loss)
    monkeypatch.setattr(ReplayStore, "get_fit", lambda _store, request: request)
    positions = simulation.history.list_positions(champion.as_of, first.end)
    late_positions = positions[: len(positions) // 5]
    simulation.history.label_times.iloc[late_positions] += timedelta(days=9)
    simulation._compare_with_replaced(first, first.evaluated_at)
    assert (compared_rows, simulation.champion) == ([], champion)
    simulation._compare_with_replaced(second, second.evaluated_at)
    assert (compared_rows, simulation.champion) == ([len(positions)], replaced)
