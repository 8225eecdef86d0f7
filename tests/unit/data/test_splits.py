"""The split: newest rows as test, a gap for late labels, a random share without time."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.serialization import from_json_value, to_json_value
from mlops_kit.data import splits
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.validation import validate_config


def make_config(**more: Any) -> ProjectConfig:
    return validate_config(
        {"name": "p", "source": "x.csv", "target": "y", "task": "binary", **more}, "test"
    )


def make_hourly_rows(count: int = 240) -> pd.DataFrame:
    y = np.arange(count) % 3 == 0
    frame = pd.DataFrame(
        {
            "row_id": range(count),
            "m": pd.Timestamp("2013-01-01", tz="UTC") + pd.to_timedelta(range(count), "h"),
            "y": y.astype(float),
            "x": 1.0,
        }
    )
    frame.loc[count - 5 :, "y"] = np.nan
    return frame


def test_newest_period_is_test_after_a_gap_of_the_label_delay() -> None:
    out, table = splits.split_rows(
        make_hourly_rows(), make_config(time="m", label_delay="12h", split={"test": "2d"}), 0
    )
    # The newest label is hour 234; two days before it (exclusive) begins hour 187; 12 hours of gap.
    assert out.loc[out["part"] == "test", "row_id"].tolist() == list(range(187, 235))
    assert out.loc[out["part"] == "gap", "row_id"].tolist() == list(range(176, 187))
    assert table.data.set_index("part")["rows"].to_dict() == {
        "train": 176,
        "gap": 11,
        "test": 48,
        "unlabelled": 5,
    }
    assert list(out.columns) == ["row_id", "m", "y", "part", "x"]


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        (
            {"time": "m", "label_delay": "12h", "split": {"test": "2d"}},
            "240 accepted rows: 176 training rows, 48 held out for the review (the newest 20% of "
            "the labeled rows), 11 in the gap between them, 5 without a label.",
        ),
        (
            {"split": {"test": 0.2}},
            "240 accepted rows: 188 training rows, 47 held out for the review (20% of the labeled "
            "rows, drawn at random), 5 without a label.",
        ),
        (
            {"split": {"test": 0.2}, "sample": 240},
            "A sample of 240 accepted rows: 188 training rows, 47 held out for the review (20% of "
            "the labeled rows, drawn at random), 5 without a label.",
        ),
        (
            {"time": "m", "validation": {"test": "2d", "group": "g"}},
            "240 accepted rows: 160 training rows, 48 held out for the review (the newest 20% of "
            "the labeled rows), 27 earlier ones of held-out groups, 5 without a label.",
        ),
    ],
)
def test_counts_in_the_sentence_add_up(settings: dict[str, Any], sentence: str) -> None:
    rows = make_hourly_rows().assign(g=lambda frame: np.minimum(frame["row_id"] // 10, 20) % 19)
    _, table = splits.split_rows(rows, make_config(**settings), 0)
    assert table.sentence == sentence


def test_training_labels_were_known_before_the_test_period() -> None:
    out, _ = splits.split_rows(
        make_hourly_rows(), make_config(time="m", label_delay="12h", split={"test": 0.25}), 0
    )
    start = out.loc[out["part"] == "test", "m"].min()
    assert (out.loc[out["part"] == "train", "m"] + pd.Timedelta("12h") <= start).all()
    assert (out["part"] == "test").sum() == round(0.25 * 235)


def test_excluded_days_are_days_of_the_project_and_neither_train_nor_evaluate() -> None:
    config = make_config(
        time="m",
        timezone="America/New_York",
        validation={"test": "2d", "excluded_days": ["2013-01-03", "2013-01-09"]},
    )
    out, table = splits.split_rows(make_hourly_rows(), config, 0)
    # New York is five hours behind: its days begin at hour 5 of a day in UTC.
    excluded = [*range(53, 77), *range(197, 221)]
    unlabelled = [*excluded, *range(235, 240)]
    assert out.loc[out["part"] == "unlabelled", "row_id"].tolist() == unlabelled
    assert out.loc[out["row_id"].isin(excluded), "y"].isna().all()
    assert any("48 rows of excluded days (2013-01-03, 2013-01-09)" in note for note in table.notes)


def test_rows_of_the_same_time_stay_together() -> None:
    frame = make_hourly_rows().assign(m=lambda f: f["m"].dt.floor("D"))
    out, _ = splits.split_rows(frame, make_config(time="m", split={"test": 0.3}), 0)
    assert out[out["part"] != "unlabelled"].groupby("m")["part"].nunique().max() == 1


def test_random_split_keeps_class_shares_and_depends_on_the_seed() -> None:
    frame = make_hourly_rows().drop(columns="m")
    first, again, other = (
        splits.split_rows(frame, make_config(), seed)[0]["part"] for seed in (0, 0, 1)
    )
    assert first.equals(again)
    assert not first.equals(other)
    means = frame.groupby(first)["y"].mean()
    assert means["train"] == pytest.approx(means["test"], abs=0.02)
    assert first.value_counts().to_dict() == {"train": 188, "test": 47, "unlabelled": 5}


def test_regression_is_stratified_by_quantiles() -> None:
    frame = pd.DataFrame({"y": np.random.default_rng(0).exponential(size=400), "x": 1})
    parts = splits.split_rows(frame, make_config(task="regression"), 0)[0]["part"]
    tenths = frame["y"].rank(pct=True).mul(10).clip(upper=9.99).astype(int)
    assert frame[parts == "test"].groupby(tenths).size().between(7, 9).all()


@pytest.mark.parametrize(
    ("change", "more", "said"),
    [
        ({"y": 1.0}, {"time": "m"}, "one class of 'y': 1"),
        ({"y": 1.0}, {}, "one class"),
        ({"y": np.nan}, {"time": "m"}, "no row has a label"),
        ({}, {"time": "m", "split": {"test": "60d"}}, "leaves 0 rows to train on"),
        ({}, {"split": {"test": 0.0}}, "0 to test on"),
        ({"y": np.nan}, {}, "leaves 0 rows"),
    ],
)
def test_impossible_split_is_described(
    change: dict[str, float], more: dict[str, Any], said: str
) -> None:
    with pytest.raises(RunFailedError, match=said) as caught:
        splits.split_rows(make_hourly_rows().assign(**change), make_config(**more), 0)
    assert caught.value.hint or caught.value.expected


def test_stored_split_states_its_scheme() -> None:
    config = make_config(time="m", label_delay="12h", validation={"test": "2d"})
    _, table = splits.split_rows(make_hourly_rows(), config, 0)
    restored = from_json_value(json.loads(json.dumps(to_json_value(table), allow_nan=False)))
    assert restored.scheme == table.scheme
    assert (restored.scheme.order, restored.scheme.gap, restored.scheme.test) == (
        "time",
        "12h",
        "2d",
    )
    assert table.notes[0] == table.scheme.describe()


def test_split_stored_by_an_earlier_version_is_restored() -> None:
    frame = {"__frame__": {"columns": ["part"], "rows": [["train"]]}}
    stored = {"__kind__": "Table", "title": "T", "sentence": "S", "data": frame}
    assert from_json_value(stored).data["part"].tolist() == ["train"]


def make_class_rows(counts: dict[int, int]) -> pd.DataFrame:
    """Make rows without time, with so many rows of each code."""
    codes = np.repeat(list(counts), list(counts.values())).astype(float)
    return pd.DataFrame({"row_id": range(len(codes)), "y": codes, "x": 1.0})


def test_parts_of_a_multiclass_task_keep_the_class_shares() -> None:
    counts = {code: 10 * (code + 2) for code in range(26)}
    out, table = splits.split_rows(make_class_rows(counts), make_config(task="multiclass"), 0)
    held_out = out[out["part"] == "test"]["y"].value_counts().sort_index()
    share = len(out[out["part"] == "test"]) / len(out)
    expected = np.array(list(counts.values())) * share
    assert held_out.to_numpy() == pytest.approx(expected, abs=1)
    assert table.data["rows of the rarest class"].notna().any()


@pytest.mark.parametrize("names", [(), ("ash", "birch", "cedar", "dogwood")])
def test_class_with_fewer_rows_than_folds_is_named(names: tuple[str, ...]) -> None:
    rows = make_class_rows({0: 60, 1: 60, 2: 3})
    with pytest.raises(RunFailedError, match="too rare among the training rows") as error:
        splits.split_rows(rows, make_config(task="multiclass", validation={"folds": 4}), 0, names)
    assert ("cedar (2 rows), dogwood (0 rows)" if names else "number 2 (2 rows)") in str(
        error.value
    )
    assert "at least 4 training rows of each class" in str(error.value)


def test_one_class_is_refused() -> None:
    with pytest.raises(RunFailedError, match="have one class of 'y'"):
        splits.split_rows(make_class_rows({1: 200}), make_config(task="multiclass"), 0)
