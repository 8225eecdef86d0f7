"""Tables of reviews made by earlier versions of mlops-kit, in the columns of today.

To rename a column of a stored table: add the old and the new name to `_RENAMED_COLUMNS`.
"""

from __future__ import annotations

from dataclasses import replace

from mlops_kit.core.results import Table

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
