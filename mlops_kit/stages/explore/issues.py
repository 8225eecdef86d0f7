"""Data issues: columns and rows that look wrong. Nothing here changes the table.

To add an issue that a single column can have:

1. Write a function that takes the column's facts and returns a sentence, or None.
2. Decorate it with ``@ISSUE_DETECTORS.register("name of the issue")``.

``find_data_issues`` and the contract tests then include it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from mlops_kit.core.extensions import ExtensionRegistry
from mlops_kit.core.formatting import format_percent
from mlops_kit.core.frames import to_pandas
from mlops_kit.core.lazy import pd
from mlops_kit.core.results import Table
from mlops_kit.data.column_kinds import DisplayKind, infer_display_kind
from mlops_kit.data.columns import ROW_ID
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.stages.explore.columns import MAX_CATEGORY_VALUES, get_column_role, make_hashable

_MANY_DISTINCT_VALUES = 100  # distinct texts from which a column has "many values"
_NEARLY_UNIQUE_SHARE = 0.9  # of known values that are distinct: text above it names the row
_MOSTLY_MISSING_SHARE = 0.5
_TITLE = "Data issues"


@dataclass(frozen=True)
class ColumnFacts:
    """What the detectors look at: a column, its kind and role, and counts of its rows."""

    values: Any
    kind: str
    role: str
    row_count: int
    known_count: int
    distinct_count: int


ISSUE_DETECTORS: ExtensionRegistry[Callable[[ColumnFacts], str | None]] = ExtensionRegistry(
    "issue detector"
)


@ISSUE_DETECTORS.register("all missing")
def detect_all_missing(facts: ColumnFacts) -> str | None:
    """Detect a column without any value."""
    if facts.known_count:
        return None
    return f"none of {facts.row_count:,} rows has a value"


@ISSUE_DETECTORS.register("constant")
def detect_constant(facts: ColumnFacts) -> str | None:
    """Detect a column with a single distinct value."""
    if facts.distinct_count != 1 or facts.row_count < 2:
        return None
    return f"the only value is {facts.values.dropna().iloc[0]}"


@ISSUE_DETECTORS.register("mostly missing")
def detect_mostly_missing(facts: ColumnFacts) -> str | None:
    """Detect a column in which over half of the values are missing."""
    if not facts.row_count:
        return None
    missing_share = 1 - facts.known_count / facts.row_count
    if not _MOSTLY_MISSING_SHARE < missing_share < 1:
        return None
    return f"{format_percent(missing_share)} of the values are missing"


@ISSUE_DETECTORS.register("nearly unique")
def detect_nearly_unique(facts: ColumnFacts) -> str | None:
    """Detect text that identifies the row rather than describes it."""
    is_text_feature = facts.role == "feature" and facts.kind in {
        DisplayKind.TEXT,
        DisplayKind.OTHER,
    }
    if not is_text_feature or facts.known_count < MAX_CATEGORY_VALUES:
        return None
    if facts.distinct_count <= _NEARLY_UNIQUE_SHARE * facts.known_count:
        return None
    return f"{facts.distinct_count:,} distinct values in {facts.known_count:,} rows"


@ISSUE_DETECTORS.register("unique integers")
def detect_unique_integers(facts: ColumnFacts) -> str | None:
    """Detect whole numbers that differ in every row: an id rather than a measurement."""
    if facts.role != "feature" or facts.kind != DisplayKind.NUMBER:
        return None
    is_unique = facts.known_count >= MAX_CATEGORY_VALUES
    is_unique = is_unique and facts.distinct_count == facts.known_count
    if not is_unique or not (facts.values.dropna() % 1 == 0).all():
        return None
    return (
        f"each of {facts.known_count:,} rows has a different whole number: "
        "list an id under 'id' or 'excluded_columns'"
    )


@ISSUE_DETECTORS.register("many values")
def detect_many_values(facts: ColumnFacts) -> str | None:
    """Detect text with too many distinct values to learn each of them."""
    if facts.role != "feature" or facts.kind != DisplayKind.TEXT:
        return None
    nearly_unique_count = _NEARLY_UNIQUE_SHARE * facts.known_count
    if not _MANY_DISTINCT_VALUES < facts.distinct_count <= nearly_unique_count:
        return None
    return f"{facts.distinct_count:,} distinct values"


@ISSUE_DETECTORS.register("infinite values")
def detect_infinite_values(facts: ColumnFacts) -> str | None:
    """Detect numbers that are not finite."""
    if facts.kind != DisplayKind.NUMBER:
        return None
    count = int(facts.values.isin([float("inf"), float("-inf")]).sum())
    if count:
        return f"{count:,} values are infinite"
    return None


@ISSUE_DETECTORS.register("numbers as text")
def detect_numbers_as_text(facts: ColumnFacts) -> str | None:
    """Detect text of which every value can be read as a number."""
    if facts.kind != DisplayKind.TEXT or facts.role not in {"feature", "target"}:
        return None
    unique = pd.Series(facts.values.dropna().astype("object").unique())
    if pd.to_numeric(unique, errors="coerce").isna().any():
        return None
    return "every value can be read as a number"


@ISSUE_DETECTORS.register("mixed types")
def detect_mixed_types(facts: ColumnFacts) -> str | None:
    """Detect values of several types in one column."""
    if facts.kind != DisplayKind.OTHER:
        return None
    types = sorted({type(value).__name__ for value in facts.values.dropna()})
    if len(types) < 2:
        return None
    return f"values of {len(types)} types: {', '.join(types)}"


def find_duplicate_columns(frame: pd.DataFrame) -> Iterator[tuple[str, str]]:
    """Yield each column that repeats an earlier one in every row; constants are left out.

    Yields
    ------
    column, original : str
    """
    column_by_hash: dict[str, str] = {}
    for column in frame.columns:
        values = make_hashable(frame[column])
        if values.nunique() < 2:
            continue
        content_hash = _hash_values(values)
        if content_hash in column_by_hash:
            yield str(column), column_by_hash[content_hash]
        else:
            column_by_hash[content_hash] = str(column)


def _hash_values(values: pd.Series) -> str:
    """Hash a column so that 1, 1.0 and True are the same: a copy often changes its type."""
    if infer_display_kind(values) in {DisplayKind.NUMBER, DisplayKind.BOOLEAN}:
        comparable: pd.Series = values.astype("float64")
    else:
        comparable = values.astype("string")
    row_hashes = pd.util.hash_pandas_object(comparable, index=False).to_numpy()
    return hashlib.sha256(row_hashes.tobytes()).hexdigest()


def find_duplicate_rows(frame: pd.DataFrame, config: ProjectConfig) -> list[tuple[str, str, str]]:
    """Find duplicate ids or, where rows have no id, duplicate rows.

    Returns
    -------
    list of (columns, issue, details)
        Empty, or one entry.
    """
    id_columns = [column for column in config.id if column in frame.columns]
    columns = id_columns or [column for column in frame.columns if column != ROW_ID]
    if not columns:
        return []
    hashable = {column: make_hashable(frame[column]) for column in columns}
    count = int(pd.DataFrame(hashable, index=frame.index).duplicated().sum())
    if not count:
        return []
    details = f"{count:,} rows repeat an earlier one"
    if id_columns:
        return [(", ".join(id_columns), "duplicate ids", details)]
    return [("all columns", "duplicate rows", details)]


def find_data_issues(frame: pd.DataFrame, config: ProjectConfig) -> Table:
    """Find what looks wrong: issues of single columns, duplicate columns, ids and rows.

    Returns
    -------
    Table
        One row per issue: ``column``, ``issue``, ``details``.
    """
    frame = to_pandas(frame)
    issues: list[tuple[str, str, str]] = []
    for column in frame.columns:
        issues.extend(_find_column_issues(frame[column], str(column), config))
    for column, original in find_duplicate_columns(frame):
        issues.append((column, "duplicate column", f"the same values as {original}"))
    issues.extend(find_duplicate_rows(frame, config))
    data = pd.DataFrame(issues, columns=["column", "issue", "details"])
    if data.empty:
        sentence = f"No issues found in {frame.shape[1]} columns and {len(frame):,} rows."
        return Table(_TITLE, sentence, data)
    first = data.iloc[0]
    affected = data["column"].nunique()
    sentence = (
        f"{len(data)} {'issue' if len(data) == 1 else 'issues'} in {affected} "
        f"{'column' if affected == 1 else 'columns'}; the first is in {first['column']}: "
        f"{first['issue']} ({first['details']})."
    )
    return Table(_TITLE, sentence, data)


def _find_column_issues(
    values: pd.Series,
    column: str,
    config: ProjectConfig,
) -> Iterator[tuple[str, str, str]]:
    """Run all detectors on one column."""
    hashable = make_hashable(values)
    facts = ColumnFacts(
        values=values,
        kind=infer_display_kind(values),
        role=get_column_role(column, config),
        row_count=len(values),
        known_count=int(hashable.notna().sum()),
        distinct_count=int(hashable.nunique()),
    )
    for issue, detect in ISSUE_DETECTORS.items():
        details = detect(facts)
        if details:
            yield column, issue, details
