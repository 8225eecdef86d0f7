"""Contract validation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from mlops_kit.core.errors import RunFailedError
from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.core.lazy import LazyModule, np, pd
from mlops_kit.core.results import Result
from mlops_kit.data.columns import KIND_DESCRIPTIONS, ROW_ID
from mlops_kit.data.contract import ColumnContract, DataContract, coerce_types

pa = LazyModule("pandera.pandas")
_COLUMN_EXISTS, _NOT_ALL_MISSING, _MISSING_AT_MOST, _COLUMN_HOLDS = (
    "the column is there",
    "not all of it is missing",
    "missing in at most {}",
    "the column holds {}",
)
_NOT_MISSING = "not missing"
_BREAKING_RULES = tuple(
    rule.split("{")[0]
    for rule in (_COLUMN_EXISTS, _NOT_ALL_MISSING, _MISSING_AT_MOST, _COLUMN_HOLDS)
)
_MAX_EXAMPLES = 3


@dataclass(frozen=True, repr=False)
class ContractReport(Result):
    """How rows keep to a contract: a line a rule that failed (column, rule, rows, share, examples), and whether the run must stop."""

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


def _build_checks(column: ColumnContract) -> Iterator[Any]:
    """The pandera checks of one column; those whose name begins as one of ``BREAKS`` stop the run."""
    if column.type == "empty":
        return
    if column.missing < 1:
        yield pa.Check(lambda s: bool(s.notna().any()), name=_NOT_ALL_MISSING, ignore_na=False)
    if 0 < column.missing < 1:
        yield pa.Check(
            lambda s: bool(s.isna().mean() <= column.missing),
            name=_MISSING_AT_MOST.format(format_percent(column.missing)),
            ignore_na=False,
        )
    if column.min is not None and column.type in {"number", "integer"}:
        yield pa.Check.ge(column.min, name=f"at least {format_number(column.min)}")
    if column.max is not None and column.type in {"number", "integer"}:
        yield pa.Check.le(column.max, name=f"at most {format_number(column.max)}")
    if column.allowed is not None:
        named = ", ".join(map(str, column.allowed[:8])) + (", …" if len(column.allowed) > 8 else "")
        yield pa.Check.isin(list(column.allowed), name=f"one of {named}")


def validate_rows_against_contract(
    frame: pd.DataFrame, contract: DataContract, bad_rows_limit: float
) -> tuple[ContractReport, pd.DataFrame, pd.DataFrame]:
    """Hold rows to a contract: every failure at once.

    Returns
    -------
    report, good rows (of the contract's types), quarantined rows (as they came)
    """
    rows = frame.reset_index(drop=True)
    bad = np.zeros(len(rows), dtype=bool)
    found: list[tuple[str, str, int, float, str]] = []

    def note(name: str, rule: str, where: Any) -> None:
        at = np.asarray(where)
        seen: Any = rows[name].iloc[at].astype(str).unique()[:_MAX_EXAMPLES] if name in rows else []
        found.append((name, rule, len(at), len(at) / max(len(rows), 1), ", ".join(seen)))
        if not rule.startswith(_BREAKING_RULES):
            bad[at] = True

    made, odd = coerce_types(rows, contract) if len(rows) else (rows, {})
    for name, values in odd.items():
        held = KIND_DESCRIPTIONS[contract.columns[name].type]
        other = len(values) / rows[name].notna().sum() > bad_rows_limit
        note(name, _COLUMN_HOLDS.format(held) if other else held, values.index)
        made[name] = rows[name] if other else made[name]
    wrong = {name for name, rule, *_ in found if rule.startswith(_BREAKING_RULES)}
    for name, rule, where in _find_violations(made, contract, wrong):
        # what could not be read is missing from here on, and has been told already
        left = (
            where[rows[name].isna().to_numpy()[where]]
            if rule == _NOT_MISSING and name in rows
            else where
        )
        if len(left) or rule == _COLUMN_EXISTS:
            note(name, rule, left)
    data = pd.DataFrame(found, columns=["column", "rule", "rows", "share", "examples"])
    report = _summarize_violations(
        data,
        len(rows),
        int(bad.sum()),
        bad_rows_limit,
        sorted(set(map(str, rows.columns)) - {*contract.columns, ROW_ID}),
    )
    return report, made[~bad].reset_index(drop=True), rows[bad].reset_index(drop=True)


def _find_violations(
    made: pd.DataFrame, contract: DataContract, wrong: set[str]
) -> Iterator[tuple[str, str, Any]]:
    """What pandera finds: column, rule in words, positions of the rows (all, where none is to blame)."""
    everywhere = np.arange(len(made))
    sound = {
        n: c for n, c in contract.columns.items() if n not in wrong and (len(made) or n not in made)
    }
    schema = pa.DataFrameSchema(
        {
            n: pa.Column(
                None,
                checks=list(_build_checks(c)),
                nullable=c.missing > 0 or c.type == "empty",
                name=n,
            )
            for n, c in sound.items()
        }
    )
    try:
        schema.validate(made, lazy=True)
    except pa.errors.SchemaErrors as errors:
        for error in errors.schema_errors:
            where: Any = error.failure_cases
            if error.reason_code.name == "COLUMN_NOT_IN_DATAFRAME":
                yield (
                    str(where["failure_case"].iloc[0]) if hasattr(where, "columns") else str(where),
                    _COLUMN_EXISTS,
                    everywhere,
                )
            else:
                name, rule = (
                    error.schema.name,
                    _NOT_MISSING
                    if error.reason_code.name == "SERIES_CONTAINS_NULLS"
                    else str(error.check.name),
                )
                missing = rule.startswith(
                    (_NOT_MISSING, _NOT_ALL_MISSING, _MISSING_AT_MOST.format(""))
                )
                yield (
                    name,
                    rule,
                    np.flatnonzero(made[name].isna())
                    if missing
                    else where["index"].to_numpy(dtype=int),
                )
    if contract.unique and set(contract.unique) <= set(made):
        again = made.duplicated(contract.unique) & made[contract.unique].notna().all(axis=1)
        if again.any():
            yield (
                contract.unique[0],
                f"{' and '.join(contract.unique)} name a row once",
                np.flatnonzero(again),
            )


def _summarize_violations(
    data: pd.DataFrame, rows: int, bad: int, limit: float, new: list[str]
) -> ContractReport:
    """The report in words: what stops the run first, then what was put aside."""
    stops = data[data["rule"].str.startswith(_BREAKING_RULES)] if len(data) else data
    why = [
        f"{c!r} should be such that {r}" if r != _COLUMN_EXISTS else f"the column {c!r} is gone"
        for c, r in zip(stops["column"], stops["rule"], strict=True)
    ]
    share = bad / max(rows, 1)
    if share > limit:
        why.append(
            f"{format_number(bad)} of {format_number(rows)} rows ({format_percent(share)}) would be put aside, and at most {format_percent(limit)} may be"
        )
    if why:
        sentence = f"The contract is broken: {'; '.join(why)}."
    elif bad:
        worst = data.sort_values("rows", ascending=False, kind="stable").iloc[0]
        sentence = f"{format_number(bad)} of {format_number(rows)} rows ({format_percent(share)}) are put aside; most often `{worst['column']}` is not {worst['rule']}."
    else:
        sentence = f"All {format_number(rows)} rows keep to the contract."
    return ContractReport(
        sentence,
        data,
        rows - bad,
        bad,
        bool(why),
        (f"not in the contract, and not checked: {', '.join(new)}",) if new else (),
    )


def enforce_contract(report: ContractReport) -> None:
    """Stop if the contract is broken.

    Raises
    ------
    RunFailed
        With the report's sentence.
    """
    if report.is_broken:
        raise RunFailedError(
            report.sentence,
            "rows that keep to the data contract",
            "mend the source, or edit the contract where the world has changed",
        )
