"""Wrapped functions of libraries behave as those of the library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from mlops_kit.core import file_tracer, library_tracer
from mlops_kit.core.file_log import FileLog
from mlops_kit.core.traced_paths import TracedPaths

QUERY_OF_A_VARIABLE = """\
from mlops_kit.core import library_tracer

library_tracer.watch_libraries()
import duckdb
import pandas as pd

def total():
    local_frame = pd.DataFrame({"x": [1, 2]})
    return duckdb.sql("SELECT sum(x) FROM local_frame").fetchall()[0][0]

global_frame = pd.DataFrame({"x": [3, 4]})
assert hasattr(duckdb.sql, "__mlops_kit_use__")
print(total(), duckdb.sql("SELECT sum(x) FROM global_frame").fetchall()[0][0])
connection = duckdb.connect()
print(connection.sql("SELECT max(x) FROM global_frame").fetchall()[0][0])
"""


@pytest.mark.slow
def test_a_traced_query_finds_the_variables_of_its_caller() -> None:
    completed = subprocess.run(
        [sys.executable, "-c", QUERY_OF_A_VARIABLE], capture_output=True, text=True, check=False
    )
    assert completed.stdout == "3 7\n4\n", completed.stderr


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> FileLog:
    """An empty log, to which both tracers write."""
    log = FileLog()
    monkeypatch.setattr(library_tracer, "file_log", log)
    monkeypatch.setattr(file_tracer, "file_log", log)
    return log


def test_target_of_a_copy_is_written_also_with_a_quote_in_its_name(
    log: FileLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_tracer.tracer_state, "paths", TracedPaths(str(tmp_path), "/none"))
    target = tmp_path / "it's.csv"
    target.touch()
    query = f"COPY (SELECT 1) TO '{tmp_path}/it''s.csv'"
    library_tracer._record_query((query,), {})
    assert (log.written, log.read) == ({str(target)}, {})


def test_long_query_cannot_be_traced(log: FileLog) -> None:
    library_tracer._record_query((), {"query": "SELECT 1".ljust(100_001)})
    assert [use.name for use in log.untraced] == ["a query of more than 100,000 characters"]
