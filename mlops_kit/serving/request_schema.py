"""Schema of the rows in a request: validation, published JSON schema, conversion to a table.

One list of fields is the basis of all three. The fields are the source's columns that are known at
prediction time; their types, ranges and allowed values come from the data contract. Values are
never converted silently: a value of another type is reported.
"""

from __future__ import annotations

import math
from datetime import datetime
from functools import cached_property
from typing import Any

from mlops_kit.core.lazy import pd
from mlops_kit.data import columns, contract
from mlops_kit.data.columns import ColumnKind
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.serving.request_fields import (
    MAX_EXACT_INTEGER,
    MAX_FLOAT32,
    ProblemCode,
    RequestField,
    RequestProblem,
    create_problem,
    parse_timestamp_text,
)
from mlops_kit.serving.requests import JsonObject

_MAX_INT64 = 2**63 - 1  # the largest integer that a database column holds


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
    has_missing = None in values
    if field.kind == ColumnKind.NUMBER:
        numbers = [math.nan if value is None else value for value in values]
        return pd.Series(numbers, dtype="float64")
    if field.kind == ColumnKind.INTEGER:
        # Int64 keeps integers exact beside a missing value: feature views may need whole numbers.
        integers = [None if value is None else int(value) for value in values]
        return pd.Series(integers, dtype="Int64" if has_missing else "int64")
    if field.kind == ColumnKind.TIMESTAMP:
        return parse_request_timestamps(values, timezone)
    if field.kind == ColumnKind.BOOLEAN and not has_missing:
        return pd.Series(values, dtype="bool")
    return pd.Series(values, dtype="object")


def parse_request_timestamps(values: list[str | None], timezone: str) -> pd.Series:
    """Return valid timestamps as UTC; those without a time zone are read in ``timezone``."""
    naive: list[datetime | None] = [None] * len(values)
    aware: list[datetime | None] = [None] * len(values)
    for position, text in enumerate(values):
        timestamp = parse_timestamp_text(text or "")
        if timestamp is None:
            continue
        if timestamp.tzinfo is None:
            naive[position] = timestamp
        else:
            aware[position] = timestamp
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
    is_time = name == config.time
    minimum, maximum = _get_number_range(column, is_id)
    allowed = None
    if column.allowed is not None:
        allowed = tuple(column.allowed)
    return RequestField(
        name,
        column.type,
        required=not is_id and (column.missing == 0 or is_time),
        minimum=minimum,
        maximum=maximum,
        allowed=allowed,
        timezone=config.timezone if is_time else "UTC",
    )


def _get_number_range(column: contract.ColumnContract, is_id: bool) -> tuple[float, float]:
    """Return the range of a number: the contract's, else all numbers that are kept exactly."""
    limit: float = MAX_EXACT_INTEGER
    if column.type == ColumnKind.NUMBER:
        limit = MAX_FLOAT32
    elif is_id:
        limit = _MAX_INT64
    minimum = -limit if column.min is None else column.min
    maximum = limit if column.max is None else column.max
    return minimum, maximum
