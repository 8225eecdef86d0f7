"""What serves follows the promoted version, once it is whole; whatever goes wrong, the one before goes on and it is said."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit import config, decisions, sources, tracking
from mlops_kit.deploy import follow
from mlops_kit.errors import RunFailed

VIEW = """
from mlops_kit import features

@features.view
def recently(db):
    return db.sql("SELECT rows.row, count(h.at) AS n_week FROM rows LEFT JOIN history AS h ON h.at < moment AND h.at >= moment - INTERVAL '7 days' GROUP BY rows.row")
"""


def followed(project: config.Project) -> follow.Follower:
    """A follower after its first look, without its threads."""
    made = follow.Follower(project)
    made.reread()
    made.read.set()
    made.look()
    made.looked.set()
    return made


def promote(project: config.Project, version: str) -> None:
    decisions.say(project, tracking.facts_of(project, version), "approved", "ann", "better")
    tracking.promote(project, version, "ann", "better")


def test_the_champion_serves_with_what_is_known_of_it(served: config.Project) -> None:
    made = followed(served)
    assert made.served is not None and made.troubles == {}
    assert (made.served.version, made.served.promotion.by, made.served.facts["features"]) == (
        "1",
        "the fixture",
        ["a", "b"],
    )
    assert made.served.promised == []  # the fixture's run is no folder


def test_a_promoted_version_takes_over_at_the_next_look_and_goes_back_too(
    copied: config.Project,
) -> None:
    made = followed(copied)
    promote(copied, "2")
    assert made.served is not None and made.served.version == "1"
    made.look()
    assert made.served.version == "2"
    tracking.rollback(copied, "ann", "too many alarms")
    made.look()
    assert made.served.version == "1"


def test_nothing_is_loaded_while_nothing_is_promoted(
    served: config.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = followed(served)
    monkeypatch.setattr(tracking, "load_model", None)
    made.look()
    assert made.troubles == {} and made.failed == 0


def test_a_version_that_cannot_be_loaded_leaves_the_one_before_and_is_tried_again_later(
    copied: config.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, tries = followed(copied), []
    promote(copied, "2")

    def torn(*_: Any) -> None:
        tries.append(1)
        raise OSError("the disk is torn")

    with monkeypatch.context() as patched:
        patched.setattr(tracking, "load_model", torn)
        made.look()
        made.look()
    assert made.served is not None and made.served.version == "1"
    assert (len(tries), made.failed, made.troubles["load"]) == (1, 1, "OSError: the disk is torn")
    made.tried -= 3600
    made.look()
    assert made.served.version == "2" and "load" not in made.troubles


def test_a_version_whose_hash_is_not_the_approved_one_does_not_serve(
    copied: config.Project,
) -> None:
    made = followed(copied)
    promote(copied, "2")
    with tracking.connected(copied) as client:
        client.set_model_version_tag("small", "2", "model_hash", "another")
    made.look()
    assert (
        made.served is not None
        and made.served.version == "1"
        and "has changed since it was approved" in made.troubles["load"]
    )


@pytest.mark.parametrize(
    ("alias", "told"),
    [
        ("3", "points to version 3, which nobody approved; version 1 serves"),
        ("", "is not set; version 1 serves"),
        ("1", ""),
    ],
)
def test_where_the_alias_stands_is_said_and_changes_nothing(
    copied: config.Project, alias: str, told: str
) -> None:
    with tracking.connected(copied) as client:
        client.set_registered_model_alias(
            "small", "champion", alias
        ) if alias else client.delete_registered_model_alias("small", "champion")
    assert tracking.alias_note(copied) == told
    made = followed(copied)
    assert (
        made.served is not None
        and made.served.version == "1"
        and made.troubles == ({"alias": told} if told else {})
    )


def test_an_approved_version_that_nobody_promoted_is_told_apart(copied: config.Project) -> None:
    decisions.say(copied, tracking.facts_of(copied, "2"), "approved", "ann", "better")
    with tracking.connected(copied) as client:
        client.set_registered_model_alias("small", "champion", "2")
    assert (
        tracking.alias_note(copied)
        == "points to version 2, which was approved but not promoted; version 1 serves"
    )


def test_without_a_champion_it_says_what_is_missing(copied: config.Project) -> None:
    made = followed(copied.with_values("the test", name="newcomer"))
    assert (
        made.present() is None
        and made.waits()
        == "newcomer has no champion; expected a run whose review passed and was approved"
    )


def test_a_source_is_read_again_only_when_it_has_changed(
    copied: config.Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, reads, real = follow.Follower(copied), [], sources.read
    monkeypatch.setattr(sources, "read", lambda project: reads.append(1) or real(project))
    made.reread()
    made.reread()
    assert len(reads) == 1 and made.history is not None and len(made.history) == 240
    file = copied.root / "t.csv"
    file.write_text(file.read_text() + "240,2024-01-11 00:00:00,0.1,0.2,\n")
    os.utime(file, ns=(0, 0))
    made.reread()
    assert len(made.history) == 241


def test_a_source_that_is_gone_leaves_the_history_and_is_said(copied: config.Project) -> None:
    made = followed(copied)
    (copied.root / "t.csv").unlink()

    def once() -> None:
        made.over.set()
        made.reread()

    made.loop("source", once, 0, made.read)
    assert (
        made.history is not None
        and made.present() is not None
        and made.troubles["source"] == "source: 't.csv' does not exist"
    )


class Guess:
    """A model that looks at one feature."""

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        share = frame["n_week"].to_numpy() / 1000
        return np.column_stack([1 - share, share])


@pytest.mark.parametrize(("look_back", "whole"), [(None, True), ("9d", True), ("1d", False)])
def test_a_look_back_that_cuts_a_feature_off_is_refused(
    copied: config.Project, look_back: str | None, whole: bool
) -> None:
    (copied.root / "views.py").write_text(VIEW)
    before = followed(copied).served
    assert before is not None
    project = config.load(copied.root).with_values(
        "the test", features="views.py", look_back=look_back
    )
    made = replace(before, model=Guess(), facts={**before.facts, "features": ["a", "n_week"]})
    if whole:
        follow.stand(project, made, sources.read(project))
        return
    with pytest.raises(RunFailed, match="change with look_back: n_week") as refused:
        follow.stand(project, made, sources.read(project))
    assert refused.value.cure == "a longer look_back in mlops.yaml"


def test_answers_that_are_no_numbers_are_refused(served: config.Project) -> None:
    before = followed(served).served
    assert before is not None

    class Blank:
        def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
            return np.full((len(frame), 2), np.nan)

    with pytest.raises(RunFailed, match="version 1 gives no number for the newest rows"):
        follow.stand(served, replace(before, model=Blank()), sources.read(served))


def test_what_the_review_promised_is_read_from_the_versions_run(run: Path) -> None:
    project = config.load(run.parent.parent)
    found = follow.promised(project, {"run": run.name})
    assert (
        found
        and {"metric", "value", "low", "high"} == set(found[0])
        and all(f["low"] <= f["value"] <= f["high"] for f in found)
    )
