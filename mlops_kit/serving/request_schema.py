"""Schema of the rows in a request: validation, published JSON schema, conversion to a table.

One list of fields is the basis of all three. The fields are the source's columns that are known at
prediction time; what is allowed in them is decided by the rules of the data contract
(``mlops_kit.data.contract_rules``). Values are never converted silently: a value of another type is
reported.
"""

from __future__ import annotations

import math
from datetime import datetime
from functools import cached_property
from typing import Any, NamedTuple

from mlops_kit.core.lazy import pd
from mlops_kit.data.columns import ColumnKind
from mlops_kit.data.contract_rules import (
    ColumnRule,
    RowRules,
    ViolationCode,
    find_row_violations,
    mark_rejected_rows,
)
from mlops_kit.data.timestamps import parse_timestamps
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.registry import scoring
from mlops_kit.serving.request_fields import (
    ProblemCode,
    RequestField,
    RequestProblem,
    create_problem,
    parse_timestamp_text,
)
from mlops_kit.serving.requests import JsonObject


class CheckedRows(NamedTuple):
    """What is wrong with rows, and what is new in them but accepted."""

    problems: list[RequestProblem]
    notes: list[RequestProblem]


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
    rules : RowRules, optional
        The rules behind the fields, which say what becomes of other fields; without them, another
        field is a problem.
    """

    def __init__(
        self,
        fields: list[RequestField],
        time_column: str | None,
        timezone: str,
        rules: RowRules | None = None,
    ) -> None:
        self.fields = {field.name: field for field in fields}
        self.time_column = time_column
        self.timezone = timezone
        self.rules = rules

    def find_problems(self, rows: list[Any]) -> list[RequestProblem]:
        """Return all problems of all rows."""
        return self.check_rows(rows).problems

    def check_rows(self, rows: list[Any]) -> CheckedRows:
        """Return all problems of all rows, and what is new in them but accepted."""
        checked = CheckedRows([], [])
        for position, row in enumerate(rows):
            if type(row) is dict:
                self._check_row(position, row, checked)
                continue
            expected = "an object of fields and values"
            problem = create_problem(position, "", ProblemCode.NOT_A_ROW, row, expected)
            checked.problems.append(problem)
        return checked

    def _check_row(self, position: int, row: JsonObject, checked: CheckedRows) -> None:
        """Check one row; a valid row costs one check per field."""
        if not row.keys() <= self.fields.keys():
            self._check_other_fields(position, row, checked)
        for name, field in self.fields.items():
            value = row.get(name)
            if value is None and (not field.required or (field.may_be_omitted and name not in row)):
                continue
            code = field.find_fault(value)
            if code is None:
                continue
            problem = create_problem(position, name, code, value, field.expected)
            if field.accepts(code):
                checked.notes.append(problem)
            else:
                checked.problems.append(problem)

    def _check_other_fields(self, position: int, row: JsonObject, checked: CheckedRows) -> None:
        """Check the fields of a row that the schema does not have."""
        expected = f"one of {', '.join(self.fields)}"
        for name, value in row.items():
            if name in self.fields or not self._is_reported(name, value):
                continue
            problem = create_problem(position, name, ViolationCode.UNKNOWN_FIELD, value, expected)
            if self.accepts_other_fields:
                checked.notes.append(problem)
            else:
                checked.problems.append(problem)

    def _is_reported(self, name: str, value: Any) -> bool:
        """Return whether a field that the schema does not have is a problem, or worth a note."""
        if self.rules is None:
            return True
        return value is not None and self.rules.is_unknown(name)

    @property
    def accepts_other_fields(self) -> bool:
        """Whether a row may have a field that nobody knows."""
        return self.rules is not None and self.rules.accepts_unknown_columns

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
        properties = {name: field.to_json_schema() for name, field in self.fields.items()}
        required = [
            name
            for name, field in self.fields.items()
            if field.required and not field.may_be_omitted
        ]
        others: bool | JsonObject = self.accepts_other_fields
        if self.rules is not None and not self.accepts_other_fields:
            others = {"type": "null"}
            for name in sorted(self.rules.unchecked):
                properties.setdefault(name, {"description": "not used"})
        return {
            "type": "object",
            "properties": properties,
            "required": required,
            "additionalProperties": others,
        }

    def build_example_row(self, frame: pd.DataFrame, omitted: list[str]) -> JsonObject:
        """Build a row of a request from the last row of a table that the contract accepts.

        Parameters
        ----------
        frame : DataFrame
            Rows of the source.
        omitted : list of str
            Fields that the row leaves out.

        Returns
        -------
        dict
            The row; empty if no row is accepted.
        """
        if self.rules is None:
            return {}
        rows = frame.reset_index(drop=True)
        typed, violations = find_row_violations(rows, self.rules)
        accepted = typed[~mark_rejected_rows(violations, len(rows))]
        if accepted.empty:
            return {}
        values = accepted.iloc[-1]
        names = [name for name in self.fields if name not in omitted and pd.notna(values[name])]
        return {name: _to_json_value(self.fields[name].kind, values[name]) for name in names}


def _to_json_value(kind: str, value: Any) -> Any:
    """Return a value of a table as JSON writes it."""
    if kind == ColumnKind.TIMESTAMP:
        return value.isoformat()
    if kind == ColumnKind.INTEGER:
        return int(value)
    if kind == ColumnKind.NUMBER:
        return float(value)
    return bool(value) if kind == ColumnKind.BOOLEAN else str(value)


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
    naive_as_utc = parse_timestamps(naive_values, "timestamp", timezone)
    aware_as_utc = pd.to_datetime(pd.Series(aware, dtype="object"), utc=True)
    return aware_as_utc.astype("datetime64[us, UTC]").fillna(naive_as_utc)


def compile_request_schema(project: Project, history: pd.DataFrame) -> RequestSchema:
    """Build the schema of a project's rows.

    Parameters
    ----------
    project : Project
        The project.
    history : DataFrame
        The source, from which the kind of a column is inferred that the contract does not name.
    """
    config = project.config
    rules = scoring.compile_scoring_rules(project, history)
    fields = [_build_field(config, rule) for rule in rules.columns.values()]
    return RequestSchema(fields, config.time, config.timezone, rules)


def _build_field(config: ProjectConfig, rule: ColumnRule) -> RequestField:
    """Return a column of the contract as a field; the id of a row may be left out."""
    is_time = rule.name == config.time
    is_id = rule.name in config.id
    return RequestField(
        **vars(rule) | {"required": rule.required or is_id},
        timezone=config.timezone if is_time else "UTC",
        may_be_omitted=is_id,
    )
