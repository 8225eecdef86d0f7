"""What else to know about a stage that succeeded: what cannot be traced, background errors."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mlops_kit.project.config.pipeline import StageConfig
from mlops_kit.project.run_manifest import StageDependencies

_INJECTED_TAG = "injected-parameters"
_DECIDING_SETTINGS = {"files", "rerun"}


def number_cells(used: Mapping[str, Any], cells: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return a kernel's report with numbers of code cells instead of execution counts.

    The cell that papermill injects is not counted, so that the numbers are those of the notebook
    that people edit.

    Parameters
    ----------
    used : mapping
        What ``core.dependencies.report_dependencies`` returned.
    cells : iterable of mapping
        The code cells of the executed notebook.
    """
    numbers: dict[int, int] = {}
    number = 0
    for cell in cells:
        if _INJECTED_TAG not in cell["metadata"].get("tags", []):
            number += 1
        count = cell.get("execution_count")
        if count is not None:
            numbers[int(count)] = number
    numbered = dict(used)
    for key in ("untraced", "errors"):
        pairs = used.get(key, [])
        numbered[key] = [(text, numbers.get(count, 0)) for text, count in pairs]
    return numbered


def is_untraced_use_accepted(config: StageConfig) -> bool:
    """Return whether a stage declares what it reads, or when it runs again."""
    return bool(config.model_fields_set & _DECIDING_SETTINGS)


def describe_untraced_use(dependencies: StageDependencies) -> str:
    """Return what a stage used that cannot be traced, and what can be done about it."""
    uses: dict[str, str] = {}
    for use in dependencies.untraced:
        location = f" (cell {use.cell})" if use.cell else ""
        uses.setdefault(use.name, f"`{use.name}`{location}")
    names = ", ".join(uses.values())
    return f"uses something that cannot be traced: {names}; declare `files:` or `rerun:`"


def list_notes(
    config: StageConfig,
    dependencies: StageDependencies,
    used: Mapping[str, Any],
) -> list[str]:
    """Return the notes on a stage, one sentence each."""
    notes = []
    if dependencies.untraced and not is_untraced_use_accepted(config):
        notes.append(describe_untraced_use(dependencies))
    for text, cell in used.get("errors", []):
        notes.append(f"{text} (cell {cell})" if cell else text)
    return notes
