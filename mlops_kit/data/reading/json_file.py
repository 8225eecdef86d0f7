"""Reading JSON Lines, and JSON files that hold an array of records."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from mlops_kit.core.errors import KitError
from mlops_kit.core.lazy import LazyModule
from mlops_kit.data.reading.names import choose_names
from mlops_kit.data.reading.raw_table import RawTable
from mlops_kit.data.reading.record_stream import RecordLog
from mlops_kit.data.reading.settings import ReadSettings
from mlops_kit.data.reading.storage import open_binary

pa = LazyModule("pyarrow")

_WHITESPACE = " \t\r\n"


class _Element(NamedTuple):
    """A record of a file: its line, its value, or why it has none."""

    line: int
    text: str
    value: Any
    problem: str = ""


class _RepeatedKeyError(ValueError):
    """An object names a key twice."""


class _Number(str):
    """A number as it is written, so that none of its digits are lost."""

    __slots__ = ()


def read_json_file(
    location: str,
    settings: ReadSettings,
    limit: int | None,
    file: str,
) -> RawTable:
    """Read a file of JSON Lines, or one that holds an array of records.

    Numbers keep all their digits. Lists and objects inside a record become JSON text.

    Raises
    ------
    KitError
        If the file is empty, or an array is not valid JSON.
    """
    with open_binary(location) as stream:
        data = stream.read()
    encoding = settings.encoding or json.detect_encoding(data)
    try:
        text = data.decode(encoding).lstrip("\ufeff")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise KitError(
            f"{file}: line {line} is not {encoding} text",
            "JSON in UTF-8",
            "set 'encoding', or convert the file",
        ) from error
    elements = _iterate_lines(text)
    if text.lstrip().startswith("["):
        elements = _iterate_array(text, file)
    return _build_table(elements, limit, file, encoding)


def _build_table(
    elements: Iterator[_Element],
    limit: int | None,
    file: str,
    encoding: str,
) -> RawTable:
    """Build the columns of records; a record without a key has no cell there."""
    log = RecordLog(file)
    lines: list[int] = []
    cells: dict[str, list[str | None]] = {}
    nested: set[str] = set()
    row_count = 0
    for element in elements:
        if limit is not None and row_count >= limit:
            break
        position = log.record_count
        log.record_count += 1
        lines.append(element.line)
        problem = element.problem
        if not problem and not isinstance(element.value, dict):
            problem = "the value is not an object"
        if problem:
            log.reject(position, element.line, element.text, problem)
            continue
        for key, value in element.value.items():
            column = cells.setdefault(key, [])
            column.extend([None] * (row_count - len(column)))
            column.append(_format_value(value))
            if isinstance(value, list | dict):
                nested.add(key)
        row_count += 1
    if not lines:
        raise KitError(f"{file} has no rows", "at least one record", "check the job that writes it")
    if not row_count:
        first = log.rejected[0]
        raise KitError(
            f"{file} has no record; line {first.line}: {first.reason}",
            "an array of records, or one record per line",
            "correct the file",
        )
    for column in cells.values():
        column.extend([None] * (row_count - len(column)))
    names = choose_names(list(cells))
    by_key = {name.name_in_file: name.column for name in names}
    return RawTable(
        file=file,
        names=names,
        columns=[pa.chunked_array([pa.array(column, pa.string())]) for column in cells.values()],
        record_count=log.record_count,
        rejected_positions=log.rejected_positions,
        rejected=log.rejected,
        find_line=lines.__getitem__,
        encoding=encoding,
        nested_columns=frozenset(by_key[key] for key in nested),
        has_plain_numbers=True,
    )


def _format_value(value: Any) -> str | None:
    """Return a value as text; None for null."""
    if value is None:
        return None
    if isinstance(value, str):
        return str(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return json.dumps(_restore_numbers(value), ensure_ascii=False)


def _restore_numbers(value: Any) -> Any:
    """Return a nested value with its numbers as numbers."""
    if isinstance(value, _Number):
        try:
            return int(value)
        except ValueError:
            return float(value)
    if isinstance(value, list):
        return [_restore_numbers(item) for item in value]
    if isinstance(value, dict):
        return {key: _restore_numbers(item) for key, item in value.items()}
    return value


def _collect_pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object; a key that occurs twice is an error."""
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise _RepeatedKeyError(f"the key {repeated!r} occurs twice")
    return values


_DECODER = json.JSONDecoder(
    object_pairs_hook=_collect_pairs,
    parse_int=_Number,
    parse_float=_Number,
    parse_constant=_Number,
)


def _iterate_lines(text: str) -> Iterator[_Element]:
    """Yield the records of JSON Lines; blank lines are left out."""
    for number, line in enumerate(text.split("\n"), start=1):
        body = line.strip()
        if not body:
            continue
        try:
            yield _Element(number, body, _DECODER.decode(body))
        except json.JSONDecodeError as error:
            yield _Element(number, body, None, f"not valid JSON: {error.msg}")
        except (_RepeatedKeyError, RecursionError) as error:
            yield _Element(number, body, None, str(error))


def _iterate_array(text: str, file: str) -> Iterator[_Element]:
    """Yield the records of an array.

    Raises
    ------
    KitError
        If it is not valid JSON.
    """
    position = _skip_whitespace(text, text.index("[") + 1)
    line = 1
    counted_to = 0
    while position < len(text) and text[position] != "]":
        line += text.count("\n", counted_to, position)
        counted_to = position
        try:
            value, end = _DECODER.raw_decode(text, position)
        except json.JSONDecodeError as error:
            raise _json_error(file, error.lineno, error.msg) from error
        except _RepeatedKeyError as error:
            raise _json_error(file, line, str(error)) from error
        yield _Element(line, text[position:end], value)
        position = _skip_whitespace(text, end)
        if position < len(text) and text[position] == ",":
            position = _skip_whitespace(text, position + 1)
        elif text[position : position + 1] != "]":
            line += text.count("\n", counted_to, position)
            raise _json_error(file, line, "a comma or the end of the array is missing")


def _json_error(file: str, line: int, problem: str) -> KitError:
    """Build the error for a file that is not valid JSON."""
    return KitError(
        f"{file}: line {line} is not valid JSON: {problem}",
        "an array of records, or one record per line",
        "correct the file",
    )


def _skip_whitespace(text: str, position: int) -> int:
    """Return the position of the next character that is not whitespace."""
    while position < len(text) and text[position] in _WHITESPACE:
        position += 1
    return position
