# ruff: noqa: S608 - the SQL consists of names of this file only
"""Time and memory of drift on many rows, beside a bare DuckDB scan and Evidently.

    python bench/drift.py                     # 1,000,000 rows x 20 columns, and a year re-windowed
    python bench/drift.py --evidently         # also Evidently, in an environment of its own (uv)
    python bench/drift.py --large             # also 10,000,000 rows x 50 columns

The scan reads every value once: count, sum, least and greatest value of each column by day. The
profile counts the same rows by day in the bins of the reference; drift compares the second half of
the days with the first. Each is measured in a process of its own, with its peak memory; times are
the best of four, after the file is in the cache. Scan and drift take turns in five rounds, so that
the load of the machine weighs on both alike; the ratio is the median of those of the rounds.

Bars: profile and drift in at most 3 times the scan and 1 GB; Evidently at least 20 times slower; a
year of daily profiles re-windowed in 52 weeks in at most 1 s; the large table in at most 4 GB.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "build" / "drift_bench"
EVIDENTLY = "evidently==0.7.15"
SMALL = (1_000_000, 20)
LARGE = (10_000_000, 50)
DAYS = 365
CHUNK_ROWS = 1_000_000
CATEGORY_EVERY = 5  # one column of so many holds categories
REFERENCE_ROWS = 100_000
ROUNDS = 5
REPEATS = 4
WEEK = 7
MEBIBYTE = 1024  # ru_maxrss counts kibibytes


def get_file(rows: int, columns: int) -> Path:
    """Return the file of a table; it is written if it does not exist."""
    file = FOLDER / f"rows_{rows}_{columns}.parquet"
    if not file.exists():
        write_table(file, rows, columns)
    return file


def write_table(file: Path, rows: int, columns: int) -> None:
    """Write a table of numbers and categories over a year, chunk by chunk."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.parquet as pq

    FOLDER.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    names = pa.array([f"name {number}" for number in range(20)])
    writer = None
    seconds_per_row = DAYS * 86_400 / rows
    for start in range(0, rows, CHUNK_ROWS):
        count = min(CHUNK_ROWS, rows - start)
        seconds = ((start + np.arange(count)) * seconds_per_row).astype(np.int64)
        data = {
            "at": pa.array(np.datetime64("2024-01-01", "us") + seconds.astype("timedelta64[s]"))
        }
        for number in range(columns):
            if number % CATEGORY_EVERY == CATEGORY_EVERY - 1:
                codes = pa.array(rng.integers(0, len(names), count).astype(np.int8))
                data[f"c{number:02d}"] = pa.DictionaryArray.from_arrays(codes, names).cast(
                    pa.string()
                )
            else:
                data[f"c{number:02d}"] = pa.array(rng.normal(size=count))
        table = pa.table(data)
        writer = writer or pq.ParquetWriter(file, table.schema)
        writer.write_table(table)
    if writer is not None:
        writer.close()


def run_scan(file: Path) -> None:
    """Read every value once in DuckDB."""
    import duckdb

    names = [name for name in duckdb.sql(f"SELECT * FROM '{file}' LIMIT 0").columns if name != "at"]
    types = duckdb.sql(f"SELECT * FROM '{file}' LIMIT 0").types[1:]
    measures = []
    for name, kind in zip(names, types, strict=True):
        measures += [f"count({name})", f"min({name})", f"max({name})"]
        if str(kind) == "DOUBLE":
            measures.append(f"sum({name})")
    duckdb.sql(
        f"SELECT CAST(\"at\" AS DATE), {', '.join(measures)} FROM '{file}' GROUP BY ALL"
    ).fetchall()


