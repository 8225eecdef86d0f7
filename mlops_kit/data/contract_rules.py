"""What the data contract allows in a row: one decision for files, requests and the watch.

A ``ColumnRule`` decides on a single value (``find_violation``, for requests) and on a column of a
table (``locate_violations``, for everything that comes as one). ``find_row_violations`` applies the
rules to a table: prepare quarantines the rows that it names; scoring leaves them out and counts
them. Values that are new but accepted are violations with ``is_accepted``: reported, not rejected.

Uniqueness of keys and shares of missing values concern a table as a whole, and are in
``mlops_kit.data.contract_validation``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from mlops_kit.core.formatting import format_number
from mlops_kit.core.lazy import np, pd
from mlops_kit.core.results import Table
from mlops_kit.data.columns import (
    KIND_DESCRIPTIONS,
    ROW_ID,
    ColumnKind,
    coerce_column,
    infer_kind,
)
from mlops_kit.data.contract import ColumnContract, DataContract, NewValues

MAX_FLOAT32 = 3.4e38  # tree models store thresholds and values as float32
MAX_INT64 = 2**63 - 1  # the largest integer that a column of a table or a database holds
MAX_TEXT_CHARACTERS = 100_000
MIN_YEAR, MAX_YEAR = 1700, 2199  # an earlier or later year is a mistake
NUMERIC_KINDS = frozenset({ColumnKind.NUMBER, ColumnKind.INTEGER})
_MAX_LISTED_VALUES = 8
_MAX_EXAMPLES = 3
_MAX_EXAMPLE_CHARACTERS = 40
_NOT_MISSING_RULE = "not missing"


class ViolationCode(StrEnum):
    """What is wrong with a value, or with a row."""

    MISSING = "missing"
    UNKNOWN_FIELD = "unknown_field"
    TYPE = "type"
    RANGE = "range"
    NOT_ALLOWED = "not_allowed"
    TOO_LONG = "too_long"


@dataclass(frozen=True)
class ColumnRule:
    """What is allowed in a column.

    Parameters
    ----------
    name : str
        Name of the column.
    kind : str
        A ``ColumnKind``.
    required : bool
        Whether each row must have a value: the contract allows no missing value.
    minimum, maximum : float
        Range of a number.
    allowed : tuple, optional
        The known values.
    accepts_new_values : bool
        Whether a value that is not among ``allowed``, or any value of a column that was empty, is
        accepted and only reported.
    """

    name: str
    kind: str
    required: bool = False
    minimum: float = -MAX_FLOAT32
    maximum: float = MAX_FLOAT32
    allowed: tuple[Any, ...] | None = None
    accepts_new_values: bool = False

    def find_violation(self, value: Any) -> ViolationCode | None:
        """Return what is wrong with a value of the column's kind, or None for a missing one."""
        if value is None:
            return ViolationCode.MISSING if self.required else None
        if self.kind == ColumnKind.EMPTY:
            return ViolationCode.NOT_ALLOWED
        if self.kind in NUMERIC_KINDS and not self.minimum <= value <= self.maximum:
            return ViolationCode.RANGE
        if self.kind == ColumnKind.TEXT and len(value) > MAX_TEXT_CHARACTERS:
            return ViolationCode.TOO_LONG
        if self.allowed is not None and value not in self.allowed:
            return ViolationCode.NOT_ALLOWED
        return None

    def locate_violations(self, values: pd.Series) -> dict[ViolationCode, np.ndarray]:
        """Return which values of a column have which violation, as ``find_violation`` decides.

        Parameters
        ----------
        values : Series
            Values of the column's kind.
        """
        is_present = values.notna().to_numpy()
        masks: dict[ViolationCode, np.ndarray] = {}
        if self.required:
            masks[ViolationCode.MISSING] = ~is_present
        if self.kind == ColumnKind.EMPTY:
            masks[ViolationCode.NOT_ALLOWED] = is_present
            return masks
        is_valid = is_present
        if self.kind in NUMERIC_KINDS:
            is_in_range = _to_mask(values.between(self.minimum, self.maximum))
            masks[ViolationCode.RANGE] = is_present & ~is_in_range
            is_valid = is_valid & is_in_range
        elif self.kind == ColumnKind.TEXT and is_present.any():
            is_long = _to_mask(values.str.len() > MAX_TEXT_CHARACTERS)
            masks[ViolationCode.TOO_LONG] = is_present & is_long
            is_valid = is_valid & ~is_long
        if self.allowed is not None:
            is_known = _to_mask(values.isin(self.allowed))
            masks[ViolationCode.NOT_ALLOWED] = is_valid & ~is_known
        return masks

    def accepts(self, code: ViolationCode) -> bool:
        """Return whether a violation is only reported, and the row accepted."""
        return code == ViolationCode.NOT_ALLOWED and self.accepts_new_values

    def describe_rule(self, code: ViolationCode, is_above: bool = False) -> str:
        """Describe the rule that a violation is about; it reads after "is not".

        Parameters
        ----------
        is_above : bool
            Whether a number out of range is above the range, and not below it.
        """
        if code == ViolationCode.TYPE:
            return KIND_DESCRIPTIONS[self.kind]
        if code == ViolationCode.RANGE and is_above:
            return f"at most {_format_limit(self.maximum)}"
        if code == ViolationCode.RANGE:
            return f"at least {_format_limit(self.minimum)}"
        if code == ViolationCode.TOO_LONG:
            return f"text of at most {MAX_TEXT_CHARACTERS:,} characters"
        if code == ViolationCode.NOT_ALLOWED:
            return _describe_allowed(self.allowed)
        return _NOT_MISSING_RULE


