"""Splits of every kind: in time, at random, grouped, stratified and repeated."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.model_selection import RepeatedStratifiedKFold, StratifiedGroupKFold

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.data import splits, splitters
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.validation import validate_config


def make_config(task: str = "binary", **settings: Any) -> ProjectConfig:
    base = {"name": "p", "source": "x.csv", "target": "y", "task": task}
    return validate_config({**base, **settings}, "test")


def make_visits(groups: int = 60, visits: int = 5, seed: int = 0, missing: int = 0) -> pd.DataFrame:
    """Make rows of patients that visit again and again, in time order."""
    rng = np.random.default_rng(seed)
    rows = groups * visits
    patient = np.repeat(np.arange(groups), visits)
    start = pd.Timestamp("2020-01-01", tz="UTC")
    frame = pd.DataFrame(
        {
            "row_id": range(rows),
            "time": start + pd.to_timedelta(patient * 6 + rng.integers(0, 20, rows), "h"),
            "patient": [f"p{number}" for number in patient],
            "y": (rng.random(rows) < 0.4).astype(float),
            "x": rng.normal(size=rows),
        }
    )
    frame.loc[frame.index[:missing], "patient"] = None
    return frame.sort_values("time", ignore_index=True)


def list_shared_groups(frame: pd.DataFrame, left: Any, right: Any) -> set[Any]:
    patients = frame["patient"].fillna("none")
    return set(patients.iloc[left]) & set(patients.iloc[right])


@pytest.mark.parametrize("time", [None, "time"])
@pytest.mark.parametrize("missing", [0, 7])
def test_no_group_is_in_two_parts(time: str | None, missing: int) -> None:
    frame = make_visits(missing=missing)
    config = make_config(time=time, validation={"group": "patient"}, label_delay="12h")
    rows, table = splits.split_rows(frame, config, seed=0)
    is_train = np.flatnonzero(rows["part"] == "train")
    is_test = np.flatnonzero(rows["part"] == "test")
    assert list_shared_groups(rows, is_train, is_test) == set()
    assert splitters.count_shared_groups(rows, config)[0] == 0
    assert ("7 rows without a value" in " ".join(table.notes)) == bool(missing)
    for training, validation in splitters.build_fold_positions(frame, config):
        assert list_shared_groups(frame, training, validation) == set()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    groups=st.integers(8, 40),
    visits=st.integers(1, 12),
    share=st.floats(0.1, 0.5),
    seed=st.integers(0, 5),
)
def test_groups_stay_together_whatever_their_number_and_size(
    groups: int, visits: int, share: float, seed: int
) -> None:
    frame = make_visits(groups, visits, seed)
    config = make_config(validation={"group": "patient", "test": share, "folds": 3}, seed=seed)
    labeled = frame["y"].notna()
    parts = splitters.assign_parts(frame, config, labeled, seed)
    assert set(frame["patient"][parts == "test"]).isdisjoint(frame["patient"][parts == "train"])
    assert (parts == "test").any()
    validated = []
    for training, validation in splitters.build_fold_positions(frame, config):
        assert list_shared_groups(frame, training, validation) == set()
        validated.append(validation)
    assert sorted(np.concatenate(validated)) == list(range(len(frame)))


def test_share_of_groups_is_close_to_the_setting() -> None:
    frame = make_visits(groups=200)
    for share in (0.1, 0.2, 0.25, 0.3, 0.4):
        config = make_config(validation={"group": "patient", "test": share})
        rows, _ = splits.split_rows(frame, config, seed=1)
        assert (rows["part"] == "test").mean() == pytest.approx(share, abs=0.02)
        by_part = rows.groupby("part")["y"].mean()
        assert by_part["test"] == pytest.approx(by_part["train"], abs=0.05)


def test_held_out_rows_in_time_stay_the_newest_and_lose_no_row() -> None:
    frame = make_visits()
    alone = make_config(time="time", validation={"test": "3d"})
    grouped = make_config(time="time", validation={"test": "3d", "group": "patient"})
    plain, _ = splits.split_rows(frame, alone, 0)
    apart, table = splits.split_rows(frame, grouped, 0)
    assert apart["row_id"][apart["part"] == "test"].tolist() == (
        plain["row_id"][plain["part"] == "test"].tolist()
    )
    removed = apart["part"] == "held_out_group"
    assert removed.any()
    assert set(plain["part"][removed]) <= {"train", "gap"}
    assert table.data.set_index("part")["rows"]["held_out_group"] == removed.sum()
    assert f"{removed.sum()} earlier rows of held-out groups" in " ".join(table.notes)


def test_groups_that_return_all_the_time_are_an_error_with_counts() -> None:
    frame = make_visits()
    frame["patient"] = [f"p{number % 4}" for number in range(len(frame))]
    config = make_config(time="time", validation={"group": "patient"})
    with pytest.raises(RunFailedError, match="238 of 238 earlier rows are of groups") as caught:
        splits.split_rows(frame, config, 0)
    assert "validation.group" in caught.value.hint


def test_grouped_folds_are_those_of_scikit_learn() -> None:
    frame = make_visits()
    config = make_config(validation={"group": "patient", "folds": 5}, seed=3)
    codes = pd.factorize(frame["patient"])[0]
    expected = StratifiedGroupKFold(5, shuffle=True, random_state=3).split(frame, frame["y"], codes)
    for ours, theirs in zip(splitters.build_fold_positions(frame, config), expected, strict=True):
        assert ours[0].tolist() == theirs[0].tolist()
        assert ours[1].tolist() == theirs[1].tolist()


def test_repeats_draw_other_folds_and_the_first_is_as_without() -> None:
    frame = make_visits()
    once = splitters.build_fold_positions(frame, make_config(validation={"folds": 4}))
    thrice = splitters.build_fold_positions(
        frame, make_config(validation={"folds": 4, "repeats": 3})
    )
    expected = RepeatedStratifiedKFold(n_splits=4, n_repeats=3, random_state=0)
    assert len(thrice) == expected.get_n_splits() == 12
    assert [fold[1].tolist() for fold in thrice[:4]] == [fold[1].tolist() for fold in once]
    assert thrice[4][1].tolist() != thrice[0][1].tolist()
    for start in (0, 4, 8):
        validated = np.concatenate([fold[1] for fold in thrice[start : start + 4]])
        assert sorted(validated) == list(range(len(frame)))


def test_stratify_false_draws_without_regard_to_the_class() -> None:
    frame = pd.DataFrame({"row_id": range(400), "y": [1.0] * 40 + [0.0] * 360})
    shares = {}
    for stratify in (True, False):
        config = make_config(validation={"stratify": stratify, "folds": 8})
        folds = splitters.build_fold_positions(frame, config)
        shares[stratify] = [float(frame["y"].iloc[fold[1]].mean()) for fold in folds]
    assert set(shares[True]) == {0.1}
    assert len(set(shares[False])) > 1


def test_stratify_true_needs_rows_of_each_class() -> None:
    frame = pd.DataFrame({"row_id": range(100), "y": [1.0] * 3 + [0.0] * 97})
    assert len(splitters.build_fold_positions(frame, make_config())) == 4
    with pytest.raises(RunFailedError, match="has 3 rows"):
        splitters.build_fold_positions(frame, make_config(validation={"stratify": True}))


def test_too_few_groups_are_an_error_with_their_number() -> None:
    frame = make_visits(groups=3, visits=40)
    with pytest.raises(RunFailedError, match="3 groups of 'patient' cannot form 4 folds"):
        splitters.build_fold_positions(frame, make_config(validation={"group": "patient"}))
    one_group = frame.assign(patient="p")
    with pytest.raises(RunFailedError, match="one group of 'patient'"):
        splits.split_rows(one_group, make_config(validation={"group": "patient"}), 0)


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        ({"time": "t", "validation": {"stratify": True}}, "validation.stratify: true contradicts"),
        ({"time": "t", "validation": {"repeats": 2}}, "validation.repeats: 2 contradicts time: t"),
        ({"validation": {"group": "y"}}, "'y' is the target column"),
        ({"time": "t", "validation": {"group": "t"}}, "'t' is the time column"),
        ({"validation": {"group": "g"}, "known_later": {"g": "1d"}}, "under known_later"),
        ({"validation": {"test": "3d"}}, "validation.test is a duration"),
        ({"validation": {"excluded_days": ["2013-01-01"]}}, "excluded_days needs a time column"),
        (
            {"time": "t", "validation": {"excluded_days": ["2013-02-30"]}},
            "'2013-02-30' is not a day of the calendar",
        ),
        ({"split": {"test": 0.1}, "validation": {"test": 0.2}}, "validation.test is set twice"),
        ({"split": 3}, "validation: 3"),
        ({"weight": "y"}, "weight: the column 'y' is the target column"),
        ({"weight": "w", "id": "w"}, "'w' identifies rows"),
        ({"weight": "g", "validation": {"group": "g"}}, "'g' identifies rows or groups"),
    ],
)
def test_contradictory_settings_are_refused(given_settings: dict[str, Any], message: str) -> None:
    with pytest.raises(KitError, match=message):
        make_config(**given_settings)


def test_split_section_is_the_same_as_validation() -> None:
    earlier = make_config(split={"test": 0.3, "folds": 3}, validation={"group": "g"})
    now = make_config(validation={"test": 0.3, "folds": 3, "group": "g"})
    assert earlier == now


def test_group_and_weight_are_no_features() -> None:
    config = make_config(validation={"group": "g"}, weight="w")
    assert {"g", "w"} <= config.non_feature_columns


def test_scheme_is_described() -> None:
    in_time = make_config(time="t", label_delay="2d", validation={"group": "g", "test": "30d"})
    scheme = splitters.get_validation_scheme(in_time)
    assert scheme.describe() == (
        "Rows are split in time with a gap of 2d for the labels; 4 folds in time order. "
        "No group of 'g' is in two parts of a split."
    )
    assert (scheme.order, scheme.test, scheme.gap, scheme.group) == ("time", "30d", "2d", "g")
    repeated = splitters.get_validation_scheme(make_config(validation={"repeats": 3}))
    assert repeated.describe() == (
        "Rows are split at random, stratified by the target; 4 folds, drawn 3 times."
    )


def test_resampling_draws_groups_before_days() -> None:
    frame = make_visits()
    grouped = make_config(time="time", validation={"group": "patient"})
    patients = splitters.get_sampling_design(frame, grouped).blocks
    assert patients is not None
    assert len(np.unique(patients)) == 60
    days = splitters.get_sampling_design(frame, make_config(time="time")).blocks
    assert days is not None
    assert days[0] == "2020-01-01"
    assert splitters.get_sampling_design(frame, make_config()).blocks is None


def test_random_sample_draws_whole_groups() -> None:
    frame = make_visits()
    drawn = splitters.draw_random_rows(frame, 100, make_config(validation={"group": "patient"}))
    sizes = frame.iloc[drawn].groupby("patient").size()
    assert len(drawn) == pytest.approx(100, abs=5)
    assert (sizes == 5).all()


def test_halves_keep_groups_together() -> None:
    frame = make_visits()
    assert splitters.assign_halves(frame, make_config())[:4].tolist() == [0, 1, 0, 1]
    halves = splitters.assign_halves(frame, make_config(validation={"group": "patient"}))
    assert pd.Series(halves).groupby(frame["patient"]).nunique().max() == 1
    assert 0.3 < halves.mean() < 0.7


def make_hourly_rows(days: int = 100) -> pd.DataFrame:
    """Make 24 rows per day."""
    rng = np.random.default_rng(0)
    times = pd.Timestamp("2020-01-01", tz="UTC") + pd.to_timedelta(range(24 * days), "h")
    return pd.DataFrame({"time": times, "y": rng.integers(0, 2, len(times)).astype(float)})


@pytest.mark.parametrize(
    ("change_point", "first_test_row", "gap_rows"),
    [
        (None, "2020-03-21", 167),
        ("2020-03-31", "2020-04-05", 0),  # ten days follow: five of them are held out
        ("2020-04-01", "2020-03-21", 167),  # nine follow: too few rows to train on would remain
        ("2020-03-10", "2020-03-30 16:00", 0),  # a third of 31 days
        ("2020-04-05", "2020-03-21", 167),  # too few days follow
        ("2020-01-10", "2020-03-21", 167),  # a third is more than the usual share
    ],
)
def test_held_out_set_is_small_after_a_suspected_change(
    change_point: str | None, first_test_row: str, gap_rows: int
) -> None:
    config = make_config(time="time", label_delay="7d", train={"change_point": change_point})
    rows, table = splits.split_rows(make_hourly_rows(), config, seed=0)
    tested = rows[rows["part"] == "test"]
    assert tested["time"].min() == pd.Timestamp(first_test_row, tz="UTC")
    assert tested["time"].max() == rows["time"].max()
    assert int((rows["part"] == "gap").sum()) == gap_rows
    notes = " ".join(table.notes)
    assert ("A change is suspected" in notes) == (change_point is not None)
    assert ("without a gap before them" in notes) == (change_point is not None and not gap_rows)
