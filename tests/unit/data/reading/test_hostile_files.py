"""Hostile files: read as they are meant, rejected clearly, or rejected row by row and counted.

For each file, a person has written down what its cells say. What was read has to equal that cell
by cell, except for what the report lists.
"""

from __future__ import annotations

import gzip
import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.reading.date_problems import AmbiguousDates, MixedDates
from mlops_kit.data.reading.files import find_file_ending, read_files
from mlops_kit.data.reading.records import ColumnReading, TableRead
from mlops_kit.data.reading.settings import ReadSettings

Cells = Mapping[str, list[str]]


@dataclass(frozen=True)
class HostileFile:
    """A file, and what a person reads in it."""

    content: bytes
    cells: Cells = field(default_factory=dict)
    kinds: Mapping[str, str] = field(default_factory=dict)
    rejected: list[int] = field(default_factory=list)
    settings: Mapping[str, Any] = field(default_factory=dict)
    name: str = "t.csv"
    error: str = ""
    problem: type | None = None


FILES: dict[str, HostileFile] = {}


def add(label: str, content: str | bytes, cells: Cells | None = None, **options: Any) -> None:
    """Add a file."""
    data = content.encode() if isinstance(content, str) else content
    assert label not in FILES
    FILES[label] = HostileFile(data, cells or {}, **options)


def join_rows(header: str, rows: list[str], end: str = "\n") -> str:
    """Join a header and rows to a file."""
    return end.join([header, *rows]) + end


def number_rows(values: list[str], separator: str = ",") -> list[str]:
    """Put a number in front of each value."""
    return [f"{number}{separator}{value}" for number, value in enumerate(values, start=1)]


def days(date_format: str, count: int = 40) -> list[str]:
    """Return days in February, March and April 2024."""
    start = datetime(2024, 2, 1)
    return [(start + timedelta(days=2 * day)).strftime(date_format) for day in range(count)]


def add_column(
    label: str, values: list[str], kind: str, separator: str = ",", **options: Any
) -> None:
    """Add a file of a number and one column."""
    content = join_rows(f"nr{separator}v", number_rows(values, separator))
    add(label, content, {"v": values}, kinds={"nr": "integer", "v": kind}, **options)


# Numbers
add_column("decimal commas", ["1,5", "2,25", "-3,0"], "number", ";")
add_column("points between thousands", ["1.234,5", "12.345,75", "7,0"], "number", ";")
add_column("commas between thousands", ['"1,234.5"', '"12,345.75"', "7.0"], "number")
FILES["commas between thousands"] = HostileFile(
    FILES["commas between thousands"].content,
    {"v": ["1,234.5", "12,345.75", "7.0"]},
    {"v": "number"},
)
add_column("spaces between thousands", ["1 234", "12 345", "7"], "integer", ";")
add_column("narrow spaces between thousands", ["1\u202f234,5", "12\u202f345,5"], "number", ";")
add_column("apostrophes between thousands", ["1'234.5", "12'345.5", "3"], "number", ";")
add_column("Indian thousands", ["12,34,567", "1,00,000"], "integer", ";")
add_column("ambiguous commas", ["1,234", "12,345"], "text", ";")
add_column(
    "ambiguous commas with a setting",
    ["1,234", "12,345"],
    "integer",
    ";",
    settings={"decimal": "."},
)
add_column("leading zeros", ["01067", "04109", "10115"], "text")
add_column("leading zero in one row", ["10115"] * 300 + ["01067"], "text")
add_column("telephone numbers", ["+4930123456", "+4930123457"], "text")
add_column("signs and spaces", ["+5", " -3", "7 "], "integer")
add_column("exponents", ["1e5", "2.5E-3", "-1e+2"], "number")
add_column("percent", ["12.5%", "7%", "100%"], "number")
add_column("percent in some rows", ["12.5%", "0.07"] * 20, "text")
add_column("dollars", ["$5.10", "$7.20", "-$3.30"], "number")
add_column("euros behind", ["5,10 €", "7,20 €"], "number", ";")
add_column("two currencies", ["$5.10", "€7.20"] * 20, "text")
add_column("units", ["5 kg", "7 kg"], "text")
add_column("accounting", ["(5)", "7"] * 20, "text")
add_column("underscores and hexadecimal", ["1_000", "0x1F"] * 20, "text")
add_column("infinity in one row", ["inf"] + ["1.5"] * 200, "number", rejected=[2])
add_column("beyond a double", ["1e400"] + ["1.5"] * 200, "number", rejected=[2])
add_column("beyond 64 bits", ["123456789012345678901", "5"], "text")
add_column("beyond 53 bits beside an empty field", [str(2**53 + 1), "", "5"], "text")
add_column("beyond 53 bits", [str(2**53 + 1), "5"], "integer")
add_column("many digits", ["0.12345678901234567890", "0.5"], "number")
add_column("Unicode minus", ["\u22125", "7"], "integer")
add_column("versions", ["1.2.3", "1.10.0"], "text")
add_column("addresses", ["192.168.100.200", "192.168.100.201"], "text")
add_column("one typing error", ["1.5"] * 200 + ["l.5"], "number", rejected=[202])
add_column("many typing errors", ["1.5"] * 90 + ["l.5"] * 10, "text")

