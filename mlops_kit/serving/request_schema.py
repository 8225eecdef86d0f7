"""What a row may hold when it is asked about: one list of fields behind the validator, the published schema and the table.

The fields are the source's columns that are known at the moment of a prediction; their types, ranges
and values are the contract's. Nothing is coerced in silence: what is of another type is named.

To add a type: its checks in ``CHECKS``, its JSON schema in ``Field.schema``, its column in ``column``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from functools import cached_property
from typing import Any, Literal, NamedTuple

from mlops_kit.core.lazy import pd
from mlops_kit.data import columns, contract
from mlops_kit.project.loader import Project

MAX_EXACT_INTEGER, _MAX_INT64 = (
    2**53,
    2**63 - 1,
)  # up to here a float holds each whole number; up to there a database does
_MAX_FLOAT32 = 3.4e38  # what a float of four bytes holds: trees keep no larger one
_MAX_TEXT_CHARACTERS = 1000
ID_PATTERN = re.compile(r"^[!-~]{1,200}$")  # an id of a request or a prediction
_YEAR_PATTERN, _TIME_PATTERN = (
    "(1[7-9]|2[01])[0-9]{2}",
    "([01][0-9]|2[0-3]):[0-5][0-9]",
)  # an earlier or later year is a mistake
_MONTH_DAY_PATTERN = "((0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])|(0[469]|11)-(0[1-9]|[12][0-9]|30)|02-(0[1-9]|[12][0-9]))"
_TIMESTAMP_PATTERN = re.compile(
    rf"^{_YEAR_PATTERN}-{_MONTH_DAY_PATTERN}([T ]{_TIME_PATTERN}(:[0-5][0-9](\.[0-9]{{1,9}})?)?(Z|[+-]{_TIME_PATTERN})?)?$"
)
RequestProblem = dict[str, Any]


class RequestField(NamedTuple):
    """A column as a row may give it; without ``needed`` it may be null or left out."""

    name: str
    kind: columns.ColumnKind | Literal["name"]
    required: bool = False
    minimum: float = -_MAX_FLOAT32
    maximum: float = _MAX_FLOAT32
    allowed: tuple[Any, ...] | None = None
    timezone: str = "UTC"

    @property
    def expected(self) -> str:
        """What a value should be, in words."""
        if self.allowed is not None:
            said = "one of " + ", ".join(
                "true" if v is True else "false" if v is False else str(v) for v in self.allowed
            )
        elif self.kind in {"number", "integer"}:
            said = f"{columns.KIND_DESCRIPTIONS[self.kind]} from {_format_limit(self.minimum)} to {_format_limit(self.maximum)}"
        else:
            moment = f"a moment such as 2013-07-01T06:00:00, in ISO 8601; without a zone it is {self.timezone}'s"
            words = {
                "moment": moment,
                "text": f"text of at most {_MAX_TEXT_CHARACTERS:,} characters",
                "name": "1 to 200 characters from ! to ~",
                "empty": "null: the column was never filled",
            }
            said = words.get(self.kind) or columns.KIND_DESCRIPTIONS[self.kind]
        return said if self.required or self.kind == "empty" else f"{said}, or null"

    @property
    def example(self) -> Any:
        """A value that it takes, for those who try it out."""
        if self.allowed is not None:
            return self.allowed[0]
        middle = (
            0.0
            if max(-self.minimum, self.maximum) >= MAX_EXACT_INTEGER
            else (self.minimum + self.maximum) / 2
        )
        given = {
            "number": middle,
            "integer": int(middle),
            "text": "a text",
            "boolean": True,
            "moment": "2013-07-01T06:00:00",
        }
        return given.get(self.kind)

    def find_fault(self, value: Any) -> str:
        """What is wrong with a value, as a code; empty if nothing is."""
        if value is None:
            return "missing" if self.required else ""
        code = _VALUE_CHECKS[self.kind](self, value)
        if not code and self.allowed is not None and value not in self.allowed:
            return "not_allowed"
        return code

    def to_json_schema(self) -> dict[str, Any]:
        """The JSON schema of a value; it takes what ``check`` takes."""
        named = {"text": "string", "moment": "string", "name": "string", "empty": "null"}.get(
            self.kind, self.kind
        )
        made: dict[str, Any] = {
            "type": named if self.required or named == "null" else [named, "null"],
            "description": self.expected,
        }
        range_: dict[str, Any] = {
            "minimum": _simplify_number(self.minimum),
            "maximum": _simplify_number(self.maximum),
        }
        limits = {
            "number": range_,
            "integer": range_,
            "text": {"maxLength": _MAX_TEXT_CHARACTERS},
            "moment": {"pattern": _TIMESTAMP_PATTERN.pattern},
            "name": {"pattern": ID_PATTERN.pattern},
        }
        made |= limits.get(self.kind, {})
        if self.allowed is not None:
            made["enum"] = [*self.allowed, *([] if self.required else [None])]
        return made


def _format_limit(value: float) -> str:
    """A limit in words."""
    return f"{value:g}" if abs(value) >= _MAX_FLOAT32 else f"{_simplify_number(value):,}"


def _simplify_number(value: float) -> float:
    """A whole number as one."""
    return int(value) if float(value).is_integer() else value


def _check_number(field: RequestField, value: Any) -> str:
    """A number; a truth value and a text are none."""
    if type(value) is not int and type(value) is not float:
        return "type"
    if field.kind == "integer" and type(value) is float and not value.is_integer():
        return "type"
    return "" if field.minimum <= value <= field.maximum else "range"


_VALUE_CHECKS: dict[str, Callable[[RequestField, Any], str]] = {  # null is seen to before
    "number": _check_number,
    "integer": _check_number,
    "text": lambda field, value: (
        "type"
        if type(value) is not str
        else "too_long"
        if len(value) > _MAX_TEXT_CHARACTERS
        else ""
    ),
    "boolean": lambda field, value: "" if type(value) is bool else "type",  # 1 and 0 are neither
    "moment": lambda field, value: (
        "" if type(value) is str and _parse_timestamp(value) is not None else "type"
    ),
    "name": lambda field, value: (
        "" if type(value) is str and ID_PATTERN.fullmatch(value) else "type"
    ),
    "empty": lambda field, value: "type",
}


def _parse_timestamp(text: str) -> datetime | None:
    """A moment in ISO 8601, or None."""
    try:
        return datetime.fromisoformat(text) if _TIMESTAMP_PATTERN.fullmatch(text) else None
    except ValueError:  # the 29th of a February that has none
        return None


class RequestSchema:
    """The fields of a row."""

    def __init__(self, fields: list[RequestField], time: str | None, zone: str) -> None:
        self.fields, self.time_column, self.timezone = {f.name: f for f in fields}, time, zone

    def find_problems(self, rows: list[Any]) -> list[RequestProblem]:
        """All that is wrong with rows: row, field, code, got, expected."""
        found: list[RequestProblem] = []
        known, each = self.fields.keys(), list(self.fields.items())
        for i, row in enumerate(rows):
            if type(row) is not dict:
                found.append(
                    create_problem(i, "", "not_a_row", row, "an object of fields and values")
                )
                continue
            if not row.keys() <= known:
                found += [
                    create_problem(
                        i, name, "unknown_field", row[name], f"one of {', '.join(known)}"
                    )
                    for name in row
                    if name not in known
                ]
            for name, field in each:
                value = row.get(name)
                if (value is not None or field.required) and (code := field.find_fault(value)):
                    found.append(create_problem(i, name, code, value, field.expected))
        return found

    def to_frame(self, rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Valid rows as the source's own table would hold them."""
        return pd.DataFrame(
            {
                name: _build_column(
                    field, [row.get(name) for row in rows], self.time_column, self.timezone
                )
                for name, field in self.fields.items()
            }
        )

    @cached_property
    def json_schema(self) -> dict[str, Any]:
        """The JSON schema of one row."""
        return {
            "type": "object",
            "properties": {n: f.to_json_schema() for n, f in self.fields.items()},
            "required": [n for n, f in self.fields.items() if f.required],
            "additionalProperties": False,
        }


