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

MakeConfig = Callable[..., ProjectConfig]
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


def test_new_score_is_the_models_score_of_the_changed_row(
    frame: pd.DataFrame, make_config: MakeConfig
) -> None:
    model = Typed(frame)
    found = run_what_if_analysis(
        model, frame, FEATURES, ranked("flag", "kind", "count", "size"), make_config()
    )
    assert list(found.to_frame().columns) == [
        "row",
        "score",
        "column",
        "value",
        "new_value",
        "new_score",
    ]
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
        assert line["value"] == format_cell_value(row[line["column"]].iloc[0])
        row[line["column"]] = pd.Series(
            [read[line["column"]](line["new_value"])], index=row.index
        ).astype(frame[line["column"]].dtype)
        assert line["new_score"] == pytest.approx(model.predict_proba(row[FEATURES])[0, 1])


def test_score_stays_with_the_same_value(frame: pd.DataFrame, make_config: MakeConfig) -> None:
    data = run_what_if_analysis(
        Typed(frame), frame, FEATURES, ranked("flag", "kind"), make_config()
    ).to_frame()
    same = data[data["value"] == data["new_value"]]
    assert len(same) == 24
    assert (same["new_score"] - same["score"]).abs().max() < 1e-12


def test_sentence_names_the_largest_change(frame: pd.DataFrame, make_config: MakeConfig) -> None:
    found = run_what_if_analysis(
        Typed(frame), frame, FEATURES, ranked("kind", "count"), make_config()
    )
    most = found.to_frame().loc[
        (found.to_frame()["new_score"] - found.to_frame()["score"]).abs().idxmax()
    ]
    assert found.sentence.startswith(
        "Among 12 rows and 2 columns, count changes a score the most: "
    )
    assert f"{most['row']} has" in found.sentence


def test_six_most_important_columns_are_changed(
    frame: pd.DataFrame, make_config: MakeConfig
) -> None:
    wide = frame.assign(**{f"x{i}": 1.0 for i in range(5)})
    found = run_what_if_analysis(
        Typed(frame), wide, [*FEATURES], ranked("x4", *FEATURES, "x1"), make_config()
    )
    assert list(dict.fromkeys(found.to_frame()["column"])) == ["x4", *FEATURES]
    unknown = run_what_if_analysis(
        Typed(frame), frame, FEATURES, ranked(), make_config()
    )  # nothing says what matters: the first columns
    assert set(unknown.to_frame()["column"]) == set(FEATURES)


def test_rows_are_spread_over_the_scores_and_reproducible(
    frame: pd.DataFrame, make_config: MakeConfig
) -> None:
    asked = select_rows_across_scores(frame, make_config())
    assert len(asked) == 12
    assert asked["score"].iloc[0] == frame["score"].min()
    assert asked["score"].iloc[-1] == frame["score"].max()
    assert list(
        select_rows_across_scores(frame.sample(frac=1, random_state=1), make_config())["id"]
    ) == list(asked["id"])
    assert len(select_rows_across_scores(frame.head(5), make_config())) == 5


def test_row_is_named_by_all_id_columns(frame: pd.DataFrame, make_config: MakeConfig) -> None:
    found = run_what_if_analysis(
        Typed(frame),
        frame.assign(site="x"),
        FEATURES,
        ranked("flag"),
        make_config(id=["site", "id"]),
    )
    assert found.to_frame()["row"].str.fullmatch(r"x · \d+").all()


def test_sentence_says_that_there_are_no_rows(frame: pd.DataFrame, make_config: MakeConfig) -> None:
    for none in (frame.head(0), frame.assign(score=np.nan)):
        found = run_what_if_analysis(Typed(frame), none, FEATURES, ranked("flag"), make_config())
        assert found.to_frame().empty
        assert "no scored row" in found.sentence
        assert list(found.to_frame().columns) == [
            "row",
            "score",
            "column",
            "value",
            "new_value",
            "new_score",
        ]


def test_number_gets_ten_existing_values() -> None:
    column = pd.Series(np.arange(1000.0), dtype=float)
    found = select_alternative_values(column)
    assert len(found) == 10
    assert set(found) <= set(column)
    assert found.is_monotonic_increasing
    assert found.to_numpy() == pytest.approx(np.linspace(91, 908, 10), abs=1)
    assert list(select_alternative_values(pd.Series([5, 5, 5, None]))) == [5.0]
    assert select_alternative_values(pd.Series([None, None], dtype=float)).empty


def test_category_gets_its_most_frequent_values() -> None:
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
def test_cell_value_is_formatted_as_text(value: Any, said: str) -> None:
    assert format_cell_value(value) == said


def test_positions_are_even_and_unique() -> None:
    assert list(get_evenly_spaced_positions(100, 5)) == [0, 25, 50, 74, 99]
    assert list(get_evenly_spaced_positions(3, 12)) == [0, 1, 2]
    assert list(get_evenly_spaced_positions(0, 12)) == []