def phrase_violation(column: str, rule: str) -> str:
    """Phrase that a column violates a rule, as ``describe_rule`` describes it.

    >>> phrase_violation("age", "at most 120")
    '`age` is not at most 120'
    >>> phrase_violation("age", "not missing")
    '`age` is missing'
    """
    if rule == _NOT_MISSING_RULE:
        return f"`{column}` is missing"
    return f"`{column}` is not {rule}"


def _to_mask(values: pd.Series) -> np.ndarray:
    """Return a column of booleans as an array; a missing one is false."""
    return values.fillna(False).to_numpy(dtype=bool)


def _format_limit(limit: float) -> str:
    """Format the limit of a range."""
    if abs(limit) >= MAX_FLOAT32:
        return f"{limit:g}"
    return format_number(limit)


def _describe_allowed(allowed: tuple[Any, ...] | None) -> str:
    """Describe the known values of a column; there are none if it was empty."""
    if allowed is None:
        return "empty"
    listed = ", ".join(map(str, allowed[:_MAX_LISTED_VALUES]))
    rest = ", …" if len(allowed) > _MAX_LISTED_VALUES else ""
    return f"one of {listed}{rest}"


@dataclass(frozen=True)
class RowRules:
    """The rules for the rows of a table or a request.

    Parameters
    ----------
    columns : dict of str to ColumnRule
        The columns that are checked.
    unchecked : frozenset of str
        Columns that a row may have and that are not used, such as the target in a row to score.
    accepts_unknown_columns : bool
        Whether a row with a value in any other column is accepted; it is reported anyway.
    """

    columns: Mapping[str, ColumnRule]
    unchecked: frozenset[str] = field(default_factory=frozenset)
    accepts_unknown_columns: bool = True

    def is_unknown(self, name: str) -> bool:
        """Return whether a column is neither checked nor known."""
        return name not in self.columns and name not in self.unchecked


def compile_rules(
    contract: DataContract,
    names: Iterable[str],
    frame: pd.DataFrame,
    time_column: str | None,
) -> RowRules:
    """Compile the rules for some columns of a project's rows.

    Parameters
    ----------
    contract : DataContract
        The contract.
    names : iterable of str
        The columns to check.
    frame : DataFrame
        Rows of the source. A column that the contract does not list has the kind of its values
        there; if the contract rejects unknown columns, it is one.
    time_column : str or None
        The column with the time of a row, which is always required.
    """
    accepts_unknown = contract.unknown_columns == NewValues.ACCEPT
    columns = {}
    for name in names:
        column = contract.columns.get(name)
        if column is None and not accepts_unknown:
            continue
        if column is None:
            column = ColumnContract(type=infer_kind(frame[name]))
        columns[name] = _compile_rule(name, column, is_time=name == time_column)
    known_columns = {*contract.columns, ROW_ID}
    if accepts_unknown:
        known_columns.update(map(str, frame.columns))
    return RowRules(
        columns=columns,
        unchecked=frozenset(known_columns - columns.keys()),
        accepts_unknown_columns=accepts_unknown,
    )


