"""Files of every format are read into the same table, and nothing is changed silently."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import zipfile
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_kit.core.errors import KitError
from mlops_kit.data.reading.files import find_file_ending, list_text_columns, read_files
from mlops_kit.data.reading.records import ColumnReading, TableRead
from mlops_kit.data.reading.settings import ReadSettings

CSV = "id,city,x\n1,Oslo,1.5\n2,Rome,\n3,Köln,2.5\n"


def read(path: Path | str, **settings: Any) -> TableRead:
    """Read a file by its ending."""
    return read_files(str(path), find_file_ending(str(path)), ReadSettings(**settings))


def write(folder: Path, text: str | bytes, name: str = "t.csv") -> Path:
    """Write a file."""
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def find_column(table: TableRead, name: str) -> ColumnReading:
    """Return what was decided about a column."""
    return next(column for column in table.report.columns if column.column == name)


def check_csv_table(table: TableRead) -> None:
    """Check that a table is the one of ``CSV``."""
    assert table.frame["id"].tolist() == [1, 2, 3]
    assert table.frame["city"].tolist() == ["Oslo", "Rome", "Köln"]
    assert table.frame["x"].isna().tolist() == [False, True, False]
    assert table.report.rows_in_file == table.report.rows_kept == 3


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_encodings_and_separators_give_the_same_table(
    tmp_path: Path, encoding: str, separator: str
) -> None:
    text = CSV.replace(",", separator)
    table = read(write(tmp_path, text.encode(encoding)))
    check_csv_table(table)
    assert table.report.separator == separator


def test_other_alphabets_in_utf16_are_read(tmp_path: Path) -> None:
    text = "город;число\nМосква;1,5\nТверь;2,5\n"
    frame = read(write(tmp_path, text.encode("utf-16"))).frame
    assert frame.to_dict("list") == {"город": ["Москва", "Тверь"], "число": [1.5, 2.5]}


def test_compressed_files_are_read(tmp_path: Path) -> None:
    data = CSV.encode()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("t.csv", data)
    compressed = {
        "gz": gzip.compress(data),
        "bz2": bz2.compress(data),
        "xz": lzma.compress(data),
        "zip": archive.getvalue(),
        "zst": pa.compress(data, "zstd", asbytes=True),
    }
    for ending, content in compressed.items():
        path = write(tmp_path, content, f"t.csv.{ending}")
        check_csv_table(read(path))
        assert list_text_columns(str(path), ReadSettings()) == ["id", "city", "x"]


def test_archive_of_two_files_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.csv", CSV)
        file.writestr("b.csv", CSV)
    with pytest.raises(KitError, match=r"contains 2 files: a\.csv, b\.csv"):
        read(path)


def test_rejected_rows_are_counted_with_their_lines(tmp_path: Path) -> None:
    lines = [f"{number},{number}.5" for number in range(150)]
    lines[10] = "10"
    lines[20] = "20,oops"
    lines[30] = '30,"a\nb"'
    table = read(write(tmp_path, "# title\nid,x\n" + "\n".join(lines) + "\n"))
    report = table.report
    assert report.rows_in_file == 150
    assert report.rows_kept == len(table.frame) == 150 - report.rejected_count
    assert [line.line for line in report.rejected][:1] == [13]
    assert "1 field instead of 2" in report.rejected[0].reason


def test_row_with_an_unreadable_value_is_rejected(tmp_path: Path) -> None:
    lines = [f"{number},{number}.5" for number in range(150)]
    lines[10] = "10"
    lines[20] = "20,oops"
    table = read(write(tmp_path, "id,x\n" + "\n".join(lines) + "\n"))
    assert [(line.line, line.text) for line in table.report.rejected] == [
        (12, "10"),
        (22, "20,oops"),
    ]
    assert "x: 'oops' is not a number" in table.report.rejected[1].reason
    assert 20 not in table.frame["id"].tolist()
    assert table.frame["x"].notna().all()


def test_excluded_column_is_not_inspected(tmp_path: Path) -> None:
    path = write(tmp_path, "id,x\n1,2\n2,3\n3,oops\n")
    table = read(path, excluded_columns=frozenset({"x"}))
    assert table.frame["x"].tolist() == ["2", "3", "oops"]


def test_files_of_a_glob_are_aligned_by_column(tmp_path: Path) -> None:
    write(tmp_path, "id;x\n1;1,5\n", "a.csv")
    write(tmp_path, "x,id\n2.5,2\n", "b.csv")
    frame = read(tmp_path / "*.csv", decimal=",").frame
    assert frame["id"].tolist() == [1, 2]
    assert list(frame.columns) == ["id", "x"]


def test_files_with_different_columns_are_an_error(tmp_path: Path) -> None:
    write(tmp_path, "id,x\n1,2\n", "a.csv")
    write(tmp_path, "id,y\n1,2\n", "b.csv")
    with pytest.raises(KitError, match=r"b\.csv lacks 'x' and has 'y' besides"):
        read(tmp_path / "*.csv")


def test_later_lines_in_another_encoding_are_found(tmp_path: Path) -> None:
    lines = [f"{number},plain text" for number in range(30_000)]
    data = ("id,t\n" + "\n".join(lines) + "\n30000,süd\n").encode("cp1252")
    table = read(write(tmp_path, data))
    assert table.frame["t"].iloc[-1] == "süd"
    assert any("cp1252 is a guess" in note for note in table.report.notes)


@pytest.mark.parametrize(
    ("text", "names", "rows"),
    [
        ("a,b\n", ["a", "b"], 0),
        ("x\n1\n\n3\n", ["x"], 3),
        ("1,2\n3,4\n", ["column_1", "column_2"], 2),
        ("a,a,\n1,2,\n", ["a", "a_2"], 1),
        ("a,,c\n1,2,3\n", ["a", "column_2", "c"], 1),
    ],
    ids=["header only", "one column", "no header", "names", "name missing"],
)
def test_small_files(tmp_path: Path, text: str, names: list[str], rows: int) -> None:
    table = read(write(tmp_path, text))
    assert list(table.frame.columns) == names
    assert len(table.frame) == rows


def test_empty_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(KitError, match=r"t\.csv has no rows"):
        read(write(tmp_path, "\n\n"))


_CELLS = st.text(st.sampled_from("ab0,;\"'\n é.-"), max_size=5)


@settings(max_examples=50, deadline=None, derandomize=True)
@given(rows=st.lists(st.lists(_CELLS, min_size=2, max_size=2), min_size=3, max_size=12))
def test_text_is_read_cell_by_cell(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]]
) -> None:
    buffer = io.StringIO()
    writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n")
    writer.writerows([["left", "right"], *rows])
    path = write(tmp_path_factory.mktemp("cells"), buffer.getvalue())
    table = read(
        path,
        separator=",",
        header=True,
        skip_rows=0,
        excluded_columns=frozenset({"left", "right"}),
    )
    assert table.report.rejected_count == 0
    assert table.frame.fillna("").to_numpy().tolist() == rows


def test_lines_without_values_inside_a_record_are_no_records(tmp_path: Path) -> None:
    cell = "\n,\n"
    text = f'"left","right"\n"a","b"\n"{cell}","{cell}"\n"c","d"\n'
    table = read(write(tmp_path, text), excluded_columns=frozenset({"left", "right"}))
    assert table.frame.to_numpy().tolist() == [["a", "b"], [cell, cell], ["c", "d"]]
    assert table.report.rejected_count == 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 and so on", "an Excel workbook"),
        (b"\x1f\x8b\x08\x00 and so on", "compressed by gzip"),
        (b"<!DOCTYPE html>\n<p>Log in</p>\n", "an HTML or XML document"),
        (b'{"a": 1}\n{"a": 2}\n', "is JSON"),
        (bytes(range(1, 256)) * 9, "not text"),
        (b"name   age  city\nann    12   Oslo\nbob    7    Rome\n", "aligned with spaces"),
    ],
)
def test_file_of_another_kind_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(KitError, match=message) as error:
        read(write(tmp_path, content))
    assert error.value.hint


def test_repeated_header_is_rejected(tmp_path: Path) -> None:
    text = "a,b\n1,2\n3\na,b\n3,4\na,b\n5,6\n"
    table = read(write(tmp_path, text))
    assert table.frame["a"].tolist() == [1, 3, 5]
    assert [(line.line, line.reason) for line in table.report.rejected] == [
        (3, "1 field instead of 2"),
        (4, "the header again"),
        (6, "the header again"),
    ]


# --- JSON


def test_json_lines_keep_digits_and_reject_malformed_lines(tmp_path: Path) -> None:
    text = (
        '{"id": 1, "big": 123456789012345678901, "zip": "007", "ok": true}\n'
        '{"id": 2, "big": 2, "zip": "012", "ok": false}\n'
        "{broken\n"
        "\n"
        "[1]\n"
        '{"id": 3, "id": 4}\n'
        '{"id": 5, "new": "x"}\n'
    )
    table = read(write(tmp_path, text, "t.jsonl"))
    report = table.report
    assert table.frame["id"].tolist() == [1, 2, 5]
    assert [line.line for line in report.rejected] == [3, 5, 6]
    assert report.rows_in_file == report.rows_kept + 3
    assert str(table.frame["big"].iloc[0]) == "123456789012345678901"
    assert table.frame["zip"].iloc[0] == "007"
    assert table.frame["new"].isna().tolist() == [True, True, False]


def test_json_array_is_read_and_nested_values_are_named(tmp_path: Path) -> None:
    text = '[{"id": 1, "tags": ["a"]},\n {"id": 2, "tags": {"b": 1.50}}]'
    table = read(write(tmp_path, text, "t.json"))
    assert table.nested_columns == {"tags"}
    assert table.frame["tags"].tolist() == ['["a"]', '{"b": 1.5}']
    with pytest.raises(KitError, match="line 2 is not valid JSON"):
        read(write(tmp_path, '[{"id": 1},\n {"id": }]', "u.json"))


# --- Excel


def write_workbook(path: Path, sheets: dict[str, list[list[Any]]]) -> Path:
    """Write an Excel file."""
    book = openpyxl.Workbook()
    book.remove(book.active)  # type: ignore[arg-type]
    for name, rows in sheets.items():
        sheet = book.create_sheet(name)
        for row in rows:
            sheet.append(row)
    book.save(path)
    return path


def test_excel_header_and_sheet_are_found(tmp_path: Path) -> None:
    sheets: dict[str, list[list[Any]]] = {
        "first": [["Report"], [], ["id", "city", "zip"], [1, "Oslo", "007"], [2, "Rome", "008"]],
        "second": [["a"], [5]],
    }
    path = write_workbook(tmp_path / "t.xlsx", sheets)
    table = read(path)
    assert table.frame.to_dict("list") == {
        "id": [1, 2],
        "city": ["Oslo", "Rome"],
        "zip": ["007", "008"],
    }
    assert table.report.header_line == 3
    assert any("second" in note for note in table.report.notes)
    assert read(path, sheet="second").frame["a"].tolist() == [5]
    assert read(path, sheet=2).frame["a"].tolist() == [5]
    with pytest.raises(KitError, match="no sheet 'secnd'"):
        read(path, sheet="secnd")


def test_serial_dates_and_error_cells_of_excel(tmp_path: Path) -> None:
    start = datetime(2024, 1, 1)
    rows: list[list[Any]] = [["day", "x"]]
    rows += [[start + timedelta(days=number), number + 0.5] for number in range(120)]
    rows[5][0] = 45295  # 2024-01-04
    rows[9][1] = "#DIV/0!"
    path = write_workbook(tmp_path / "t.xlsx", {"s": rows})
    table = read(path)
    assert table.frame["day"].iloc[4] == pd.Timestamp("2024-01-04")
    assert any("1 serial date" in text for text in find_column(table, "day").conversions)
    (rejected,) = table.report.rejected
    assert rejected.line == 10
    assert "#DIV/0!" in rejected.reason
    assert len(table.frame) == 119


def test_formula_without_a_result_is_rejected(tmp_path: Path) -> None:
    rows: list[list[Any]] = [["x"], [1], [2], ["=A2+A3"], [4]]
    table = read(write_workbook(tmp_path / "t.xlsx", {"s": rows}))
    assert table.frame["x"].tolist() == [1, 2, 4]
    assert "formula" in table.report.rejected[0].reason


# --- Parquet


def test_types_of_parquet_are_usable(tmp_path: Path) -> None:
    table = pa.table(
        {
            "category": pa.array(["a", "b", "a"]).dictionary_encode(),
            "nullable": pa.array([1, None, 3], pa.int32()),
            "large": pa.array([2**60, None, 1], pa.int64()),
            "decimal": pa.array([Decimal("1.50"), Decimal("2.25"), None]),
            "duration": pa.array([timedelta(seconds=90), None, timedelta(0)]),
            "list": pa.array([[1], [2, 3], None]),
            "struct": pa.array([{"a": 1}, {"a": 2}, None]),
            "bytes": pa.array([b"\x01", b"\xff", None]),
            "flag": pa.array([True, None, False]),
            "day": pa.array([datetime(2024, 1, 1), None, None], pa.date32()),
        }
    )
    path = tmp_path / "t.parquet"
    pq.write_table(table, path)
    read_table = read(path)
    frame = read_table.frame
    assert frame["category"].tolist() == ["a", "b", "a"]
    assert frame["nullable"].iloc[2] == 3
    assert frame["large"].iloc[0] == str(2**60)
    assert frame["decimal"].iloc[1] == 2.25
    assert frame["duration"].iloc[0] == 90.0
    assert frame["list"].tolist()[:2] == ["[1]", "[2, 3]"]
    assert frame["bytes"].iloc[1] == "ff"
    assert frame["day"].iloc[0] == pd.Timestamp("2024-01-01")
    assert read_table.nested_columns == {"list", "struct"}
    assert find_column(read_table, "duration").conversions


def test_index_that_pandas_stored(tmp_path: Path) -> None:
    frame = pd.DataFrame({"x": [1, 2]}, index=pd.Index(["a", "b"], name="key"))
    frame.to_parquet(tmp_path / "named.parquet")
    assert sorted(read(tmp_path / "named.parquet").frame.columns) == ["key", "x"]
    frame.rename_axis(None).to_parquet(tmp_path / "unnamed.parquet")
    unnamed = read(tmp_path / "unnamed.parquet")
    assert list(unnamed.frame.columns) == ["x"]
    assert unnamed.report.notes


def test_parquet_files_with_different_columns_are_an_error(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"b": [1]}), tmp_path / "b.parquet")
    with pytest.raises(KitError, match="different columns"):
        read(tmp_path / "*.parquet")


def test_file_that_ends_inside_a_character_is_an_error(tmp_path: Path) -> None:
    whole = CSV.encode("utf-16")
    assert read(write(tmp_path, whole)).report.rows_kept == 3
    cut_off = write(tmp_path, whole[:-1], "cut.csv")
    with pytest.raises(KitError, match=r"cut\.csv: line 4 is not utf-16 text"):
        read(cut_off)
