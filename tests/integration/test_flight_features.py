"""The flights' own features, by hand on a few flights."""

from __future__ import annotations

import pandas as pd
import pytest

from mlops_kit.data import features
from mlops_kit.project import loader
from tests.support.environment import ROOT


@pytest.fixture(scope="module")
def flights() -> pd.DataFrame:
    """Four flights from JFK on one morning; the third leaves early, the last never."""
    due = pd.to_datetime(
        ["2013-03-01 12:00", "2013-03-01 12:30", "2013-03-01 13:10", "2013-03-01 13:20"], utc=True
    ).astype("datetime64[us, UTC]")
    delay = pd.Series([20.0, 50.0, -5.0, None])
    frame = pd.DataFrame(
        {
            "flight_id": list("abcd"),
            "scheduled": due,
            "departed": due + pd.to_timedelta(delay, "min"),
            "dep_delay": delay,
        }
    )
    fixed = {
        "carrier": "B6",
        "origin": "JFK",
        "dest": "MIA",
        "tailnum": None,
        "month": 3,
        "day": 1,
        "hour": 8,
        "minute": 0,
        "distance": 1089,
        "sched_arr_time": 1100,
    }
    return frame.assign(**fixed, late=pd.Series([True, True, False, None], dtype="boolean"))


@pytest.fixture(scope="module")
def built(flights: pd.DataFrame) -> pd.DataFrame:
    return features.build_features(loader.load_project(ROOT), flights, flights).set_index(
        "flight_id"
    )


def test_only_flights_that_have_left_count(built: pd.DataFrame) -> None:
    # b (left 13:20) is not yet known to c (13:10) nor, strictly before, to d (13:20).
    assert built["origin_left_3h"].tolist() == [0, 1, 1, 2]
    assert built["origin_delay_3h"].tolist()[1:] == [20, 20, 7.5]
    assert built["origin_left_1h"].tolist() == [
        0,
        1,
        1,
        2,
    ]  # a left at 12:20, an hour before d: within, the bound included


def test_no_flight_sees_itself(flights: pd.DataFrame) -> None:
    alone = flights.iloc[[2]]  # left before it was due
    assert features.build_features(loader.load_project(ROOT), alone, alone)[
        "origin_left_3h"
    ].tolist() == [0]


def test_labels_count_a_day_later(flights: pd.DataFrame) -> None:
    asked = flights.iloc[[0]].assign(scheduled=flights["scheduled"].iloc[0] + pd.Timedelta("1d1h"))
    found = features.build_features(loader.load_project(ROOT), asked, flights)
    assert found["carrier_flights_7d"].tolist() == [
        2
    ]  # the first two; the third's label comes ten minutes later
    assert found["carrier_late_7d"].tolist() == [1.0]


def test_the_weather_is_the_last_hour_seen(built: pd.DataFrame) -> None:
    assert built["temp"].notna().all()
    assert built["weekday"].tolist() == [5, 5, 5, 5]  # the first of March 2013 was a Friday
