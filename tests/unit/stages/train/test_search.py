"""The search: seeded, resumable, within its budget; its threshold is chosen on unseen rows."""

from __future__ import annotations

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import log_loss

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.data import datasets
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.validation import validate_config
from mlops_kit.registry.recipe import Recipe
from mlops_kit.stages.train import family_comparison, fitting, folds, search, search_progress
from mlops_kit.stages.train.search import SearchBudget
from mlops_kit.stats import metrics

FEATURES = ["x", "z", "colour"]


def make_config(task: str = "binary", **values: Any) -> ProjectConfig:
    values = {
        "train": {"families": ["linear", "boosting"]},
        "split": {"folds": 3},
        "seed": 1,
        **values,
    }
    return validate_config(
        {"name": "p", "source": "x.csv", "target": "y", "task": task, **values}, "test"
    )


def make_frame(task: str = "binary", rows: int = 240) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame(
        {
            "m": pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(range(rows), "h"),
            "x": rng.normal(size=rows),
            "z": rng.normal(size=rows),
            "colour": rng.choice(["red", "blue"], rows),
        }
    )
    y = frame["x"] + (frame["colour"] == "red") + rng.normal(scale=0.5, size=rows)
    frame["y"] = (y > 0.5).astype(float) if task == "binary" else y
    frame["part"] = "train"
    return frame


def without_duration(recipe: Recipe) -> Recipe:
    return replace(recipe, seconds=0.0)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["binary", "regression"])
def test_same_seed_finds_identical_recipe(task: str, tmp_path: Path) -> None:
    runs = [
        search.search_recipes(
            make_frame(task),
            FEATURES,
            make_config(task, time="m", label_delay="3h"),
            tmp_path / f"{i}.log",
            SearchBudget(7, 300),
        )
        for i in range(2)
    ]
    assert without_duration(runs[0][1]) == without_duration(runs[1][1])
    pd.testing.assert_frame_equal(runs[0][0].data, runs[1][0].data, check_exact=True)
    recipe = runs[0][1]
    assert recipe.score <= min(recipe.baselines.values())
    assert recipe.trials == 7
    assert (recipe.threshold is None) == (task == "regression")


@pytest.mark.slow
def test_interrupted_search_resumes_to_the_same_result(tmp_path: Path) -> None:
    whole = search.search_recipes(
        make_frame(), FEATURES, make_config(), tmp_path / "whole.log", SearchBudget(7, 300)
    )
    parts = tmp_path / "parts.log"
    for trials in (3, 7):
        got = search.search_recipes(
            make_frame(), FEATURES, make_config(), parts, SearchBudget(trials, 300)
        )
    assert without_duration(got[1]) == without_duration(whole[1])
    pd.testing.assert_frame_equal(got[0].data, whole[0].data, check_exact=True)
    fewer = search.search_recipes(
        make_frame(), FEATURES, make_config(), parts, SearchBudget(3, 300)
    )
    assert len(fewer[0].data) == 3
    assert fewer[1].trials == 3


