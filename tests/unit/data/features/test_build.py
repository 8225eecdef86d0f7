"""The feature table: one line per row, and no data from the future."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.data import columns, features, target
from mlops_kit.project.loader import Project
from mlops_kit.project.validation import validate_config

VIEW_HEADER = "from mlops_kit.data import features\n@features.view\ndef mine(db):\n    return "
COUNT_VIEW = """db.sql(
        'SELECT row, n_d AS before FROM ' + features.build_trailing_sql(
            'SELECT k, {known_time} AS seen FROM history WHERE y IS NOT NULL',
            ['k'],
            {{'d': '7 days'}},
        )
    )"""
HONEST_VIEW = COUNT_VIEW.format(known_time="m + INTERVAL 1 DAY")
LEAKING_VIEW = COUNT_VIEW.format(known_time="m")


def make_project(root: Path, view: str = "", **more: Any) -> Project:
    if view:
        (root / "f.py").write_text(VIEW_HEADER + view + "\n")
    data = {
        "name": "p",
        "source": "x.csv",
        "target": "y",
        "task": "binary",
        "time": "m",
        "label_delay": "1d",
        "known_later": {"later": "1d"},
        "excluded_columns": ["secret"],
    }
    return Project(
        root, validate_config({**data, **({"features": "f.py"} if view else {}), **more}, "test")
    )


def make_table(count: int = 60) -> pd.DataFrame:
    moments = pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(range(count), unit="h")
    return pd.DataFrame(
        {
            "row_id": range(count),
            "m": moments,
            "k": ["a", "b"] * (count // 2),
            "y": [True, False, False] * (count // 3),
            "later": 1.5,
            "secret": 7,
            "size": range(count),
        }
    )


def test_feature_columns_exclude_keys_and_hidden_columns(tmp_path: Path) -> None:
    assert columns.list_feature_columns(
        make_project(tmp_path).config, make_table().assign(part="train")
    ) == [
        "k",
        "size",
    ]


def test_features_keep_the_order_of_the_rows(tmp_path: Path) -> None:
    rows = make_table().sample(frac=1, random_state=3)
    built = features.build_features(
        make_project(
            tmp_path, "db.sql('SELECT row, size * 2 AS double_size FROM rows ORDER BY size DESC')"
        ),
        rows,
        make_table(),
    )
    assert list(built.columns) == ["row_id", "m", "y", "k", "size", "double_size"]
    assert (built["size"].to_numpy() == rows["size"].to_numpy()).all()
    assert (built["double_size"] == built["size"] * 2).all()
    assert built["double_size"].dtype == "float64"


def test_equal_rows_are_not_merged(tmp_path: Path) -> None:
    rows = pd.concat([make_table().head(1)] * 2)
    assert (
        len(features.build_features(make_project(tmp_path, HONEST_VIEW), rows, make_table())) == 2
    )


def test_columns_known_later_are_not_in_the_rows_table(tmp_path: Path) -> None:
    with pytest.raises(RunFailedError, match="later"):
        features.build_features(
            make_project(tmp_path, "db.sql('SELECT row, later AS x FROM rows')"),
            make_table(),
            make_table(),
        )


@pytest.mark.parametrize(
    ("view", "said"),
    [
        ("db.sql('SELECT row, size AS x FROM rows WHERE size > 5')", "loses rows: 60 in, 54 out"),
        (
            "db.sql('SELECT rows.row, 1 AS x FROM rows JOIN history USING (k)')",
            "duplicates rows: 60 in, 1,800 out",
        ),
        ("db.sql('SELECT row, size FROM rows')", "'size', which exists already"),
        ("db.sql('SELECT size AS x FROM rows')", "without 'row'"),
        ("db.sql('SELECT nothing FROM rows')", "'mine' failed"),
        ("None", "'mine' failed"),
    ],
)
def test_invalid_view_is_described(tmp_path: Path, view: str, said: str) -> None:
    with pytest.raises(RunFailedError, match=said) as caught:
        features.build_features(make_project(tmp_path, view), make_table(), make_table())
    assert "'mine'" in caught.value.message


def test_empty_table_has_all_feature_columns(tmp_path: Path) -> None:
    built = features.build_features(
        make_project(tmp_path, HONEST_VIEW), make_table().head(0), make_table()
    )
    assert len(built) == 0
    assert "before" in built


def test_leaking_feature_is_named_and_others_pass(tmp_path: Path) -> None:
    cut = make_table()["m"].iloc[40].to_pydatetime()
    honest = features.check_point_in_time(
        make_project(tmp_path, HONEST_VIEW), make_table(), make_table(), cut
    )
    assert (honest.outcome, honest.is_blocking) == ("passed", False)
    leaky = features.check_point_in_time(
        make_project(tmp_path, LEAKING_VIEW), make_table(), make_table(), cut
    )
    assert (leaky.outcome, leaky.is_blocking) == ("failed", True)
    assert "before" in leaky.sentence
    assert leaky.diagnostics["rows"]["before"] > 0


def test_known_history_hides_later_rows_and_values(tmp_path: Path) -> None:
    rows = make_table()
    kept = features.select_known_history(make_project(tmp_path), rows, rows["m"].iloc[30])
    assert len(kept) == 30
    assert (
        kept["later"].notna().sum() == kept["y"].notna().sum() == 7
    )  # known a day later: hours 0 to 6


def test_point_in_time_check_needs_a_time_column(tmp_path: Path) -> None:
    bare = make_project(tmp_path, time=None, label_delay="0d", known_later={})
    with pytest.raises(KitError, match="no time column"):
        features.check_point_in_time(
            bare, make_table(), make_table(), pd.Timestamp("2013-01-02", tz="UTC")
        )


@pytest.mark.parametrize(
    ("values", "codes"),
    [
        (["no", "yes", None], [0, 1, None]),
        ([True, False, None], [1, 0, None]),
        ([True, True, None], [1, 1, None]),
        ([0.0, 0.0, 0.0], [0, 0, 0]),
    ],
)
def test_positive_class_is_encoded_as_one(
    tmp_path: Path, values: list[Any], codes: list[Any]
) -> None:
    encoded, said = target.encode_target(pd.DataFrame({"y": values}), make_project(tmp_path).config)
    assert encoded["y"].tolist() == pytest.approx(
        [float("nan") if c is None else c for c in codes], nan_ok=True
    )
    assert said.data["rows"].sum() == 3


def test_three_classes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(KitError, match="3 classes: 'a'"):
        target.encode_target(pd.DataFrame({"y": list("abc")}), make_project(tmp_path).config)
