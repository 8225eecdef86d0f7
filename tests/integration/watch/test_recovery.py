"""A concept that changes at once: the watch retrains on the rows after the change, and recovers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mlops_kit.db import approvals
from mlops_kit.db.tables import RetrainingRecord
from mlops_kit.project import loader
from mlops_kit.project.run_folder import read_config_record, read_run_artifact
from mlops_kit.registry import models, versions
from mlops_kit.registry.recipe import Recipe
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.watch import loop
from tests.support import watched_project as watched

CHANGE = "2024-02-10"  # day 40 of the table
UNTIL = "2024-02-22"  # when the labels of the first whole window after the change are due


class WatchedChange:
    """The project after the watch has lived through the change, with what the watch reported."""

    def __init__(self, project: loader.Project, lines: list[str]) -> None:
        self.project = project
        self.lines = lines
        promotion = approvals.get_current_promotion(project)
        assert promotion is not None
        self.champion = versions.load_version(project, promotion.version)
        self.run = project.reports_folder / self.champion.run

    def score_newest_rows(self, version: str) -> float:
        """Compute ROC-AUC on the rows that no version was trained on."""
        rows = watched.make_rows()
        newest = rows[rows["at"] >= UNTIL]
        described = versions.load_version(self.project, version)
        model = models.load_model(self.project, described)
        inputs = newest[list(described.features)]
        scores = predict_scores(model, inputs, self.project.config)
        return float(roc_auc_score(newest["y"], scores))


@pytest.fixture(scope="module")
def change(tmp_path_factory: pytest.TempPathFactory) -> WatchedChange:
    home: Path = tmp_path_factory.mktemp("recovery") / "home"
    project = watched.build_project(home)
    lines: list[str] = []
    until = project.parse_utc_timestamp(UNTIL, "the test")
    assert until is not None
    loop.replay_period(project, None, until, lambda text, transient=False: lines.append(text))
    return WatchedChange(project, lines)


def test_retraining_recovers(change: WatchedChange) -> None:
    assert change.champion.version == "2", change.lines
    assert change.score_newest_rows("1") < 0.25
    assert change.score_newest_rows("2") > 0.8


def test_it_waits_until_enough_rows_after_the_change_have_labels(change: WatchedChange) -> None:
    decisions = watched.list_records(change.project, RetrainingRecord)
    assert [decision.action for decision in decisions] == ["keep", "wait", "retrain"]
    assert f"on {CHANGE}" in decisions[1].reason
    assert "too few to train on some and evaluate on others" in decisions[1].reason
    assert decisions[2].status == "succeeded"


def test_run_states_the_change_and_needs_a_gain(change: WatchedChange) -> None:
    settings = read_config_record(change.run)
    assert pd.Timestamp(settings["train"]["change_point"]).date().isoformat() == CHANGE
    assert settings["review"]["require_gain"] is True
    assert any("log loss rose" in line and f"on {CHANGE}" in line for line in change.lines)


def test_rows_after_the_change_train_and_the_newest_days_are_held_out(
    change: WatchedChange,
) -> None:
    recipe = Recipe.from_dict(read_run_artifact(change.run, "recipe"))
    assert recipe.training_rows.startswith(f"since({CHANGE}")
    table = read_run_artifact(change.run, "features")
    held_out = table[table["part"] == "test"]
    assert held_out["at"].dt.date.nunique() == 5
    training = table[table["part"] == "train"]
    assert (training["at"] >= pd.Timestamp(CHANGE, tz="UTC")).sum() >= 200
    comparison = read_run_artifact(change.run, "against").data
    gain = comparison.set_index("metric").loc["roc_auc"]
    assert gain["low"] > 0.4
    assert gain["rows"] == len(held_out)
