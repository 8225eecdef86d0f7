"""The prediction log: each prediction once, with its inputs and its current label."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.db import predictions
from mlops_kit.db.engine import open_transaction
from mlops_kit.db.tables import LabelRecord, PredictionRecord
from mlops_kit.project import loader
from mlops_kit.registry import scoring

MODEL = scoring.RecordedModel(version="3", model_hash="hash", features=("a", "b"), threshold=0.5)


@pytest.fixture
def project(tmp_path: Path) -> loader.Project:
    (tmp_path / "mlops.yaml").write_text(
        "name: small\nsource: t.csv\ntarget: y\ntask: binary\nid: [k, weekday]\ntime: at\n"
    )
    return loader.load_project(tmp_path)


def make_scores(count: int = 3) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores and inputs as ``score_with_inputs`` returns them, one row per hour."""
    at = pd.date_range("2024-01-01", periods=count, freq="h", tz="UTC")
    out = pd.DataFrame(
        {
            "prediction_id": [f"p{i}" for i in range(count)],
            "k": np.arange(count, dtype=float),
            "weekday": "mon",
            "at": at,
            "score": np.linspace(0, 1, count),
            "decision": [1.0, *[np.nan] * (count - 1)],
        }
    )
    return out, pd.DataFrame({"a": [1.5, np.nan, 2.0][:count], "b": ["x", None, "é"][:count]})


def insert_scores(project: loader.Project, at: str = "2024-01-02", **changes: Any) -> int:
    """Insert three predictions; return how many are new."""
    out, inputs = make_scores()
    with open_transaction(project) as opened:
        records = scoring.build_prediction_records(project, MODEL, out, inputs, "watch", at)
        for record in records:
            for name, value in changes.items():
                setattr(record, name, value)
        return predictions.insert_predictions(opened, records)


def test_record_holds_score_and_inputs(project: loader.Project) -> None:
    first, second, _ = scoring.build_prediction_records(
        project, MODEL, *make_scores(), "watch", "2024-01-02"
    )
    assert first == PredictionRecord(
        id="p0",
        model="small",
        version="3",
        model_hash="hash",
        request_id="",
        request_hash="",
        row_key='["0", "mon"]',
        event_time="2024-01-01T00:00:00.000000+00:00",
        score=0.0,
        predicted_class=1.0,
        features='[1.5,"x"]',
        origin="watch",
        scored_at="2024-01-02",
    )
    assert (second.predicted_class, second.features, type(second.score)) == (
        None,
        "[null,null]",
        float,
    )


def test_row_with_an_incomplete_key_has_an_empty_key(project: loader.Project) -> None:
    out, inputs = make_scores()
    out.loc[1, "weekday"] = None
    assert [
        r.row_key
        for r in scoring.build_prediction_records(project, MODEL, out, inputs, "watch", "")
    ] == [
        '["0", "mon"]',
        "",
        '["2", "mon"]',
    ]
    assert {
        r.row_key
        for r in scoring.build_prediction_records(
            project, MODEL, out.drop(columns="k"), inputs, "watch", ""
        )
    } == {""}


def test_inserting_again_changes_nothing(project: loader.Project) -> None:
    assert (insert_scores(project), insert_scores(project, score=9.0)) == (3, 0)
    with open_transaction(project) as opened:
        assert predictions.find_predictions(opened, "small", ["p2"])["p2"].score == 1.0
        assert predictions.insert_predictions(opened, []) == 0


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1, "1"),
        (1.0, "1"),
        (np.int64(7), "7"),
        (np.float64(7), "7"),
        (1.5, "1.5"),
        ("1.0", "1.0"),
        ("é|", "é|"),
        (True, "True"),
    ],
)
def test_key_encoding_does_not_depend_on_the_type(value: Any, text: str) -> None:
    assert json.loads(predictions.encode_row_key([value])) == [text]


