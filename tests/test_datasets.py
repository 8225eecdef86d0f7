"""The tables to try the package on: their rows, their types, their order."""

from __future__ import annotations

import pandas as pd
import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.data.datasets import DATASETS, load_flights, read_nycflights_table


@pytest.fixture(scope="module")
def year() -> pd.DataFrame:
    return load_flights()


def test_all_flights_of_the_year_are_there(year: pd.DataFrame) -> None:
    assert year.shape == (336_776, 21)
    assert year["flight_id"].is_unique
    assert year["dep_delay"].isna().sum() == 8_255  # cancelled
    assert year["arr_delay"].isna().sum() == year["late"].isna().sum() == 9_430
    assert int(year["late"].sum()) == int((year["arr_delay"] > 15).sum()) == 77_630


def test_flights_have_the_types_the_stages_expect(year: pd.DataFrame) -> None:
    assert str(year["scheduled"].dtype) == str(year["departed"].dtype) == "datetime64[us, UTC]"
    assert (year.dtypes[["dep_delay", "arr_delay", "air_time"]] == "float64").all()
    assert (
        year.dtypes[["carrier", "tailnum", "origin", "dest", "flight_id"]].astype(str) == "object"
    ).all()
    assert str(year["late"].dtype) == "boolean"


def test_flights_are_in_the_order_of_departure(year: pd.DataFrame) -> None:
    ordered = (
        year[["scheduled", "flight_id"]]
        .head(20_000)
        .sort_values(["scheduled", "flight_id"], ignore_index=True)
    )
    pd.testing.assert_frame_equal(year[["scheduled", "flight_id"]].head(20_000), ordered)
    assert year["scheduled"].is_monotonic_increasing


def test_the_first_flight_left_two_minutes_late(year: pd.DataFrame) -> None:
    first = year.iloc[0]
    assert first["flight_id"] == "20130101-UA1545-EWR"
    assert str(first["scheduled"]) == "2013-01-01 10:15:00+00:00"
    assert (
        (first["departed"] - first["scheduled"]).total_seconds() == 60 * first["dep_delay"] == 120
    )


@pytest.mark.parametrize("name", list(DATASETS))
def test_the_columns_are_told_without_reading_all(name: str) -> None:
    few = DATASETS[name](5)
    assert len(few) == 5
    assert list(few.columns) == list(DATASETS[name](6).columns)


@pytest.mark.parametrize(
    ("table", "rows"),
    [("weather", 26_115), ("planes", 3_322), ("airports", 1_458), ("airlines", 16)],
)
def test_the_other_tables_are_read_the_same_way(table: str, rows: int) -> None:
    frame = read_nycflights_table(table)
    assert len(frame) == rows
    assert set(map(str, frame.dtypes)) <= {"object", "int64", "float64", "datetime64[us, UTC]"}


def test_an_unknown_table_lists_those_there_are() -> None:
    with pytest.raises(KitError, match="weather"):
        read_nycflights_table("trains")