def _compile_rule(name: str, column: ColumnContract, is_time: bool) -> ColumnRule:
    """Compile the rule for one column."""
    limit = MAX_INT64 if column.type == ColumnKind.INTEGER else MAX_FLOAT32
    is_empty = column.type == ColumnKind.EMPTY
    return ColumnRule(
        name=name,
        kind=column.type,
        required=column.missing == 0 or is_time,
        minimum=-limit if column.min is None else column.min,
        maximum=limit if column.max is None else column.max,
        allowed=None if column.allowed is None else tuple(column.allowed),
        accepts_new_values=is_empty or column.new_values == NewValues.ACCEPT,
    )


@dataclass(frozen=True)
class RowViolation:
    """A rule that rows of a table violate.

    Parameters
    ----------
    column : str
        Name of the column.
    code : ViolationCode
        What is wrong.
    rule : str
        The rule in words; it reads after "is not".
    positions : array of int
        Positions of the rows.
    is_accepted : bool
        Whether the rows are accepted nevertheless.
    examples : str
        A few of the values.
    """

    column: str
    code: ViolationCode
    rule: str
    positions: np.ndarray
    is_accepted: bool = False
    examples: str = ""


def find_row_violations(
    frame: pd.DataFrame, rules: RowRules
) -> tuple[pd.DataFrame, list[RowViolation]]:
    """Return the rows in the types of the contract, and all violations of single rows.

    Values of another type are missing in the returned rows. A required column that the table lacks
    is missing in every row.
    """
    typed = frame.copy(deep=False)
    violations = []
    for name, rule in rules.columns.items():
        if name not in frame:
            if rule.required:
                every_row = np.ones(len(frame), dtype=bool)
                violations.append(_create_violation(rule, ViolationCode.MISSING, every_row))
            continue
        values, is_invalid = coerce_column(frame[name], ColumnKind(rule.kind))
        is_invalid = is_invalid.to_numpy() | _is_implausible_time(values)
        if is_invalid.any():
            values = values.where(~is_invalid)
            violations.append(_create_violation(rule, ViolationCode.TYPE, is_invalid))
        typed[name] = values
        violations += _list_value_violations(rule, values, is_invalid)
    violations += _find_unknown_columns(frame, rules)
    found = [violation for violation in violations if len(violation.positions)]
    return typed, [_add_examples(frame, violation) for violation in found]


def _list_value_violations(
    rule: ColumnRule, values: pd.Series, is_invalid: np.ndarray
) -> Iterator[RowViolation]:
    """Yield the violations of the values of a column that are of its kind."""
    for code, mask in rule.locate_violations(values).items():
        if code != ViolationCode.RANGE:
            # A value of another type is not also a missing one.
            yield _create_violation(rule, code, mask & ~is_invalid)
            continue
        is_above = mask & _to_mask(values > rule.maximum)
        yield _create_violation(rule, code, is_above, is_above=True)
        yield _create_violation(rule, code, mask & ~is_above)


def _is_implausible_time(values: pd.Series) -> np.ndarray:
    """Return which timestamps are of a year that must be a mistake."""
    if not pd.api.types.is_datetime64_any_dtype(values):
        return np.zeros(len(values), dtype=bool)
    is_plausible = values.dt.year.between(MIN_YEAR, MAX_YEAR)
    return np.asarray(values.notna() & ~is_plausible, dtype=bool)


def _create_violation(
    rule: ColumnRule, code: ViolationCode, mask: np.ndarray, is_above: bool = False
) -> RowViolation:
    """Return the violation of the masked rows."""
    return RowViolation(
        rule.name,
        code,
        rule.describe_rule(code, is_above),
        np.flatnonzero(mask),
        rule.accepts(code),
    )


