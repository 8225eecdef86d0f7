"""Comparison of values by name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlops_kit.core.serialization import to_json_value
from mlops_kit.pipeline.compare.records import NOT_THERE, ComparisonRow, RunSide


def compare_values(
    section: str,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    *,
    absent: str = NOT_THERE,
) -> Iterator[ComparisonRow]:
    """Yield a row for each value that differs.

    Parameters
    ----------
    section : str
        The section of the rows.
    old, new : mapping
        The values by name.
    absent : str
        What to show for a value that one of the runs does not have.
    """
    for name in dict.fromkeys([*old, *new]):
        is_in_both = name in old and name in new
        if is_in_both and old[name] == new[name]:
            continue
        yield ComparisonRow(
            section,
            name,
            _format_value(old, name, absent),
            _format_value(new, name, absent),
        )


def _format_value(values: Mapping[str, Any], name: str, absent: str) -> str:
    """Return a value as text; ``absent`` if there is none of this name."""
    if name not in values:
        return absent
    return str(to_json_value(values[name]))


def collect_recorded_values(
    old: RunSide, new: RunSide, field: str
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Collect one field of the dependencies of the stages for which both runs recorded them.

    Parameters
    ----------
    old, new : RunSide
        The two runs.
    field : str
        A field of ``StageDependencies`` that holds values by name.
    """
    old_values: dict[str, Any] = {}
    new_values: dict[str, Any] = {}
    for stage in old.manifest.stages:
        old_dependencies = old.manifest.get_stage(stage).dependencies
        new_dependencies = new.manifest.get_stage(stage).dependencies
        if old_dependencies is not None and new_dependencies is not None:
            old_values |= getattr(old_dependencies, field)
            new_values |= getattr(new_dependencies, field)
    return old_values, new_values


def keep_common_names(
    old: Mapping[str, Any], new: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keep the values whose names are in both mappings."""
    common_old: dict[str, Any] = {}
    common_new: dict[str, Any] = {}
    for name, old_value in old.items():
        if name in new:
            common_old[name] = old_value
            common_new[name] = new[name]
    return common_old, common_new
