"""Training rows: windows, recency weights, and the choice among them."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.config.training_rows import (
    ALL_ROWS,
    RowSelection,
    parse_training_rows,
)
from mlops_kit.project.validation import validate_config
from mlops_kit.registry.scoring import predict_scores
from mlops_kit.stages.train import fitting, row_selection, search
from mlops_kit.stages.train.search import SearchBudget

pytestmark = pytest.mark.slow  # each test fits models or searches

START = pd.Timestamp("2013-01-01", tz="UTC")
DAYS = 100
ROWS_PER_DAY = 24


def make_config(**settings: Any) -> ProjectConfig:
    base = {
        "name": "p",
        "source": "x.csv",
        "target": "y",
        "task": "binary",
        "time": "m",
        "label_delay": "1d",
        "validation": {"folds": 3},
    }
    train = {"families": ["linear"], **settings.pop("train", {})}
    return validate_config({**base, "train": train, **settings}, "the test")


def make_rows(change_day: int = DAYS, seed: int = 0) -> pd.DataFrame:
    """Make hourly rows whose target follows the opposite of ``x`` from a day on."""
    rng = np.random.default_rng(seed)
    count = DAYS * ROWS_PER_DAY
    frame = pd.DataFrame(
        {
            "m": START + pd.to_timedelta(range(count), "h"),
            "x": rng.normal(size=count),
            "z": rng.normal(size=count),
        }
    )
    sign = np.where(np.arange(count) < change_day * ROWS_PER_DAY, 1, -1)
    probability = 1 / (1 + np.exp(-2 * sign * frame["x"]))
    frame["y"] = (rng.random(count) < probability).astype(float)
    frame["part"] = "train"
    return frame


def search_rows(frame: pd.DataFrame, config: ProjectConfig, folder: Path) -> Any:
    budget = SearchBudget(2, 300)
    _, recipe = search.search_recipes(
        frame, ["x", "z"], config, folder / "study.log", budget, progress=False
    )
    return recipe


@pytest.mark.parametrize(
    ("rows", "selected"),
    [("all", 2400), ("recent(10d)", 240), ("since(2013-04-01)", 240), ("weighted(10d)", 2400)],
)
def test_window_ends_with_the_newest_row(rows: str, selected: int) -> None:
    frame = make_rows()
    kept = row_selection.select_rows(frame, make_config(), parse_training_rows(rows))
    assert len(kept) == selected
    assert kept["m"].max() == frame["m"].max()


def test_recency_weight_halves_with_each_half_life_and_multiplies_the_row_weight() -> None:
    frame = make_rows().assign(w=2.0)
    frame.loc[frame.index[-1], "w"] = 6.0
    rows = parse_training_rows("weighted(10d)")
    weights = row_selection.compute_training_weights(frame, make_config(), rows)
    assert weights is not None
    assert weights.mean() == pytest.approx(1)
    assert weights[-1] / weights[-1 - 10 * ROWS_PER_DAY] == pytest.approx(2)
    weighted = row_selection.compute_training_weights(frame, make_config(weight="w"), rows)
    assert weighted == pytest.approx(weights * frame["w"])
    assert row_selection.compute_training_weights(frame, make_config(), ALL_ROWS) is None


def test_window_and_weights_reach_the_fit() -> None:
    frame = make_rows(change_day=90)
    config = make_config()
    models = {}
    for rows in ("all", "recent(10d)", "weighted(2d)"):
        models[rows] = fitting.fit_model(
            "linear", {"alpha": 1.0}, frame, ["x", "z"], config, 0, rows
        )
    newer = frame.iloc[-240:]
    alone = fitting.fit_model("linear", {"alpha": 1.0}, newer, ["x", "z"], config, 0)
    scores = {
        name: predict_scores(model, newer[["x", "z"]], config) for name, model in models.items()
    }
    assert scores["recent(10d)"] == pytest.approx(predict_scores(alone, newer[["x", "z"]], config))
    assert roc_auc_score(newer["y"], scores["all"]) < 0.3
    assert roc_auc_score(newer["y"], scores["weighted(2d)"]) > 0.8


@pytest.mark.parametrize(("large_rows", "blocks"), [(ROWS_PER_DAY * DAYS, 1), (10**6, 3)])
def test_large_table_is_validated_on_one_block_of_the_same_rows(
    large_rows: int, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_selection, "_LARGE_TABLE_ROWS", large_rows)
    frame = make_rows()
    scored: list[np.ndarray] = []

    def score_fold(fold: Any, rows: Any) -> np.ndarray:
        _, validation = fold
        if rows == ALL_ROWS:
            scored.append(validation)
        return frame["x"].rank(pct=True).to_numpy()[validation] * 0.98 + 0.01

    row_selection.choose_training_rows(frame, make_config(), score_fold)
    assert len(scored) == blocks
    newest_share = 0.15
    first = round((1 - newest_share) * len(frame))
    assert np.concatenate(scored).tolist() == list(range(first, len(frame)))


def test_recency_weights_are_left_out_for_a_model_that_takes_none() -> None:
    frame = make_rows()
    scored = set()

    def score_fold(fold: Any, rows: Any) -> np.ndarray:
        scored.add(rows.selection)
        return np.full(len(fold[1]), 0.5)

    row_selection.choose_training_rows(frame, make_config(), score_fold, takes_weights=False)
    assert scored == {RowSelection.ALL, RowSelection.RECENT}


@pytest.mark.parametrize("seed", range(4))
def test_stationary_rows_are_all_used(seed: int, tmp_path: Path) -> None:
    frame = make_rows(seed=seed)
    recipe = search_rows(frame, make_config(), tmp_path)
    assert recipe.training_rows == "all"
    chosen = [a["rows"] for a in recipe.row_alternatives if a["chosen"]]
    assert (len(recipe.row_alternatives), chosen) == (6, ["all"])
    table = row_selection.describe_training_rows(recipe, frame, make_config())
    assert table.sentence.startswith(
        "All 2,400 training rows train the model. None of 5 windows and weightings is clearly "
        "better on the newest training rows (log loss 0."
    )
    assert set(table.data["rows"]) >= {"all", "recent(50d)", "weighted(13d)"}


def test_old_change_is_found_in_the_newest_rows_without_being_told(tmp_path: Path) -> None:
    frame = make_rows(change_day=70)
    recipe = search_rows(frame, make_config(), tmp_path)
    assert recipe.training_rows in {"recent(25d)", "recent(13d)", "weighted(13d)"}
    assert recipe.row_alternatives[0]["score"] > 1


def test_rows_after_a_suspected_change_train_the_model(tmp_path: Path) -> None:
    frame = make_rows(change_day=93)
    config = make_config(train={"change_point": (START + timedelta(days=93)).isoformat()})
    recipe = search_rows(frame, config, tmp_path)
    assert recipe.training_rows == "since(2013-04-04T00:00:00+00:00)"
    table = row_selection.describe_training_rows(recipe, frame, config)
    assert table.sentence.startswith("168 of 2,400 training rows train the model: since(")
    assert "clearly better than all rows" in table.sentence


def test_wrongly_suspected_change_keeps_all_rows(tmp_path: Path) -> None:
    config = make_config(train={"change_point": (START + timedelta(days=93)).isoformat()})
    assert search_rows(make_rows(seed=1), config, tmp_path).training_rows == "all"


def test_fixed_selection_is_not_compared(tmp_path: Path) -> None:
    frame = make_rows()
    config = make_config(train={"rows": "recent(20d)"})
    recipe = search_rows(frame, config, tmp_path)
    assert (recipe.training_rows, recipe.row_alternatives) == ("recent(20d)", [])
    table = row_selection.describe_training_rows(recipe, frame, config)
    assert table.sentence == "480 of 2,400 training rows train the model: recent(20d)."
    assert table.data.empty


def test_table_without_time_uses_all_rows(tmp_path: Path) -> None:
    frame = make_rows().drop(columns="m")
    config = make_config(time=None, label_delay="0d")
    recipe = search_rows(frame, config, tmp_path)
    assert (recipe.training_rows, recipe.row_alternatives) == ("all", [])


def test_since_is_a_window_of_its_length_in_older_folds() -> None:
    frame = make_rows()
    rows = parse_training_rows("since(2013-04-01)")
    window = row_selection.to_window_length(rows, frame, make_config())
    config = make_config()
    assert len(row_selection.select_rows(frame, config, window)) == 240
    assert len(row_selection.select_rows(frame.iloc[:1200], config, window)) == 240
    assert window.start is None
    assert datetime(2013, 4, 1) == rows.start