def _find_unknown_columns(frame: pd.DataFrame, rules: RowRules) -> Iterator[RowViolation]:
    """Yield a violation for each column that neither the contract nor the source has."""
    for name in map(str, frame.columns):
        if rules.is_unknown(name):
            yield RowViolation(
                name,
                ViolationCode.UNKNOWN_FIELD,
                "a known column",
                np.flatnonzero(frame[name].notna()),
                rules.accepts_unknown_columns,
            )


def _add_examples(frame: pd.DataFrame, violation: RowViolation) -> RowViolation:
    """Return a violation with a few of the values."""
    if violation.column not in frame or violation.code == ViolationCode.MISSING:
        return violation
    values = frame[violation.column].iloc[violation.positions].astype(str).unique()
    examples = ", ".join(value[:_MAX_EXAMPLE_CHARACTERS] for value in values[:_MAX_EXAMPLES])
    return replace(violation, examples=examples)


def mark_rejected_rows(violations: Iterable[RowViolation], row_count: int) -> np.ndarray:
    """Return which rows are rejected."""
    is_rejected = np.zeros(row_count, dtype=bool)
    for violation in violations:
        if not violation.is_accepted:
            is_rejected[violation.positions] = True
    return is_rejected


@dataclass(frozen=True)
class RowCheck:
    """Rows to score, after the contract has decided.

    Parameters
    ----------
    is_rejected : array of bool
        Which rows are rejected.
    violations : list of RowViolation
        All violations, of rejected and of accepted rows.
    table : Table
        The violations as a table, with a sentence.
    """

    is_rejected: np.ndarray
    violations: list[RowViolation]
    table: Table

    @property
    def rejected_count(self) -> int:
        """Number of rejected rows."""
        return int(self.is_rejected.sum())

    def describe_rows(self) -> list[str]:
        """Describe why each row is rejected; an empty text for one that is not."""
        texts = [""] * len(self.is_rejected)
        for violation in self.violations:
            if violation.is_accepted:
                continue
            text = phrase_violation(violation.column, violation.rule)
            for position in violation.positions:
                texts[position] = "; ".join(filter(None, [texts[position], text]))
        return texts


def check_rows(frame: pd.DataFrame, rules: RowRules) -> RowCheck:
    """Decide which rows to score are rejected."""
    rows = frame.reset_index(drop=True)
    _, violations = find_row_violations(rows, rules)
    is_rejected = mark_rejected_rows(violations, len(rows))
    return RowCheck(is_rejected, violations, _build_table(violations, is_rejected))


def _build_table(violations: list[RowViolation], is_rejected: np.ndarray) -> Table:
    """Build the table of a check: one row per violated rule."""
    records = []
    for violation in violations:
        outcome = "accepted" if violation.is_accepted else "rejected"
        count = len(violation.positions)
        records.append((violation.column, violation.rule, outcome, count, violation.examples))
    data = pd.DataFrame(records, columns=["column", "rule", "outcome", "rows", "examples"])
    return Table("Rows and the contract", describe_check(violations, is_rejected), data)


def describe_check(violations: list[RowViolation], is_rejected: np.ndarray) -> str:
    """Describe how many rows are rejected and why, and what was accepted although it is new."""
    row_count = format_number(len(is_rejected))
    sentences = [f"All {row_count} rows satisfy the contract."]
    if is_rejected.any():
        reasons = _describe_violations(violations, lambda violation: not violation.is_accepted)
        rejected_count = format_number(int(is_rejected.sum()))
        sentences = [f"{rejected_count} of {row_count} rows are rejected: {reasons}."]
    accepted = _describe_violations(violations, lambda violation: violation.is_accepted)
    if accepted:
        sentences.append(f"Accepted although new: {accepted}.")
    return " ".join(sentences)


def _describe_violations(
    violations: list[RowViolation], is_selected: Callable[[RowViolation], bool]
) -> str:
    """List the selected violations with their number of rows."""
    parts = []
    for violation in filter(is_selected, violations):
        count = format_number(len(violation.positions))
        examples = f" ({violation.examples})" if violation.examples else ""
        parts.append(f"{phrase_violation(violation.column, violation.rule)} in {count}{examples}")
    return "; ".join(parts)
