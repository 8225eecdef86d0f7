"""Results of reviews made by earlier versions of mlops-kit, as they are stored today.

To rename a column of a stored table: add the old and the new name to `_RENAMED_COLUMNS`.
"""

from __future__ import annotations

from dataclasses import replace

from mlops_kit.core.formatting import capitalize_first
from mlops_kit.core.results import KeyNumber, KeyNumbers, Table

# Keys of the key numbers that are not metrics.
COST_KEY = "cost"
PRECISION_KEY = "precision_of_flagged"
RESPONSE_TIME_KEY = "response_time"
_RENAMED_COLUMNS = {
    "calibration": {"said": "predicted", "seen": "observed"},
    "changes": {"what": "aspect", "said": "change"},
    "importance": {"fall": "importance"},
    "slices": {"word": "status"},
    "what_if": {"is": "value", "if": "new_value", "then": "new_score"},
}


def translate_old_columns(artifact_name: str, table: Table) -> Table:
    """Rename the columns of a stored table that had other names in earlier versions.

    Parameters
    ----------
    artifact_name : str
        The name under which the review stored the table; other names are left alone.
    """
    new_names = _RENAMED_COLUMNS.get(artifact_name, {})
    if not set(new_names) & set(table.data.columns):
        return table
    visible_columns = []
    for column in table.visible_columns:
        visible_columns.append(new_names.get(column, column))
    return replace(
        table,
        data=table.data.rename(columns=new_names),
        units={new_names.get(column, column): unit for column, unit in table.units.items()},
        visible_columns=tuple(visible_columns),
    )


def add_number_keys(numbers: KeyNumbers, target: str, champion_version: str) -> KeyNumbers:
    """Add the key to the precision of flagged rows, which earlier versions stored without one.

    Parameters
    ----------
    target : str
        The target column, by which these versions named the number.
    champion_version : str
        The champion of the review, whose value they stored as a text.
    """
    items = []
    for number in numbers.items:
        is_precision = number.title == f"{capitalize_first(target)} among flagged"
        if is_precision and not number.key:
            number = _add_precision_key(number, f"version {champion_version}: ")
        items.append(number)
    return replace(numbers, items=tuple(items))


def _add_precision_key(number: KeyNumber, champion_prefix: str) -> KeyNumber:
    champion_value = ""
    for detail in number.details:
        if detail.startswith(champion_prefix):
            champion_value = detail.removeprefix(champion_prefix)
    return replace(number, key=PRECISION_KEY, champion_value=champion_value)
