"""A new champion that is worse than its predecessor would have been is rolled back in one pass."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from mlops_kit.client import ProjectClient
from mlops_kit.core.errors import KitError, WaitingForApprovalError
from mlops_kit.db import approvals, operator_decisions
from mlops_kit.db.tables import IncidentRecord
from mlops_kit.project import loader
from mlops_kit.registry import versions
from mlops_kit.stages.deploy import promotion
from mlops_kit.stages.monitor import incidents
from mlops_kit.stages.stage import Stage
from mlops_kit.watch import loop
from mlops_kit.watch.predecessor import list_stored_comparisons
from tests.support import watched_project as watched


def report_nothing(text: str, transient: bool = False) -> None:
    """Report nothing."""


def replay_until(project: loader.Project, text: str) -> list[str]:
    """Replay the watch until a time; return what it reported."""
    until = project.parse_utc_timestamp(text, "the test's time")
    assert isinstance(until, datetime)
    lines: list[str] = []
    loop.replay_period(project, None, until, lambda line, **_: lines.append(line))
    return lines


def get_champion(project: loader.Project) -> str:
    promotion_record = approvals.get_current_promotion(project)
    assert promotion_record is not None
    return promotion_record.version


def find_incident(project: loader.Project, signal: str) -> IncidentRecord | None:
    for incident in watched.list_records(project, IncidentRecord):
        if incident.signal == signal:
            return incident
    return None


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> loader.Project:
    """The project without concept drift, before its watch begins."""
    built = watched.build_project(
        tmp_path_factory.mktemp("rollback") / "home", watched.YAML_WITHOUT_RETRAINING
    )
    rows = watched.make_rows()
    is_flipped = (rows["at"] >= "2024-02-10").to_numpy()
    rows.loc[is_flipped, "y"] = 1 - rows.loc[is_flipped, "y"]
    rows.to_csv(built.root / "t.csv", index=False)
    return built


def promote_worse_version(project: loader.Project, as_of: str) -> None:
    """Promote a version whose scores say nothing about the target."""
    rows = watched.make_rows()
    _, model = versions.load_champion(project)
    worse = clone(model).fit(rows[watched.FEATURES], (rows["b"] > 0).astype(int))
    watched.register_next_version(project, worse, as_of)


def test_equal_version_stays(project: loader.Project, tmp_path: Path) -> None:
    copy = loader.load_project(shutil.copytree(project.root, tmp_path / "equal"))
    watched.register_next_version(copy, as_of="2024-01-31 00:00:00+00:00")
    replay_until(copy, "2024-02-16")
    assert get_champion(copy) == "2"
    stored = list_stored_comparisons(copy)
    assert [(item.comparison.gain, item.comparison.is_worse) for item in stored] == [(0, False)] * 2


def test_late_labels_are_waited_for(project: loader.Project, tmp_path: Path) -> None:
    copy = loader.load_project(shutil.copytree(project.root, tmp_path / "late"))
    rows = pd.read_csv(copy.root / "t.csv")
    is_late = rows["at"].between("2024-02-03", "2024-02-05").to_numpy()
    labels = rows["y"].astype(float)
    rows.assign(y=labels.mask(is_late)).to_csv(copy.root / "t.csv", index=False)
    promote_worse_version(copy, "2024-01-31 00:00:00+00:00")
    replay_until(copy, "2024-02-09")
    assert (get_champion(copy), list_stored_comparisons(copy)) == ("2", [])
    rows.assign(y=labels).to_csv(copy.root / "t.csv", index=False)
    replay_until(copy, "2024-02-10")
    assert get_champion(copy) == "1"


def test_early_labels_that_are_biased_roll_nothing_back(
    project: loader.Project, tmp_path: Path
) -> None:
    copy = loader.load_project(shutil.copytree(project.root, tmp_path / "biased"))
    rows = pd.read_csv(copy.root / "t.csv")
    _, champion = versions.load_champion(copy)
    training_rows = rows[rows["at"] < "2024-01-31"].sample(frac=0.5, random_state=0)
    challenger = clone(champion).fit(training_rows[watched.FEATURES], training_rows["y"])
    losses = []
    for model in (champion, challenger):
        losses.append(abs(rows["y"] - model.predict_proba(rows[watched.FEATURES])[:, 1]))
    # The labels that come first are those with which the new version looks worse.
    is_early = losses[1] > losses[0]
    in_window = rows["at"].between("2024-01-31", "2024-02-07")
    assert 0.2 < is_early[in_window].mean() < 0.8
    early_labels = rows["y"].astype(float).mask(in_window & ~is_early)
    rows.assign(y=early_labels).to_csv(copy.root / "t.csv", index=False)
    watched.register_next_version(copy, challenger, "2024-01-31 00:00:00+00:00")
    replay_until(copy, "2024-02-09")
    assert (get_champion(copy), list_stored_comparisons(copy)) == ("2", [])
    rows.to_csv(copy.root / "t.csv", index=False)
    replay_until(copy, "2024-02-10")
    (stored,) = list_stored_comparisons(copy)
    assert stored.comparison.rows == 7 * watched.ROWS_PER_DAY
    assert not stored.comparison.is_worse
    assert get_champion(copy) == "2"


def write_returning_concept(copy: loader.Project, labels: np.ndarray) -> None:
    """Write labels of another concept from 31 January to 9 February, with a version that knows it.

    Before and afterwards the labels are those that version 1 knows.
    """
    rows = watched.make_rows()
    is_inverted = (rows["at"] >= "2024-02-10").to_numpy()
    rows.loc[is_inverted, "y"] = 1 - rows.loc[is_inverted, "y"]
    is_other = rows["at"].between("2024-01-31", "2024-02-09 23:59").to_numpy()
    rows.loc[is_other, "y"] = labels[is_other]
    rows.to_csv(copy.root / "t.csv", index=False)
    _, model = versions.load_champion(copy)
    other = clone(model).fit(rows.loc[is_other, watched.FEATURES], rows.loc[is_other, "y"])
    watched.register_next_version(copy, other, "2024-01-31 00:00:00+00:00")


@pytest.mark.slow
def test_earlier_version_serves_again_when_its_concept_returns(
    project: loader.Project, tmp_path: Path
) -> None:
    copy = loader.load_project(shutil.copytree(project.root, tmp_path / "returning"))
    follows_b = watched.make_rows()["b"] + 0.3 * np.random.default_rng(1).normal(size=2400) > 0
    write_returning_concept(copy, follows_b.to_numpy(int))
    replay_until(copy, "2024-02-13")
    assert get_champion(copy) == "2"  # the labels of two days are known
    replay_until(copy, "2024-02-15")
    assert get_champion(copy) == "1"
    promotion_record = approvals.get_current_promotion(copy)
    assert promotion_record is not None
    assert promotion_record.actor == approvals.REINSTATING_ACTOR
    incident = find_incident(copy, incidents.REINSTATEMENT_SIGNAL)
    assert incident is not None
    assert incident.title == "Version 1 serves again in place of version 2"
    assert "on 2024-02-10" in incident.message
    assert "version 2 is worse than version 1: gain in ROC-AUC -0." in incident.message
    assert find_incident(copy, incidents.ROLLBACK_SIGNAL) is None
    assert find_incident(copy, incidents.FEED_FAULT_SIGNAL) is None


def test_worse_versions_are_rolled_back_and_two_stop_automatic_promotion(
    project: loader.Project,
) -> None:
    promote_worse_version(project, "2024-01-31 00:00:00+00:00")
    replay_until(project, "2024-02-07")
    assert get_champion(project) == "2"
    replay_until(project, "2024-02-08")  # the labels of the first window are due
    assert get_champion(project) == "1"
    (stored,) = list_stored_comparisons(project)
    assert stored.comparison.is_worse
    assert stored.comparison.rows == 7 * watched.ROWS_PER_DAY
    assert stored.comparison.gain == pytest.approx(-0.4, abs=0.1)
    rollback = find_incident(project, incidents.ROLLBACK_SIGNAL)
    assert rollback is not None
    assert rollback.title == "Version 2 was rolled back to version 1"
    assert "On the same rows version 2 was worse than version 1 would have been" in rollback.message
    assert operator_decisions.find_promotion_stop(project) is None

    promote_worse_version(project, "2024-02-08 00:00:00+00:00")
    replay_until(project, "2024-02-15")
    assert get_champion(project) == "1"
    stop = find_incident(project, incidents.PROMOTION_STOP_SIGNAL)
    assert stop is not None
    assert stop.closed_at is None
    assert stop.message.startswith("Versions 2 and 3 were rolled back in a row")

    rejected = replace(versions.load_version(project, "3"), evidence_hash="not decided")
    stage = Stage("deploy", project, project.reports_folder / watched.RUN_ID, draft=False)
    with pytest.raises(WaitingForApprovalError, match="were rolled back in a row"):
        promotion._require_approval(stage, rejected)
    client = ProjectClient(project.root)
    with pytest.raises(KitError, match="needs a reason"):
        client.enable_automatic_promotion(" ")
    client.enable_automatic_promotion("the review has a new check")
    assert promotion._require_approval(stage, rejected).actor == approvals.AUTOMATIC_APPROVER
    with pytest.raises(KitError, match="is not stopped"):
        client.enable_automatic_promotion("again")
    replay_until(project, "2024-02-16")
    stop = find_incident(project, incidents.PROMOTION_STOP_SIGNAL)
    assert stop is not None
    assert stop.close_reason.endswith(": the review has a new check")


def test_accepted_reference_is_what_windows_are_compared_with(
    project: loader.Project, tmp_path: Path
) -> None:
    copy = loader.load_project(shutil.copytree(project.root, tmp_path / "accepted"))
    client = ProjectClient(copy.root)
    accepted = client.accept_reference(0.7, "the new population is harder")
    assert (accepted.version, accepted.metric, accepted.value) == ("1", "roc_auc", 0.7)
    with loop.open_watcher(copy, report_nothing) as watcher:
        performance = watcher.context.get_reference("1").performance
    assert performance is not None
    assert performance.value == 0.7
    with pytest.raises(KitError, match="is not a reference performance"):
        client.accept_reference(float("nan"), "why")
