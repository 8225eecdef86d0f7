"""Fields of a request: which values are valid, in validation, words and JSON schema.

To add a type: 1. its check in ``_TYPE_CHECKS``, 2. its JSON type in ``_JSON_TYPES``, 3. its column
type in ``request_schema._build_column``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from mlops_kit.data.columns import KIND_DESCRIPTIONS, ColumnKind
from mlops_kit.data.contract_rules import (
    MAX_FLOAT32,
    MAX_TEXT_CHARACTERS,
    NUMERIC_KINDS,
    ColumnRule,
    ViolationCode,
)
from mlops_kit.serving.requests import JsonObject

ID_KIND = "id"  # of requests and predictions, beside the kinds of columns
ID_PATTERN = re.compile(r"^[!-~]{1,200}$")
_MAX_QUOTED_CHARACTERS = 100  # of a value in a problem
_JSON_TYPES: dict[str, str] = {
    ColumnKind.NUMBER: "number",
    ColumnKind.INTEGER: "integer",
    ColumnKind.TEXT: "string",
    ColumnKind.BOOLEAN: "boolean",
    ColumnKind.TIMESTAMP: "string",
    ColumnKind.EMPTY: "null",
    ID_KIND: "string",
}
_SCALAR_JSON_TYPES = ["string", "number", "boolean", "null"]
_YEAR_PATTERN = "(1[7-9]|2[01])[0-9]{2}"  # contract_rules.MIN_YEAR to MAX_YEAR
_MONTH_DAY_PATTERN = (
    "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
    "|(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    "|02-(0[1-9]|[12][0-9]))"
)
_TIME_PATTERN = "([01][0-9]|2[0-3]):[0-5][0-9]"
_SECONDS_PATTERN = r"(:[0-5][0-9](\.[0-9]{1,9})?)?"
_TIMESTAMP_PATTERN = re.compile(
    rf"^{_YEAR_PATTERN}-{_MONTH_DAY_PATTERN}"
    rf"([T ]{_TIME_PATTERN}{_SECONDS_PATTERN}(Z|[+-]{_TIME_PATTERN})?)?$"
)
_EXAMPLE_TIMESTAMP = "2013-07-01T06:00:00"


class ProblemCode(StrEnum):
    """What is wrong with a row as a whole; ``ViolationCode`` says what is with a value."""

    NOT_A_ROW = "not_a_row"
    NOT_SCORED = "not_scored"


@dataclass(frozen=True)
class RequestProblem:
    """One thing that is wrong with a request; orjson writes it as an object.

    Parameters
    ----------
    row : int or None
        Position of the row; None if the problem is in no row.
    field : str
        Name of the field; empty if it is the whole row or body.
    code : ViolationCode or ProblemCode
        The kind of problem.
    got : object
        The value, shortened if it is long.
    expected : str
        What would have been valid.
    """

    row: int | None
    field: str
    code: ViolationCode | ProblemCode
    got: Any
    expected: str


def create_problem(
    row: int | None,
    field: str,
    code: ViolationCode | ProblemCode,
    value: Any,
    expected: str,
) -> RequestProblem:
    """Return a problem that quotes a value, shortened if it is long."""
    return RequestProblem(row, field, code, _shorten_value(value), expected)


def _shorten_value(value: Any) -> Any:
    """Return a value as it is quoted in a problem."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str) and len(value) <= _MAX_QUOTED_CHARACTERS:
        return value
    return f"{str(value)[:_MAX_QUOTED_CHARACTERS]}…"


