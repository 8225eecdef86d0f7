"""Detection: each guess is right, or marked as uncertain with its alternatives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn import datasets

from mlops_kit.core.errors import KitError
from mlops_kit.data.detection import (
    DetectionReport,
    GivenSettings,
    Guess,
    GuessTopic,
    detect_settings,
)

ROWS = 600
RNG = np.random.default_rng(0)
NOISE = RNG.normal(size=ROWS)
EVENT = np.where(RNG.random(ROWS) < 0.2, 1, 0)


def detect(target: Any = EVENT, **columns: Any) -> DetectionReport:
    """Detect the settings of a table with a target ``y``, noise and further columns."""
    return detect_settings(pd.DataFrame({"noise": NOISE, **columns, "y": target}), "y")


def get_guess(report: DetectionReport, topic: GuessTopic) -> Guess:
    """Return the only guess about a topic."""
    (guess,) = report.select(topic)
    return guess


@pytest.mark.parametrize(
    ("target", "task", "is_certain"),
    [
        (EVENT, "binary", True),
        (np.where(EVENT, "good", "bad"), "binary", True),
        (RNG.choice([36, 60], ROWS), "binary", True),
        (RNG.choice(["a", "b", "c"], ROWS), "multiclass", True),
        (RNG.normal(size=ROWS), "regression", True),
        (RNG.integers(0, 10_000, ROWS), "regression", True),
        (RNG.integers(0, 10, ROWS), "multiclass", False),  # like digits
        (RNG.poisson(1.0, ROWS), "regression", False),  # like numbers of children
        (RNG.integers(0, 30, ROWS), "regression", False),
        (RNG.integers(0, 3, ROWS).astype(float), "multiclass", False),
    ],
)
def test_task_follows_from_the_values(target: Any, task: str, is_certain: bool) -> None:
    guess = get_guess(detect(target), GuessTopic.TASK)
    assert (guess.setting, guess.value, guess.is_certain) == ("task", task, is_certain)
    assert bool(guess.alternatives) is not is_certain
    assert "y has" in guess.reason


def test_a_given_task_is_kept() -> None:
    frame = pd.DataFrame({"noise": NOISE, "y": RNG.integers(0, 10, ROWS)})
    assert (
        detect_settings(frame, "y", GivenSettings(task="regression")).get_value("task")
        == "regression"
    )


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        (["x"] * ROWS, "has only the value x"),
        ([None] * ROWS, "is empty"),
        (pd.date_range("2024", periods=ROWS), "holds timestamps"),
        ([f"name {number}" for number in range(ROWS)], "has 600 different texts"),
    ],
)
def test_a_column_that_cannot_be_predicted_is_refused(target: Any, problem: str) -> None:
    with pytest.raises(KitError, match=problem):
        detect(target)


def test_unknown_column_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(KitError, match="no column 'price'") as caught:
        detect_settings(pd.DataFrame({"prices": [1.5]}), "price")
    assert "'prices'" in str(caught.value)


@pytest.mark.parametrize(
    ("pair", "positive"),
    [
        ((0, 1), 1),
        (("No", "Yes"), "Yes"),
        ((False, True), True),
        (("N", "Y"), "Y"),
        ((0.0, 1.0), 1),
    ],
)
def test_known_pair_decides_the_positive_class(pair: tuple[Any, Any], positive: Any) -> None:
    target = np.array(pair, dtype=object)[EVENT]
    guess = get_guess(detect(target), GuessTopic.POSITIVE_CLASS)
    assert (guess.setting, guess.value, guess.is_certain) == ("positive", positive, True)


def test_positive_class_of_another_pair_is_uncertain() -> None:
    guess = get_guess(detect(np.where(EVENT, "bad", "good")), GuessTopic.POSITIVE_CLASS)
    assert (guess.setting, guess.value, guess.alternatives) == ("positive", "bad", ["good"])
    assert not guess.is_certain
    assert f"{EVENT.sum()} rows" in guess.reason


def test_a_given_positive_class_is_kept_and_checked() -> None:
    frame = pd.DataFrame({"noise": NOISE, "y": EVENT})
    assert detect_settings(frame, "y", GivenSettings(positive="0")).get_value("positive") == 0
    with pytest.raises(KitError, match="'2' is not a class of 'y'"):
        detect_settings(frame, "y", GivenSettings(positive="2"))


def test_spelling_variants_of_a_class_are_refused() -> None:
    with pytest.raises(KitError, match="spelling variants"):
        detect(RNG.choice(["Yes", "yes", "no"], ROWS))


def test_a_few_groups_are_named_but_not_set() -> None:
    (guess,) = detect(plot_id=np.arange(ROWS) % 24).select(GuessTopic.GROUP)
    assert (guess.setting, guess.is_certain) == ("", False)


def test_rows_without_a_label_are_counted() -> None:
    target = pd.Series(NOISE).mask(EVENT == 1)
    (guess,) = detect(target).select(GuessTopic.UNLABELED)
    assert guess.reason.startswith(f"{EVENT.sum()} of 600 rows")


def test_class_that_may_stand_for_an_unknown_label_is_named() -> None:
    (guess,) = detect(RNG.choice(["a", "b", "invalid"], ROWS)).select(GuessTopic.UNLABELED)
    assert not guess.is_certain
    assert "invalid" in guess.reason


@pytest.mark.parametrize(
    ("columns", "expected", "is_certain"),
    [
        ({"customer_id": RNG.permutation(ROWS)}, ["customer_id"], True),
        ({"rownames": range(1, ROWS + 1)}, ["rownames"], True),
        ({"rownames": range(ROWS), "record_id": range(ROWS)}, ["record_id"], True),
        ({"name": [f"n{number}" for number in range(ROWS)]}, ["name"], False),
        ({"order_id": range(ROWS), "item_id": RNG.permutation(ROWS)}, ["order_id"], False),
        ({"weight": RNG.permutation(ROWS) / 7}, None, True),
    ],
)
def test_id_is_a_unique_column(columns: Any, expected: Any, is_certain: bool) -> None:
    guess = get_guess(detect(**columns), GuessTopic.ID)
    assert (guess.value, guess.is_certain) == (expected, is_certain)


def test_group_is_a_repeated_name_and_never_certain() -> None:
    (guess,) = detect(patient_id=np.arange(ROWS) // 3).select(GuessTopic.GROUP)
    assert guess.columns == ["patient_id"]
    assert not guess.is_certain
    assert "3 rows each" in guess.reason
    assert (guess.setting, guess.value) == ("validation.group", "patient_id")
    assert detect(rooms=np.arange(ROWS) // 3).select(GuessTopic.GROUP) == []


def test_a_given_group_is_kept() -> None:
    frame = pd.DataFrame({"patient_id": np.arange(ROWS) // 3, "ward": NOISE, "y": EVENT})
    given = detect_settings(frame, "y", GivenSettings(group="ward"))
    assert given.get_value("validation.group") == "ward"
    assert detect_settings(frame, "y", GivenSettings(group="")).select(GuessTopic.GROUP) == []


def test_time_is_the_column_with_timestamps() -> None:
    created = pd.date_range("2024-01-01", periods=ROWS, freq="h")
    report = detect(created_at=created)
    guess = get_guess(report, GuessTopic.TIME)
    assert (guess.value, guess.is_certain) == ("created_at", True)
    assert not get_guess(report, GuessTopic.LABEL_DELAY).is_certain


def test_time_as_iso_text_is_found() -> None:
    created = pd.date_range("2024-01-01", periods=ROWS, freq="h").strftime("%Y-%m-%dT%H:%M:%SZ")
    assert detect(time=created).get_value("time") == "time"


def test_birthday_does_not_order_the_table() -> None:
    birthday = pd.Timestamp("1990-01-01") + pd.to_timedelta(RNG.integers(0, 9999, ROWS), "D")
    admitted = pd.date_range("2024-01-01", periods=ROWS, freq="h")
    guess = get_guess(detect(birth_date=birthday, admitted=admitted), GuessTopic.TIME)
    assert (guess.value, guess.is_certain) == ("admitted", False)
    assert guess.alternatives == [None, "birth_date"]


def test_a_few_months_do_not_order_the_table() -> None:
    months = pd.to_datetime(RNG.choice(["2024-01-01", "2024-02-01"], ROWS))
    guess = get_guess(detect(month=months), GuessTopic.TIME)
    assert (guess.setting, guess.is_certain, guess.alternatives) == ("", False, ["month"])


@pytest.mark.parametrize("name", ["year", "sample.yr", "yearMade", "sorted"])
def test_column_that_may_tell_the_time_is_named(name: str) -> None:
    guess = get_guess(detect(**{name: 1990 + np.arange(ROWS) // 50}), GuessTopic.TIME)
    assert (guess.columns, guess.is_certain) == ([name], False)


def test_constant_and_empty_columns_are_excluded() -> None:
    some = pd.Series(1.0, index=range(ROWS)).mask(EVENT == 1)
    report = detect(one="same", empty=[None] * ROWS, some=some)
    guesses = {guess.columns[0]: guess.is_certain for guess in report.select(GuessTopic.CONSTANT)}
    assert guesses == {"one": True, "empty": True, "some": False}
    assert report.get_value("excluded_columns") == ["one", "empty", "some"]


@pytest.mark.parametrize(
    ("copy", "is_certain"),
    [
        (lambda values: values, True),
        (lambda values: -2.54 * values + 7, False),
        (lambda values: values + RNG.normal(size=ROWS) * 1e-3, False),
        (lambda values: (100 * values).round(), False),
    ],
)
def test_duplicate_is_found_also_if_it_is_scaled(copy: Any, is_certain: bool) -> None:
    (guess,) = detect(copy=copy(NOISE)).select(GuessTopic.DUPLICATE)
    assert (guess.value, guess.columns, guess.is_certain) == (
        ["copy"],
        ["copy", "noise"],
        is_certain,
    )


def test_recoded_text_is_a_duplicate() -> None:
    codes = RNG.integers(0, 5, ROWS)
    names = np.array(["a", "b", "c", "d", "e"])[codes]
    (guess,) = detect(code=codes, name=names).select(GuessTopic.DUPLICATE)
    assert guess.columns == ["name", "code"]
    assert not guess.is_certain


def test_correlated_columns_are_not_duplicates() -> None:
    report = detect(similar=NOISE + RNG.normal(size=ROWS) * 0.1)
    assert report.select(GuessTopic.DUPLICATE) == []


def test_leak_is_excluded_and_a_suspicious_column_is_named() -> None:
    strong = EVENT + RNG.normal(size=ROWS) * 0.55
    report = detect(result=np.where(EVENT, "late", "on time"), strong=strong)
    guesses = {guess.columns[0]: guess for guess in report.select(GuessTopic.LEAK)}
    assert set(guesses) == {"result", "strong"}
    assert report.get_value("excluded_columns") == ["result"]
    assert not any(guess.is_certain for guess in guesses.values())


def test_strong_column_is_suspicious_only_if_it_stands_out() -> None:
    strong = EVENT + RNG.normal(size=ROWS) * 0.48
    second = EVENT + RNG.normal(size=ROWS) * 0.5
    third = EVENT + RNG.normal(size=ROWS) * 0.52
    # Two leaks do not hide each other; three columns of about the same strength are good features.
    two = detect(strong=strong, second=second, other=RNG.normal(size=ROWS))
    assert {guess.columns[0] for guess in two.select(GuessTopic.LEAK)} == {"strong", "second"}
    assert not detect(strong=strong, second=second, third=third).select(GuessTopic.LEAK)


def test_no_leak_is_suspected_among_the_good_features_of_a_real_table() -> None:
    frame = datasets.load_breast_cancer(as_frame=True).frame
    report = detect_settings(frame, "target")
    assert not report.select(GuessTopic.LEAK)
    # What is known only later ranks the class better than what was measured.
    tumor = (frame["target"] == 0).to_numpy()
    survival = np.where(tumor, RNG.exponential(100, len(frame)), 900 + RNG.normal(size=len(frame)))
    report = detect_settings(frame.assign(survival=survival), "target")
    assert [guess.columns for guess in report.select(GuessTopic.LEAK)] == [["survival"]]


def test_leak_of_a_number_and_of_classes_is_found() -> None:
    other = RNG.normal(size=ROWS)
    amount = detect(other, grade=pd.cut(other, 40).codes)
    assert amount.get_value("excluded_columns") == ["grade"]
    classes = RNG.choice(["a", "b", "c"], ROWS)
    report = detect(classes, copied=classes)
    assert [guess.columns for guess in report.select(GuessTopic.LEAK)] == [["copied"]]


def test_missing_values_that_tell_the_target_are_a_leak() -> None:
    cause = pd.Series(RNG.choice(["a", "b"], ROWS)).where(EVENT == 1)
    assert detect(cause=cause).get_value("excluded_columns") == ["cause"]


def test_free_text_is_told_from_names_and_codes() -> None:
    words = np.array(["good", "bad", "slow", "fast", "kind", "rude"])
    sentences = [" ".join(RNG.choice(words, 8)) for _ in range(ROWS)]
    code = [f"c{number}" for number in RNG.integers(0, 400, ROWS)]
    report = detect(comment=sentences, code=code, kind=RNG.choice(words, ROWS))
    (guess,) = report.select(GuessTopic.FREE_TEXT)
    assert (guess.columns, guess.is_certain) == (["comment"], True)


def test_dates_as_text_are_named_with_their_format() -> None:
    days = pd.Timestamp("2024-01-01") + pd.to_timedelta(RNG.integers(0, 300, ROWS), "D")
    report = detect(german=days.strftime("%d.%m.%Y"), month=days.strftime("%b-%Y"))
    guesses = {guess.columns[0]: guess.reason for guess in report.select(GuessTopic.DATE_AS_TEXT)}
    assert "%d.%m.%Y" in guesses["german"]
    assert "%b-%Y" in guesses["month"]


def test_dates_that_can_be_read_in_two_ways_are_uncertain() -> None:
    (guess,) = detect(day=RNG.choice(["03/04/2024", "05/06/2024"], ROWS)).select(
        GuessTopic.DATE_AS_TEXT
    )
    assert not guess.is_certain
    assert guess.alternatives == ["%m/%d/%Y"]


@pytest.mark.parametrize(
    ("values", "sentinel"),
    [
        (np.where(EVENT, -999, RNG.normal(50, 10, ROWS)), -999),
        (np.where(EVENT, -1, RNG.integers(0, 90, ROWS)), -1),
        (np.where(EVENT, 99999, RNG.integers(0, 90, ROWS)), 99999),
        (RNG.integers(-3, 100, ROWS), None),
        (RNG.integers(0, 100, ROWS), None),
    ],
)
def test_sentinel_is_repeated_and_far_from_the_others(values: Any, sentinel: int | None) -> None:
    guesses = detect(NOISE, measure=values).select(GuessTopic.SENTINEL)
    assert [f"measure is {sentinel}" in guess.reason for guess in guesses] == (
        [] if sentinel is None else [True]
    )


def test_sentinel_in_the_target_is_named() -> None:
    (guess,) = detect(np.where(EVENT, -999.0, NOISE)).select(GuessTopic.SENTINEL)
    assert guess.columns == ["y"]


def test_columns_of_lists_do_not_stop_detection() -> None:
    assert detect(tags=[["a"], ["b"]] * (ROWS // 2)).get_value("task") == "binary"


def test_a_report_is_restored_from_json() -> None:
    report = detect(np.where(EVENT, "bad", "good"), one=1)
    assert DetectionReport.model_validate_json(report.model_dump_json()) == report


@pytest.mark.parametrize(
    ("load", "task", "is_certain"),
    [
        (datasets.load_breast_cancer, "binary", True),
        (datasets.load_iris, "multiclass", False),
        (datasets.load_wine, "multiclass", False),
        (datasets.load_digits, "multiclass", False),
        (datasets.load_diabetes, "regression", True),
    ],
)
def test_tables_of_scikit_learn(load: Any, task: str, is_certain: bool) -> None:
    report = detect_settings(load(as_frame=True).frame, "target")
    guess = get_guess(report, GuessTopic.TASK)
    assert (guess.value, guess.is_certain) == (task, is_certain)
    assert report.get_value("time") is None
    assert all(not leak.is_certain for leak in report.select(GuessTopic.LEAK))
