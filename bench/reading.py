"""Compare reading a CSV file with ``pandas.read_csv``: seconds and peak memory.

    python bench/reading.py [MEGABYTES] [TIMES]

A file of MEGABYTES (100) with numbers, text, quoted text, timestamps and missing values is
written, then read TIMES (3) times by each, every time in a process of its own, in turn. Prints
the median of the seconds and of the peak memory, and both ratios; 1000 is the size of the bar in
the issue tracker: at most 3 times as long, with at most 3 times the memory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd

DEFAULT_MEGABYTES = 100
DEFAULT_TIMES = 3
BYTES_PER_MEGABYTE = 10**6
BLOCK_ROWS = 200_000
CITIES = np.array(["Oslo", "Rome", "New York", "São Paulo"])
MEASURE = """\
import resource, sys, time
{imports}
start = time.perf_counter()
{call}
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
READERS = {
    "pandas.read_csv": ("import pandas", "frame = pandas.read_csv(sys.argv[1])"),
    "mlops-kit": (
        "import pandas, pyarrow.csv\nfrom mlops_kit.data.readers import read_table",
        "table = read_table(sys.argv[1])",
    ),
}


class Measurement(NamedTuple):
    """The seconds of a reading, and the peak memory of its process in megabytes."""

    seconds: float
    megabytes: float


def build_rows(start: int, count: int, generator: np.random.Generator) -> pd.DataFrame:
    """Build rows of every type."""
    seconds = generator.integers(0, 10**7, count)
    timestamps = pd.Timestamp("2024-01-01") + pd.to_timedelta(seconds, "s")
    counts = generator.integers(0, 10**6, count).astype(str)
    return pd.DataFrame(
        {
            "id": np.arange(start, start + count),
            "x": generator.normal(size=count).round(6),
            "y": generator.normal(size=count) * 1e3,
            "k": generator.integers(0, 99, count),
            "city": generator.choice(CITIES, count),
            "time": timestamps.astype(str),
            "note": np.where(generator.random(count) < 0.3, 'say, "hi"', "plain text"),
            "visits": np.where(generator.random(count) < 0.1, "", counts),
        }
    )


def write_file(path: Path, megabytes: int) -> None:
    """Write a file of about this size."""
    generator = np.random.default_rng(0)
    start = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        while file.tell() < megabytes * BYTES_PER_MEGABYTE:
            rows = build_rows(start, BLOCK_ROWS, generator)
            rows.to_csv(file, index=False, header=start == 0)
            start += BLOCK_ROWS


def measure(reader: str, path: Path) -> Measurement:
    """Read the file in a process of its own."""
    imports, call = READERS[reader]
    script = MEASURE.format(imports=imports, call=call)
    finished = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        check=True,
        capture_output=True,
        text=True,
    )
    seconds, kilobytes = finished.stdout.split()
    return Measurement(float(seconds), int(kilobytes) / 1000)


def main() -> None:
    """Measure both readers in turn, and print their medians and ratios."""
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT_MEGABYTES
    times = int(sys.argv[2]) if len(sys.argv) > 2 else DEFAULT_TIMES
    measurements: dict[str, list[Measurement]] = {reader: [] for reader in READERS}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.csv"
        write_file(path, megabytes)
        for _ in range(times):
            for reader, own_measurements in measurements.items():
                own_measurements.append(measure(reader, path))
    medians = {}
    for reader, own_measurements in measurements.items():
        seconds = median(measurement.seconds for measurement in own_measurements)
        memory = median(measurement.megabytes for measurement in own_measurements)
        medians[reader] = Measurement(seconds, memory)
        print(f"{reader}: {seconds:.2f} s, {memory:,.0f} MB at most")
    baseline, own = medians.values()
    print(
        f"ratios: {own.seconds / baseline.seconds:.2f} in time, "
        f"{own.megabytes / baseline.megabytes:.2f} in memory"
    )


if __name__ == "__main__":
    main()