# Missing words and sentinels
add_column("NA among countries", ["DE", "NA", "FR"], "text")
add_column("NA among numbers", ["1.5", "NA", "n/a", "-", "?", "NULL", "2.5"], "number")
add_column("missing words among dates", ["2024-02-01", "None", ".", "2024-02-03"], "timestamp")
add_column("listed words", ["DE", "none", "FR"], "text", settings={"missing": ("none",)})
add_column("empty fields of text", ["a", "", "b"], "text")
add_column("sentinels", ["1.5", "2.5", "3.5"] * 10 + ["-999"] * 4, "number")

# Booleans
add_column("booleans in any case", ["true", "FALSE", "True"], "boolean")
add_column("booleans with missing ones", ["true", "", "false"], "boolean")
add_column("yes and no", ["yes", "no", "Yes"], "text")

# Dates
add_column("day first", days("%d/%m/%Y"), "timestamp")
add_column("day first with points", days("%d.%m.%Y %H:%M"), "timestamp")
add_column("month first", days("%m/%d/%Y"), "timestamp")
add_column("12-hour clock", days("%m/%d/%Y %I:%M %p"), "timestamp")
add_column("names of months", days("%d-%b-%Y"), "timestamp")
add_column("long names of months", days("%B %d %Y"), "timestamp")
add_column("ISO with T", days("%Y-%m-%dT%H:%M:%S"), "timestamp")
add_column("ISO with Z", days("%Y-%m-%dT%H:%M:%SZ"), "timestamp")
add_column(
    "offsets at a clock change",
    ["2024-03-31T01:30:00+01:00", "2024-03-31T03:30:00+02:00"],
    "timestamp",
)
add_column("both orders possible", ["01/02/2024", "03/04/2024"], "text", problem=AmbiguousDates)
add_column(
    "both orders possible with a setting",
    ["01/02/2024", "03/04/2024"],
    "timestamp",
    settings={"dates": {"v": "%d/%m/%Y"}},
)
add_column(
    "with and without offset",
    ["2024-02-01T10:00:00Z", "2024-02-02T10:00:00"] * 10,
    "text",
    problem=MixedDates,
)
add_column("two formats", ["2024-02-01", "27/02/2024"] * 10, "text", problem=MixedDates)
add_column(
    "a day that does not exist", [*days("%Y-%m-%d"), "2024-02-30"], "timestamp", rejected=[42]
)
add_column("compact dates", ["20240201", "20240203"], "integer")
add_column(
    "compact dates with a setting",
    ["20240201", "20240203"],
    "timestamp",
    settings={"dates": {"v": "%Y%m%d"}},
)
add_column("times of day", ["10:15", "11:30"], "text")
add_column("two-digit years", ["01/02/03", "04/05/06"], "text", problem=AmbiguousDates)

