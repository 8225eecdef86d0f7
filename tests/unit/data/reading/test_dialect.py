"""The dialect of a text file: separators, headers and lines before the table are recognized."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from mlops_kit.core.errors import KitError
from mlops_kit.data.reading.dialect import TextDialect, detect_dialect
from mlops_kit.data.reading.settings import ReadSettings


class Sample(NamedTuple):
    """A file with the separator, the column names and the line before the first record."""

    text: str
    separator: str
    names: list[str]
    lines_before_data: int


def repeat(line: str, count: int = 8) -> str:
    """Return lines with a number in place of ``{}``."""
    return "".join(line.format(number) + "\n" for number in range(count))


SAMPLES = {
    "plain": Sample("a,b,c\n" + repeat("{},x,1.5"), ",", ["a", "b", "c"], 1),
    "decimal comma": Sample("id;x;y\n" + repeat("{};1,5;2,25"), ";", ["id", "x", "y"], 1),
    "only decimal commas": Sample("x;y\n" + repeat("{},5;1,25"), ";", ["x", "y"], 1),
    "tab": Sample("a\tb\n" + repeat("{}\thello, world"), "\t", ["a", "b"], 1),
    "pipe": Sample("a|b|c\n" + repeat("{}|x;y|2024-01-01"), "|", ["a", "b", "c"], 1),
    "commas in text": Sample("id;text\n" + repeat("{};a, b, c"), ";", ["id", "text"], 1),
    "quoted line end": Sample('id,t,n\n1,"a\nb, c",2\n2,x,3\n', ",", ["id", "t", "n"], 1),
    "header with a line end": Sample('id,"a\nb"\n1,2\n2,3\n', ",", ["id", "a\nb"], 2),
    "JSON": Sample('id,p\n1,"{""a"": 1, ""b"": 2}"\n2,"{}"\n', ",", ["id", "p"], 1),
    "comments": Sample("# by x, y\n# today\nid,v\n1,2\n2,3\n", ",", ["id", "v"], 3),
    "title": Sample("Report\n\nid,v,w\n1,2,3\n2,3,4\n", ",", ["id", "v", "w"], 3),
    "padded title": Sample("Report,,\n,,\nid,v,w\n1,2,3\n2,3,4\n", ",", ["id", "v", "w"], 3),
    "title of two fields": Sample(
        "On:,2024-01-01\nid,v,w\n1,2,3\n2,3,4\n", ",", ["id", "v", "w"], 2
    ),
    "separator line": Sample("sep=;\na;b\n1;2\n3;4\n", ";", ["a", "b"], 2),
    "no header": Sample("1,2.5,2024-01-01\n2,3.5,2024-01-02\n", ",", [], 0),
    "no header in text": Sample("Oslo,NO\nRome,IT\nTurin,IT\nBergen,NO\n", ",", [], 0),
    "header in text": Sample("city,country\nOslo,NO\nRome,IT\n", ",", ["city", "country"], 1),
    "commented header": Sample("#id,v\n1,2\n2,3\n3,4\n", ",", ["id", "v"], 1),
    "years": Sample("land,2010,2011\nNO,1,2\nSE,4,5\n", ",", ["land", "2010", "2011"], 1),
    "missing values below": Sample("id,v\n1,\n2,\n3,5\n", ",", ["id", "v"], 1),
    "header only": Sample("a,b,c\n", ",", ["a", "b", "c"], 1),
    "one column": Sample("name\nalice\nbob\n", "", ["name"], 1),
    "one column of decimal commas": Sample("x\n1,5\n2,5\n", "", ["x"], 1),
    "one column of timestamps": Sample(
        "t\n2024-01-01 10:00:00\n2024-01-02 11:00:00\n", "", ["t"], 1
    ),
    "one column of sentences": Sample("c\nHello, you\nGood; bad, ugly\nNice\n", "", ["c"], 1),
    "trailing separator": Sample("a,b,\n1,2,\n3,4,\n", ",", ["a", "b", ""], 1),
    "trailing separator below": Sample("a,b\n1,2,\n3,4,\n", ",", ["a", "b", ""], 1),
    "row names": Sample("a,b\nr1,1,2\nr2,3,4\n", ",", ["", "a", "b"], 1),
    "ragged": Sample("a,b,c\n1,2,3\n4,5\n6,7,8\n9,1,1,2\n1,1,1\n", ",", ["a", "b", "c"], 1),
    "footer": Sample("id,v\n1,2\n2,3\n3,4\nTotal: 3\n", ",", ["id", "v"], 1),
    "unclosed quote": Sample('a,b,c\n1,2,3\n2,"x,4\n3,4,5\n', ",", ["a", "b", "c"], 1),
    "apostrophes": Sample("id,name\n1,O'Brien\n2,D'Angelo\n", ",", ["id", "name"], 1),
    "single quotes": Sample("id,name\n1,'a, b'\n2,'c, d'\n", ",", ["id", "name"], 1),
    "inches": Sample('id,t,n\n1,5" pipe,2\n2,6" pipe,3\n', ",", ["id", "t", "n"], 1),
    "spaces": Sample("x y z\n1 2 3\n4 5 6\n", " ", ["x", "y", "z"], 1),
    "old Macintosh": Sample("a,b\r1,2\r3,4\r", ",", ["a", "b"], 1),
    "Windows": Sample("a,b\r\n1,2\r\n3,4\r\n", ",", ["a", "b"], 1),
}


def detect(text: str, **settings: object) -> TextDialect:
    """Detect the dialect of a text."""
    return detect_dialect(text.encode(), True, ReadSettings(**settings), "t.csv")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SAMPLES)
def test_dialect_is_detected(name: str) -> None:
    sample = SAMPLES[name]
    dialect = detect(sample.text)
    assert dialect.separator == sample.separator
    assert list(dialect.names) == sample.names
    assert dialect.lines_before_data == sample.lines_before_data


@pytest.mark.parametrize("name", ["comments", "title", "padded title", "title of two fields"])
def test_skipped_lines_are_reported(name: str) -> None:
    dialect = detect(SAMPLES[name].text)
    assert dialect.skipped_lines == dialect.header_line - 1
    assert any("skipped" in note for note in dialect.notes)


def test_settings_take_precedence() -> None:
    text = "title;x\n1,2;3\n4,5;6\n"
    assert detect(text, separator=",", skip_rows=1, header=False).field_count == 2
    assert detect("1,2\n3,4\n", header=True).names == ("1", "2")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b,c\n1,2,3,4,5\n6,7,8,9,1\n", "names 3 columns, but the rows have 5 fields"),
        ("a,b,c\n1\n2,3,4,5,6\n7,8\n9,1,2,3\n1,2,3,4,5,6,7\n", "no separator"),
    ],
    ids=["header too short", "no regular lines"],
)
def test_table_that_cannot_be_understood_is_an_error(text: str, message: str) -> None:
    with pytest.raises(KitError, match=message) as error:
        detect(text)
    assert "t.csv" in error.value.message
    assert error.value.hint
