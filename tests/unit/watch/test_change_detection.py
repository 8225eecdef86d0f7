"""A suspected change: whether enough rows follow it to retrain."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mlops_kit.watch.change_detection import SuspectedChange


@pytest.mark.parametrize(
    ("rows_by_day", "missing"),
    [
        ((55,) * 7, ""),
        ((55,) * 4, "The log loss rose. 220 rows of 4 days were labeled since, too few to train"),
        ((10,) * 12, "The log loss rose. 120 rows of 12 days were labeled since, too few to train"),
        ((50_000,) * 6, ""),
    ],
)
def test_rows_have_to_train_and_to_be_held_out(rows_by_day: tuple[int, ...], missing: str) -> None:
    change = SuspectedChange(datetime(2013, 9, 1, tzinfo=UTC), rows_by_day, "The log loss rose.")
    found = change.describe_missing_rows()
    assert found.startswith(missing)
    assert bool(found) == bool(missing)
