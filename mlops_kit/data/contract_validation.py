"""Validating rows against a data contract: every violation at once.

A violation of a single value quarantines its rows. A violation of a whole column (it is gone, of
another type, or missing too often) breaks the contract.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import LazyModule, np, pd
from mlops_kit.core.results import Result
from mlops_kit.data.columns import KIND_DESCRIPTIONS, ROW_ID, ColumnKind
from mlops_kit.data.contract import ColumnContract, DataContract, coerce_types

pandera = LazyModule("pandera.pandas", extra="train")

_NUMERIC_KINDS = {ColumnKind.NUMBER, ColumnKind.INTEGER}
_MAX_EXAMPLES = 3
_MAX_LISTED_VALUES = 8
_NOT_MISSING_RULE = "not missing"


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
    """A constraint on a column, with the pandera check that tests it.

    ``concerns_missing`` says that the rows to blame are those without a value.
    """

    rule: str
    test: Callable[[Any], Any]
    problem: str = ""
    concerns_missing: bool = False


def validate_rows_against_contract(
    frame: pd.DataFrame,
    contract: DataContract,
    max_quarantined_share: float,
) -> tuple[ContractReport, pd.DataFrame, pd.DataFrame]:
    """Validate rows against a contract.

    Parameters
    ----------
    max_quarantined_share : float
        If a larger share of the rows would be quarantined, the contract is broken. The same share
        of a column's values may be of another type.

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
    typed_rows, violations = _coerce_rows(rows, contract, max_quarantined_share)
    broken_columns = {violation.column for violation in violations if violation.problem}
    violations += _find_violations(
        rows,
        typed_rows,
        contract,
        broken_columns,
    )
    is_quarantined = np.zeros(len(rows), dtype=bool)
    for violation in violations:
        if not violation.problem:
            is_quarantined[violation.positions] = True
    unchecked = set(map(str, rows.columns)) - {*contract.columns, ROW_ID}
    notes: tuple[str, ...] = ()
    if unchecked:
        notes = (f"not in the contract, and not checked: {', '.join(sorted(unchecked))}",)
    quarantined_rows = int(is_quarantined.sum())
    problems = [violation.problem for violation in violations if violation.problem]
    problems += _describe_quarantine_problem(
        quarantined_rows,
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
        notes=notes,
    )
    accepted = typed_rows[~is_quarantined].reset_index(drop=True)
    quarantined = rows[is_quarantined].reset_index(drop=True)
    return report, accepted, quarantined


def _coerce_rows(
    rows: pd.DataFrame,
    contract: DataContract,
    max_invalid_share: float,
) -> tuple[pd.DataFrame, list[_Violation]]:
    """Convert rows to the contract's types; values of another type are violations.

    A column with too many of them is of another type itself, and stays unchanged.
    """
    if not len(rows):
        return rows, []
    violations = []
    typed_rows, invalid_values = coerce_types(rows, contract)
    for name, values in invalid_values.items():
        kind = KIND_DESCRIPTIONS[contract.columns[name].type]
        problem = ""
        if len(values) / rows[name].notna().sum() > max_invalid_share:
            count = format_number(len(values))
            problem = f"{count} values of {name!r} are not {kind}"
            typed_rows[name] = rows[name]
        violations.append(
            _Violation(
                name,
                kind,
                values.index.to_numpy(),
                problem,
            )
        )
    return typed_rows, violations


def _find_violations(
    rows: pd.DataFrame,
    typed_rows: pd.DataFrame,
    contract: DataContract,
    broken_columns: set[str],
) -> Iterator[_Violation]:
    """Yield the violations of all constraints but types."""
    constraints = _list_constraints(typed_rows, contract, broken_columns)
    for error in _collect_schema_errors(typed_rows, contract, constraints):
        if error.reason_code.name == "COLUMN_NOT_IN_DATAFRAME":
            column = _get_missing_column(error)
            every_row = np.arange(len(rows))
            problem = f"the source has no column {column!r}"
            yield _Violation(
                column,
                "in the source",
                every_row,
                problem,
            )
            continue
        column = error.schema.name
        is_missing = typed_rows[column].isna().to_numpy()
        if error.reason_code.name == "SERIES_CONTAINS_NULLS":
            # Values that could not be converted are missing too, but were reported above.
            positions = np.flatnonzero(is_missing & rows[column].isna().to_numpy())
            if len(positions):
                yield _Violation(column, _NOT_MISSING_RULE, positions)
            continue
        constraint = constraints[column][str(error.check.name)]
        if constraint.concerns_missing:
            positions = np.flatnonzero(is_missing)
        else:
            positions = error.failure_cases["index"].to_numpy(dtype=int)
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
    """Yield the constraints on one column, except for its type and for missing keys."""
    if column.type == ColumnKind.EMPTY:
        return
    if column.missing < 1:
        yield _Constraint(
            "filled in any row",
            lambda values: bool(values.notna().any()),
            problem=f"the column {name!r} has no values",
            concerns_missing=True,
        )
    if 0 < column.missing < 1:
        limit = format_percent(column.missing)
        yield _Constraint(
            f"missing in at most {limit} of the rows",
            lambda values: bool(values.isna().mean() <= column.missing),
            problem=f"{name!r} is missing in more than {limit} of the rows",
            concerns_missing=True,
        )
    if column.type in _NUMERIC_KINDS:
        minimum = column.min
        maximum = column.max
        if minimum is not None:
            rule = f"at least {format_number(minimum)}"
            yield _Constraint(rule, lambda values: values >= minimum)
        if maximum is not None:
            rule = f"at most {format_number(maximum)}"
            yield _Constraint(rule, lambda values: values <= maximum)
    if column.allowed is not None:
        allowed = list(column.allowed)
        listed = ", ".join(map(str, allowed[:_MAX_LISTED_VALUES]))
        rest = ", …" if len(allowed) > _MAX_LISTED_VALUES else ""
        yield _Constraint(f"one of {listed}{rest}", lambda values: values.isin(allowed))


def _collect_schema_errors(
    typed_rows: pd.DataFrame,
    contract: DataContract,
    constraints: dict[str, dict[str, _Constraint]],
) -> list[Any]:
    """Validate rows with pandera and return all its errors."""
    columns = {}
    for name, column_constraints in constraints.items():
        checks = [
            pandera.Check(
                constraint.test,
                name=constraint.rule,
                ignore_na=not constraint.concerns_missing,
            )
            for constraint in column_constraints.values()
        ]
        column = contract.columns[name]
        columns[name] = pandera.Column(
            None,
            checks=checks,
            nullable=column.missing > 0 or column.type == ColumnKind.EMPTY,
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
    reason = f"`{most_frequent['column']}` is not {most_frequent['rule']}"
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
