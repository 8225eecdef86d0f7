"""Column names that the chain itself uses, and how a source may have them nevertheless.

The tables of a run have columns of their own, such as ``part`` and ``score``. A feature of that
name is called ``part_1`` in these tables. A column with a role (target, id, time, group or weight)
is called so from the source on, since it stands beside the chain's columns everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

ROW_ID_NAME = "row_id"
# Columns of the feature table, of scores and of predictions.
TABLE_COLUMNS = frozenset(
    {
        "part",
        "score",
        "decision",
        "prediction_id",
        "model_version",
        "day",
        "refitted",
        "baseline_constant",
        "baseline_linear",
    }
)
_SUFFIX = "_1"
_SINGLE_ROLES = ("target", "time", "weight")


def name_beside_chain(column: str, existing: Iterable[str] = ()) -> str:
    """Return the name of a column in a table that has columns of the chain.

    Parameters
    ----------
    existing : iterable of str
        Names that are taken.

    Examples
    --------
    >>> name_beside_chain("score"), name_beside_chain("age")
    ('score_1', 'age')
    """
    if column not in TABLE_COLUMNS and column != ROW_ID_NAME:
        return column
    taken = set(existing)
    number = 1
    while f"{column}_{number}" in taken:
        number += 1
    return f"{column}_{number}"


def rename_roles(settings: dict[str, Any]) -> dict[str, Any]:
    """Return settings in which roles have the names that their columns get when they are read.

    >>> rename_roles({"target": "score", "id": "row_id"})
    {'target': 'score_1', 'id': 'row_id'}
    """
    renamed = dict(settings)
    for role in _SINGLE_ROLES:
        if isinstance(renamed.get(role), str):
            renamed[role] = name_beside_chain(renamed[role])
    validation = renamed.get("validation")
    if isinstance(validation, dict) and isinstance(validation.get("group"), str):
        renamed["validation"] = {**validation, "group": name_beside_chain(validation["group"])}
    keys = renamed.get("id") or []
    key_list = [keys] if isinstance(keys, str) else list(keys)
    new_keys = [_name_key(key) for key in key_list]
    if new_keys != key_list:
        renamed["id"] = new_keys
    if ROW_ID_NAME not in key_list:
        _rename_row_id(renamed)
    return renamed


def _rename_row_id(settings: dict[str, Any]) -> None:
    """Rename a column ``row_id`` of the source, which is no key, in the settings that name it."""
    excluded = settings.get("excluded_columns")
    if isinstance(excluded, str):
        settings["excluded_columns"] = _name_row_id(excluded)
    elif excluded:
        settings["excluded_columns"] = [_name_row_id(column) for column in excluded]
    known_later = settings.get("known_later")
    if isinstance(known_later, dict):
        settings["known_later"] = {_name_row_id(key): rule for key, rule in known_later.items()}


def _name_key(column: Any) -> Any:
    """Return the name of a key column; ``row_id`` is one already."""
    is_name = isinstance(column, str) and column != ROW_ID_NAME
    return name_beside_chain(column) if is_name else column


def _name_row_id(column: Any) -> Any:
    """Return the name of a column that is read."""
    return name_beside_chain(column) if column == ROW_ID_NAME else column


def choose_source_names(roles: Iterable[str], columns: Iterable[str]) -> dict[str, str]:
    """Return the columns of a source that are read under another name, with that name.

    Parameters
    ----------
    roles : iterable of str
        The columns with a role, as the configuration names them.
    columns : iterable of str
        The columns of the source.

    Examples
    --------
    >>> choose_source_names(["score_1", "k"], ["k", "score", "part", "row_id"])
    {'score': 'score_1', 'row_id': 'row_id_1'}
    """
    existing = list(columns)
    role_names = set(roles)
    renamed = {}
    for column in existing:
        is_role = column in TABLE_COLUMNS and f"{column}{_SUFFIX}" in role_names
        is_other_row_id = column == ROW_ID_NAME and column not in role_names
        if is_role and f"{column}{_SUFFIX}" not in existing:
            renamed[column] = f"{column}{_SUFFIX}"
        elif is_other_row_id:
            renamed[column] = name_beside_chain(column, existing)
    return renamed