# Lines and fields
add("trailing separators", "a,b,\n1,x,\n2,y,\n", {"a": ["1", "2"], "b": ["x", "y"]})
add("short line", "a,b\n1,x\n2\n3,z\n", {"a": ["1", "3"], "b": ["x", "z"]}, rejected=[3])
add("long line", "a,b\n1,x\n2,y,w\n3,z\n", {"a": ["1", "3"], "b": ["x", "z"]}, rejected=[3])
add(
    "line ends in fields",
    'a,b\n1,"x\ny"\n2\n3,z\n',
    {"a": ["1", "3"], "b": ["x\ny", "z"]},
    rejected=[4],
)
add("doubled quotes", 'a,b\n1,"say ""hi"""\n2,"x,y"\n', {"b": ['say "hi"', "x,y"]})
add("quote that is not closed", 'a,b\n1,x\n2,"y\n3,z\n4,w\n', {"a": ["1", "3", "4"]}, rejected=[3])
add("blank lines", "a,b\n1,x\n\n2,y\n\n", {"a": ["1", "2"], "b": ["x", "y"]})
add("title and comments", "# made by x\nReport\n\na,b\n1,x\n2,y\n", {"a": ["1", "2"]})
add("Macintosh", "a,b\r1,x\r2,y\r", {"a": ["1", "2"], "b": ["x", "y"]})
add("Windows", "a,b\r\n1,x\r\n2,y\r\n", {"a": ["1", "2"], "b": ["x", "y"]})
add("no line end at the end", "a,b\n1,x\n2,y", {"a": ["1", "2"], "b": ["x", "y"]})
add("NUL", b"a,b\n1,x\n2,y\x00y\n3,z\n", {"a": ["1", "3"]}, rejected=[3])
add("one column", "name\nOslo\nRome\n", {"name": ["Oslo", "Rome"]})
add("tabs", "a\tb\n1\tx, y\n2\tz\n", {"b": ["x, y", "z"]}, name="t.tsv")
add("pipes", "a|b\n1|x;y\n2|z\n", {"b": ["x;y", "z"]}, name="t.txt")
add("compressed", gzip.compress(b"a,b\n1,x\n2,y\n"), {"a": ["1", "2"]}, name="t.csv.gz")
add("empty", "", error="empty|no rows|no columns")

# Encodings and names
add("byte order mark", "\ufeffa,b\n1,x\n", {"a": ["1"]})
add("UTF-16", "a,b\n1,ü\n2,ß\n".encode("utf-16"), {"b": ["ü", "ß"]})
add("cp1252", "a,b\n1,Köln\n2,5 €\n".encode("cp1252"), {"b": ["Köln", "5 €"]})
add(
    "repeated names",
    "a,a,a\n1,x,y\n2,z,w\n",
    {"a": ["1", "2"], "a_2": ["x", "z"], "a_3": ["y", "w"]},
)
add("name that is empty", "a,,b\n1,x,y\n2,z,w\n", {"column_2": ["x", "z"]})
add(
    "reserved names", "part,row_id,score\n1,2,3\n4,5,6\n", {"part": ["1", "4"], "score": ["3", "6"]}
)
add("HTML in names", '<b>a</b>,"x,y"\n1,2\n3,4\n', {"<b>a</b>": ["1", "3"], "x,y": ["2", "4"]})

# Records
add(
    "JSON lines",
    '{"a": 1, "b": "x"}\nnot json\n{"a": 123456789012345678901, "b": "y"}\n',
    {"a": ["1", "123456789012345678901"], "b": ["x", "y"]},
    rejected=[2],
    name="t.jsonl",
)
add(
    "JSON array",
    json.dumps([{"a": 1, "b": None}, {"a": 2, "b": "NA"}]),
    {"a": ["1", "2"], "b": ["", "NA"]},
    name="t.json",
)


def test_there_are_sixty_files() -> None:
    assert len(FILES) >= 60


@pytest.mark.parametrize("label", FILES)
def test_hostile_file_is_read_as_it_is_meant(label: str, tmp_path: Path) -> None:
    file = FILES[label]
    path = tmp_path / file.name
    path.write_bytes(file.content)
    settings = ReadSettings(**file.settings)
    if file.error:
        with pytest.raises((KitError, ValueError), match=file.error):
            read_files(str(path), find_file_ending(str(path)), settings)
        return
    table = read_files(str(path), find_file_ending(str(path)), settings)
    report = table.report
    assert report.rows_in_file == report.rows_kept + report.rejected_count
    assert report.rows_kept == len(table.frame)
    assert [line.line for line in report.rejected] == file.rejected
    for reading in report.columns:
        expected_kind = file.kinds.get(reading.column)
        assert expected_kind in {None, reading.type.value}, reading
    for name, texts in file.cells.items():
        check_cells(table, name, texts)
    if file.problem is not None:
        assert isinstance(table.date_problems["v"], file.problem)


def check_cells(table: TableRead, name: str, texts: list[str]) -> None:
    """Check that a column equals its texts, rejected rows aside."""
    reading = next(reading for reading in table.report.columns if reading.column == name)
    values = table.frame[name].tolist()
    readable = [text for text in texts if not is_rejected(text, reading, len(texts), len(values))]
    assert len(values) == len(readable)
    missing_count = 0
    for text, value in zip(readable, values, strict=True):
        if is_missing(value):
            missing_count += 1
            assert text in reading.missing_words, (text, reading)
        else:
            assert equals_text(value, text, reading), (value, text, reading)
    assert missing_count == sum(reading.missing_words.values())