@dataclass(frozen=True)
class RequestField(ColumnRule):
    """A column as a row of a request gives it: the rule of the contract, and the type in JSON.

    Parameters
    ----------
    timezone : str
        Time zone of timestamps that name none.
    may_be_omitted : bool
        Whether a required field may be left out, though not be null.
    """

    timezone: str = "UTC"
    may_be_omitted: bool = False

    @cached_property
    def expected(self) -> str:
        """What a valid value is, in words."""
        description = self._describe_valid_values()
        if self.required or self.kind == ColumnKind.EMPTY:
            return description
        return f"{description}, or null"

    def _describe_valid_values(self) -> str:
        """Describe the valid values other than null."""
        if self.allowed is not None:
            return "one of " + ", ".join(map(_format_allowed_value, self.allowed))
        if self.kind in NUMERIC_KINDS:
            kind = KIND_DESCRIPTIONS[self.kind]
            return f"{kind} from {_format_limit(self.minimum)} to {_format_limit(self.maximum)}"
        if self.kind == ColumnKind.TIMESTAMP:
            return (
                f"a timestamp in ISO 8601 such as {_EXAMPLE_TIMESTAMP}; "
                f"without a time zone it is read as {self.timezone}"
            )
        descriptions = {
            ColumnKind.TEXT: f"text of at most {MAX_TEXT_CHARACTERS:,} characters",
            ColumnKind.BOOLEAN: KIND_DESCRIPTIONS[ColumnKind.BOOLEAN],
            ColumnKind.EMPTY: "null: the column has no values",
            ID_KIND: "1 to 200 characters from ! to ~",
        }
        return descriptions[self.kind]

    def find_fault(self, value: Any) -> ViolationCode | None:
        """Return what is wrong with a value in JSON; None if nothing is."""
        if value is not None and not _TYPE_CHECKS[self.kind](value):
            return ViolationCode.TYPE
        return self.find_violation(value)

    def to_json_schema(self) -> JsonObject:
        """Return the JSON schema of a value; it accepts exactly what the endpoint accepts."""
        if self.kind == ColumnKind.EMPTY and self.accepts_new_values:
            return {"type": _SCALAR_JSON_TYPES, "description": self.expected}
        json_type = _JSON_TYPES[self.kind]
        schema: JsonObject = {"type": json_type, "description": self.expected}
        if not self.required and json_type != "null":
            schema["type"] = [json_type, "null"]
        if self.kind in NUMERIC_KINDS:
            schema["minimum"] = _simplify_number(self.minimum)
            schema["maximum"] = _simplify_number(self.maximum)
        elif self.kind == ColumnKind.TEXT:
            schema["maxLength"] = MAX_TEXT_CHARACTERS
        elif self.kind == ColumnKind.TIMESTAMP:
            schema["pattern"] = _TIMESTAMP_PATTERN.pattern
        elif self.kind == ID_KIND:
            schema["pattern"] = ID_PATTERN.pattern
        if self.allowed is not None and self.accepts_new_values:
            schema["examples"] = list(self.allowed)
        elif self.allowed is not None:
            schema["enum"] = list(self.allowed)
            if not self.required:
                schema["enum"].append(None)
        return schema


def _format_allowed_value(value: Any) -> str:
    """Return an allowed value as JSON writes it, text without quotes."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _format_limit(value: float) -> str:
    """Return the limit of a range as text."""
    if abs(value) >= MAX_FLOAT32:
        return f"{value:g}"
    return f"{_simplify_number(value):,}"


def _simplify_number(value: float) -> float:
    """Return a whole number as an integer, so that JSON writes no decimal point."""
    return int(value) if float(value).is_integer() else value


# ``type(...) is`` instead of ``isinstance``: booleans are integers in Python, but not in JSON.
def _is_number(value: Any) -> bool:
    return type(value) is float or type(value) is int


def _is_whole_number(value: Any) -> bool:
    return type(value) is int or (type(value) is float and value.is_integer())


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_boolean(value: Any) -> bool:
    return type(value) is bool


def _is_timestamp(value: Any) -> bool:
    return type(value) is str and parse_timestamp_text(value) is not None


def _is_id(value: Any) -> bool:
    return type(value) is str and ID_PATTERN.fullmatch(value) is not None


def _is_scalar(value: Any) -> bool:
    return not isinstance(value, list | dict)


_TYPE_CHECKS: dict[str, Callable[[Any], bool]] = {
    ColumnKind.NUMBER: _is_number,
    ColumnKind.INTEGER: _is_whole_number,
    ColumnKind.TEXT: _is_text,
    ColumnKind.BOOLEAN: _is_boolean,
    ColumnKind.TIMESTAMP: _is_timestamp,
    ColumnKind.EMPTY: _is_scalar,
    ID_KIND: _is_id,
}


def parse_timestamp_text(text: str) -> datetime | None:
    """Return a timestamp in ISO 8601; None if the text is not one."""
    if not _TIMESTAMP_PATTERN.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # 29 February of a year that is not a leap year
        return None
