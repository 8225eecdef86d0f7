"""Reference refits: how rows are left out, and a small version of evidence/refit_check.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.results import CheckOutcome
from mlops_kit.data.splits import split_rows
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.validation import validate_config
from mlops_kit.registry.recipe import Recipe
from mlops_kit.stages import review, train
from mlops_kit.stages.review.refit_check import judge_refit

pytestmark = pytest.mark.slow  # each test fits models or searches

FEATURES = ["a", "b", "c"]
PARAMS_BY_FAMILY: dict[str, dict[str, Any]] = {
    "linear": {"alpha": 1.0},
    "lightgbm": {
        "n_estimators": 60,
        "learning_rate": 0.1,
        "num_leaves": 15,
        "min_child_samples": 10,
        "reg_lambda": 0.1,
        "colsample_bytree": 0.8,
    },
}


def make_config(**values: Any) -> ProjectConfig:
    return validate_config(
        {"name": "p", "source": "x.csv", "target": "y", "task": "binary", **values}, "test"
    )


def make_recipe(family: str) -> Recipe:
    params = PARAMS_BY_FAMILY[family]
    return Recipe(family, params, None, FEATURES, "log_loss", True, 0, 0, 0, 1, 0, False, {})


def make_rows(count: int = 1200, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    frame = pd.DataFrame(rng.normal(size=(count, 3)), columns=FEATURES)
    odds = 2 * frame["a"] - frame["b"] + 0.5 * frame["a"] * frame["c"]
    start = pd.Timestamp("2024-01-01", tz="UTC")
    frame.insert(0, "row_id", range(count))
    frame.insert(1, "t", start + pd.to_timedelta(np.arange(count), "h"))
    frame["y"] = (rng.uniform(size=count) < 1 / (1 + np.exp(-odds))).astype(float)
    return frame


def fit_and_record(fitted: list[pd.DataFrame]) -> Any:
    def fit(family: str, params: Any, rows: pd.DataFrame, *arguments: Any) -> Any:
        fitted.append(rows)
        return train.fit_model(family, params, rows, *arguments)

    return fit


@pytest.mark.parametrize("settings", [{}, {"time": "t"}])
def test_refits_leave_out_rows_as_the_held_out_set_is_left_out(settings: dict[str, Any]) -> None:
    config = make_config(**settings)
    rows, _ = split_rows(make_rows(), config, 0)
    recipe = make_recipe("linear")
    training_rows = train.select_training_rows(rows, config)
    model = train.fit_model("linear", recipe.params, training_rows, FEATURES, config, 0)
    fitted: list[pd.DataFrame] = []
    refits = train.compare_refits(fit_and_record(fitted), recipe, model, training_rows, config)
    records = refits.list_refits()
    assert len(records) == len(fitted) == 3
    for rows_of_refit, record in zip(fitted, records, strict=True):
        assert record.fitted_rows == len(rows_of_refit)
        assert set(rows_of_refit["row_id"]) < set(training_rows["row_id"])
        assert record.correlation > 0.98
        assert record.gain > 0
    if config.time:
        # Each leaves out the newest rows of the one before.
        ends = [frame["t"].max() for frame in (training_rows, *fitted)]
        assert ends == sorted(ends, reverse=True)
        assert len(set(ends)) == len(ends)
    else:
        assert len({len(frame) for frame in fitted}) == 1
        assert set(fitted[0]["row_id"]) != set(fitted[1]["row_id"])


def test_no_refits_without_refit_and_fewer_where_rows_run_out() -> None:
    rows, _ = split_rows(make_rows(150), make_config(), 0)
    recipe = make_recipe("linear")
    training_rows = train.select_training_rows(rows, make_config())
    model = train.fit_model("linear", recipe.params, training_rows, FEATURES, make_config(), 0)
    none = make_config(train={"refit": False})
    arguments = (train.fit_model, recipe, model, training_rows)
    assert train.compare_refits(*arguments, none).list_refits() == ()
    in_time = make_config(time="t", train={"reference_refits": 20})
    assert 0 < len(train.compare_refits(*arguments, in_time).list_refits()) < 20


def test_a_refit_is_fitted_on_half_of_the_rows_where_the_held_out_period_would_leave_fewer() -> (
    None
):
    config = make_config(time="t", validation={"test": "20d"})
    rows, _ = split_rows(make_rows(), config, 0)
    recipe = make_recipe("linear")
    training_rows = train.select_training_rows(rows, config)
    model = train.fit_model("linear", recipe.params, training_rows, FEATURES, config, 0)
    arguments = (train.fit_model, recipe, model, training_rows, config)
    later_rows = len(training_rows)
    for record in train.compare_refits(*arguments).list_refits():
        assert record.fitted_rows == pytest.approx(later_rows / 2, abs=1)
        later_rows = record.fitted_rows


@pytest.mark.parametrize("family", PARAMS_BY_FAMILY)
@pytest.mark.parametrize("settings", [{}, {"time": "t"}])
def test_sound_refits_pass_and_wrong_ones_are_blocked(
    family: str, settings: dict[str, Any]
) -> None:
    config = make_config(**settings, review={"draws": 100})
    rows, _ = split_rows(make_rows(), config, 0)
    recipe = make_recipe(family)
    training_rows = train.select_training_rows(rows, config)
    labeled_rows = train.select_labeled_rows(rows, config)
    arguments = (family, recipe.params)
    model = train.fit_model(*arguments, training_rows, FEATURES, config, 0)
    refits = train.compare_refits(train.fit_model, recipe, model, training_rows, config)

    def judge(fitted_rows: pd.DataFrame) -> CheckOutcome:
        final_model = train.fit_model(*arguments, fitted_rows, FEATURES, config, 0)
        models = {"score": model, "refitted": final_model}
        scores = train.score_held_out_rows(models, rows, FEATURES, config)
        agreement = review.measure_refit_agreement(scores, config)
        agreement = agreement._replace(references=refits.list_refits())
        return judge_refit(agreement, config.review)

    shuffled = np.random.default_rng(1).permutation(labeled_rows["y"].to_numpy())
    assert judge(labeled_rows) == CheckOutcome.PASSED
    assert judge(labeled_rows.assign(y=shuffled)) == CheckOutcome.FAILED
    assert judge(labeled_rows.assign(a=labeled_rows["a"].shift(1).bfill())) == CheckOutcome.FAILED
    assert judge(training_rows) == CheckOutcome.FAILED
    assert judge(labeled_rows.sample(60, random_state=0)) == CheckOutcome.FAILED


def test_model_that_follows_a_break_passes() -> None:
    config = make_config(time="t", review={"draws": 100})
    frame = make_rows(3000)
    is_new = frame["t"] >= frame["t"].quantile(0.8)
    frame["y"] = frame["y"].where(~is_new, 1 - frame["y"])
    rows, _ = split_rows(frame, config, 0)
    recipe = make_recipe("lightgbm")
    training_rows = train.select_training_rows(rows, config)
    arguments = ("lightgbm", recipe.params)
    model = train.fit_model(*arguments, training_rows, FEATURES, config, 0)
    refits = train.compare_refits(train.fit_model, recipe, model, training_rows, config)
    newest_rows = rows[is_new]
    final_model = train.fit_model(*arguments, newest_rows, FEATURES, config, 0)
    models = {"score": model, "refitted": final_model}
    scores = train.score_held_out_rows(models, rows, FEATURES, config)
    agreement = review.measure_refit_agreement(scores, config)
    assert agreement.correlation < 0
    agreement = agreement._replace(references=refits.list_refits())
    assert judge_refit(agreement, config.review) == CheckOutcome.PASSED
