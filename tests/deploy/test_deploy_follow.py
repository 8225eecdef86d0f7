"""What serves follows the promoted version, once it is whole; whatever goes wrong, the one before goes on and it is said."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.errors import RunFailedError
from mlops_kit.data import source
from mlops_kit.db import approvals
from mlops_kit.project import loader
from mlops_kit.registry import models, store, versions
from mlops_kit.serving import champion_follower

VIEW = """
from mlops_kit import features

@features.view
def recently(db):
    return db.sql("SELECT rows.row, count(h.at) AS n_week FROM rows LEFT JOIN history AS h ON h.at < moment AND h.at >= moment - INTERVAL '7 days' GROUP BY rows.row")
"""


def followed(project: loader.Project) -> champion_follower.ChampionFollower:
    """A follower after its first look, without its threads."""
    made = champion_follower.ChampionFollower(project)
    made.refresh_source()
    made.source_read.set()
    made.follow_champion()
    made.champion_checked.set()
    return made


def promote(project: loader.Project, version: str) -> None:
    approvals.record_approval(
        project, versions.load_version(project, version), "approved", "ann", "better"
    )
    versions.promote_version(project, version, "ann", "better")


def test_the_champion_serves_with_what_is_known_of_it(served: loader.Project) -> None:
    made = followed(served)
    assert made.served is not None
    assert made.problems == {}
    assert (
        made.served.version,
        made.served.promotion.actor,
        made.list(made.served.facts.features),
    ) == (
        "1",
        "the fixture",
        ["a", "b"],
    )
    assert made.served.reference_performance == []  # the fixture's run is no folder


def test_a_promoted_version_takes_over_at_the_next_look_and_goes_back_too(
    copied: loader.Project,
) -> None:
    made = followed(copied)
    promote(copied, "2")
    assert made.served is not None
    assert made.served.version == "1"
    made.follow_champion()
    assert made.served.version == "2"
    versions.roll_back(copied, "ann", "too many alarms")
    made.follow_champion()
    assert made.served.version == "1"


def test_nothing_is_loaded_while_nothing_is_promoted(
    served: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = followed(served)
    monkeypatch.setattr(models, "load_model", None)
    made.follow_champion()
    assert made.problems == {}
    assert made.failed_loads == 0


def test_a_version_that_cannot_be_loaded_leaves_the_one_before_and_is_tried_again_later(
    copied: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, tries = followed(copied), []
    promote(copied, "2")

    def torn(*_: Any) -> None:
        tries.append(1)
        raise OSError("the disk is torn")

    with monkeypatch.context() as patched:
        patched.setattr(models, "load_model", torn)
        made.follow_champion()
        made.follow_champion()
    assert made.served is not None
    assert made.served.version == "1"
    assert (len(tries), made.failed_loads, made.problems["load"]) == (
        1,
        1,
        "OSError: the disk is torn",
    )
    made.last_load_attempt -= 3600
    made.follow_champion()
    assert made.served.version == "2"
    assert "load" not in made.problems


def test_a_version_whose_hash_is_not_the_approved_one_does_not_serve(
    copied: loader.Project,
) -> None:
    made = followed(copied)
    promote(copied, "2")
    with store.connect_mlflow(copied) as client:
        client.set_model_version_tag("small", "2", "model_hash", "another")
    made.follow_champion()
    assert made.served is not None
    assert made.served.version == "1"
    assert "has changed since it was approved" in made.problems["load"]


@pytest.mark.parametrize(
    ("alias", "told"),
    [
        ("3", "points to version 3, which nobody approved; version 1 serves"),
        ("", "is not set; version 1 serves"),
        ("1", ""),
    ],
)
def test_where_the_alias_stands_is_said_and_changes_nothing(
    copied: loader.Project, alias: str, told: str
) -> None:
    with store.connect_mlflow(copied) as client:
        client.set_registered_model_alias(
            "small", "champion", alias
        ) if alias else client.delete_registered_model_alias("small", "champion")
    assert versions.check_champion_alias(copied) == told
    made = followed(copied)
    assert made.served is not None
    assert made.served.version == "1"
    assert made.problems == ({"alias": told} if told else {})


def test_an_approved_version_that_nobody_promoted_is_told_apart(copied: loader.Project) -> None:
    approvals.record_approval(
        copied, versions.load_version(copied, "2"), "approved", "ann", "better"
    )
    with store.connect_mlflow(copied) as client:
        client.set_registered_model_alias("small", "champion", "2")
    assert (
        versions.check_champion_alias(copied)
        == "points to version 2, which was approved but not promoted; version 1 serves"
    )


def test_without_a_champion_it_says_what_is_missing(copied: loader.Project) -> None:
    made = followed(copied.with_values("the test", name="newcomer"))
    assert made.get_served() is None
    assert (
        made.explain_wait()
        == "newcomer has no champion; expected a run whose review passed and was approved"
    )


def test_a_source_is_read_again_only_when_it_has_changed(
    copied: loader.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, reads, real = champion_follower.ChampionFollower(copied), [], source.read_source
    monkeypatch.setattr(source, "read_source", lambda project: reads.append(1) or real(project))
    made.refresh_source()
    made.refresh_source()
    assert len(reads) == 1
    assert made.history is not None
    assert len(made.history) == 240
    file = copied.root / "t.csv"
    file.write_text(file.read_text() + "240,2024-01-11 00:00:00,0.1,0.2,\n")
    os.utime(file, ns=(0, 0))
    made.refresh_source()
    assert len(made.history) == 241


def test_a_source_that_is_gone_leaves_the_history_and_is_said(copied: loader.Project) -> None:
    made = followed(copied)
    (copied.root / "t.csv").unlink()

    def once() -> None:
        made.stop_requested.set()
        made.refresh_source()

    made.run_periodically("source", once, 0, made.source_read)
    assert made.history is not None
    assert made.get_served() is not None
    assert made.problems["source"] == "source: 't.csv' does not exist"


class Guess:
    """A model that looks at one feature."""

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        share = frame["n_week"].to_numpy() / 1000
        return np.column_stack([1 - share, share])


@pytest.mark.parametrize(("lookback", "whole"), [(None, True), ("9d", True), ("1d", False)])
def test_a_look_back_that_cuts_a_feature_off_is_refused(
    copied: loader.Project, lookback: str | None, whole: bool
) -> None:
    (copied.root / "views.py").write_text(VIEW)
    before = followed(copied).served
    assert before is not None
    project = loader.load_project(copied.root).with_values(
        "the test", features="views.py", lookback=lookback
    )
    made = replace(before, model=Guess(), facts=replace(before.facts, features=("a", "n_week")))
    if whole:
        champion_follower.verify_served_version(project, made, source.read_source(project))
        return
    with pytest.raises(RunFailedError, match="change with lookback: n_week") as refused:
        champion_follower.verify_served_version(project, made, source.read_source(project))
    assert refused.value.hint == "a longer lookback in mlops.yaml"


def test_answers_that_are_no_numbers_are_refused(served: loader.Project) -> None:
    before = followed(served).served
    assert before is not None

    class Blank:
        def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
            return np.full((len(frame), 2), np.nan)

    with pytest.raises(RunFailedError, match="version 1 gives no number for the newest rows"):
        champion_follower.verify_served_version(
            served, replace(before, model=Blank()), source.read_source(served)
        )


def test_what_the_review_promised_is_read_from_the_versions_run(run: Path) -> None:
    project = loader.load_project(run.parent.parent)
    found = champion_follower.read_reference_performance(project, {"run": run.name})
    assert found
    assert {"metric", "value", "low", "high"} == set(found[0])
    assert all(f["low"] <= f["value"] <= f["high"] for f in found)
