"""Schema of the rows in a request: validation, published JSON schema, conversion to a table.

One list of fields is the basis of all three. The fields are the source's columns that are known at
prediction time; their types, ranges and allowed values come from the data contract. Values are
never converted silently: a value of another type is reported.

To add a type: 1. its check in ``_VALUE_CHECKS``, 2. its JSON schema in
``RequestField.to_json_schema``, 3. its column type in ``_build_column``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import cached_property
from typing import Any

from mlops_kit.core.lazy import pd
from mlops_kit.data import columns, contract
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.serving.requests import JsonObject

MAX_EXACT_INTEGER = 2**53  # float64 represents every integer up to here
_MAX_INT64 = 2**63 - 1  # the largest integer that a database column holds
_MAX_FLOAT32 = 3.4e38  # tree models store thresholds and values as float32
_MAX_TEXT_CHARACTERS = 1000
_MAX_QUOTED_CHARACTERS = 100  # of a value in a problem
ID_PATTERN = re.compile(r"^[!-~]{1,200}$")  # of requests and predictions
_YEAR_PATTERN = "(1[7-9]|2[01])[0-9]{2}"  # an earlier or later year is a mistake
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

FieldKind = str  # a value of columns.ColumnKind, or "name"


class ProblemCode(StrEnum):
    """What is wrong with a value or a row."""

    MISSING = "missing"
    UNKNOWN_FIELD = "unknown_field"
    TYPE = "type"
    RANGE = "range"
    NOT_ALLOWED = "not_allowed"
    TOO_LONG = "too_long"
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
    code : ProblemCode
        The kind of problem.
    got : object
        The value, shortened if it is long.
    expected : str
        What would have been valid.
    """

    row: int | None
    field: str
    code: ProblemCode
    got: Any
    expected: str


