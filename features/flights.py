"""What is known of a flight at its scheduled departure, and worth knowing.

A flight counts among those that have left once it has left *and* was due: so none sees itself, and
the endpoint, where the flight asked about is not in the history yet, gives the same value.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import pandas as pd

from mlops_kit.data import features
from mlops_kit.data.datasets import locate_nycflights_file

# ruff: noqa: S608 - SQL made of this file's own names
LEFT = "SELECT {by}, greatest(departed, scheduled) AS seen, dep_delay::BIGINT AS delay FROM history WHERE departed IS NOT NULL AND dep_delay IS NOT NULL"
LABELLED = "SELECT {by}, scheduled + INTERVAL '1 day' AS seen, late::BIGINT AS late FROM history WHERE late IS NOT NULL"


@features.view
def weather(db: features.FeatureDatabase) -> Any:
    """The last hourly observation at the origin, at most six hours old; no gust is reported of a steady wind."""
    db.add_table("weather", observed())
    fresh = ", ".join(
        f"CASE WHEN moment - time_hour <= INTERVAL '6 hours' THEN {c} END AS {c}" for c in WEATHER
    )
    return db.sql(
        f"SELECT row, {fresh} FROM rows ASOF LEFT JOIN weather ON rows.origin = weather.origin AND moment >= time_hour"
    )


@cache
def observed() -> pd.DataFrame:
    """The hourly observations."""
    seen = pd.read_csv(locate_nycflights_file("weather"), usecols=["origin", "time_hour", *WEATHER])
    seen["wind_gust"] = seen["wind_gust"].fillna(seen["wind_speed"])
    return seen.assign(time_hour=pd.to_datetime(seen["time_hour"], utc=True))


WEATHER = [
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


@features.view
def plane(db: features.FeatureDatabase) -> Any:
    """The plane's age in years, its seats and its engine, where its tail number is known."""
    db.add_table("planes", fleet())
    return db.sql(
        "SELECT row, year(moment) - planes.year AS plane_age, seats, engine FROM rows LEFT JOIN planes ON rows.tailnum = planes.tailnum"
    )


@cache
def fleet() -> pd.DataFrame:
    """The planes by tail number."""
    return pd.read_csv(
        locate_nycflights_file("planes"), usecols=["tailnum", "year", "seats", "engine"]
    )


@features.view
def calendar(db: features.FeatureDatabase) -> Any:
    """The day of the week, and the minute of the day as planned (New York time, five hours behind at the turn of the year)."""
    return db.sql(
        "SELECT row, hour * 60 + minute AS minute_of_day, isodow(make_date(year(moment - INTERVAL '5 hours'), month, day)) AS weekday FROM rows"
    )


@features.view
def late_shares(db: features.FeatureDatabase) -> Any:
    """Late shares of carrier, route and origin's hour, over the labels that came in the last seven days."""
    groups = {"carrier": "carrier", "route": "origin, dest", "hour": "origin, hour"}
    return db.sql(joined({name: shares(by, name) for name, by in groups.items()}))


def shares(by: str, name: str) -> str:
    """SQL for a group's late share and how many flights stand behind it."""
    seen = features.build_trailing_sql(
        LABELLED.format(by=by), by.split(", "), {"7d": "7 days"}, ["late"]
    )
    return f"SELECT row, late_7d / nullif(n_7d, 0) AS {name}_late_7d, n_7d AS {name}_flights_7d FROM {seen}"


@features.view
def airport_now(db: features.FeatureDatabase) -> Any:
    """How late the flights left that have left in the last hours, and how many: at the origin, by carrier, by destination."""
    hours = {"1h": "1 hour", "3h": "3 hours"}
    groups = {
        "origin": ("origin", hours),
        "carrier": ("origin, carrier", {"3h": "3 hours", "24h": "24 hours"}),
        "dest": ("dest", {"3h": "3 hours"}),
    }
    return db.sql(joined({name: delays(by, name, spans) for name, (by, spans) in groups.items()}))


def delays(by: str, name: str, spans: dict[str, str]) -> str:
    """SQL for a group's mean departure delay (minutes) and count, for each span."""
    seen = features.build_trailing_sql(LEFT.format(by=by), by.split(", "), spans, ["delay"])
    columns = ", ".join(
        f"delay_{s} / nullif(n_{s}, 0) AS {name}_delay_{s}, n_{s} AS {name}_left_{s}" for s in spans
    )
    return f"SELECT row, {columns} FROM {seen}"


def joined(parts: dict[str, str]) -> str:
    """SQL that puts some one-line-a-row SELECTs side by side."""
    first, *rest = parts
    tables = ", ".join(f"{name}_part AS ({sql})" for name, sql in parts.items())
    joins = " ".join(f"JOIN {name}_part USING (row)" for name in rest)
    return f"WITH {tables} SELECT * FROM {first}_part {joins}"
