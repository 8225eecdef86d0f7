"""Validating a table against a data contract: every violation at once.

What is allowed in a row is decided in ``mlops_kit.data.contract_rules``. A violation of a single
value quarantines its rows. A violation of a whole column (it is gone, of another type, or missing
too often) breaks the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import LazyModule, np, pd
from mlops_kit.core.results import Result
from mlops_kit.data.columns import ROW_ID, ColumnKind
from mlops_kit.data.contract import ColumnContract, DataContract, NewValues
from mlops_kit.data.contract_rules import (
    RowViolation,
    ViolationCode,
    compile_rules,
    find_row_violations,
    phrase_violation,
)

pandera = LazyModule("pandera.pandas", extra="train")

_MAX_EXAMPLES = 3


@dataclass(
    frozen=True,
    repr=False,
)
class ContractReport(Result):
    """How well rows satisfy a contract.

    Parameters
    ----------
    sentence : str
        The outcome in words.
    data : DataFrame
        One row per violated rule: column, rule, rows, share, examples.
    good_rows, quarantined_rows : int
        Number of rows that pass, and of those that are set aside.
    is_broken : bool
        Whether the run must stop.
    notes : tuple of str
        What was not checked.
    uncounted_rows : int
        Quarantined rows of excluded days, which do not count for the limit.
    """

    legacy_kind: ClassVar[str] = "Report"
    legacy_fields: ClassVar[dict[str, str]] = {
        "quarantined": "quarantined_rows",
        "broken": "is_broken",
    }

    sentence: str
    data: pd.DataFrame
    good_rows: int
    quarantined_rows: int
    is_broken: bool
    notes: tuple[str, ...] = ()
    uncounted_rows: int = 0


@dataclass(frozen=True)
class _Violation:
    """A rule that rows violate.

    ``rule`` reads after "is not"; ``problem`` is the sentence for a violation that breaks the
    contract, and empty for one that quarantines rows.
    """

    column: str
    rule: str
    positions: np.ndarray
    problem: str = ""


@dataclass(frozen=True)
class _Constraint:
    """A constraint on the missing values of a column, with the pandera check that tests it."""

    rule: str
    test: Callable[[Any], Any]
    problem: str


def validate_rows_against_contract(
    frame: pd.DataFrame,
    contract: DataContract,
    max_quarantined_share: float,
    time_column: str | None = None,
    is_excluded: np.ndarray | None = None,
) -> tuple[ContractReport, pd.DataFrame, pd.DataFrame]:
    """Validate rows against a contract.

    Parameters
    ----------
    max_quarantined_share : float
        If a larger share of the rows would be quarantined, the contract is broken. The same share
        of a column's values may be of another type.
    time_column : str, optional
        The column with the time of a row, which each row must have.
    is_excluded : ndarray of bool, optional
        Which rows train no model anyway: they are quarantined, but do not break the contract by
        their number.

    Returns
    -------
    report : ContractReport
        Every violation.
    accepted : DataFrame
        The rows without a violation, in the contract's types.
    quarantined : DataFrame
        The other rows, unchanged.
    """
    rows = frame.reset_index(drop=True)
    rules = compile_rules(contract, contract.columns, rows, time_column)
    typed_rows, row_violations = find_row_violations(rows, rules)
    typed_rows, violations = _judge_types(rows, typed_rows, row_violations, max_quarantined_share)
    broken_columns = {violation.column for violation in violations if violation.problem}
    violations += _list_value_violations(rows, row_violations, broken_columns)
    violations += _find_table_violations(typed_rows, contract, broken_columns)
    is_quarantined = np.zeros(len(rows), dtype=bool)
    for violation in violations:
        if not violation.problem:
            is_quarantined[violation.positions] = True
    quarantined_rows = int(is_quarantined.sum())
    uncounted_rows = 0 if is_excluded is None else int((is_quarantined & is_excluded).sum())
    problems = [violation.problem for violation in violations if violation.problem]
    problems += _describe_quarantine_problem(
        quarantined_rows - uncounted_rows,
        len(rows),
        max_quarantined_share,
    )
    data = _build_violation_table(rows, violations)
    report = ContractReport(
        sentence=_summarize_violations(
            data,
            len(rows),
            quarantined_rows,
            problems,
        ),
        data=data,
        good_rows=len(rows) - quarantined_rows,
        quarantined_rows=quarantined_rows,
        is_broken=bool(problems),
        notes=(
            *_describe_accepted(rows, row_violations, contract),
            *_describe_uncounted_rows(uncounted_rows),
        ),
        uncounted_rows=uncounted_rows,
    )
    accepted = typed_rows[~is_quarantined].reset_index(drop=True)
    quarantined = rows[is_quarantined].reset_index(drop=True)
    return report, accepted, quarantined


def _describe_uncounted_rows(uncounted_rows: int) -> list[str]:
    """Describe the quarantined rows that do not count for the limit."""
    if not uncounted_rows:
        return []
    count = format_number(uncounted_rows)
    return [f"{count} quarantined rows are of excluded days, and do not count for the limit."]


def _judge_types(
    rows: pd.DataFrame,
    typed_rows: pd.DataFrame,
    row_violations: list[RowViolation],
    max_invalid_share: float,
) -> tuple[pd.DataFrame, list[_Violation]]:
    """Return the violations of types, and the rows.

    A column with too many values of another type is of another type itself, and stays unchanged.
    """
    violations = []
    unchanged_columns = {}
    for violation in row_violations:
        if violation.code != ViolationCode.TYPE:
            continue
        name = violation.column
        problem = ""
        if len(violation.positions) / rows[name].notna().sum() > max_invalid_share:
            count = format_number(len(violation.positions))
            problem = f"{count} values of {name!r} are not {violation.rule}"
            unchanged_columns[name] = rows[name]
        violations.append(_Violation(name, violation.rule, violation.positions, problem))
    return typed_rows.assign(**unchanged_columns), violations


def _list_value_violations(
    rows: pd.DataFrame, row_violations: list[RowViolation], broken_columns: set[str]
) -> Iterator[_Violation]:
    """Yield the violations of single values, but for types.

    A column that is gone or has no values is a violation of the table.
    """
    for violation in row_violations:
        name = violation.column
        is_reported = violation.code == ViolationCode.TYPE or name in broken_columns
        if is_reported or violation.is_accepted:
            continue
        if violation.code == ViolationCode.MISSING and (
            name not in rows or rows[name].isna().all()
        ):
            continue
        yield _Violation(name, violation.rule, violation.positions)


def _describe_accepted(
    rows: pd.DataFrame, row_violations: list[RowViolation], contract: DataContract
) -> Iterator[str]:
    """Describe what is not checked, and the values that are accepted although they are new."""
    unchecked = set(map(str, rows.columns)) - {*contract.columns, ROW_ID}
    if unchecked and contract.unknown_columns == NewValues.ACCEPT:
        yield f"not in the contract, and not checked: {', '.join(sorted(unchecked))}"
    for violation in row_violations:
        if violation.code == ViolationCode.NOT_ALLOWED and violation.is_accepted:
            count = format_number(len(violation.positions))
            yield (
                f"accepted although new: {phrase_violation(violation.column, violation.rule)} "
                f"in {count} rows, such as {violation.examples}"
            )


def _find_table_violations(
    typed_rows: pd.DataFrame, contract: DataContract, broken_columns: set[str]
) -> Iterator[_Violation]:
    """Yield the violations that concern a column or the table as a whole."""
    constraints = _list_constraints(typed_rows, contract, broken_columns)
    for error in _collect_schema_errors(typed_rows, constraints):
        if error.reason_code.name == "COLUMN_NOT_IN_DATAFRAME":
            column = _get_missing_column(error)
            every_row = np.arange(len(typed_rows))
            problem = f"the source has no column {column!r}"
            yield _Violation(
                column,
                "in the source",
                every_row,
                problem,
            )
            continue
        column = error.schema.name
        constraint = constraints[column][str(error.check.name)]
        positions = np.flatnonzero(typed_rows[column].isna().to_numpy())
        if len(positions):
            yield _Violation(
                column,
                constraint.rule,
                positions,
                constraint.problem,
            )
    yield from _find_duplicates(typed_rows, contract.unique)


def _list_constraints(
    typed_rows: pd.DataFrame,
    contract: DataContract,
    broken_columns: set[str],
) -> dict[str, dict[str, _Constraint]]:
    """Return the constraints to check, by column and rule.

    Left out are columns of another type, and, if there are no rows, all columns that exist.
    """
    constraints = {}
    for name, column in contract.columns.items():
        is_checkable = len(typed_rows) or name not in typed_rows
        if name not in broken_columns and is_checkable:
            constraints[name] = {c.rule: c for c in _build_constraints(name, column)}
    return constraints


def _build_constraints(name: str, column: ColumnContract) -> Iterator[_Constraint]:
    """Yield the constraints on one column as a whole, except for its type."""
    if column.type == ColumnKind.EMPTY:
        return
    if column.missing < 1:
        yield _Constraint(
            "filled in any row",
            lambda values: bool(values.notna().any()),
            problem=f"the column {name!r} has no values",
        )
    if 0 < column.missing < 1:
        limit = format_percent(column.missing)
        yield _Constraint(
            f"missing in at most {limit} of the rows",
            lambda values: bool(values.isna().mean() <= column.missing),
            problem=f"{name!r} is missing in more than {limit} of the rows",
        )


def _collect_schema_errors(
    typed_rows: pd.DataFrame, constraints: dict[str, dict[str, _Constraint]]
) -> list[Any]:
    """Validate rows with pandera and return all its errors."""
    columns = {}
    for name, column_constraints in constraints.items():
        checks = [
            pandera.Check(
                constraint.test,
                name=constraint.rule,
                ignore_na=False,
            )
            for constraint in column_constraints.values()
        ]
        columns[name] = pandera.Column(
            None,
            checks=checks,
            nullable=True,
            name=name,
        )
    try:
        pandera.DataFrameSchema(columns).validate(typed_rows, lazy=True)
    except pandera.errors.SchemaErrors as errors:
        return list(errors.schema_errors)
    return []


def _get_missing_column(error: Any) -> str:
    """Return the name of the column that a pandera error says is not there."""
    failure = error.failure_cases
    if hasattr(failure, "columns"):
        return str(failure["failure_case"].iloc[0])
    return str(failure)


def _find_duplicates(typed_rows: pd.DataFrame, key: list[str]) -> Iterator[_Violation]:
    """Yield a violation if rows repeat a key; the first row of each key is valid."""
    if not key or not set(key) <= set(typed_rows):
        return
    has_key = typed_rows[key].notna().all(axis=1)
    is_repeated = typed_rows.duplicated(key) & has_key
    if is_repeated.any():
        others = f" with {' and '.join(key[1:])}" if key[1:] else ""
        yield _Violation(key[0], f"unique{others}", np.flatnonzero(is_repeated))


def _build_violation_table(rows: pd.DataFrame, violations: list[_Violation]) -> pd.DataFrame:
    """Build the table of a report: one row per violation."""
    records = []
    for violation in violations:
        count = len(violation.positions)
        examples: list[str] = []
        if violation.column in rows:
            values = rows[violation.column].iloc[violation.positions].astype(str)
            examples = list(values.unique()[:_MAX_EXAMPLES])
        share = count / max(len(rows), 1)
        records.append((violation.column, violation.rule, count, share, ", ".join(examples)))
    return pd.DataFrame(
        records,
        columns=[
            "column",
            "rule",
            "rows",
            "share",
            "examples",
        ],
    )


def _describe_quarantine_problem(
    quarantined_rows: int, row_count: int, max_share: float
) -> list[str]:
    """Describe that too many rows would be quarantined; empty if they are not too many."""
    share = quarantined_rows / max(row_count, 1)
    if share <= max_share:
        return []
    counts = f"{format_number(quarantined_rows)} of {format_number(row_count)} rows"
    limit = format_percent(max_share)
    return [f"{counts} ({format_percent(share)}) would be quarantined, at most {limit} may be"]


def _summarize_violations(
    data: pd.DataFrame,
    row_count: int,
    quarantined_rows: int,
    problems: list[str],
) -> str:
    """Summarize a report in a sentence: what breaks the contract, or what is quarantined."""
    if problems:
        return f"The contract is broken: {'; '.join(problems)}."
    if not quarantined_rows:
        return f"All {format_number(row_count)} rows satisfy the contract."
    most_frequent = data.sort_values(
        "rows",
        ascending=False,
        kind="stable",
    ).iloc[0]
    counts = f"{format_number(quarantined_rows)} of {format_number(row_count)} rows"
    share = format_percent(quarantined_rows / row_count)
    reason = phrase_violation(most_frequent["column"], most_frequent["rule"])
    return f"{counts} ({share}) are quarantined; most often {reason}."


def enforce_contract(report: ContractReport) -> None:
    """Stop the run if the contract is broken.

    Raises
    ------
    RunFailedError
        With the report's sentence.
    """
    if report.is_broken:
        raise RunFailedError(
            report.sentence,
            "rows that satisfy the data contract",
            "fix the source, or edit the contract if the data changed for good",
        )