@pytest.mark.slow
def test_killed_trial_is_failed_and_repeated(tmp_path: Path) -> None:
    path = tmp_path / "s.log"
    code = """
import os, sys
sys.path.insert(0, sys.argv[1])
import test_search as t
from mlops_kit.stages.train import fitting, search
fit_and_score, calls = fitting.fit_and_score_fold, []
def exit_in_fifth_trial(*arguments):
    calls.append(1)
    if len(calls) > 14: os._exit(9)  # in the fifth trial
    return fit_and_score(*arguments)
fitting.fit_and_score_fold = exit_in_fifth_trial
budget = search.SearchBudget(6, 300)
search.search_recipes(t.make_frame(), t.FEATURES, t.make_config(), sys.argv[2], budget)
"""
    process = subprocess.run(
        [sys.executable, "-c", code, str(Path(__file__).parent), str(path)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 9, process.stderr
    with path.open("ab") as file:
        file.write(b'{"op_code": 4, "half')  # killed while it wrote
    (tmp_path / "s.log.lock").write_text("")
    got = search.search_recipes(make_frame(), FEATURES, make_config(), path, SearchBudget(6, 300))
    whole = search.search_recipes(
        make_frame(), FEATURES, make_config(), tmp_path / "whole.log", SearchBudget(6, 300)
    )
    assert without_duration(got[1]) == without_duration(whole[1])
    with search.lock_study_storage(path) as storage:
        study = search.open_study(
            search.prepare_search(make_frame(), FEATURES, make_config()), storage
        )
        assert [t.state.name for t in study.trials].count("FAIL") == 1


@pytest.mark.slow
def test_trial_ends_between_two_folds_when_the_time_is_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.log"
    with monkeypatch.context() as patch:
        # Each look at the clock is a second later: the time is up in the second of two trials.
        clock = SimpleNamespace(monotonic=itertools.count().__next__)
        patch.setattr(search, "time", clock)
        _, recipe = search.search_recipes(
            make_frame(), FEATURES, make_config(), path, SearchBudget(4, 4), progress=False
        )
    assert (recipe.trials, recipe.stopped_by_clock) == (1, True)
    got = search.search_recipes(make_frame(), FEATURES, make_config(), path, SearchBudget(4, 300))
    whole = search.search_recipes(
        make_frame(), FEATURES, make_config(), tmp_path / "whole.log", SearchBudget(4, 300)
    )
    assert without_duration(got[1]) == without_duration(whole[1])
    with search.lock_study_storage(path) as storage:
        study = search.open_study(
            search.prepare_search(make_frame(), FEATURES, make_config()), storage
        )
        assert [t.state.name for t in study.trials].count("FAIL") == 1


@pytest.mark.slow
def test_time_limit_stops_after_one_trial_with_a_note(tmp_path: Path) -> None:
    table, recipe = search.search_recipes(
        make_frame(), FEATURES, make_config(), tmp_path / "s.log", SearchBudget(8, 1e-9)
    )
    assert recipe.stopped_by_clock is True
    assert recipe.trials == 1 == len(table.data)
    assert "time limit" in table.notes[-1]
    _, more = search.search_recipes(
        make_frame(), FEATURES, make_config(), tmp_path / "s.log", SearchBudget(3, 300)
    )
    assert more.stopped_by_clock is False
    assert more.trials == 3


def test_defaults_come_first_and_score_is_mean_over_folds(tmp_path: Path) -> None:
    given = make_config(time="m")
    table, recipe = search.search_recipes(
        make_frame(), FEATURES, given, tmp_path / "s.log", SearchBudget(2, 300)
    )
    assert table.data["family"].tolist() == ["linear", "boosting"]
    frame = folds.select_training_rows(make_frame(), given)
    losses = []
    for before, after in folds.build_folds(frame, given):
        model = fitting.fit_model("linear", {"alpha": 1.0}, frame.iloc[before], FEATURES, given, 1)
        losses.append(
            log_loss(
                frame["y"].iloc[after],
                model.predict_proba(frame[FEATURES].iloc[after]),
                labels=[0, 1],
            )
        )
    assert table.data["score"][0] == pytest.approx(np.mean(losses))
    assert recipe.baselines["linear"] == table.data["score"][0]


def test_threshold_has_least_cost_on_validation_rows(tmp_path: Path) -> None:
    given = make_config(cost={"false_alarm": 1, "miss": 4})
    _, recipe = search.search_recipes(
        make_frame(), FEATURES, given, tmp_path / "s.log", SearchBudget(2, 300)
    )
    setup = search.prepare_search(make_frame(), FEATURES, given)
    folds = list(setup.predict_each_fold(recipe.family, recipe.params))
    y = np.concatenate([fold.labels for fold in folds])
    score = np.concatenate([fold.scores for fold in folds])

    def cost(cut: float) -> float:
        return float(((score >= cut) & (y == 0)).sum() + 4 * ((score < cut) & (y == 1)).sum())

    assert cost(recipe.threshold) == min(cost(c) for c in [*score, 1.1])


def test_study_name_depends_on_data_space_and_seed() -> None:
    def name_study(frame: pd.DataFrame | None = None, **values: Any) -> str:
        return search.prepare_search(
            make_frame() if frame is None else frame, FEATURES, make_config(**values)
        ).build_study_name()

    assert (
        name_study()
        == name_study()
        == name_study(train={"families": ["linear", "boosting"], "trials": 99})
    )
    others = {
        name_study(seed=2),
        name_study(make_frame(rows=239)),
        name_study(train={"families": ["linear"]}),
        name_study(train={"families": ["linear", "boosting"], "metric": "roc_auc"}),
    }
    assert len(others) == 4
    assert name_study() not in others


@pytest.mark.slow
def test_metric_where_greater_is_better_is_maximized(tmp_path: Path) -> None:
    given = make_config(train={"families": ["linear", "boosting"], "metric": "roc_auc"})
    table, recipe = search.search_recipes(
        make_frame(), FEATURES, given, tmp_path / "s.log", SearchBudget(4, 300)
    )
    ended = table.data[table.data["status"] == "complete"]
    assert (
        recipe.score
        == ended["score"].max()
        == table.data["best so far"].iloc[-1]
        > recipe.baselines["constant"]
    )


def test_newest_rows_are_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "MAX_TRIAL_ROWS", 100)
    assert search.prepare_search(
        make_frame(), FEATURES, make_config(time="m")
    ).rows.index.tolist() == list(range(140, 240))
    assert len(search.prepare_search(make_frame(), FEATURES, make_config()).rows) == 100


def test_unknown_family_and_infinity_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(
        KitError, match="'forrest' is not known for the task binary; expected 'forest'"
    ):
        search.search_recipes(
            make_frame(),
            FEATURES,
            make_config(train={"families": ["forrest"]}),
            tmp_path / "s.log",
            SearchBudget(2, 300),
        )
    infinite = make_frame().assign(x=np.inf)
    with pytest.raises(RunFailedError, match="infinity"):
        search.search_recipes(
            infinite, FEATURES, make_config(), tmp_path / "s.log", SearchBudget(2, 300)
        )


@pytest.mark.slow
def test_progress_is_a_plain_line_without_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(search_progress, "_INTERVAL_SECONDS", 0)
    search.search_recipes(
        make_frame(), FEATURES, make_config(), tmp_path / "s.log", SearchBudget(2, 300)
    )
    assert "2 of 2 trials, best" in capsys.readouterr().err
    search.search_recipes(
        make_frame(),
        FEATURES,
        make_config(),
        tmp_path / "t.log",
        SearchBudget(2, 300),
        progress=False,
    )
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_diabetes_beats_the_mean_and_families_are_sorted(tmp_path: Path) -> None:
    frame = datasets.DATASETS["diabetes"](None)
    given = validate_config(
        {
            "name": "d",
            "source": "dataset:diabetes",
            "target": "progression",
            "task": "regression",
            "id": "patient",
            "train": {"families": ["linear", "lightgbm"]},
        },
        "test",
    )
    features = [c for c in frame.columns if c not in given.non_feature_columns]
    table, recipe = search.search_recipes(
        frame, features, given, tmp_path / "s.log", SearchBudget(3, 300)
    )
    assert recipe.score < 0.8 * recipe.baselines["constant"]
    bars = family_comparison.compare_families(table, recipe)
    title = metrics.METRICS["rmse"].title
    assert bars.data[title].is_monotonic_increasing
    assert {
        "linear",
        "lightgbm",
        "baseline constant",
        "baseline linear",
    } == set(bars.data["family"])
