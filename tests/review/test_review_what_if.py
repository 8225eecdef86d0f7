"""What if: the model's own answers to made rows, which hold the columns' own types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.results import Table
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.review import run_what_if_analysis
from mlops_kit.stages.review.what_if import (
    format_cell_value,
    get_evenly_spaced_positions,
    select_alternative_values,
    select_rows_across_scores,
)

Make = Callable[..., ProjectConfig]
FEATURES = ["count", "kind", "day", "flag", "size"]


class Typed:
    """A model of all columns that refuses another type than it was fitted on."""

    def __init__(self, frame: pd.DataFrame) -> None:
        self.dtypes = frame[FEATURES].dtypes

    def predict_proba(self, frame: pd.DataFrame) -> np.ndarray:
        pd.testing.assert_series_equal(frame.dtypes, self.dtypes)
        said = (
            0.1
            + 0.05 * (frame["kind"] == "b")
            + 0.1 * frame["flag"]
            + 0.02 * frame["count"]
            + 0.1 * frame["size"].fillna(3).clip(0, 3) / 3
        )
        return np.column_stack([1 - said, said])


@pytest.fixture
def frame() -> pd.DataFrame:
    """Rows of many types, some with missing values."""
    rng = np.random.default_rng(0)
    made = pd.DataFrame(
        {
            "id": range(200),
            "count": rng.integers(0, 20, 200),
            "kind": pd.Categorical(rng.choice(list("abc"), 200, p=[0.6, 0.3, 0.1])),
            "day": pd.Timestamp("2013-06-01", tz="UTC")
            + pd.to_timedelta(rng.integers(0, 30, 200), unit="D"),
            "flag": rng.random(200) < 0.5,
            "size": np.where(rng.random(200) < 0.1, np.nan, rng.normal(1, 1, 200)),
        }
    )
    return made.assign(score=Typed(made).predict_proba(made[FEATURES])[:, 1])


def ranked(*names: str) -> Table:
    return Table("", "", pd.DataFrame({"feature": list(names)}))


def test_then_is_what_the_model_says_of_the_row_so_changed(
    frame: pd.DataFrame, config: Make
) -> None:
    model = Typed(frame)
    found = run_what_if_analysis(
        model, frame, FEATURES, ranked("flag", "kind", "count", "size"), config()
    )
    assert list(found.to_frame().columns) == ["row", "score", "column", "is", "if", "then"]
    assert found.to_frame()["row"].nunique() == 12
    assert set(found.to_frame()["column"]) == {
        "flag",
        "kind",
        "count",
        "size",
    }
    read: dict[str, Callable[[str], Any]] = {"flag": "yes".__eq__, "kind": str, "count": int}
    for line in found.to_frame()[found.to_frame()["column"] != "size"].to_dict("records"):
        row = frame[frame["id"] == int(line["row"])].copy()
        assert line["score"] == pytest.approx(row["score"].iloc[0])
        assert line["is"] == format_cell_value(row[line["column"]].iloc[0])
        row[line["column"]] = pd.Series([read[line["column"]](line["if"])], index=row.index).astype(
            frame[line["column"]].dtype
        )
        assert line["then"] == pytest.approx(model.predict_proba(row[FEATURES])[0, 1])


def test_with_the_value_it_has_the_score_stays(frame: pd.DataFrame, config: Make) -> None:
    data = run_what_if_analysis(
        Typed(frame), frame, FEATURES, ranked("flag", "kind"), config()
    ).to_frame()
    same = data[data["is"] == data["if"]]
    assert len(same) == 24
    assert (same["then"] - same["score"]).abs().max() < 1e-12


def test_the_sentence_names_what_moves_a_row_the_most(frame: pd.DataFrame, config: Make) -> None:
    found = run_what_if_analysis(Typed(frame), frame, FEATURES, ranked("kind", "count"), config())
    most = found.to_frame().loc[
        (found.to_frame()["then"] - found.to_frame()["score"]).abs().idxmax()
    ]
    assert found.sentence.startswith("Of 12 rows and 2 columns, count moves one row the most: ")
    assert f"{most['row']} has" in found.sentence


def test_the_six_columns_that_matter_most_are_asked_about(
    frame: pd.DataFrame, config: Make
) -> None:
    wide = frame.assign(**{f"x{i}": 1.0 for i in range(5)})
    found = run_what_if_analysis(
        Typed(frame), wide, [*FEATURES], ranked("x4", *FEATURES, "x1"), config()
    )
    assert list(dict.fromkeys(found.to_frame()["column"])) == ["x4", *FEATURES]
    unknown = run_what_if_analysis(
        Typed(frame), frame, FEATURES, ranked(), config()
    )  # nothing says what matters: the first columns
    assert set(unknown.to_frame()["column"]) == set(FEATURES)


def test_rows_are_spread_over_the_scores_and_always_the_same(
    frame: pd.DataFrame, config: Make
) -> None:
    asked = select_rows_across_scores(frame, config())
    assert len(asked) == 12
    assert asked["score"].iloc[0] == frame["score"].min()
    assert asked["score"].iloc[-1] == frame["score"].max()
    assert list(
        select_rows_across_scores(frame.sample(frac=1, random_state=1), config())["id"]
    ) == list(asked["id"])
    assert len(select_rows_across_scores(frame.head(5), config())) == 5


def test_a_row_is_named_by_all_of_its_id(frame: pd.DataFrame, config: Make) -> None:
    found = run_what_if_analysis(
        Typed(frame), frame.assign(part="x"), FEATURES, ranked("flag"), config(id=["part", "id"])
    )
    assert found.to_frame()["row"].str.fullmatch(r"x · \d+").all()


def test_no_rows_are_said(frame: pd.DataFrame, config: Make) -> None:
    for none in (frame.head(0), frame.assign(score=np.nan)):
        found = run_what_if_analysis(Typed(frame), none, FEATURES, ranked("flag"), config())
        assert found.to_frame().empty
        assert "no judged row" in found.sentence
        assert list(found.to_frame().columns) == ["row", "score", "column", "is", "if", "then"]


def test_a_number_takes_ten_values_that_occur() -> None:
    column = pd.Series(np.arange(1000.0), dtype=float)
    found = select_alternative_values(column)
    assert len(found) == 10
    assert set(found) <= set(column)
    assert found.is_monotonic_increasing
    assert found.to_numpy() == pytest.approx(np.linspace(91, 908, 10), abs=1)
    assert list(select_alternative_values(pd.Series([5, 5, 5, None]))) == [5.0]
    assert select_alternative_values(pd.Series([None, None], dtype=float)).empty


def test_a_category_takes_its_commonest_values() -> None:
    column = pd.Series([f"k{i:02d}" for i in range(15) for _ in range(20 - i)] + [None])
    assert list(select_alternative_values(column)) == [f"k{i:02d}" for i in range(10)]
    assert list(select_alternative_values(pd.Series([True, False, False]))) == [False, True]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (True, "yes"),
        (np.False_, "no"),
        (None, "missing"),
        (np.nan, "missing"),
        (pd.NaT, "missing"),
        (0.12345, "0.123"),
        (2013, "2013"),
        ("EWR", "EWR"),
    ],
)
def test_a_value_as_text(value: Any, said: str) -> None:
    assert format_cell_value(value) == said


def test_positions_are_even_and_stand_once() -> None:
    assert list(get_evenly_spaced_positions(100, 5)) == [0, 25, 50, 74, 99]
    assert list(get_evenly_spaced_positions(3, 12)) == [0, 1, 2]
    assert list(get_evenly_spaced_positions(0, 12)) == []
