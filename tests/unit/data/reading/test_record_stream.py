"""Records of a text file: none is lost, none swallows another, and each knows its line."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import pyarrow.csv
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops_kit.data.reading.record_stream import (
    CleanBlock,
    RecordFormat,
    RecordLog,
    RecordStream,
    WrongEncodingError,
)

FORMAT = RecordFormat(
    separator=",",
    quote='"',
    escape="",
    field_count=3,
    has_trailing_separator=False,
)


def split(
    data: bytes, chunk_size: int = 7, record_format: RecordFormat = FORMAT
) -> tuple[str, RecordLog]:
    """Return the regular records of a text that arrives in chunks, and the log."""
    chunks: Iterator[bytes] = (
        data[start : start + chunk_size] for start in range(0, len(data), chunk_size)
    )
    stream = RecordStream(record_format, "t.csv", first_line=2)
    blocks: list[CleanBlock] = list(stream.clean_blocks(chunks))
    return b"".join(block.data for block in blocks).decode(), stream.log


@pytest.mark.parametrize("chunk_size", [1, 7, 1000])
@pytest.mark.parametrize(
    ("data", "kept", "rejected"),
    [
        (b"1,a,b\n2,a,b\n", "1,a,b\n2,a,b\n", []),
        (b"1,a,b\r\n2,a,b", "1,a,b\r\n2,a,b\n", []),
        (b"1,a\n2,a,b\n3,a,b,c\n", "2,a,b\n", [2, 4]),
        (b"1,a,b\n\n\n2,a\n", "1,a,b\n", [5]),
        (b'1,"a\nb",c\n2,a\n', '1,"a\nb",c\n', [4]),
        (b'1,"a,b\n2,a,b\n3,c,d\n', "2,a,b\n3,c,d\n", [2]),
        (b'1,"a,b\n2,"a",b\n3,c,d\n', '2,"a",b\n3,c,d\n', [2]),
        (b'1,2,"abc\n4,5,"def\n6,7,8\n', "6,7,8\n", [2, 3]),
        (b'1,"a"b,c\n2,a,b\n', "2,a,b\n", [2]),
        (b'1,5" pipe,x\n2,a,b\n', '1,5" pipe,x\n2,a,b\n', []),
        (b'1,"say ""hi""",x\n2,"",""\n', '1,"say ""hi""",x\n2,"",""\n', []),
        (b"1,a\0b,c\n2,a,b\n", "2,a,b\n", [2]),
        (b"1,a,b\r2,a,b\n3,a\n", "1,a,b\n2,a,b\n", [4]),
        (b"1,a,b,\n2,a,b\n", "1,a,b\n2,a,b\n", []),
    ],
    ids=[
        "regular",
        "Windows",
        "too few and too many",
        "blank lines",
        "line end in quotes",
        "unclosed quote",
        "unclosed before closed quote",
        "two unclosed quotes",
        "text after quote",
        "inches",
        "doubled quotes",
        "NUL",
        "lone carriage return",
        "one trailing separator",
    ],
)
def test_irregular_records_are_rejected_alone(
    data: bytes, kept: str, rejected: list[int], chunk_size: int
) -> None:
    text, log = split(data, chunk_size)
    assert text == kept
    assert [line.line for line in log.rejected] == rejected
    assert len(log.rejected_positions) == len(rejected)


def test_missing_trailing_separator_is_added() -> None:
    record_format = RecordFormat(",", '"', "", 3, has_trailing_separator=True)
    text, log = split(b"1,a,\n2,b\n", record_format=record_format)
    assert text == "1,a,\n2,b,\n"
    assert log.repaired_separators == 1


def test_escaped_quotes_are_rewritten() -> None:
    record_format = RecordFormat(",", '"', "\\", 2, has_trailing_separator=False)
    text, log = split(b'1,"say \\"hi\\", x"\n', record_format=record_format)
    assert next(csv.reader([text])) == ["1", 'say "hi", x']
    assert log.rewritten_records == 1


def test_unclosed_quote_does_not_swallow_a_long_file() -> None:
    lines = "".join(f"{number},a,b\n" for number in range(60_000))
    text, log = split(b'x,"open,b\n' + lines.encode(), chunk_size=1 << 17)
    assert text.count("\n") == 60_000
    assert [line.line for line in log.rejected] == [2]


def test_wrong_encoding_names_the_line() -> None:
    with pytest.raises(WrongEncodingError) as error:
        split(b"1,a,b\n2,\xfc,b\n", 1000)
    assert error.value.line == 3


_FIELDS = st.text(st.sampled_from('ab1 ,"\n\r;é'), max_size=6)
_RECORDS = st.lists(_FIELDS, min_size=1, max_size=5)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(records=st.lists(_RECORDS, max_size=8), chunk_size=st.integers(1, 40))
def test_well_formed_records_are_kept_or_rejected_by_their_fields(
    records: list[list[str]], chunk_size: int
) -> None:
    buffer = io.StringIO()
    csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(records)
    text, log = split(buffer.getvalue().encode(), chunk_size)
    regular = [record for record in records if len(record) == 3]
    kept = list(csv.reader(io.StringIO(text, newline="")))
    assert kept == regular
    assert log.record_count >= len(records)
    assert log.record_count - len(log.rejected_positions) == len(regular)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.binary(max_size=80).map(lambda raw: bytes(b'ab,"\n\r\0x'[b % 8] for b in raw)))
def test_each_line_is_kept_rejected_or_blank(data: bytes) -> None:
    text, log = split(data)
    kept = len(log.rejected_positions)
    assert log.record_count >= kept
    assert log.record_count == kept + _count_records(text)
    by_blocks, _ = split(data, 1000)
    assert by_blocks == text


def _count_records(text: str) -> int:
    """Count records as the parser does that reads the regular ones."""
    if not text:
        return 0
    names = ["a", "b", "c"]
    table = pyarrow.csv.read_csv(
        io.BytesIO(text.encode()),
        read_options=pyarrow.csv.ReadOptions(column_names=names),
        parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
    )
    return int(table.num_rows)
