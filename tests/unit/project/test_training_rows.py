"""``train.rows``: every form is read, and written as it is read."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.project.config.training_rows import (
    ALL_ROWS,
    RowSelection,
    TrainingRows,
    parse_training_rows,
)
from mlops_kit.project.validation import validate_config


@pytest.mark.parametrize(
    ("text", "rows", "written"),
    [
        ("all", ALL_ROWS, "all"),
        ("auto", TrainingRows(RowSelection.AUTO), "auto"),
        (" recent(36h) ", TrainingRows(RowSelection.RECENT, timedelta(hours=36)), "recent(36h)"),
        ("weighted(2w)", TrainingRows(RowSelection.WEIGHTED, timedelta(days=14)), "weighted(14d)"),
        (
            "since(2013-09-01)",
            TrainingRows(RowSelection.SINCE, start=datetime(2013, 9, 1)),
            "since(2013-09-01T00:00:00)",
        ),
    ],
)
def test_selection_is_read_and_written(text: str, rows: TrainingRows, written: str) -> None:
    assert parse_training_rows(text) == rows
    assert str(rows) == written
    assert parse_training_rows(written) == rows


@pytest.mark.parametrize(
    "text", ["newest", "recent()", "recent(0d)", "recent(many)", "since(x)", 3]
)
def test_other_text_is_an_error_that_names_the_setting(text: object) -> None:
    with pytest.raises(KitError, match=r"train\.rows"):
        make_config(train={"rows": text}, time="t")


@pytest.mark.parametrize(
    ("train", "message"),
    [
        ({"rows": "recent(90d)"}, "has no time column; expected all"),
        ({"change_point": "2013-09-01"}, "needs a time column"),
    ],
)
def test_table_without_time_has_no_window(train: dict[str, str], message: str) -> None:
    with pytest.raises(KitError, match=message):
        make_config(train=train)


@pytest.mark.parametrize(
    ("when", "message"),
    [
        ({"any": ["drift"], "all": ["age"]}, "expected one of any, all, or at_least"),
        ({"at_least": 2}, "at_least and of together"),
        ({"at_least": 3, "of": ["drift", "age"]}, "at_least 3 of 2 reasons"),
        ({"any": ["drifts"]}, "the reason 'drifts' is not known"),
    ],
)
def test_impossible_combination_of_reasons_is_an_error(
    when: dict[str, object], message: str
) -> None:
    with pytest.raises(KitError, match=message):
        make_config(retrain={"when": when})


def make_config(**settings: object) -> object:
    return validate_config(
        {"name": "p", "source": "x.csv", "target": "y", "task": "binary", **settings}, "the test"
    )
