"""Comparison of two run folders."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from mlops_kit.core.errors import KitError
from mlops_kit.pipeline.compare.json_artifacts import compare_json_artifacts
from mlops_kit.pipeline.compare.metrics import compare_logged_numbers, compare_metrics
from mlops_kit.pipeline.compare.notebooks import compare_figures, diff_code_cells
from mlops_kit.pipeline.compare.records import ComparisonRow, RunComparison, RunSide
from mlops_kit.pipeline.compare.settings import (
    compare_environments,
    compare_parameters,
    compare_settings,
    compare_stage_statuses,
    compare_used_files,
)
from mlops_kit.pipeline.compare.source_files import diff_source_files
from mlops_kit.pipeline.compare.tables import compare_tables
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import load_recorded_project
from mlops_kit.project.run_manifest import read_manifest

# What is compared besides code and figures, in the order in which it is shown.
COMPARISON_SECTIONS: tuple[Callable[[RunSide, RunSide], Iterator[ComparisonRow]], ...] = (
    compare_metrics,
    compare_logged_numbers,
    compare_parameters,
    compare_settings,
    compare_environments,
    compare_used_files,
    compare_tables,
    compare_json_artifacts,
    compare_stage_statuses,
)


def compare_runs(project: Project, old: Path, new: Path) -> RunComparison:
    """Compare two runs of a project.

    Parameters
    ----------
    project : Project
        The project of the runs.
    old, new : Path
        Folders of the earlier and the later run.
    """
    old_side = _read_side(project, old)
    new_side = _read_side(project, new)
    rows: list[ComparisonRow] = []
    for compare_section in COMPARISON_SECTIONS:
        rows += compare_section(old_side, new_side)
    code_diffs = _diff_notebooks(old_side, new_side)
    code_diffs |= diff_source_files(project, old_side, new_side)
    for name, diff in code_diffs.items():
        changed_lines = sum(line[:1] in {"+", "-"} for line in diff.splitlines())
        explanation = "1 line" if changed_lines == 1 else f"{changed_lines} lines"
        rows.append(ComparisonRow("code", name, "", "", explanation=explanation))
    return RunComparison(old.name, new.name, rows, code_diffs, compare_figures(old, new))


def _read_side(project: Project, run: Path) -> RunSide:
    return RunSide(run, read_manifest(run), _load_run_config(project, run))


def _load_run_config(project: Project, run: Path) -> ProjectConfig:
    """Load the settings of a run; the project's own if this version does not know all of them."""
    try:
        return load_recorded_project(project, run).config
    except KitError:
        return project.config


def _diff_notebooks(old: RunSide, new: RunSide) -> dict[str, str]:
    """Return how the notebooks of the stages in both runs differ, by notebook."""
    diffs = {}
    for stage, new_entry in new.manifest.stages.items():
        old_entry = old.manifest.stages.get(stage)
        if old_entry is None:
            continue
        diff = diff_code_cells(
            old.folder / "notebooks" / f"{old_entry.notebook}.ipynb",
            new.folder / "notebooks" / f"{new_entry.notebook}.ipynb",
        )
        if diff:
            diffs[new_entry.notebook] = diff
    return diffs
