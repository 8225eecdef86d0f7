"""The built-in datasets: rows, types and order."""

from __future__ import annotations

import pandas as pd
import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.data.datasets import DATASETS, load_flights, read_nycflights_table


@pytest.fixture(scope="module")
def flights_of_the_year() -> pd.DataFrame:
    return load_flights()


def test_all_flights_of_the_year_are_loaded(flights_of_the_year: pd.DataFrame) -> None:
    assert flights_of_the_year.shape == (336_776, 21)
    assert flights_of_the_year["flight_id"].is_unique
    assert flights_of_the_year["dep_delay"].isna().sum() == 8_255  # cancelled
    assert (
        flights_of_the_year["arr_delay"].isna().sum()
        == flights_of_the_year["late"].isna().sum()
        == 9_430
    )
    assert (
        int(flights_of_the_year["late"].sum())
        == int((flights_of_the_year["arr_delay"] > 15).sum())
        == 77_630
    )


def test_flights_have_the_types_the_stages_expect(flights_of_the_year: pd.DataFrame) -> None:
    assert (
        str(flights_of_the_year["scheduled"].dtype)
        == str(flights_of_the_year["departed"].dtype)
        == "datetime64[us, UTC]"
    )
    assert (flights_of_the_year.dtypes[["dep_delay", "arr_delay", "air_time"]] == "float64").all()
    assert (
        flights_of_the_year.dtypes[["carrier", "tailnum", "origin", "dest", "flight_id"]].astype(
            str
        )
        == "object"
    ).all()
    assert str(flights_of_the_year["late"].dtype) == "boolean"


def test_flights_are_sorted_by_departure(flights_of_the_year: pd.DataFrame) -> None:
    ordered = (
        flights_of_the_year[["scheduled", "flight_id"]]
        .head(20_000)
        .sort_values(["scheduled", "flight_id"], ignore_index=True)
    )
    pd.testing.assert_frame_equal(
        flights_of_the_year[["scheduled", "flight_id"]].head(20_000), ordered
    )
    assert flights_of_the_year["scheduled"].is_monotonic_increasing


def test_first_flight_left_two_minutes_late(flights_of_the_year: pd.DataFrame) -> None:
    first = flights_of_the_year.iloc[0]
    assert first["flight_id"] == "20130101-UA1545-EWR"
    assert str(first["scheduled"]) == "2013-01-01 10:15:00+00:00"
    assert (
        (first["departed"] - first["scheduled"]).total_seconds() == 60 * first["dep_delay"] == 120
    )


@pytest.mark.parametrize("name", list(DATASETS))
def test_columns_are_read_from_a_few_rows(name: str) -> None:
    few = DATASETS[name](5)
    assert len(few) == 5
    assert list(few.columns) == list(DATASETS[name](6).columns)


@pytest.mark.parametrize(
    ("table", "rows"),
    [("weather", 26_115), ("planes", 3_322), ("airports", 1_458), ("airlines", 16)],
)
def test_other_tables_are_read_the_same_way(table: str, rows: int) -> None:
    frame = read_nycflights_table(table)
    assert len(frame) == rows
    assert set(map(str, frame.dtypes)) <= {"object", "int64", "float64", "datetime64[us, UTC]"}


def test_unknown_table_lists_the_existing_ones() -> None:
    with pytest.raises(KitError, match="weather"):
        read_nycflights_table("trains")
