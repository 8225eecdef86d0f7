"""Features of a flight at its scheduled departure, from what is known then.

A flight counts as departed once it has left *and* its scheduled time has passed. So no flight
counts itself, and the endpoint, where the flight in question is not in the history yet, computes
the same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

import pandas as pd

from mlops_kit.data import features
from mlops_kit.data.datasets import locate_nycflights_file

_WEATHER_COLUMNS = [
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
_WEATHER_COLUMN_SQL = (
    "CASE WHEN moment - time_hour <= INTERVAL '6 hours' THEN {column} END AS {column}"
)
_WEATHER_SQL = """
    SELECT row, {columns}
    FROM rows ASOF LEFT JOIN weather
        ON rows.origin = weather.origin AND moment >= time_hour
"""
_PLANE_SQL = """
    SELECT row, year(moment) - planes.year AS plane_age, seats, engine
    FROM rows LEFT JOIN planes ON rows.tailnum = planes.tailnum
"""
# New York is five hours behind UTC at the turn of the year.
_CALENDAR_SQL = """
    SELECT row,
        hour * 60 + minute AS minute_of_day,
        isodow(make_date(year(moment - INTERVAL '5 hours'), month, day)) AS weekday
    FROM rows
"""
_DEPARTURES_SQL = """
    SELECT {by}, greatest(departed, scheduled) AS seen, dep_delay::BIGINT AS delay
    FROM history WHERE departed IS NOT NULL AND dep_delay IS NOT NULL
"""
_LABELS_SQL = """
    SELECT {by}, scheduled + INTERVAL '1 day' AS seen, late::BIGINT AS late
    FROM history WHERE late IS NOT NULL
"""
_LATE_SHARE_SQL = """
    SELECT row, late_7d / nullif(n_7d, 0) AS {name}_late_7d, n_7d AS {name}_flights_7d
    FROM {events}
"""
_DELAY_SQL = "SELECT row, {columns} FROM {events}"
_DELAY_COLUMNS_SQL = (
    "delay_{span} / nullif(n_{span}, 0) AS {name}_delay_{span}, n_{span} AS {name}_left_{span}"
)
_JOIN_SQL = "WITH {tables} SELECT * FROM {first}_part {joins}"


@features.view
def weather(db: features.FeatureDatabase) -> Any:
    """Select the last hourly observation at the origin, if it is at most six hours old."""
    db.add_table("weather", load_weather())
    columns = [_WEATHER_COLUMN_SQL.format(column=column) for column in _WEATHER_COLUMNS]
    return db.sql(_WEATHER_SQL.format(columns=", ".join(columns)))


@cache
def load_weather() -> pd.DataFrame:
    """Load the hourly observations; a steady wind, for which no gust is reported, is its gust."""
    observations = pd.read_csv(
        locate_nycflights_file("weather"),
        usecols=["origin", "time_hour", *_WEATHER_COLUMNS],
    )
    observations["wind_gust"] = observations["wind_gust"].fillna(observations["wind_speed"])
    observations["time_hour"] = pd.to_datetime(observations["time_hour"], utc=True)
    return observations


@features.view
def plane(db: features.FeatureDatabase) -> Any:
    """Select the plane's age in years, its seats and its engine, if its tail number is known."""
    db.add_table("planes", load_planes())
    return db.sql(_PLANE_SQL)


@cache
def load_planes() -> pd.DataFrame:
    """Load the planes by tail number."""
    return pd.read_csv(
        locate_nycflights_file("planes"),
        usecols=["tailnum", "year", "seats", "engine"],
    )


@features.view
def calendar(db: features.FeatureDatabase) -> Any:
    """Compute the day of the week, and the scheduled minute of the day, in New York time."""
    return db.sql(_CALENDAR_SQL)


@features.view
def late_shares(db: features.FeatureDatabase) -> Any:
    """Compute the late share of carrier, route and origin's hour, from the last 7 days' labels."""
    columns_by_group = {
        "carrier": "carrier",
        "route": "origin, dest",
        "hour": "origin, hour",
    }
    selects = {name: _select_late_share(name, by) for name, by in columns_by_group.items()}
    return db.sql(_join_by_row(selects))


def _select_late_share(name: str, by: str) -> str:
    """Build SQL for a group's late share and the number of flights behind it."""
    events = features.build_trailing_sql(
        _LABELS_SQL.format(by=by),
        by=by.split(", "),
        spans={"7d": "7 days"},
        sums=["late"],
    )
    return _LATE_SHARE_SQL.format(name=name, events=events)


@features.view
def departure_delays(db: features.FeatureDatabase) -> Any:
    """Compute the mean delay and number of recent departures of origin, carrier and destination."""
    selects = {
        "origin": _select_delays("origin", "origin", {"1h": "1 hour", "3h": "3 hours"}),
        "carrier": _select_delays(
            "carrier",
            "origin, carrier",
            {"3h": "3 hours", "24h": "24 hours"},
        ),
        "dest": _select_delays("dest", "dest", {"3h": "3 hours"}),
    }
    return db.sql(_join_by_row(selects))


def _select_delays(name: str, by: str, spans: Mapping[str, str]) -> str:
    """Build SQL for a group's mean departure delay (minutes) and departures in each span."""
    events = features.build_trailing_sql(
        _DEPARTURES_SQL.format(by=by),
        by=by.split(", "),
        spans=spans,
        sums=["delay"],
    )
    columns = [_DELAY_COLUMNS_SQL.format(span=span, name=name) for span in spans]
    return _DELAY_SQL.format(columns=", ".join(columns), events=events)


def _join_by_row(selects: Mapping[str, str]) -> str:
    """Build SQL that puts SELECTs with one line per row side by side."""
    first, *others = selects
    tables = [f"{name}_part AS ({sql})" for name, sql in selects.items()]
    joins = [f"JOIN {name}_part USING (row)" for name in others]
    return _JOIN_SQL.format(
        tables=", ".join(tables),
        first=first,
        joins=" ".join(joins),
    )
