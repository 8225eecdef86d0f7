"""Feature views: loading files, and trailing sums checked against a plain loop."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.data import features
from mlops_kit.project.loader import Project
from mlops_kit.project.validation import validate_config


def make_project(root: Path, *files: str) -> Project:
    data = {
        "name": "p",
        "source": "x.csv",
        "target": "y",
        "task": "binary",
        "features": list(files),
    }
    return Project(root, validate_config(data, "test"))


def test_views_are_loaded_in_file_order(tmp_path: Path) -> None:
    (tmp_path / "f.py").write_text(
        "from mlops_kit.data import features\n"
        "@features.view\ndef b(db): ...\n"
        "@features.view\ndef a(db): ...\n"
        "def helper(): ...\n"
    )
    assert list(features.load_views(make_project(tmp_path, "f.py"))) == ["b", "a"]
    # Loading again finds no views of the first time.
    assert list(features.load_views(make_project(tmp_path, "f.py"))) == ["b", "a"]
    assert features.load_views(make_project(tmp_path)) == {}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "does not exist"),
        ("x = 1", "has no view"),
        ("1/0", "ZeroDivisionError"),
        ("def (", "SyntaxError"),
    ],
)
def test_invalid_feature_file_is_named(tmp_path: Path, text: str | None, said: str) -> None:
    if text is not None:
        (tmp_path / "f.py").write_text(text)
    with pytest.raises(KitError, match=said) as caught:
        features.load_views(make_project(tmp_path, "f.py"))
    assert "'f.py'" in caught.value.message


def test_view_name_in_two_files_is_refused(tmp_path: Path) -> None:
    for name in ("f.py", "g.py"):
        (tmp_path / name).write_text(
            "from mlops_kit.data import features\n@features.view\ndef a(db): ...\n"
        )
    with pytest.raises(KitError, match=r"'a' of 'g\.py'"):
        features.load_views(make_project(tmp_path, "f.py", "g.py"))


def test_timestamps_become_naive_utc_in_duckdb() -> None:
    db = features.FeatureDatabase()
    db.add_table(
        "t",
        pd.DataFrame(
            {"moment": pd.to_datetime(["2013-07-01 00:00"]).tz_localize("America/New_York")}
        ),
    )
    assert db.sql("SELECT moment FROM t").fetchall()[0][0].isoformat() == "2013-07-01T04:00:00"
    db.close()


def test_trailing_sums_agree_with_a_loop_and_are_reproducible() -> None:
    rng = np.random.default_rng(0)
    start = pd.Timestamp("2013-01-01")
    events = pd.DataFrame(
        {
            "key": rng.choice(["a", "b"], 300),
            "seen": start + pd.to_timedelta(rng.integers(0, 600, 300), "min"),
            "x": rng.integers(-9, 99, 300),
        }
    )
    rows = pd.DataFrame(
        {
            "row": range(80),
            "key": rng.choice(["a", "b", "new"], 80),
            "moment": start + pd.to_timedelta(rng.integers(0, 700, 80), "min"),
        }
    )
    db = features.FeatureDatabase()
    db.add_table("events", events)
    db.add_table("rows", rows)
    sql = features.build_trailing_sql(
        "SELECT key, seen, x FROM events", ["key"], {"1h": "1 hour", "3h": "3 hours"}, ["x"]
    )
    answers = [db.sql(f"SELECT * FROM {sql} ORDER BY row").df() for _ in range(5)]
    assert all(a.equals(answers[0]) for a in answers)
    for label, hours in (("1h", 1), ("3h", 3)):
        for row, found in zip(rows.itertuples(), answers[0].to_dict("records"), strict=True):
            span = pd.Timedelta(hours=hours)
            mine = events[
                (events.key == row.key)
                & (events.seen < row.moment)
                & (events.seen >= row.moment - span)
            ]
            assert (found[f"n_{label}"], found[f"x_{label}"]) == (len(mine), mine.x.sum())
    db.close()


def test_event_at_the_row_timestamp_is_not_counted() -> None:
    db = features.FeatureDatabase()
    db.add_table("events", pd.DataFrame({"key": ["a"], "seen": [pd.Timestamp("2013-01-01")]}))
    db.add_table(
        "rows",
        pd.DataFrame(
            {
                "row": [0, 1],
                "key": ["a", "a"],
                "moment": pd.to_datetime(["2013-01-01 00:00:00", "2013-01-01 00:00:01"]),
            }
        ),
    )
    sql = features.build_trailing_sql("SELECT key, seen FROM events", ["key"], {"d": "1 day"})
    assert db.sql(f"SELECT n_d FROM {sql} ORDER BY row").fetchall() == [(0,), (1,)]
    db.close()
