"""The vocabulary of monitoring tables, and how tables of earlier versions are read.

Drift tables have one row per column, tables of realized performance one row per metric. Stages,
``watch`` and the dashboards read them, so the terms are defined below all of these.
"""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum

from mlops_kit.core.results import Table

# The check of realized performance; verdicts and incidents are stored under this name.
REALIZED_PERFORMANCE_CHECK = "realised"  # stored by earlier versions
CONCEPT_DRIFT_CHECK = "gap"  # stored by earlier versions
CONFIRMED_DRIFT_CHECK = "confirmed_drift"
# Whether a column's drift has no known cost because the reference has no such rows.
OUTSIDE_SUPPORT_COLUMN = "outside_support"


class DriftStatus(StrEnum):
    """The outcome of a drift test for one column."""

    ALERT = "alert"
    WARNING = "warning"
    NONE = "none"
    NOT_TESTED = "not_tested"


class DriftReason(StrEnum):
    """What a column's drift status rests on."""

    EFFECT = "effect"  # the size of the effect and its significance
    MISSING_VALUES = "missing_values"  # many more values are missing
    NEW_VALUES = "new_values"  # a category or an infinity that the reference does not have
    RARE_VALUES = "rare_values"  # a rare category is much more or less frequent
    EXTREME_VALUES = "extreme_values"  # many more values in the tails of the reference
    SEASONAL = "seasonal"  # as in the same phase of earlier years
    TOO_FEW_ROWS = "too_few_rows"
    ALL_MISSING = "all_missing"
    CONSTANT = "constant"
    NOT_COMPARABLE = "not_comparable"  # dates, and text that identifies rows
    TYPE_CHANGED = "type_changed"
    COLUMN_ABSENT = "column_absent"


# What earlier versions stored as the ``word`` of a column.
_STATUS_BY_LEGACY_WORD = {
    "alert": (DriftStatus.ALERT, DriftReason.EFFECT),
    "watch": (DriftStatus.WARNING, DriftReason.EFFECT),
    "new category": (DriftStatus.WARNING, DriftReason.NEW_VALUES),
    "infinite": (DriftStatus.WARNING, DriftReason.NEW_VALUES),
    "no drift": (DriftStatus.NONE, DriftReason.EFFECT),
    "cannot tell": (DriftStatus.NOT_TESTED, DriftReason.TOO_FEW_ROWS),
    "all missing": (DriftStatus.NOT_TESTED, DriftReason.ALL_MISSING),
    "constant": (DriftStatus.NOT_TESTED, DriftReason.CONSTANT),
    "not compared": (DriftStatus.NOT_TESTED, DriftReason.NOT_COMPARABLE),
    "type changed": (DriftStatus.NOT_TESTED, DriftReason.TYPE_CHANGED),
    "absent": (DriftStatus.NOT_TESTED, DriftReason.COLUMN_ABSENT),
}
_RENAMED_COLUMNS = {
    "why": "explanation",
    "promised": "reference",  # stored by earlier versions
}


def upgrade_monitoring_table(table: Table) -> Table:
    """Return a table of drift or realized performance with the present columns.

    A table of this version is returned as it is.
    """
    data = table.data.rename(columns=_RENAMED_COLUMNS)
    if "word" in data.columns:
        statuses = []
        reasons = []
        for word, p_value in zip(data["word"], data["p_value"], strict=True):
            status, reason = _STATUS_BY_LEGACY_WORD[word]
            is_untested = p_value is None or p_value != p_value
            if status is DriftStatus.ALERT and is_untested:
                reason = DriftReason.MISSING_VALUES
            statuses.append(str(status))
            reasons.append(str(reason))
        position = list(data.columns).index("word")
        data = data.drop(columns="word")
        data.insert(position, "status", statuses)
        data.insert(position + 1, "reason", reasons)
    visible_columns = []
    for name in table.visible_columns:
        visible_columns.append("status" if name == "word" else _RENAMED_COLUMNS.get(name, name))
    return replace(
        table,
        data=data,
        visible_columns=tuple(visible_columns),
    )