def is_rejected(text: str, reading: ColumnReading, text_count: int, value_count: int) -> bool:
    """Return whether a text is one of those whose rows were rejected."""
    if text_count == value_count:
        return False
    try:
        return not equals_text(parse_text(text, reading), text, reading)
    except (ValueError, InvalidOperation, OverflowError):
        return True


def is_missing(value: Any) -> bool:
    return value is None or value is pd.NaT or (isinstance(value, float) and math.isnan(value))


def parse_text(text: str, reading: ColumnReading) -> Any:
    """Parse a text by Python, in the way that the report states."""
    kind = reading.type
    if kind in {ColumnKind.NUMBER, ColumnKind.INTEGER}:
        number = float(parse_decimal(text, reading))
        if math.isinf(number):
            raise OverflowError(text)
        return parse_decimal(text, reading)
    if kind == ColumnKind.TIMESTAMP:
        return parse_timestamp(text, reading.format)
    return text


def equals_text(value: Any, text: str, reading: ColumnReading) -> bool:
    """Return whether a value is what a text says, by Python's own parsers."""
    if reading.type in {ColumnKind.NUMBER, ColumnKind.INTEGER}:
        expected = parse_decimal(text, reading)
        return Decimal(value) == expected or float(value) == float(expected)
    if reading.type == ColumnKind.TIMESTAMP:
        return bool(value == parse_timestamp(text, reading.format))
    if reading.type == ColumnKind.BOOLEAN:
        return str(value).lower() == text.strip().lower()
    return bool(value == text)


def parse_decimal(text: str, reading: ColumnReading) -> Decimal:
    """Parse a number in the style that the report states."""
    style = reading.format
    for unit in ("%", "$", "€"):
        if f"with {unit}" in style:
            text = text.replace(unit, "")
    text = text.replace("\u2212", "-").strip()
    for name, characters in (
        ("spaces between", " \u202f\u00a0"),
        ("apostrophes between", "'"),
        ("points between", "."),
        ("commas between", ","),
    ):
        if name in style:
            text = text.translate(dict.fromkeys(map(ord, characters)))
    if "decimal comma" in style:
        text = text.replace(",", ".")
    return Decimal(text)


def parse_timestamp(text: str, date_format: str) -> datetime:
    """Parse a timestamp by Python; one with an offset becomes UTC."""
    parsed = datetime.strptime(text.strip(), date_format)
    return parsed if parsed.tzinfo is None else parsed.astimezone(UTC)


def make_workbook(fill: Callable[[Any], None]) -> bytes:
    """Return the bytes of an Excel file."""
    workbook = openpyxl.Workbook()
    fill(workbook.active)
    stream = io.BytesIO()
    workbook.save(stream)
    return stream.getvalue()


def read_workbook(folder: Path, fill: Callable[[Any], None]) -> TableRead:
    path = folder / "t.xlsx"
    path.write_bytes(make_workbook(fill))
    return read_files(str(path), ".xlsx", ReadSettings())


def test_excel_keeps_text_and_rejects_error_cells(tmp_path: Path) -> None:
    def fill(sheet: Any) -> None:
        sheet.append(["code", "day", "x"])
        for number in range(1, 121):
            sheet.append(
                [f"{number:03d}", datetime(2024, 2, 1) + timedelta(days=number), number / 4]
            )
        sheet["C5"] = "#DIV/0!"

    table = read_workbook(tmp_path, fill)
    report = table.report
    assert (report.rows_in_file, report.rows_kept, report.rejected_count) == (120, 119, 1)
    assert table.frame["code"].iloc[0] == "001"
    assert table.frame["day"].iloc[0] == pd.Timestamp(2024, 2, 2)
    assert "#DIV/0!" in report.rejected[0].reason


def test_excel_title_rows_are_skipped(tmp_path: Path) -> None:
    def fill(sheet: Any) -> None:
        sheet.append(["Sales of March"])
        sheet.append([])
        sheet.append(["shop", "sales"])
        sheet.append(["Oslo", 5])
        sheet.append(["Rome", 7])

    table = read_workbook(tmp_path, fill)
    assert table.frame.to_dict("list") == {"shop": ["Oslo", "Rome"], "sales": [5, 7]}
