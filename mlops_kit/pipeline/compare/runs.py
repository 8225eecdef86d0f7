"""Two runs side by side: what was given, what was run, what came out, and whether that is more than noise.

``compare`` reads two run folders and says it as data; ``show``, ``text``, ``markdown`` and ``page`` word it.
Code cells are compared by nbdime. Numbers of the review that both runs judged on the same rows are compared
row by row (a paired bootstrap, ``mlops_kit.stats.metrics``); otherwise by their intervals; a number without one is
shown and not judged. What a stage used is compared where both runs have traced it.

To add a section: a function that yields ``Row`` s, and its name in ``SECTIONS``.
"""

from __future__ import annotations

from itertools import chain
from pathlib import Path

from mlops_kit.core.errors import KitError
from mlops_kit.pipeline.compare.metrics import compare_logged_numbers, compare_metrics
from mlops_kit.pipeline.compare.notebooks import compare_figures, diff_code_cells
from mlops_kit.pipeline.compare.records import ComparisonRow, RunComparison
from mlops_kit.pipeline.compare.settings import (
    compare_environments,
    compare_parameters,
    compare_settings,
    compare_stage_statuses,
    compare_used_files,
)
from mlops_kit.pipeline.compare.tables import compare_tables
from mlops_kit.project import run_folder, run_manifest
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project


def compare_runs(project: Project, old: Path, new: Path) -> RunComparison:
    """What differs between two runs of a project."""
    a, b = ((f, run_manifest.read_manifest(f), _load_run_config(project, f)) for f in (old, new))
    pairs = {
        s: [m.stages[s].notebook for _, m, _ in (a, b)] for s in b[1].stages if s in a[1].stages
    }
    books = {
        now: diff
        for before, now in pairs.values()
        if (
            diff := diff_code_cells(
                old / "notebooks" / f"{before}.ipynb", new / "notebooks" / f"{now}.ipynb"
            )
        )
    }
    rows = [*chain.from_iterable(section(a, b) for section in COMPARISON_SECTIONS)]
    rows += [
        ComparisonRow(
            "code",
            book,
            "",
            "",
            False,
            f"{sum(line[:1] == s for line in diff.splitlines() for s in '+-')} lines",
        )
        for book, diff in books.items()
    ]
    return RunComparison(old.name, new.name, rows, books, compare_figures(old, new))


def _load_run_config(project: Project, run: Path) -> ProjectConfig:
    """The config of a run; the project's own where this version does not know all that the run was given."""
    try:
        return run_folder.load_recorded_project(project, run).config
    except KitError:
        return project.config


COMPARISON_SECTIONS = (
    compare_metrics,
    compare_logged_numbers,
    compare_parameters,
    compare_settings,
    compare_environments,
    compare_used_files,
    compare_tables,
    compare_stage_statuses,
)
