"""The data contract: what each column holds, kept as YAML that people edit, checked with pandera.

A contract is inferred once from the rows known then, with room on every side, and is the project's
from then on. A row that breaks it is put aside; what no row can be blamed for (a column that is gone,
of another type, or empty), or too many rows put aside, breaks the contract and stops the run.

To add a rule: 1. a field with a ``description`` in ``Column``, 2. its pandera check in ``checks``,
with a name in words (rows it fails are put aside) or one of ``BREAKS`` (it stops the run).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, Field, ValidationError

from mlops_kit import trace
from mlops_kit.config import Config, read_yaml
from mlops_kit.errors import KitError, RunFailed, nearest
from mlops_kit.late import Late, np, pd
from mlops_kit.results import Result, number, percent
from mlops_kit.sources import ROW
from mlops_kit.store import write_text

pa = Late("pandera.pandas")
Kind = Literal["number", "integer", "text", "boolean", "moment", "empty"]
# By pandas' word for what a column holds.
KINDS: dict[str, Kind] = {
    "boolean": "boolean",
    "integer": "integer",
    "floating": "number",
    "decimal": "number",
    "mixed-integer-float": "number",
    "complex": "number",
    "date": "moment",
    "datetime": "moment",
    "datetime64": "moment",
}
A = {
    "number": "a number",
    "integer": "a whole number",
    "text": "text",
    "boolean": "true or false",
    "moment": "a moment",
}
GONE, HOLLOW, SPARSE, OTHER = (
    "the column is there",
    "not all of it is missing",
    "missing in at most {}",
    "the column holds {}",
)
MISSING = "not missing"
BREAKS = tuple(rule.split("{")[0] for rule in (GONE, HOLLOW, SPARSE, OTHER))
CATEGORIES, SEEN = (
    30,
    20,
)  # a text column with this many values at most, each seen this often on average, has allowed ones
ROOM = 0.5  # of the range seen, added on either side
MISSING_ROOM = 0.05
NUMERIC_TEXT = 0.95  # of a text column's values that are numbers: the rest are typing errors
CLOCK = 0.9  # rank correlation with time above which a column is a counter or a calendar: it will leave any range
EXAMPLES = 3
WORDS = {
    "true": True,
    "yes": True,
    "1": True,
    "1.0": True,
    "false": False,
    "no": False,
    "0": False,
    "0.0": False,
}
HEADER = Path(__file__).with_name("contract.head.yaml")


class Column(BaseModel, extra="forbid", frozen=True):
    """What one column holds."""

    type: Kind = Field(description="What its values are")
    missing: float = Field(1.0, ge=0, le=1, description="Largest share of missing values")
    min: int | float | None = Field(None, description="Smallest value")
    max: int | float | None = Field(None, description="Largest value")
    allowed: list[bool | int | float | str] | None = Field(
        None, description="All values there may be"
    )


class Contract(BaseModel, extra="forbid", frozen=True):
    """What a table holds; ``unique`` are the columns that together name a row."""

    unique: list[str] = Field([], description="Columns that together name a row")
    columns: dict[str, Column] = Field(description="Each column by name")


@dataclass(frozen=True, repr=False)
class Report(Result):
    """How rows keep to a contract: a line a rule that failed (column, rule, rows, share, examples), and whether the run must stop."""

    sentence: str
    data: pd.DataFrame
    good_rows: int
    quarantined: int
    broken: bool
    notes: tuple[str, ...] = ()


def infer(frame: pd.DataFrame, config: Config) -> Contract:
    """The contract that these rows keep, with room for those to come.

    The target, and what is known later, may be missing altogether: it depends on when one looks.
    Identifiers, constants, and columns that move with time have no range: they will leave any.
    """
    late = {*config.known_later, *([config.target] if config.time else [])}
    columns = {}
    for name in (c for c in frame.columns if c != ROW):
        values, named = frame[name], name in {*config.id, config.time}
        held = kind_of(values)
        missing = (
            0.0 if named else 1.0 if name in late or held == "empty" else share_with_room(values)
        )
        facts: dict[str, Any] = {}
        if held in {"number", "integer"} and not named and not follows(frame, name, config.time):
            facts = limits(coerced(values, held)[0], held)
        if held == "text" and not named or name == config.target and config.task == "binary":
            facts = {"allowed": categories(values, always=name == config.target)}
        columns[str(name)] = Column(type=held, missing=missing, **facts)
    return Contract(unique=list(config.id), columns=columns)


def kind_of(values: pd.Series) -> Kind:
    """What a column holds: by its type, and by its values where the type does not tell."""
    filled = values.dropna()
    if filled.empty:
        return "empty"
    seen = (
        "boolean"
        if pd.api.types.is_bool_dtype(values.dtype)
        else pd.api.types.infer_dtype(filled, skipna=True)
    )
    if seen in KINDS:
        return KINDS[seen]
    text = filled.astype(str)
    # 01234 is a code, not a number: made a number it would lose its zero
    if (
        not text.str.match(r"0\d").any()
        and pd.to_numeric(text, errors="coerce").notna().mean() >= NUMERIC_TEXT
    ):
        return "number"
    dated = text.head(1000)
    return (
        "moment"
        if dated.str.match(r"\d{4}-\d\d-\d\d").all() and coerced(dated, "moment")[1].sum() == 0
        else "text"
    )


def share_with_room(values: pd.Series) -> float:
    """The largest share of missing values, with room above what was seen."""
    return min(1.0, math.ceil(100 * (1.5 * float(values.isna().mean()) + MISSING_ROOM)) / 100)


def follows(frame: pd.DataFrame, name: str, time: str | None) -> bool:
    """Whether a column moves with time, as counters and calendars do (Spearman's rank correlation)."""
    if time is None:
        return False
    some = frame.iloc[:: max(1, len(frame) // 20_000)]
    ranks = coerced(some[name], "number")[0].rank()
    return ranks.nunique() > 1 and abs(float(ranks.corr(some[time].rank()))) > CLOCK


def limits(values: pd.Series, held: Kind) -> dict[str, Any]:
    """Smallest and largest value with room of half the range; what was never negative stays so."""
    finite = values[values.abs() < math.inf].astype(float)
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 0.0)
    if low == high:
        return {}
    room = ROOM * (high - low)
    unit = 1.0 if held == "integer" else 10.0 ** max(0, 2 - math.floor(math.log10(high - low)))
    least, most = math.floor((low - room) * unit) / unit, math.ceil((high + room) * unit) / unit
    least, most = (0.0 if low >= 0 else least), (0.0 if high <= 0 else most)
    return (
        {"min": int(least), "max": int(most)} if held == "integer" else {"min": least, "max": most}
    )


def categories(values: pd.Series, always: bool) -> list[Any] | None:
    """The values of a column with few of them; None where others are to be expected."""
    seen = values.dropna()
    found = sorted({v.item() if hasattr(v, "item") else v for v in seen.unique()}, key=str)
    return (
        found if always or 0 < len(found) <= CATEGORIES and len(seen) >= SEEN * len(found) else None
    )


def load(path: Path) -> Contract:
    """Read a contract.

    Raises
    ------
    KitError
        If the file is missing, is not YAML or says what no contract can; every mistake at once.
    """
    if not path.is_file():
        raise KitError(
            f"no contract at {str(path)!r}",
            "the file named under contract.file",
            "mlops run --only prepare",
        )
    trace.file(path)
    found = path.stat()
    return loaded(path, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=16)
def loaded(path: Path, changed: int, size: int) -> Contract:
    """The contract in a file as it is now."""
    cure = f"edit {path.name}, or take it away: the next run infers it anew"
    try:
        return Contract.model_validate(read_yaml(path, cure) or {})
    except ValidationError as error:
        raise KitError(
            f"{path.name} does not say a contract:\n  " + "\n  ".join(map(_word, error.errors())),
            cure=cure,
        ) from error


def _word(error: Any) -> str:
    """One of pydantic's errors in words."""
    place = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        return f"{place}: unknown key; expected {nearest(str(error['loc'][-1]), (Column if len(error['loc']) == 3 else Contract).model_fields)}"
    return f"{place}: {error.get('input')!r}; {error['msg'].replace('Input should be', 'expected')}"


def save(path: Path, contract: Contract) -> None:
    """Write a contract atomically, with a header for those who edit it."""
    write_text(
        path,
        HEADER.read_text(encoding="utf-8")
        + yaml.safe_dump(
            contract.model_dump(exclude_defaults=True),
            sort_keys=False,
            allow_unicode=True,
            default_flow_style=None,
            width=160,
        ),
    )


def coerced(values: pd.Series, held: Kind) -> tuple[pd.Series, pd.Series]:
    """A column as its kind, and which of its values could not be made so (those are missing in it)."""
    none = pd.Series(False, index=values.index)
    types, dtype = pd.api.types, values.dtype
    fits = {
        "number": types.is_numeric_dtype,
        "integer": types.is_integer_dtype,
        "moment": types.is_datetime64_any_dtype,
        "boolean": types.is_bool_dtype,
    }
    if (
        held == "empty"
        or held in fits
        and fits[held](dtype)
        and not (held == "number" and types.is_bool_dtype(dtype))
    ):
        return values, none
    if held == "text":
        return (
            values
            if types.infer_dtype(values, skipna=True) in {"string", "empty", "categorical"}
            else values.map(_text, na_action="ignore")
        ), none
    made: Any
    if held == "moment":
        made = pd.to_datetime(values, errors="coerce", utc=True, format="mixed")
    elif held == "boolean":
        made = values.map(lambda v: WORDS.get(str(v).strip().lower()), na_action="ignore").astype(
            "boolean"
        )
    else:
        made = pd.to_numeric(
            values.astype(float) if types.is_bool_dtype(dtype) else values, errors="coerce"
        )
        made = made.where(made % 1 == 0) if held == "integer" else made
    return made, made.isna() & values.notna()


def typed(frame: pd.DataFrame, contract: Contract) -> tuple[pd.DataFrame, dict[str, pd.Series]]:
    """Rows in the contract's types, as training saw them, and by column the values that are of no such type.

    Those values are missing in the rows; a column that the contract does not know stays as it is.
    """
    made, odd = frame.copy(deep=False), {}
    for name, column in contract.columns.items():
        if name in frame:
            made[name], wrong = coerced(frame[name], column.type)
            if wrong.any():
                made[name], odd[name] = made[name].where(~wrong), frame.loc[wrong, name]
    return made, odd


def _text(value: Any) -> str:
    """A value as text; 1.0 is what a missing neighbour made of 1."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def checks(column: Column) -> Iterator[Any]:
    """The pandera checks of one column; those whose name begins as one of ``BREAKS`` stop the run."""
    if column.type == "empty":
        return
    if column.missing < 1:
        yield pa.Check(lambda s: bool(s.notna().any()), name=HOLLOW, ignore_na=False)
    if 0 < column.missing < 1:
        yield pa.Check(
            lambda s: bool(s.isna().mean() <= column.missing),
            name=SPARSE.format(percent(column.missing)),
            ignore_na=False,
        )
    if column.min is not None and column.type in {"number", "integer"}:
        yield pa.Check.ge(column.min, name=f"at least {number(column.min)}")
    if column.max is not None and column.type in {"number", "integer"}:
        yield pa.Check.le(column.max, name=f"at most {number(column.max)}")
    if column.allowed is not None:
        named = ", ".join(map(str, column.allowed[:8])) + (", …" if len(column.allowed) > 8 else "")
        yield pa.Check.isin(list(column.allowed), name=f"one of {named}")


def check(
    frame: pd.DataFrame, contract: Contract, bad_rows_limit: float
) -> tuple[Report, pd.DataFrame, pd.DataFrame]:
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
        seen: Any = rows[name].iloc[at].astype(str).unique()[:EXAMPLES] if name in rows else []
        found.append((name, rule, len(at), len(at) / max(len(rows), 1), ", ".join(seen)))
        if not rule.startswith(BREAKS):
            bad[at] = True

    made, odd = typed(rows, contract) if len(rows) else (rows, {})
    for name, values in odd.items():
        held = A[contract.columns[name].type]
        other = len(values) / rows[name].notna().sum() > bad_rows_limit
        note(name, OTHER.format(held) if other else held, values.index)
        made[name] = rows[name] if other else made[name]
    wrong = {name for name, rule, *_ in found if rule.startswith(BREAKS)}
    for name, rule, where in failures(made, contract, wrong):
        # what could not be read is missing from here on, and has been told already
        left = (
            where[rows[name].isna().to_numpy()[where]]
            if rule == MISSING and name in rows
            else where
        )
        if len(left) or rule == GONE:
            note(name, rule, left)
    data = pd.DataFrame(found, columns=["column", "rule", "rows", "share", "examples"])
    report = told(
        data,
        len(rows),
        int(bad.sum()),
        bad_rows_limit,
        sorted(set(map(str, rows.columns)) - {*contract.columns, ROW}),
    )
    return report, made[~bad].reset_index(drop=True), rows[bad].reset_index(drop=True)


def failures(
    made: pd.DataFrame, contract: Contract, wrong: set[str]
) -> Iterator[tuple[str, str, Any]]:
    """What pandera finds: column, rule in words, positions of the rows (all, where none is to blame)."""
    everywhere = np.arange(len(made))
    sound = {
        n: c for n, c in contract.columns.items() if n not in wrong and (len(made) or n not in made)
    }
    schema = pa.DataFrameSchema(
        {
            n: pa.Column(
                None, checks=list(checks(c)), nullable=c.missing > 0 or c.type == "empty", name=n
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
                    GONE,
                    everywhere,
                )
            else:
                name, rule = (
                    error.schema.name,
                    MISSING
                    if error.reason_code.name == "SERIES_CONTAINS_NULLS"
                    else str(error.check.name),
                )
                missing = rule.startswith((MISSING, HOLLOW, SPARSE.format("")))
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


def told(data: pd.DataFrame, rows: int, bad: int, limit: float, new: list[str]) -> Report:
    """The report in words: what stops the run first, then what was put aside."""
    stops = data[data["rule"].str.startswith(BREAKS)] if len(data) else data
    why = [
        f"{c!r} should be such that {r}" if r != GONE else f"the column {c!r} is gone"
        for c, r in zip(stops["column"], stops["rule"], strict=True)
    ]
    share = bad / max(rows, 1)
    if share > limit:
        why.append(
            f"{number(bad)} of {number(rows)} rows ({percent(share)}) would be put aside, and at most {percent(limit)} may be"
        )
    if why:
        sentence = f"The contract is broken: {'; '.join(why)}."
    elif bad:
        worst = data.sort_values("rows", ascending=False, kind="stable").iloc[0]
        sentence = f"{number(bad)} of {number(rows)} rows ({percent(share)}) are put aside; most often `{worst['column']}` is not {worst['rule']}."
    else:
        sentence = f"All {number(rows)} rows keep to the contract."
    return Report(
        sentence,
        data,
        rows - bad,
        bad,
        bool(why),
        (f"not in the contract, and not checked: {', '.join(new)}",) if new else (),
    )


def enforce(report: Report) -> None:
    """Stop if the contract is broken.

    Raises
    ------
    RunFailed
        With the report's sentence.
    """
    if report.broken:
        raise RunFailed(
            report.sentence,
            "rows that keep to the data contract",
            "mend the source, or edit the contract where the world has changed",
        )
