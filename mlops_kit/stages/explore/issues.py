"""Findings about a table: pure functions from a frame to a table with its sentence.

Nothing here draws, and nothing changes the frame. Intervals take rows one by one; where rows of one
day go together the honest interval is wider, and each table says so.

To add a sign that something is wrong with a column: 1. a function of its facts here that returns a
sentence or None, 2. ``@SIGNS.register("name")``; ``suspicious`` and its tests know it from then on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from mlops_kit.core.extensions import ExtensionRegistry
from mlops_kit.core.formatting import format_percent
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.data.columns import ROW_ID, infer_display_kind
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.explore.columns import MAX_CATEGORY_VALUES, get_column_role, make_hashable

_MANY_DISTINCT_VALUES = 100  # distinct texts from which a column is called wide


class ColumnFacts(NamedTuple):
    """What the signs look at: a column, its kind and role, rows, known values, distinct values."""

    values: Any
    kind: str
    role: str
    row_count: int
    known_count: int
    distinct_count: int


ISSUE_DETECTORS: ExtensionRegistry[Callable[[ColumnFacts], str | None]] = ExtensionRegistry("sign")


@ISSUE_DETECTORS.register("all missing")
def detect_all_missing(facts: ColumnFacts) -> str | None:
    """No value at all."""
    return f"none of {facts.row_count:,} rows has a value" if facts.known_count == 0 else None


@ISSUE_DETECTORS.register("constant")
def detect_constant(facts: ColumnFacts) -> str | None:
    """One value wherever there is one."""
    return (
        f"the only value is {facts.values.dropna().iloc[0]}"
        if facts.distinct_count == 1 and facts.row_count > 1
        else None
    )


@ISSUE_DETECTORS.register("mostly missing")
def detect_mostly_missing(facts: ColumnFacts) -> str | None:
    """Over half of the rows lack a value."""
    lacking = 1 - facts.known_count / facts.row_count if facts.row_count else 0.0
    return f"{format_percent(lacking)} of the rows lack a value" if 0.5 < lacking < 1 else None


@ISSUE_DETECTORS.register("nearly unique")
def detect_nearly_unique(facts: ColumnFacts) -> str | None:
    """Text that names the row rather than describes it."""
    named = (
        facts.role == "feature"
        and facts.kind in {"text", "other"}
        and facts.known_count >= MAX_CATEGORY_VALUES
        and facts.distinct_count > 0.9 * facts.known_count
    )
    return (
        f"{facts.distinct_count:,} different values in {facts.known_count:,} rows"
        if named
        else None
    )


@ISSUE_DETECTORS.register("own number for each row")
def detect_unique_integers(facts: ColumnFacts) -> str | None:
    """Whole numbers of which no two rows share one: an id, rather than a measurement."""
    own = (
        facts.role == "feature"
        and facts.kind == "number"
        and facts.known_count >= MAX_CATEGORY_VALUES
        and facts.distinct_count == facts.known_count
    )
    whole = own and bool((facts.values.dropna() % 1 == 0).all())
    return (
        f"each of {facts.known_count:,} rows has a whole number of its own: an id belongs under 'id' or 'excluded_columns'"
        if whole
        else None
    )


@ISSUE_DETECTORS.register("many values")
def detect_many_values(facts: ColumnFacts) -> str | None:
    """Text with more values than a model can learn one by one."""
    wide = (
        facts.role == "feature"
        and facts.kind == "text"
        and _MANY_DISTINCT_VALUES < facts.distinct_count <= 0.9 * facts.known_count
    )
    return f"{facts.distinct_count:,} different values" if wide else None


@ISSUE_DETECTORS.register("infinite")
def detect_infinite_values(facts: ColumnFacts) -> str | None:
    """Numbers that are not finite."""
    count = (
        int(facts.values.isin([float("inf"), float("-inf")]).sum()) if facts.kind == "number" else 0
    )
    return f"{count:,} values are infinite" if count else None


@ISSUE_DETECTORS.register("number as text")
def detect_numbers_as_text(facts: ColumnFacts) -> str | None:
    """Text whose every value reads as a number."""
    if facts.kind != "text" or facts.role not in {"feature", "target"}:
        return None
    unique = pd.Series(facts.values.dropna().astype("object").unique())
    return (
        "every value reads as a number"
        if pd.to_numeric(unique, errors="coerce").notna().all()
        else None
    )


@ISSUE_DETECTORS.register("one sort of value")
def detect_mixed_types(facts: ColumnFacts) -> str | None:
    """Values of several types in one column."""
    if facts.kind != "other":
        return None
    types = sorted({type(v).__name__ for v in facts.values.dropna()})
    return f"values of {len(types)} types: {', '.join(types)}" if len(types) > 1 else None


def find_duplicate_columns(frame: pd.DataFrame) -> Iterable[tuple[str, str]]:
    """Pairs of columns with the same values in every row; constants are left out."""
    seen: dict[str, str] = {}
    for column in frame.columns:
        values = make_hashable(frame[column])
        if values.nunique() < 2:
            continue
        # 1 and 1.0, True and 1 count as the same value: a copy often changes its type.
        comparable_values = (
            values.astype("float64")
            if infer_display_kind(values) in {"number", "yes or no"}
            else values.astype("string")
        )
        mark = hashlib.sha256(
            pd.util.hash_pandas_object(comparable_values, index=False).to_numpy().tobytes()
        ).hexdigest()
        if mark in seen:
            yield str(column), seen[mark]
        seen.setdefault(mark, str(column))


def find_duplicate_rows(frame: pd.DataFrame, config: ProjectConfig) -> list[tuple[str, str, str]]:
    """Ids that occur twice and, where rows have no id of their own, whole rows that do."""
    held = [c for c in config.id if c in frame.columns]
    columns, name = (
        (held, "id twice") if held else ([c for c in frame.columns if c != ROW_ID], "row twice")
    )
    count = (
        int(
            pd.DataFrame({c: make_hashable(frame[c]) for c in columns}, index=frame.index)
            .duplicated()
            .sum()
        )
        if columns
        else 0
    )
    return (
        [(", ".join(held) or "all columns", name, f"{count:,} rows repeat an earlier one")]
        if count
        else []
    )


def find_data_issues(frame: pd.DataFrame, config: ProjectConfig) -> Table:
    """What looks wrong: signs of single columns, twin columns, ids and rows that occur twice."""
    found: list[tuple[str, str, str]] = []
    for column in frame.columns:
        values = make_hashable(frame[column])
        facts = ColumnFacts(
            frame[column],
            infer_display_kind(frame[column]),
            get_column_role(column, config),
            len(frame),
            int(values.notna().sum()),
            int(values.nunique()),
        )
        found += [
            (str(column), name, said)
            for name, sign in ISSUE_DETECTORS.items()
            if (said := sign(facts))
        ]
    found += [
        (column, "copy", f"the same values as {first}")
        for column, first in find_duplicate_columns(frame)
    ]
    found += find_duplicate_rows(frame, config)
    data = pd.DataFrame(found, columns=["column", "sign", "what is seen"])
    if data.empty:
        return Table(
            "What looks wrong?",
            f"Nothing looks wrong in {frame.shape[1]} columns and {len(frame):,} rows.",
            data,
        )
    first = data.iloc[0]
    where = data["column"].nunique()
    sentence = f"{len(data)} {'sign' if len(data) == 1 else 'signs'} in {where} {'place' if where == 1 else 'places'}; the first: {first['column']}, {first['sign']} ({first['what is seen']})."
    return Table("What looks wrong?", sentence, data)
