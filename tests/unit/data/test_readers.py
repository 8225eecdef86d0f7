"""Readers of plugins come before those of the package, and unreadable files are described."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.data.readers import READERS, find_plugin_ending, read_table, register_reader


@pytest.fixture
def own_reader() -> Iterator[None]:
    """Readers of a plugin for two endings, one of which the package knows."""

    @register_reader(".csv", ".rows.csv")
    def read_one_row(_url: str, _limit: int | None) -> pd.DataFrame:
        return pd.DataFrame({"x": [1.5], "t": ["a"]})

    yield
    del READERS[".csv"]
    del READERS[".rows.csv"]


def test_reader_of_a_plugin_replaces_the_one_of_the_package(
    tmp_path: Path, own_reader: None
) -> None:
    (tmp_path / "t.csv").write_text("a\n1\n2\n")
    table = read_table(str(tmp_path / "t.csv"))
    assert table.frame["x"].tolist() == [1.5]
    assert [str(column.type) for column in table.report.columns] == ["number", "text"]
    assert find_plugin_ending("a/t.rows.csv") == ".rows.csv"
    assert find_plugin_ending("a/t.tsv") == ""


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.doc", b"a", "has a file ending that is not supported"),
        ("t.csv.gz", b"no gzip", "the compressed file is damaged"),
        ("t.xlsx", b"no workbook", "it is not an Excel workbook"),
        ("t.parquet", b"no Parquet", "cannot be read"),
        ("t.json", b"{", "has no record; line 1: not valid JSON"),
    ],
)
def test_unreadable_file_is_described(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(KitError) as error:
        read_table(str(tmp_path / name))
    assert message in error.value.message
    assert error.value.hint


def test_missing_file_is_described(tmp_path: Path) -> None:
    for name in ("t.csv", "*.csv", "t.parquet", "*.parquet", "t.json"):
        with pytest.raises(KitError, match="does not exist"):
            read_table(str(tmp_path / name))