def create_problem(
    row: int | None, field: str, code: str, got: Any, expected: str
) -> RequestProblem:
    """One thing that is wrong, with its value; a long one is cut. What is wrong with no row has none."""
    short = (
        got
        if isinstance(got, (bool, int, float, type(None)))
        or isinstance(got, str)
        and len(got) <= 100
        else f"{str(got)[:100]}…"
    )
    return {"row": row, "field": field, "code": code, "got": short, "expected": expected}


def _build_column(field: RequestField, values: list[Any], time: str | None, zone: str) -> pd.Series:
    """A column of valid values, in the type that the source's would have."""
    full = None not in values
    if field.kind == "number":
        return pd.Series([math.nan if v is None else v for v in values], dtype="float64")
    if (
        field.kind == "integer"
    ):  # a missing one makes no whole number a fraction: a view may ask for whole ones
        return pd.Series(
            [None if v is None else int(v) for v in values], dtype="int64" if full else "Int64"
        )
    if field.kind == "boolean":
        return pd.Series(values, dtype="bool" if full else "object")
    if field.kind == "moment":
        return parse_request_timestamps(values, zone if field.name == time else "UTC")
    return pd.Series(values, dtype="object")


def parse_request_timestamps(values: list[Any], zone: str) -> pd.Series:
    """Moments as UTC; those without a zone are read in one, as the source's are."""
    read = [None if v is None else _parse_timestamp(v) for v in values]
    plain = columns.parse_timestamps(
        pd.Series(
            [v if v is not None and v.tzinfo is None else None for v in read],
            dtype="datetime64[us]",
        ),
        "moment",
        zone,
    )
    zoned = pd.to_datetime(
        pd.Series(
            [v if v is not None and v.tzinfo is not None else None for v in read], dtype="object"
        ),
        utc=True,
    ).astype("datetime64[us, UTC]")
    return zoned.fillna(plain)


def compile_request_schema(
    project: Project, history: pd.DataFrame, wanted: list[str]
) -> RequestSchema:
    """The schema of a project's rows.

    Parameters
    ----------
    history : DataFrame
        The source; it tells the type of a column that the contract does not name.
    wanted : list of str
        The columns known at the moment of a prediction (``batch.wanted``).
    """
    config, file = project.config, project.resolve_path(project.config.contract.file)
    known = contract.load_contract(file).columns if file.exists() else {}
    made = [
        _build_field(
            config, n, known.get(n) or contract.ColumnContract(type=columns.infer_kind(history[n]))
        )
        for n in wanted
    ]
    return RequestSchema(made, config.time, config.timezone)


def _build_field(config: Any, name: str, held: contract.ColumnContract) -> RequestField:
    """A column of the contract as a field. A row's own name may be left out; what no row may miss is needed."""
    key = name in config.id
    limit: float = (
        _MAX_FLOAT32 if held.type == "number" else _MAX_INT64 if key else MAX_EXACT_INTEGER
    )
    low, high = (
        (-limit if held.min is None else held.min),
        (limit if held.max is None else held.max),
    )
    needed = not key and (held.missing == 0 or name == config.time)
    return RequestField(
        name,
        held.type,
        needed,
        low,
        high,
        tuple(held.allowed) if held.allowed is not None else None,
        config.timezone if name == config.time else "UTC",
    )
