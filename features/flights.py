"""Features of a flight that are known at its scheduled departure.

A flight counts as departed once it has left *and* was scheduled to leave. So no flight contributes
to its own features, and the endpoint, where the requested flight is not in the history yet,
computes the same values.
"""

# ruff: noqa: S608 - the SQL consists of names of this file only
from __future__ import annotations

from functools import cache
from typing import Any

import pandas as pd

from mlops_kit import features, locate_nycflights_file

WEATHER_COLUMNS = [
    "temp",
    "dewp",
    "humid",
    "wind_dir",
    "wind_speed",
    "wind_gust",
    "precip",
    "pressure",
    "visib",
]
PLANE_COLUMNS = ["tailnum", "year", "seats", "engine"]
DEPARTURES_SQL = """
SELECT {by}, greatest(departed, scheduled) AS seen, dep_delay::BIGINT AS delay
FROM history
WHERE departed IS NOT NULL AND dep_delay IS NOT NULL
"""
LABELS_SQL = """
SELECT {by}, scheduled + INTERVAL '1 day' AS seen, late::BIGINT AS late
FROM history
WHERE late IS NOT NULL
"""


@features.view
def weather(db: features.FeatureDatabase) -> Any:
    """Join the last hourly observation at the origin, at most six hours old.

    The source reports no gust if the wind is steady; then it is the wind speed.

    Columns
    -------
    temp : Temperature (°F)
        At the origin, at the last observation.
    dewp : Dew point (°F)
    humid : Relative humidity (%)
    wind_dir : Wind direction (°)
    wind_speed : Wind speed (mph)
    wind_gust : Wind gust (mph)
    precip : Precipitation (inches)
        In the hour of the observation.
    pressure : Air pressure (mbar)
        At sea level.
    visib : Visibility (miles)
    """
    db.add_table("weather", read_weather())
    columns = []
    for name in WEATHER_COLUMNS:
        columns.append(
            f"CASE WHEN moment - time_hour <= INTERVAL '6 hours' THEN {name} END AS {name}"
        )
    return db.sql(
        f"""
        SELECT row, {", ".join(columns)}
        FROM rows
        ASOF LEFT JOIN weather ON rows.origin = weather.origin AND moment >= time_hour
        """
    )


@cache
def read_weather() -> pd.DataFrame:
    """Read the hourly observations."""
    weather_file = locate_nycflights_file("weather")
    observations = pd.read_csv(weather_file, usecols=["origin", "time_hour", *WEATHER_COLUMNS])
    observations["wind_gust"] = observations["wind_gust"].fillna(observations["wind_speed"])
    observations["time_hour"] = pd.to_datetime(observations["time_hour"], utc=True)
    return observations


@features.view
def plane(db: features.FeatureDatabase) -> Any:
    """Look up the age in years, seats and engine of a plane whose tail number is known.

    Columns
    -------
    plane_age : Age of the plane (years)
    seats : Seats of the plane
    engine : Engine of the plane
    """
    db.add_table("planes", read_planes())
    return db.sql(
        """
        SELECT row, year(moment) - planes.year AS plane_age, seats, engine
        FROM rows
        LEFT JOIN planes ON rows.tailnum = planes.tailnum
        """
    )


@cache
def read_planes() -> pd.DataFrame:
    """Read the planes by tail number."""
    return pd.read_csv(locate_nycflights_file("planes"), usecols=PLANE_COLUMNS)


@features.view
def calendar(db: features.FeatureDatabase) -> Any:
    """Compute the scheduled minute of the day and the day of the week.

    Month and day are New York's, five hours behind UTC at the turn of the year.

    Columns
    -------
    minute_of_day : Scheduled minute of the day
    weekday : Day of the week
        1 is Monday.
    """
    return db.sql(
        """
        SELECT
            row,
            hour * 60 + minute AS minute_of_day,
            isodow(make_date(year(moment - INTERVAL '5 hours'), month, day)) AS weekday
        FROM rows
        """
    )


@features.view
def late_shares(db: features.FeatureDatabase) -> Any:
    """Compute the share of late flights by carrier, route and hour over the last seven days.

    Columns
    -------
    carrier_late_7d : Share late, airline, 7 days
        Of the flights of the airline, as known at the scheduled departure.
    carrier_flights_7d : Flights of the airline, 7 days
    route_late_7d : Share late, route, 7 days
    route_flights_7d : Flights on the route, 7 days
    hour_late_7d : Share late, hour at the origin, 7 days
    hour_flights_7d : Flights of the hour at the origin, 7 days
    """
    groups = {"carrier": "carrier", "route": "origin, dest", "hour": "origin, hour"}
    selects = {name: build_late_share_sql(by, name) for name, by in groups.items()}
    return db.sql(join_selects(selects))


def build_late_share_sql(by: str, name: str) -> str:
    """Build SQL for a group's share of late flights and the number of flights."""
    labels = features.build_trailing_sql(
        LABELS_SQL.format(by=by), by.split(", "), {"7d": "7 days"}, ["late"]
    )
    return f"""
    SELECT row, late_7d / nullif(n_7d, 0) AS {name}_late_7d, n_7d AS {name}_flights_7d
    FROM {labels}
    """


@features.view
def airport_now(db: features.FeatureDatabase) -> Any:
    """Compute the mean delay and the number of departures in the last hours.

    They are computed for the origin, for the carrier there, and for the destination.

    Columns
    -------
    origin_delay_1h : Mean departure delay at the origin, 1 h (min)
        Of the flights that have departed by the scheduled departure.
    origin_left_1h : Departures at the origin, 1 h
    origin_delay_3h : Mean departure delay at the origin, 3 h (min)
    origin_left_3h : Departures at the origin, 3 h
    carrier_delay_3h : Mean departure delay of the airline there, 3 h (min)
    carrier_left_3h : Departures of the airline there, 3 h
    carrier_delay_24h : Mean departure delay of the airline there, 24 h (min)
    carrier_left_24h : Departures of the airline there, 24 h
    dest_delay_3h : Mean departure delay to the destination, 3 h (min)
    dest_left_3h : Departures to the destination, 3 h
    """
    spans_by_group = {
        "origin": ("origin", {"1h": "1 hour", "3h": "3 hours"}),
        "carrier": ("origin, carrier", {"3h": "3 hours", "24h": "24 hours"}),
        "dest": ("dest", {"3h": "3 hours"}),
    }
    selects = {}
    for name, (by, spans) in spans_by_group.items():
        selects[name] = build_delay_sql(by, name, spans)
    return db.sql(join_selects(selects))


def build_delay_sql(by: str, name: str, spans: dict[str, str]) -> str:
    """Build SQL for a group's mean departure delay in minutes and the count, by time span."""
    departures = features.build_trailing_sql(
        DEPARTURES_SQL.format(by=by), by.split(", "), spans, ["delay"]
    )
    columns = []
    for span in spans:
        columns.append(f"delay_{span} / nullif(n_{span}, 0) AS {name}_delay_{span}")
        columns.append(f"n_{span} AS {name}_left_{span}")
    return f"SELECT row, {', '.join(columns)} FROM {departures}"


def join_selects(selects: dict[str, str]) -> str:
    """Build SQL that joins the columns of several SELECTs with one line per row."""
    first_name, *other_names = selects
    tables = [f"{name}_part AS ({sql})" for name, sql in selects.items()]
    joins = [f"JOIN {name}_part USING (row)" for name in other_names]
    return f"WITH {', '.join(tables)} SELECT * FROM {first_name}_part {' '.join(joins)}"