def create_problem(
    row: int | None, field: str, code: ProblemCode, value: Any, expected: str
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
class RequestField:
    """A column as a row of a request gives it.

    Parameters
    ----------
    name : str
        Name of the column.
    kind : str
        Kind of the column, or ``name`` for an id.
    required : bool
        Whether it must be given; otherwise it may be null or left out.
    minimum, maximum : float
        Range of a number.
    allowed : tuple, optional
        The only valid values.
    timezone : str
        Time zone of timestamps that name none.
    """

    name: str
    kind: FieldKind
    required: bool = False
    minimum: float = -_MAX_FLOAT32
    maximum: float = _MAX_FLOAT32
    allowed: tuple[Any, ...] | None = None
    timezone: str = "UTC"

    @cached_property
    def expected(self) -> str:
        """What a valid value is, in words."""
        description = self._describe_valid_values()
        if self.required or self.kind == "empty":
            return description
        return f"{description}, or null"

    def _describe_valid_values(self) -> str:
        """Describe the valid values other than null."""
        if self.allowed is not None:
            return "one of " + ", ".join(map(_format_allowed_value, self.allowed))
        if self.kind in {"number", "integer"}:
            kind = columns.KIND_DESCRIPTIONS[self.kind]
            return f"{kind} from {_format_limit(self.minimum)} to {_format_limit(self.maximum)}"
        descriptions = {
            "timestamp": (
                f"a timestamp in ISO 8601 such as {_EXAMPLE_TIMESTAMP}; "
                f"without a time zone it is read as {self.timezone}"
            ),
            "text": f"text of at most {_MAX_TEXT_CHARACTERS:,} characters",
            "name": "1 to 200 characters from ! to ~",
            "empty": "null: the column has no values",
        }
        return descriptions.get(self.kind) or columns.KIND_DESCRIPTIONS[self.kind]

    @property
    def example(self) -> Any:
        """A valid value for the documentation."""
        if self.allowed is not None:
            return self.allowed[0]
        has_range = max(-self.minimum, self.maximum) < MAX_EXACT_INTEGER
        number = (self.minimum + self.maximum) / 2 if has_range else 0.0
        examples = {
            "number": number,
            "integer": int(number),
            "text": "a text",
            "boolean": True,
            "timestamp": _EXAMPLE_TIMESTAMP,
        }
        return examples.get(self.kind)

    def find_fault(self, value: Any) -> ProblemCode | None:
        """Return what is wrong with a value; None if it is valid."""
        if value is None:
            return ProblemCode.MISSING if self.required else None
        code = _VALUE_CHECKS[self.kind](self, value)
        if code is None and self.allowed is not None and value not in self.allowed:
            return ProblemCode.NOT_ALLOWED
        return code

    def to_json_schema(self) -> JsonObject:
        """Return the JSON schema of a value; it accepts exactly what ``find_fault`` accepts."""
        json_types = {"text": "string", "timestamp": "string", "name": "string", "empty": "null"}
        json_type = json_types.get(self.kind, self.kind)
        is_single_type = self.required or json_type == "null"
        schema: JsonObject = {
            "type": json_type if is_single_type else [json_type, "null"],
            "description": self.expected,
        }
        if self.kind in {"number", "integer"}:
            schema["minimum"] = _simplify_number(self.minimum)
            schema["maximum"] = _simplify_number(self.maximum)
        elif self.kind == "text":
            schema["maxLength"] = _MAX_TEXT_CHARACTERS
        elif self.kind == "timestamp":
            schema["pattern"] = _TIMESTAMP_PATTERN.pattern
        elif self.kind == "name":
            schema["pattern"] = ID_PATTERN.pattern
        if self.allowed is not None:
            schema["enum"] = list(self.allowed)
            if not self.required:
                schema["enum"].append(None)
        return schema


def _format_allowed_value(value: Any) -> str:
    """Return an allowed value as JSON writes it, text without quotes."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _format_limit(value: float) -> str:
    """Return the limit of a range as text."""
    if abs(value) >= _MAX_FLOAT32:
        return f"{value:g}"
    return f"{_simplify_number(value):,}"


def _simplify_number(value: float) -> float:
    """Return a whole number as an integer, so that JSON writes no decimal point."""
    return int(value) if float(value).is_integer() else value


# ``type(...) is`` instead of ``isinstance``: booleans are integers in Python, but not in JSON.
def _check_number(field: RequestField, value: Any) -> ProblemCode | None:
    """Check type and range of a number."""
    if type(value) is not int and type(value) is not float:
        return ProblemCode.TYPE
    if field.kind == "integer" and type(value) is float and not value.is_integer():
        return ProblemCode.TYPE
    return None if field.minimum <= value <= field.maximum else ProblemCode.RANGE


def _check_text(_field: RequestField, value: Any) -> ProblemCode | None:
    """Check type and length of a text."""
    if type(value) is not str:
        return ProblemCode.TYPE
    return None if len(value) <= _MAX_TEXT_CHARACTERS else ProblemCode.TOO_LONG


def _check_boolean(_field: RequestField, value: Any) -> ProblemCode | None:
    """Check that a value is true or false; 1 and 0 are not."""
    return None if type(value) is bool else ProblemCode.TYPE


def _check_timestamp(_field: RequestField, value: Any) -> ProblemCode | None:
    """Check that a value is a timestamp in ISO 8601."""
    is_timestamp = type(value) is str and _parse_timestamp(value) is not None
    return None if is_timestamp else ProblemCode.TYPE


def _check_id(_field: RequestField, value: Any) -> ProblemCode | None:
    """Check that a value is an id."""
    is_id = type(value) is str and ID_PATTERN.fullmatch(value) is not None
    return None if is_id else ProblemCode.TYPE


def _refuse_value(_field: RequestField, _value: Any) -> ProblemCode | None:
    """Refuse every value: a column without values takes null only."""
    return ProblemCode.TYPE


# ``RequestField.find_fault`` handles null before it calls one of these.
_VALUE_CHECKS: dict[FieldKind, Callable[[RequestField, Any], ProblemCode | None]] = {
    "number": _check_number,
    "integer": _check_number,
    "text": _check_text,
    "boolean": _check_boolean,
    "timestamp": _check_timestamp,
    "name": _check_id,
    "empty": _refuse_value,
}


def _parse_timestamp(text: str) -> datetime | None:
    """Return a timestamp in ISO 8601; None if the text is not one."""
    if not _TIMESTAMP_PATTERN.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text)
    except ValueError:  # 29 February of a year that is not a leap year
        return None


class RequestSchema:
    """The fields of a row.

    Parameters
    ----------
    fields : list of RequestField
        The fields in the order of the source's columns.
    time_column : str or None
        Name of the column with the rows' event time.
    timezone : str
        Time zone of event times that name none.
    """

    def __init__(self, fields: list[RequestField], time_column: str | None, timezone: str) -> None:
        self.fields = {field.name: field for field in fields}
        self.time_column = time_column
        self.timezone = timezone

    def find_problems(self, rows: list[Any]) -> list[RequestProblem]:
        """Return all problems of all rows."""
        problems: list[RequestProblem] = []
        for position, row in enumerate(rows):
            if type(row) is dict:
                self._add_row_problems(position, row, problems)
                continue
            expected = "an object of fields and values"
            problems.append(create_problem(position, "", ProblemCode.NOT_A_ROW, row, expected))
        return problems

    def _add_row_problems(
        self, position: int, row: JsonObject, problems: list[RequestProblem]
    ) -> None:
        """Append the problems of one row; a valid row costs one check per field."""
        if not row.keys() <= self.fields.keys():
            problems.extend(self._find_unknown_fields(position, row))
        for name, field in self.fields.items():
            value = row.get(name)
            if value is None and not field.required:
                continue
            code = field.find_fault(value)
            if code is not None:
                problems.append(create_problem(position, name, code, value, field.expected))

    def _find_unknown_fields(self, position: int, row: JsonObject) -> list[RequestProblem]:
        """Return a problem for each field of a row that the schema does not have."""
        expected = f"one of {', '.join(self.fields)}"
        return [
            create_problem(position, name, ProblemCode.UNKNOWN_FIELD, row[name], expected)
            for name in row
            if name not in self.fields
        ]

    def to_frame(self, rows: list[JsonObject]) -> pd.DataFrame:
        """Return valid rows as a table with the column types of the source."""
        table = {}
        for name, field in self.fields.items():
            values = [row.get(name) for row in rows]
            zone = self.timezone if name == self.time_column else "UTC"
            table[name] = _build_column(field, values, zone)
        return pd.DataFrame(table)

    @cached_property
    def json_schema(self) -> JsonObject:
        """The JSON schema of a row."""
        return {
            "type": "object",
            "properties": {name: field.to_json_schema() for name, field in self.fields.items()},
            "required": [name for name, field in self.fields.items() if field.required],
            "additionalProperties": False,
        }


def _build_column(field: RequestField, values: list[Any], timezone: str) -> pd.Series:
    """Return a column of valid values in the type of the source's column.

    Parameters
    ----------
    field : RequestField
        The field.
    values : list
        Its valid values; None where a value is missing.
    timezone : str
        Time zone of timestamps that name none.
    """
    is_complete = None not in values
    if field.kind == "number":
        numbers = [math.nan if value is None else value for value in values]
        return pd.Series(numbers, dtype="float64")
    if field.kind == "integer":
        # Int64 keeps integers exact beside a missing value: feature views may need whole numbers.
        integers = [None if value is None else int(value) for value in values]
        return pd.Series(integers, dtype="int64" if is_complete else "Int64")
    if field.kind == "boolean":
        return pd.Series(values, dtype="bool" if is_complete else "object")
    if field.kind == "timestamp":
        return parse_request_timestamps(values, timezone)
    return pd.Series(values, dtype="object")


def parse_request_timestamps(values: list[str | None], timezone: str) -> pd.Series:
    """Return valid timestamps as UTC; those without a time zone are read in ``timezone``."""
    timestamps = [None if text is None else _parse_timestamp(text) for text in values]
    naive: list[datetime | None] = []
    aware: list[datetime | None] = []
    for timestamp in timestamps:
        is_naive = timestamp is not None and timestamp.tzinfo is None
        naive.append(timestamp if is_naive else None)
        aware.append(None if is_naive else timestamp)
    naive_values = pd.Series(naive, dtype="datetime64[us]")
    naive_as_utc = columns.parse_timestamps(naive_values, "timestamp", timezone)
    aware_as_utc = pd.to_datetime(pd.Series(aware, dtype="object"), utc=True)
    return aware_as_utc.astype("datetime64[us, UTC]").fillna(naive_as_utc)


def compile_request_schema(
    project: Project, history: pd.DataFrame, required_columns: list[str]
) -> RequestSchema:
    """Build the schema of a project's rows.

    Parameters
    ----------
    project : Project
        The project.
    history : DataFrame
        The source, from which the kind of a column is inferred that the contract does not name.
    required_columns : list of str
        The columns known at prediction time (``scoring.list_required_columns``).
    """
    config = project.config
    contract_path = project.resolve_path(config.contract.file)
    contract_columns = {}
    if contract_path.exists():
        contract_columns = contract.load_contract(contract_path).columns
    fields = []
    for name in required_columns:
        column = contract_columns.get(name)
        if column is None:
            column = contract.ColumnContract(type=columns.infer_kind(history[name]))
        fields.append(_build_field(config, name, column))
    return RequestSchema(fields, config.time, config.timezone)


def _build_field(config: ProjectConfig, name: str, column: contract.ColumnContract) -> RequestField:
    """Return a column of the contract as a field.

    The id of a row may be left out. A column is required if the contract allows no missing value,
    and the event time always is.
    """
    is_id = name in config.id
    limit = _get_number_limit(column.type, is_id)
    return RequestField(
        name,
        column.type,
        required=not is_id and (column.missing == 0 or name == config.time),
        minimum=-limit if column.min is None else column.min,
        maximum=limit if column.max is None else column.max,
        allowed=None if column.allowed is None else tuple(column.allowed),
        timezone=config.timezone if name == config.time else "UTC",
    )


def _get_number_limit(kind: columns.ColumnKind, is_id: bool) -> float:
    """Return the largest number that is kept exactly, where the contract states no range."""
    if kind == "number":
        return _MAX_FLOAT32
    return _MAX_INT64 if is_id else MAX_EXACT_INTEGER