def run_drift(file: Path) -> None:
    """Profile the file by day, and compare the second half of the days with the first."""
    from mlops_kit.project.config.monitoring import MonitorConfig
    from mlops_kit.stages.monitor.drift import compare_profiles
    from mlops_kit.stages.monitor.profile_scan import profile_parquet

    bins = make_bins(file)
    profile = profile_parquet(file, bins, "at")
    is_first_half = make_mask(len(profile.days), 0, DAYS // 2)
    compare_profiles(
        bins,
        profile.select_days(is_first_half),
        profile.select_days(~is_first_half),
        MonitorConfig(),
    )


def make_bins(file: Path) -> dict[str, Any]:
    """Make the bins of all columns from the first rows."""
    import pyarrow.parquet as pq

    from mlops_kit.stages.monitor.column_bins import make_column_bins

    batches = pq.ParquetFile(file).iter_batches(REFERENCE_ROWS)
    reference = next(batches).to_pandas()
    return {
        name: make_column_bins(
            reference[name], "number" if reference[name].dtype.kind == "f" else "category"
        )
        for name in reference.columns
        if name != "at"
    }


def make_mask(length: int, start: int, end: int) -> Any:
    """Return a mask of some days."""
    import numpy as np

    positions = np.arange(length)
    return (positions >= start) & (positions < end)


def measure(
    function: Callable[[Path], None], file: Path, repeats: int = REPEATS
) -> dict[str, float]:
    """Measure wall time, CPU time and peak memory: the best of some repeats."""
    best = {"seconds": float("inf"), "cpu_seconds": float("inf")}
    for _ in range(repeats):
        began = time.perf_counter()
        cpu_began = time.process_time()
        function(file)
        best["seconds"] = min(best["seconds"], time.perf_counter() - began)
        best["cpu_seconds"] = min(best["cpu_seconds"], time.process_time() - cpu_began)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / MEBIBYTE
    return {**best, "peak_mib": peak}


def measure_windows(file: Path) -> dict[str, float]:
    """Measure a year of daily profiles, summed and compared in 52 other windows."""
    from mlops_kit.project.config.monitoring import MonitorConfig
    from mlops_kit.stages.monitor.drift import compare_profiles
    from mlops_kit.stages.monitor.profile_scan import profile_parquet

    bins = make_bins(file)
    profile = profile_parquet(file, bins, "at")
    reference = profile.select_days(make_mask(len(profile.days), 0, 4 * WEEK))
    limits = MonitorConfig()

    def sum_windows(_: Path) -> None:
        for start in range(0, DAYS - WEEK, WEEK):
            window = profile.select_days(make_mask(len(profile.days), start, start + WEEK))
            for counts in window.counts.values():
                counts.sum(axis=0)

    def compare_windows(_: Path) -> None:
        for start in range(0, DAYS - WEEK, WEEK):
            window = profile.select_days(make_mask(len(profile.days), start, start + WEEK))
            compare_profiles(bins, reference, window, limits)

    summed = measure(sum_windows, file)
    compared = measure(compare_windows, file)
    return {**compared, "sum_cpu_seconds": summed["cpu_seconds"]}


EVIDENTLY_SCRIPT = """
import json, resource, sys, time
import pandas as pd
rows = pd.read_parquet(sys.argv[1])
half = len(rows) // 2
rows = rows.drop(columns="at")
from evidently import Report
from evidently.presets import DataDriftPreset
began, cpu_began = time.perf_counter(), time.process_time()
Report([DataDriftPreset()]).run(rows.iloc[half:], rows.iloc[:half]).dict()
print(json.dumps({
    "seconds": time.perf_counter() - began,
    "cpu_seconds": time.process_time() - cpu_began,
    "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def run_evidently(file: Path) -> dict[str, float]:
    """Measure Evidently's drift preset in an environment of its own, made by uv."""
    environment = FOLDER / "evidently"
    python = environment / "bin" / "python"
    if not python.exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", environment], check=True)
        install = [
            uv,
            "pip",
            "install",
            "--quiet",
            "--python",
            python,
            EVIDENTLY,
            "pyarrow",
            "pandas<3",
        ]
        subprocess.run(install, check=True)
    return read_last_line([python, "-c", EVIDENTLY_SCRIPT, file])


def read_last_line(command: list[Any]) -> dict[str, float]:
    """Run a command, and read the JSON in the last line that it prints."""
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return json.loads(printed.strip().splitlines()[-1])


def run_step(step: str, file: Path) -> dict[str, float]:
    """Measure a step in a process of its own."""
    return read_last_line([sys.executable, __file__, "--step", step, "--file", file])


STEPS = {
    "scan": lambda file: measure(run_scan, file),
    "drift": lambda file: measure(run_drift, file),
    "drift once": lambda file: measure(run_drift, file, repeats=1),
    "windows": measure_windows,
}


def take_medians(rounds: list[dict[str, float]]) -> dict[str, float]:
    """Take the median of each number over the rounds."""
    return {name: statistics.median(row[name] for row in rounds) for name in rounds[0]}


def print_measured(name: str, measured: dict[str, float]) -> None:
    """Print what was measured."""
    print(
        f"{name:<28} {measured['seconds']:8.2f} s  {measured['cpu_seconds']:8.2f} CPU s  "
        f"{measured['peak_mib']:7.0f} MiB",
        flush=True,
    )


def main() -> None:
    """Measure all steps and print them with their bars."""
    parser = argparse.ArgumentParser(description="Time and memory of drift on many rows.")
    parser.add_argument("--evidently", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--file", type=Path)
    arguments = parser.parse_args()
    if arguments.step:
        print(json.dumps(STEPS[arguments.step](arguments.file)))
        return
    file = get_file(*SMALL)
    scans = []
    drifts = []
    for _ in range(ROUNDS):
        scans.append(run_step("scan", file))
        drifts.append(run_step("drift", file))
    windows = run_step("windows", file)
    scan = take_medians(scans)
    drift = take_medians(drifts)
    ratios = [
        after["cpu_seconds"] / before["cpu_seconds"]
        for before, after in zip(scans, drifts, strict=True)
    ]
    print_measured("bare DuckDB scan", scan)
    print_measured("profile and drift", drift)
    print_measured("52 windows of a year", windows)
    print(
        f"drift / scan: {statistics.median(ratios):.2f} in CPU time, {min(ratios):.2f} to "
        f"{max(ratios):.2f} in {ROUNDS} rounds (bar 3)"
    )
    print(f"52 windows summed: {windows['sum_cpu_seconds']:.2f} CPU s")
    if arguments.evidently:
        evidently = run_evidently(file)
        print_measured("Evidently", evidently)
        ratio = evidently["cpu_seconds"] / drift["cpu_seconds"]
        print(f"Evidently / drift: {ratio:.0f} in CPU time (bar 20)")
    if arguments.large:
        print_measured("10,000,000 x 50", run_step("drift once", get_file(*LARGE)))


if __name__ == "__main__":
    main()
