"""Faults of an upstream feed: each is named, and ordinary drift is none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from mlops_kit.project.config import root
from mlops_kit.stages.monitor.feed_faults import FeedFault, FeedFaultKind, find_day_faults
from mlops_kit.stages.monitor.label_faults import (
    LabeledRows,
    Neighbors,
    agrees_with_scores,
    find_label_fault,
)

CONFIG = root.ProjectConfig.model_validate(
    {"name": "t", "source": "t.csv", "target": "y", "task": "binary", "id": ["k"], "time": "at"}
)
ROWS_PER_DAY = 100
FAULTY_DAY = pd.Timestamp("2024-02-05", tz="UTC")


def make_rows(first_day: str, days: int, seed: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    count = days * ROWS_PER_DAY
    minutes = np.arange(count) * (1440 // ROWS_PER_DAY)
    start = pd.Timestamp(first_day, tz="UTC")
    day_effect = np.repeat(rng.normal(0, 0.3, days), ROWS_PER_DAY)
    return pd.DataFrame(
        {
            "k": np.arange(count) + seed * 100_000,
            "at": start + pd.to_timedelta(minutes, unit="min"),
            "amount": np.exp(rng.normal(3, 1, count) + day_effect),
            "wind": rng.normal(0, 1, count) + day_effect,
            "carrier": rng.choice(["x", "y", "z"], count, p=[0.5, 0.3, 0.2]),
            "flag": rng.random(count) < 0.02,
            "y": (rng.random(count) < 0.3).astype(float),
        }
    )


REFERENCE = make_rows("2024-01-01", 30, 1)


def remove_values(rows: pd.DataFrame, is_faulty: np.ndarray) -> pd.DataFrame:
    is_missing = is_faulty & (np.random.default_rng(0).random(len(rows)) < 0.3)
    return rows.assign(wind=rows["wind"].mask(is_missing))


def stop_feed(rows: pd.DataFrame, is_faulty: np.ndarray) -> pd.DataFrame:
    return rows.assign(wind=rows["wind"].mask(is_faulty, 0.25))


def change_unit(rows: pd.DataFrame, is_faulty: np.ndarray) -> pd.DataFrame:
    return rows.assign(amount=rows["amount"].where(~is_faulty, rows["amount"] * 100))


def copy_day(rows: pd.DataFrame, is_faulty: np.ndarray) -> pd.DataFrame:
    copied = rows.copy()
    before = rows[rows["at"].dt.normalize() == FAULTY_DAY - pd.Timedelta(days=2)]
    features = ["amount", "wind", "carrier", "flag", "y"]
    copied.loc[is_faulty, features] = before[features].to_numpy()
    return copied.astype(rows.dtypes.to_dict())


@pytest.mark.parametrize(
    ("fault", "kind", "words"),
    [
        (remove_values, FeedFaultKind.MISSING_VALUES, "of wind is missing, at most"),
        (stop_feed, FeedFaultKind.STALE_COLUMN, "wind is 0.25 in 100% of the rows"),
        (change_unit, FeedFaultKind.CHANGED_UNIT, "all quartiles of amount are about"),
        (copy_day, FeedFaultKind.DUPLICATED_DAY, "100% of the rows are copies"),
    ],
)
def test_fault_of_a_day_is_named(
    fault: Callable[[pd.DataFrame, np.ndarray], pd.DataFrame], kind: FeedFaultKind, words: str
) -> None:
    rows = make_rows("2024-02-01", 10, 2)
    is_faulty = (rows["at"].dt.normalize() == FAULTY_DAY).to_numpy()
    all_rows = pd.concat([REFERENCE, fault(rows, is_faulty)], ignore_index=True)
    (found,) = find_day_faults(all_rows, rows["at"].min(), CONFIG)
    assert (found.kind, found.start, found.end) == (
        kind,
        FAULTY_DAY,
        FAULTY_DAY + pd.Timedelta(days=1),
    )
    assert words in found.sentence


def test_ordinary_days_drift_and_too_few_reference_days_are_no_fault() -> None:
    rows = make_rows("2024-02-01", 10, 3)
    since = rows["at"].min()

    def find_faults(rows: pd.DataFrame, reference: pd.DataFrame = REFERENCE) -> list[FeedFault]:
        return find_day_faults(pd.concat([reference, rows], ignore_index=True), since, CONFIG)

    assert find_faults(rows) == []
    drifted = rows.assign(wind=rows["wind"] + 1.5, amount=rows["amount"] * 1.8, carrier="x")
    drifted.loc[::4, "carrier"] = "y"  # three rows of four have one carrier, half before
    drifted.loc[::12, "wind"] = np.nan
    assert find_faults(drifted) == []
    stopped = rows.assign(wind=1.0)
    assert len(find_faults(stopped)) == 10
    assert find_faults(stopped, REFERENCE.head(3 * ROWS_PER_DAY)) == []


def make_labeled(
    task: str, seed: int, concept: tuple[float, float] = (2, 1), offset: float = 2
) -> LabeledRows:
    """Rows whose scores follow the old concept and whose labels follow a given one."""
    rng = np.random.default_rng(seed)
    features = pd.DataFrame(rng.normal(size=(600, 2)), columns=["a", "b"])
    old = 2 * features["a"] + features["b"]
    present = concept[0] * features["a"] + concept[1] * features["b"]
    if task == "regression":
        labels = offset + present + rng.normal(size=600)
    else:
        labels = (rng.random(600) < 1 / (1 + np.exp(offset - present))).astype(float)
    scores = old if task == "regression" else 1 / (1 + np.exp(-old))
    return LabeledRows(np.asarray(labels), np.asarray(scores), features)


@pytest.mark.parametrize("task", ["binary", "regression"])
@pytest.mark.slow
def test_flipped_and_shifted_labels_are_named_and_concept_drift_is_not(task: str) -> None:
    reference = make_labeled(task, 0)
    window = make_labeled(task, 1)

    def find_kind(labels: np.ndarray) -> FeedFaultKind | None:
        found = find_label_fault(window._replace(labels=labels), reference, task)
        return found[0] if found else None

    flipped = 1 - window.labels if task == "binary" else -window.labels
    assert find_kind(flipped) is FeedFaultKind.FLIPPED_LABELS
    assert find_kind(np.roll(window.labels, 1)) is FeedFaultKind.SHIFTED_LABELS
    assert find_kind(window.labels) is None
    one_coefficient = make_labeled(task, 2, concept=(-2, 1))
    assert find_label_fault(one_coefficient, reference, task) is None
    other_feature = make_labeled(task, 3, concept=(1, -2))  # the scores say nothing any more
    assert find_label_fault(other_feature, reference, task) is None
    inverted = make_labeled(task, 4, concept=(-2, -1))  # the mean of the labels stays
    assert find_label_fault(inverted, reference, task) is None
    half = len(inverted.labels) // 2
    changing = LabeledRows(
        np.append(window.labels[:half], inverted.labels[half:]),
        np.append(window.scores[:half], inverted.scores[half:]),
        pd.concat([window.features[:half], inverted.features[half:]]),
    )
    assert find_label_fault(changing, reference, task) is None  # the concept changes within it
    few = LabeledRows(flipped[:150], window.scores[:150], window.features.head(150))
    assert find_label_fault(few, reference, task) is None


@pytest.mark.parametrize("task", ["binary", "regression"])
def test_flipped_labels_whose_mean_says_nothing_are_told_by_the_labels_around_them(
    task: str,
) -> None:
    reference = make_labeled(task, 0, offset=0)
    usual = make_labeled(task, 1, offset=0)
    inverted = make_labeled(task, 2, concept=(-2, -1), offset=0)
    one_coefficient = make_labeled(task, 3, concept=(-2, 1), offset=0)
    none_yet = LabeledRows(np.empty(0), np.empty(0), reference.features.head(0))

    def find_fault(
        window: LabeledRows, before: LabeledRows, after: LabeledRows
    ) -> tuple[FeedFaultKind, str] | None:
        return find_label_fault(window, reference, task, 0, Neighbors(before, after))

    found = find_fault(inverted, usual, usual)
    assert found is not None
    assert found[0] is FeedFaultKind.FLIPPED_LABELS
    assert found[1].endswith("and those before and after are not")
    undecided = find_fault(inverted, usual, none_yet)
    assert undecided is not None
    assert undecided[1].endswith("later labels will show whether the concept is inverted instead")
    assert find_fault(inverted, usual, inverted) is None  # it stays: a new concept
    assert find_fault(inverted, inverted, none_yet) is None  # it has begun before the window
    assert find_fault(one_coefficient, usual, none_yet) is None
    assert find_fault(usual, usual, usual) is None
    assert find_label_fault(inverted, reference, task) is None


def test_labels_agree_with_scores_only_beyond_chance() -> None:
    usual = make_labeled("binary", 1)
    assert agrees_with_scores(usual, "binary")
    assert not agrees_with_scores(usual._replace(labels=np.roll(usual.labels, 1)), "binary")
    assert not agrees_with_scores(usual._replace(labels=1 - usual.labels), "binary")
    assert not agrees_with_scores(usual._replace(labels=np.ones(600)), "binary")


@pytest.mark.slow
def test_concept_drift_of_a_window_without_the_first_class_is_no_fault() -> None:
    rng = np.random.default_rng(5)
    features = pd.DataFrame(rng.normal(size=(900, 2)), columns=["a", "b"])
    scores = np.full((900, 4), 0.1)
    predicted = np.digitize(features["a"], [-0.7, 0, 0.7])
    scores[np.arange(900), predicted] = 0.7
    reference = LabeledRows(predicted.astype(float), scores, features)
    by_other_feature = 1.0 + np.digitize(features["b"], [-0.4, 0.4])  # no row of class 0
    window = reference._replace(labels=by_other_feature)
    assert find_label_fault(window, reference, "multiclass") is None
    of_other_rows = window._replace(labels=rng.permutation(by_other_feature))
    found = find_label_fault(of_other_rows, reference, "multiclass")
    assert found is not None
    assert found[0] is FeedFaultKind.SHIFTED_LABELS
