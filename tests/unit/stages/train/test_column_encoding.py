"""Columns become numbers: text, names, timestamps, categories, booleans with missing values."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io

from mlops_kit.project.validation import validate_config
from mlops_kit.registry.models import TRUSTED_TYPES, check_model_types
from mlops_kit.stages.train import column_encoding, encoding_cache, families, fitting, search

CONFIG = validate_config({"name": "p", "source": "x.csv", "target": "y", "task": "binary"}, "test")
SEARCHED = [name for name, family in families.MODEL_FAMILIES.items() if family.is_searched]
FEATURES = ["review", "name", "opened", "born", "flag", "colour", "amount", "never"]


def make_frame(rows: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    y = (rng.random(rows) < 0.5).astype(float)
    filler = np.array([f"word{number}" for number in range(200)])
    sentences = []
    for label in y:
        opinion = rng.choice(["lovely", "great"] if label else ["awful", "broken"])
        sentences.append(" ".join([*rng.choice(filler, 6), opinion]))
    opened = pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(
        rng.integers(0, 9000, rows), "h"
    )
    frame = pd.DataFrame(
        {
            "row_id": range(rows),
            "y": y,
            "review": sentences,
            "name": ["".join(rng.choice(list("abcdefgh"), 7)) for _ in range(rows)],
            "opened": opened,
            "born": opened.floor("D"),
            "flag": pd.Series(rng.choice([True, False, None], rows), dtype=object),
            "colour": rng.choice(["red", "green", "blue"], rows),
            "amount": rng.normal(size=rows),
            "never": np.nan,
        }
    )
    for step, column in enumerate(("review", "name", "opened", "born"), start=9):
        frame.loc[::step, column] = None
    return frame


def fit_family(name: str, frame: pd.DataFrame, features: list[str]) -> Any:
    params = families.MODEL_FAMILIES[name].default_params
    return fitting.fit_model(name, params, frame, features, CONFIG, 0)


def test_columns_are_grouped_by_what_they_hold() -> None:
    groups = column_encoding.group_columns(make_frame(), FEATURES)
    assert groups.texts == ["review"]
    assert groups.names == ["name"]
    assert groups.times == ["opened", "born"]
    assert groups.numbers == ["flag", "amount"]
    assert groups.categories == ["colour"]


@pytest.mark.parametrize(
    ("values", "group"),
    [
        ([f"c{number % 250}" for number in range(1000)], "categories"),
        ([f"c{number % 251}" for number in range(1000)], "names"),
        ([f"a much longer label {number % 30}" for number in range(1000)], "categories"),
        ([f"the long label number {number % 60} again" for number in range(1000)], "texts"),
        (pd.Categorical([f"c{number}" for number in range(300)]), "categories"),
        ([1, "two", 3.0] * 100, "categories"),
        (pd.to_timedelta(range(100), "h"), ""),
        ([None] * 10, ""),
    ],
)
def test_number_of_values_and_words_decides(values: Any, group: str) -> None:
    groups = column_encoding.group_columns(pd.DataFrame({"x": values}), ["x"])
    assert [name for name in groups._fields if getattr(groups, name)] == ([group] if group else [])


@pytest.mark.slow
@pytest.mark.parametrize("name", SEARCHED)
def test_saved_model_of_all_kinds_scores_the_same(name: str, tmp_path: Path) -> None:
    frame = make_frame()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = fit_family(name, frame, FEATURES)
    scores = fitting.compute_scores(model, frame, FEATURES, CONFIG)
    file = tmp_path / "model.skops"
    skops.io.dump(model, file)
    types = check_model_types(file)
    skrub_types = {name for name in types if name.startswith("skrub.")}
    assert skrub_types == {
        "skrub._apply_to_cols.ApplyToCols",
        "skrub._apply_to_each_col.ApplyToEachCol",
        "skrub._datetime_encoder.DatetimeEncoder",
        "skrub._string_encoder.StringEncoder",
        "skrub._to_str.ToStr",
        "skrub.selectors._base.All",
    }
    assert set(types) - skrub_types <= TRUSTED_TYPES
    loaded = skops.io.load(file, trusted=types)
    assert fitting.compute_scores(loaded, frame, FEATURES, CONFIG).tobytes() == scores.tobytes()
    alone = [
        fitting.compute_scores(loaded, frame.iloc[[row]], FEATURES, CONFIG)[0] for row in range(30)
    ]
    assert alone == scores[:30].tolist()


@pytest.mark.parametrize("name", SEARCHED)
def test_missing_and_unseen_values_are_scored(name: str) -> None:
    frame = make_frame()
    model = fit_family(name, frame, FEATURES)
    scores = []
    for missing in (None, np.nan):
        row = pd.DataFrame({column: [missing] for column in FEATURES})
        scores.append(fitting.compute_scores(model, row, FEATURES, CONFIG)[0])
    assert scores[0] == scores[1]
    unseen = frame.head(1).assign(review="none of these", name="zzzz", colour="pink", opened=pd.NaT)
    assert np.isfinite(fitting.compute_scores(model, unseen, FEATURES, CONFIG)).all()


@pytest.mark.parametrize("name", SEARCHED)
def test_model_learns_from_text_alone(name: str) -> None:
    frame = make_frame()
    model = fit_family(name, frame.iloc[:300], ["review"])
    scores = fitting.compute_scores(model, frame.iloc[300:], ["review"], CONFIG)
    assert np.corrcoef(scores, frame["y"].iloc[300:])[0, 1] > 0.5


@pytest.mark.parametrize("name", SEARCHED)
def test_model_learns_from_the_weekday_of_a_timestamp(name: str) -> None:
    frame = make_frame()
    frame["opened"] = frame["opened"].fillna(pd.Timestamp("2020-01-01", tz="UTC"))
    frame["y"] = (frame["opened"].dt.dayofweek >= 4).astype(float)
    model = fit_family(name, frame, ["opened"])
    scores = fitting.compute_scores(model, frame, ["opened"], CONFIG)
    assert np.corrcoef(scores, frame["y"])[0, 1] > 0.5


def test_timestamp_in_another_zone_scores_the_same() -> None:
    frame = make_frame()
    model = fit_family("boosting", frame, ["opened", "amount"])
    local = frame.assign(opened=frame["opened"].dt.tz_convert("Asia/Tokyo"))
    scores = fitting.compute_scores(model, frame, ["opened", "amount"], CONFIG)
    assert fitting.compute_scores(model, local, ["opened", "amount"], CONFIG).tolist() == (
        scores.tolist()
    )


@pytest.mark.slow
def test_text_is_encoded_once_per_rows_in_a_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = make_frame()
    fits: list[str] = []
    describe = encoding_cache._describe_fit

    def count_key(transformer: Any, rows: pd.DataFrame) -> str:
        key = describe(transformer, rows)
        fits.append(key)
        return key

    monkeypatch.setattr(encoding_cache, "_describe_fit", count_key)
    settings = {"families": ["linear"], "trials": 2}
    config = CONFIG.model_copy(update={"train": CONFIG.train.model_copy(update=settings)})
    _, recipe = search.search_recipes(frame, ["review"], config, tmp_path / "a.log", progress=False)
    # Two steps on four folds, for a baseline, two trials and the threshold.
    assert len(fits) == 32
    assert len(set(fits)) == 8
    uncached = search.search_recipes.__wrapped__(  # type: ignore[attr-defined]
        frame, ["review"], config, tmp_path / "b.log", progress=False
    )[1]
    assert uncached.score == recipe.score
    assert uncached.threshold == recipe.threshold