def test_features_survive_a_round_trip(project: loader.Project) -> None:
    values = [
        0.1 + 0.2,
        1e-300,
        -0.0,
        np.nan,
        True,
        "x",
        None,
        np.float32(0.5),
        pd.Timestamp("2024-01-01", tz="UTC"),
    ]
    back = json.loads(predictions.encode_feature_values(values))
    assert back[:3] == [0.1 + 0.2, 1e-300, -0.0]
    assert back[3:8] == [None, True, "x", None, 0.5]
    assert back[8].startswith("2024-01-01")
    insert_scores(project)
    found = predictions.decode_feature_values(
        predictions.load_labeled_predictions(
            project, pd.Timestamp("2024-01-01", tz="UTC"), pd.Timestamp("2025-01-01", tz="UTC")
        ),
        ["a", "b"],
    )
    pd.testing.assert_frame_equal(found, make_scores()[1])


def load_between(project: loader.Project, start: str, end: str) -> pd.DataFrame:
    return predictions.load_labeled_predictions(
        project, pd.Timestamp(start, tz="UTC"), pd.Timestamp(end, tz="UTC")
    )


def test_periods_are_half_open_and_partition_the_log(
    project: loader.Project,
) -> None:
    insert_scores(project)
    parts = [
        load_between(project, "2024-01-01", "2024-01-01T01:00"),
        load_between(project, "2024-01-01T01:00", "2024-01-01T02:00"),
        load_between(project, "2024-01-01T02:00", "2024-01-02"),
    ]
    assert [p["prediction_id"].tolist() for p in parts] == [["p0"], ["p1"], ["p2"]]
    assert load_between(project, "2024-01-02", "2024-01-03").empty
    assert str(load_between(project, "2024-01-01", "2024-01-02")["moment"].dt.tz) == "UTC"


def test_current_label_is_joined_to_its_prediction(project: loader.Project) -> None:
    insert_scores(project)
    with open_transaction(project) as opened:
        for value, counts in ((0.0, False), (1.0, True)):
            opened.add(
                LabelRecord(
                    "small",
                    "p1",
                    value,
                    str(value),
                    "2024-01-03T00:00:00.000000+00:00",
                    "feedback",
                    "corrected",
                    "now",
                    counts,
                )
            )
    found = load_between(project, "2024-01-01", "2024-01-02")
    assert found["label"].fillna(-1).tolist() == [-1, 1.0, -1]
    assert found["known"].notna().tolist() == [False, True, False]


def test_row_scored_twice_counts_once_as_scored_first(project: loader.Project) -> None:
    insert_scores(project, at="2024-01-03")
    with open_transaction(project) as opened:
        same = predictions.find_predictions(opened, "small", ["p0"])["p0"]
        for name, key, at in (
            ("early", same.row_key, "2024-01-02"),
            ("late", same.row_key, "2024-01-04"),
            ("nameless", "", "2024-01-05"),
            ("nameless too", "", "2024-01-05"),
        ):
            opened.add(
                PredictionRecord(
                    name,
                    "small",
                    "2",
                    "h",
                    "",
                    "",
                    key,
                    same.event_time,
                    0.5,
                    None,
                    "[1.0,null]",
                    "endpoint",
                    at,
                )
            )
    assert load_between(project, "2024-01-01", "2024-01-02")["prediction_id"].tolist() == [
        "early",
        "nameless",
        "nameless too",
        "p1",
        "p2",
    ]


def test_log_is_empty_without_a_database(project: loader.Project) -> None:
    found = load_between(project, "2024-01-01", "2024-01-02")
    assert found.empty
    assert "label" in found
    assert not (project.root / ".mlops").exists()


def test_predictions_of_another_model_are_not_returned(project: loader.Project) -> None:
    insert_scores(project)
    other = project.with_values("the test", name="other")
    assert load_between(other, "2024-01-01", "2024-01-02").empty
    with open_transaction(other) as opened:
        assert predictions.find_predictions(opened, "other", ["p0"]) == {}


def test_many_ids_are_looked_up_in_chunks(project: loader.Project) -> None:
    insert_scores(project)
    with open_transaction(project) as opened:
        assert set(
            predictions.find_predictions(
                opened, "small", [f"p{i}" for i in range(3 * predictions.MAX_IN_LIST_VALUES)]
            )
        ) == {"p0", "p1", "p2"}


def test_missing_values_of_every_type_are_logged_as_null() -> None:
    values = [None, float("nan"), pd.NA, pd.NaT, True, "a"]
    assert predictions.encode_feature_values(values) == '[null,null,null,null,true,"a"]'
