"""The champion follower: promoted versions are verified, then served; problems are reported."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.errors import RunFailedError
from mlops_kit.data import source
from mlops_kit.db import approvals
from mlops_kit.project import loader
from mlops_kit.registry import store, versions
from mlops_kit.serving import champion_follower
from mlops_kit.serving.champion_follower import ChampionFollower

VIEW = """
from mlops_kit.data import features

@features.view
def recently(db):
    return db.sql(
        "SELECT rows.row, count(h.at) AS n_week FROM rows LEFT JOIN history AS h "
        "ON h.at < moment AND h.at >= moment - INTERVAL '7 days' GROUP BY rows.row"
    )
"""
NO_CHAMPION = "newcomer has no champion; expected a run whose review passed and was approved"


def create_follower(project: loader.Project) -> ChampionFollower:
    """A follower after its first checks, without its threads."""
    follower = ChampionFollower(project)
    follower.refresh_source()
    follower.source_read.set()
    follower.follow_champion()
    follower.champion_checked.set()
    return follower


def get_served_version(follower: ChampionFollower) -> str:
    assert follower.served is not None
    return follower.served.version


def promote_version(project: loader.Project, version: str) -> None:
    """Approve and promote a version."""
    approvals.record_approval(
        project, versions.load_version(project, version), "approved", "ann", "better"
    )
    versions.promote_version(project, version, "ann", "better")


def test_champion_is_served_with_what_the_registry_holds(served: loader.Project) -> None:
    follower = create_follower(served)
    assert follower.served is not None
    assert follower.problems == {}
    assert follower.served.version == "1"
    assert follower.served.promotion.actor == "the fixture"
    assert follower.served.facts.features == ("a", "b")
    assert follower.served.reference_performance == []  # the fixture's run has no folder


def test_promotion_and_rollback_are_followed_at_the_next_check(copied: loader.Project) -> None:
    follower = create_follower(copied)
    promote_version(copied, "2")
    assert get_served_version(follower) == "1"
    follower.follow_champion()
    assert get_served_version(follower) == "2"
    versions.roll_back(copied, "ann", "too many alarms")
    follower.follow_champion()
    assert get_served_version(follower) == "1"


def test_nothing_is_loaded_without_a_new_promotion(
    served: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = create_follower(served)
    monkeypatch.setattr(versions, "load_model", None)
    follower.follow_champion()
    assert follower.problems == {}
    assert follower.failed_loads == 0


def test_failed_load_keeps_the_previous_version_and_is_retried_later(
    copied: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = create_follower(copied)
    attempts = []
    promote_version(copied, "2")

    def raise_disk_error(*_: Any) -> None:
        attempts.append(1)
        raise OSError("the disk is torn")

    with monkeypatch.context() as patched:
        patched.setattr(versions, "load_model", raise_disk_error)
        follower.follow_champion()
        follower.follow_champion()
    assert get_served_version(follower) == "1"
    assert len(attempts) == 1
    assert follower.failed_loads == 1
    assert follower.problems["load"] == "OSError: the disk is torn"
    follower.last_load_attempt -= 3600
    follower.follow_champion()
    assert get_served_version(follower) == "2"
    assert "load" not in follower.problems


def test_version_with_another_hash_than_the_approved_one_is_not_served(
    copied: loader.Project,
) -> None:
    follower = create_follower(copied)
    promote_version(copied, "2")
    with store.connect_mlflow(copied) as client:
        client.set_model_version_tag("small", "2", "model_hash", "another")
    follower.follow_champion()
    assert get_served_version(follower) == "1"
    assert "changed since it was approved" in follower.problems["load"]


@pytest.mark.parametrize(
    ("alias", "problem"),
    [
        ("3", "points to version 3, which nobody approved; version 1 is in service"),
        ("", "is not set; version 1 is in service"),
        ("1", ""),
    ],
)
def test_mlflow_alias_is_checked_and_changes_nothing(
    copied: loader.Project, alias: str, problem: str
) -> None:
    with store.connect_mlflow(copied) as client:
        if alias:
            client.set_registered_model_alias("small", "champion", alias)
        else:
            client.delete_registered_model_alias("small", "champion")
    assert versions.check_champion_alias(copied) == problem
    follower = create_follower(copied)
    assert get_served_version(follower) == "1"
    assert follower.problems == ({"alias": problem} if problem else {})


def test_alias_of_an_approved_version_that_was_not_promoted_is_reported(
    copied: loader.Project,
) -> None:
    approvals.record_approval(
        copied, versions.load_version(copied, "2"), "approved", "ann", "better"
    )
    with store.connect_mlflow(copied) as client:
        client.set_registered_model_alias("small", "champion", "2")
    assert (
        versions.check_champion_alias(copied)
        == "points to version 2, which was approved but not promoted; version 1 is in service"
    )


def test_wait_is_explained_without_a_champion(copied: loader.Project) -> None:
    follower = create_follower(copied.with_values("the test", name="newcomer"))
    assert follower.get_served() is None
    assert follower.explain_wait() == NO_CHAMPION


def test_source_is_read_again_only_when_it_has_changed(
    copied: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    follower = ChampionFollower(copied)
    reads = []
    read_source = source.read_source

    def count_read(project: loader.Project) -> pd.DataFrame:
        reads.append(1)
        return read_source(project)

    monkeypatch.setattr(source, "read_source", count_read)
    follower.refresh_source()
    follower.refresh_source()
    assert len(reads) == 1
    assert follower.history is not None
    assert len(follower.history) == 240
    file = copied.root / "t.csv"
    file.write_text(file.read_text() + "240,2024-01-11 00:00:00,0.1,0.2,\n")
    os.utime(file, ns=(0, 0))
    follower.refresh_source()
    assert len(follower.history) == 241


def test_missing_source_keeps_the_history_and_is_reported(copied: loader.Project) -> None:
    follower = create_follower(copied)
    (copied.root / "t.csv").unlink()

    def refresh_once() -> None:
        follower.stop_requested.set()
        follower.refresh_source()

    follower.run_periodically("source", refresh_once, 0, follower.source_read)
    assert follower.history is not None
    assert follower.get_served() is not None
    assert follower.problems["source"] == "source: 't.csv' does not exist"


class WeeklyCountModel:
    """A model whose score is one feature."""

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        share = frame["n_week"].to_numpy() / 1000
        return np.column_stack([1 - share, share])


@pytest.mark.parametrize(("lookback", "is_complete"), [(None, True), ("9d", True), ("1d", False)])
def test_lookback_that_truncates_a_feature_is_refused(
    copied: loader.Project, lookback: str | None, is_complete: bool
) -> None:
    (copied.root / "views.py").write_text(VIEW)
    served = create_follower(copied).served
    assert served is not None
    project = loader.load_project(copied.root).with_values(
        "the test", features="views.py", lookback=lookback
    )
    facts = replace(served.facts, features=("a", "n_week"))
    candidate = replace(served, model=WeeklyCountModel(), facts=facts)
    history = source.read_source(project)
    if is_complete:
        champion_follower.verify_served_version(project, candidate, history)
        return
    with pytest.raises(RunFailedError, match="change with lookback: n_week") as refused:
        champion_follower.verify_served_version(project, candidate, history)
    assert refused.value.hint == "a longer lookback in mlops.yaml"


def test_version_with_scores_that_are_not_finite_is_refused(served: loader.Project) -> None:
    champion = create_follower(served).served
    assert champion is not None

    class NanModel:
        def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
            return np.full((len(frame), 2), np.nan)

    candidate = replace(champion, model=NanModel())
    history = source.read_source(served)
    with pytest.raises(RunFailedError, match="version 1 does not return finite scores"):
        champion_follower.verify_served_version(served, candidate, history)
