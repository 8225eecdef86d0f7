"""Timestamps of a table: one format, one zone, and a stated rule for clock changes."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone

import pandas as pd
import pytest

from mlops_kit.core.errors import KitError, RunFailedError
from mlops_kit.data.timestamps import (
    ClockChanges,
    count_clock_changes,
    describe_clock_changes,
    parse_timestamps,
)

BERLIN = "Europe/Berlin"


def parse(values: list[object], zone: str = "UTC", date_format: str | None = None) -> list[str]:
    parsed = parse_timestamps(pd.Series(values), "created", zone, date_format)
    assert str(parsed.dtype) == "datetime64[us, UTC]"
    return parsed.dt.strftime("%Y-%m-%d %H:%M").fillna("").tolist()


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (["2024-02-27 14:30"], "2024-02-27 13:30"),
        (["2024-07-27 14:30"], "2024-07-27 12:30"),
        (["2024-02-27T14:30:00Z"], "2024-02-27 14:30"),
        (["2024-02-27T14:30:00-05:00"], "2024-02-27 19:30"),
        (["27/02/2024 14:30"], "2024-02-27 13:30"),
        (["Feb 27, 2024 2:30 PM"], "2024-02-27 13:30"),
        ([datetime(2024, 2, 27, 14, 30)], "2024-02-27 13:30"),
        ([datetime(2024, 2, 27, 14, 30, tzinfo=UTC)], "2024-02-27 14:30"),
        ([date(2024, 2, 27)], "2024-02-26 23:00"),
        ([pd.Timestamp("2024-02-27 14:30", tz="America/New_York")], "2024-02-27 19:30"),
    ],
)
def test_timestamps_without_a_zone_are_local(values: list[object], expected: str) -> None:
    assert parse(values, BERLIN) == [expected]


def test_objects_without_dtype_are_read() -> None:
    zones = [timezone(timedelta(hours=hours)) for hours in (1, 2)]
    values = pd.Series([datetime(2024, 3, 31, 3, 30, tzinfo=zone) for zone in zones], dtype=object)
    parsed = parse_timestamps(values, "created", BERLIN)
    assert parsed.dt.hour.tolist() == [2, 1]


def test_index_is_kept() -> None:
    values = pd.Series(["2024-02-27", "2024-02-28"], index=[7, 3])
    assert parse_timestamps(values, "created", "UTC").index.tolist() == [7, 3]


def test_missing_timestamps_stay_missing() -> None:
    assert parse(["2024-02-27", None, "", "NA"])[1:] == ["", "", ""]


def test_column_without_timestamps_is_missing() -> None:
    assert parse([None, None]) == ["", ""]


def test_ambiguous_text_is_an_error_with_both_readings() -> None:
    with pytest.raises(KitError, match=r"2024-05-03 .* or 2024-03-05") as error:
        parse(["03/05/2024", "04/06/2024"])
    assert "dates: {created: '%d/%m/%Y'}" in error.value.hint


def test_format_that_is_set_is_used() -> None:
    assert parse(["03/05/2024"], date_format="day-first") == ["2024-05-03 00:00"]
    assert parse(["20240503"], date_format="%Y%m%d") == ["2024-05-03 00:00"]


@pytest.mark.parametrize(
    "values",
    [
        ["2024-02-27 10:00", "2024-02-27T10:00:00+01:00"] * 3,
        ["2024-02-27 10:00", "27/02/2024 10:00"] * 3,
    ],
)
def test_mixed_formats_are_an_error(values: list[object]) -> None:
    with pytest.raises(KitError, match="several formats"):
        parse(values)


def test_objects_with_and_without_zone_are_an_error() -> None:
    values = [datetime(2024, 2, 27), datetime(2024, 2, 27, tzinfo=UTC)]
    with pytest.raises(KitError, match="1 of 2 timestamps have a time zone"):
        parse_timestamps(pd.Series(values, dtype=object), "created", "UTC")


@pytest.mark.parametrize("values", [[20240227, 20240228], ["20240227", "20240228"], [1.5, None]])
def test_numbers_are_an_error(values: list[object]) -> None:
    with pytest.raises(RunFailedError, match="holds numbers"):
        parse(values)


def test_other_text_is_an_error_that_names_a_value() -> None:
    with pytest.raises(RunFailedError, match="does not hold timestamps: 'soon'"):
        parse(["soon", "later"])


def test_repeated_local_time_is_the_later_one_and_counted() -> None:
    assert parse(["2024-10-27 02:30"], BERLIN) == ["2024-10-27 01:30"]
    values = pd.Series(pd.to_datetime(["2024-10-27 02:30", "2024-10-27 03:30"]))
    assert count_clock_changes(values, BERLIN) == ClockChanges(repeated=1)


def test_skipped_local_time_is_moved_forward_and_counted() -> None:
    assert parse(["2024-03-31 02:30"], BERLIN) == ["2024-03-31 01:00"]
    values = pd.Series(pd.to_datetime(["2024-03-31 02:30", None]))
    assert count_clock_changes(values, BERLIN) == ClockChanges(skipped=1)


def test_every_skipped_minute_of_a_year_is_counted() -> None:
    values = pd.Series(pd.date_range("2024-01-01", "2024-12-31", freq="1min"))
    assert count_clock_changes(values, "America/New_York") == ClockChanges(60, 60)


@pytest.mark.parametrize("zone", ["UTC", "Asia/Tokyo"])
def test_zone_without_clock_changes_counts_none(zone: str) -> None:
    values = pd.Series(pd.date_range("2024-01-01", "2024-12-31", freq="1h"))
    assert count_clock_changes(values, zone) == ClockChanges()


def test_times_with_an_offset_are_not_at_a_clock_change() -> None:
    values = pd.Series(pd.to_datetime(["2024-10-27 00:30"], utc=True))
    assert count_clock_changes(values, BERLIN) == ClockChanges()


def test_clock_changes_are_described_with_their_rule() -> None:
    sentences = describe_clock_changes(ClockChanges(2, 1), "created", BERLIN)
    assert "2 values of 'created' occur twice" in sentences[0]
    assert "moved forward" in sentences[1]
    assert describe_clock_changes(ClockChanges(), "created", BERLIN) == []
