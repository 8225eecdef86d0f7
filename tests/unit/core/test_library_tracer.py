"""Wrapped functions of libraries behave as those of the library."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
