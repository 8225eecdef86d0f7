"""Branches: run the pipeline once for each value of a list, or each combination of a grid.

What no branch changes runs once, in the run itself; each branch is a run of its own inside it
(``RUN/branches/``), which carries that over and continues from there. A branch that fails leaves
the others alone. Nothing made in a branch is promoted: run the best one by itself.
"""

from __future__ import annotations

import itertools
import os
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.progress import ProgressReporter
from mlops_kit.pipeline import kernel_pool, signals
from mlops_kit.pipeline.active_run import ParameterValues
from mlops_kit.pipeline.manifest import lock_run, mark_run_started
from mlops_kit.pipeline.param_types import UntypedText, cast_value, parse_yaml
from mlops_kit.pipeline.parameter_cell import read_parameters
from mlops_kit.pipeline.runner import (
    BranchContext,
    RunOptions,
    determine_run_status,
    resolve_stage_values,
    run_pipeline,
)
from mlops_kit.project.loader import DateAsTextLoader, Project
from mlops_kit.project.run_manifest import (
    BRANCHES_FOLDER,
    DISK_RESERVE_FILE,
    BranchResult,
    RunManifest,
    RunStatus,
    StageStatus,
    format_current_time,
    write_manifest,
)

_RUN_WIDE_KEYS = ("seed", "as_of", "until", "sample")  # may differ besides stage parameters
_MAX_NAME_CHARACTERS = 80  # of a branch: it names a folder
_EXAMPLE_OPTION = "--each seed=1,2,3"

BranchGrid = dict[str, list[Any]]  # values by key (``seed``, ``train.trials``)


@dataclass(frozen=True)
class BranchOptions:
    """How the branches are run.

    Attributes
    ----------
    given : dict
        Values of parameters for all branches, by stage and name.
    force : bool
        Run stages that are up to date too.
    note : str
        Why the run was made.
    keep_going : bool
        Start the other branches when one has failed.
    """

    given: ParameterValues
    force: bool = False
    note: str = ""
    keep_going: bool = False


def parse_branch_grid(project: Project, options: list[str]) -> BranchGrid:
    """Return what differs between branches: ``foreach`` of the stages and ``--each KEY=A,B``.

    Raises
    ------
    KitError
        For an unknown key, or a list that cannot be parsed.
    """
    grid: BranchGrid = {}
    for stage, config in project.config.stages.items():
        for name, values in config.foreach.items():
            grid[f"{stage}.{name}"] = values
    for option in options:
        key, separator, text = option.partition("=")
        if not separator or not text:
            raise KitError(
                f"--each {option!r} cannot be parsed",
                "stage.name=value,value or seed=value,value",
                _EXAMPLE_OPTION,
            )
        grid[key] = _parse_branch_values(key, text)
    return {key: _check_branch_values(project, key, values) for key, values in grid.items()}


def _parse_branch_values(key: str, text: str) -> list[Any]:
    """Return the values of ``--each``.

    Those of a stage's parameter stay text, for the parameter's type to interpret.
    """
    listed = text if text.startswith("[") else f"[{text}]"
    try:
        values = parse_yaml(listed, DateAsTextLoader)
        texts = parse_yaml(listed, yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise KitError(
            f"--each {key}: {text!r} is not a list", "value,value", f"--each {key}=1,2,3"
        ) from error
    if "." not in key:
        return list(values)
    return [
        UntypedText(item) if isinstance(item, str) else value
        for value, item in zip(values, texts, strict=True)
    ]


def _check_branch_values(
    project: Project,
    key: str,
    values: list[Any],
) -> list[Any]:
    """Return the values of a key with the type of its parameter; each value occurs once."""
    stage, _, name = key.partition(".")
    if name:
        parameters = {}
        if stage in project.config.stages:
            parameters = read_parameters(project.get_notebook_path(stage))
        if name not in parameters:
            raise _create_unknown_key_error(project, key)
        values = [cast_value(stage, parameters[name], value, "--each") for value in values]
    elif key not in _RUN_WIDE_KEYS:
        raise _create_unknown_key_error(project, key)
    if len(values) != len(set(map(str, values))):
        raise KitError(
            f"{key} has a value twice: {values}", "each value once", "remove the duplicate"
        )
    return values


def _create_unknown_key_error(project: Project, key: str) -> KitError:
    """Return the error for a key that cannot differ between branches."""
    keys = [*_RUN_WIDE_KEYS]
    for stage in project.config.stages:
        names = read_parameters(project.get_notebook_path(stage))
        keys += [f"{stage}.{name}" for name in names]
    return KitError(
        f"{key!r} cannot differ between branches", suggest_names(key, keys), _EXAMPLE_OPTION
    )


def format_branch_name(values: dict[str, Any]) -> str:
    """Return the name of a branch: its values, as a folder can be named."""
    terms = [f"{key.rpartition('.')[2]}={value}" for key, value in values.items()]
    return re.sub(r"[^\w.=,-]+", "_", ",".join(terms))[:_MAX_NAME_CHARACTERS]


def select_branching_stages(
    project: Project,
    keys: Sequence[str],
    chosen: list[str],
) -> list[str]:
    """Return the chosen stages that differ between branches, and all that depend on them."""
    if any(key in _RUN_WIDE_KEYS for key in keys):
        return chosen
    affected = {key.partition(".")[0] for key in keys}
    for stage in chosen:
        if affected & set(project.config.stages[stage].needs):
            affected.add(stage)
    return [stage for stage in chosen if stage in affected]


def run_branches(
    project: Project,
    chosen: list[str],
    grid: BranchGrid,
    options: BranchOptions,
    report_progress: ProgressReporter,
) -> RunManifest:
    """Run what the branches have in common once, then each branch.

    Parameters
    ----------
    grid : dict
        What differs, by key; every combination is a branch.

    Returns
    -------
    RunManifest
        Of the run that has the branches.

    Raises
    ------
    KitError
        For a parameter value that is not valid, before anything runs.
    """
    branches = []
    for values in itertools.product(*grid.values()):
        branch_values = dict(zip(grid, values, strict=True))
        name = format_branch_name(branch_values)
        branches.append(
            BranchResult(
                name=name,
                values=branch_values,
            )
        )
    branching_stages = select_branching_stages(project, list(grid), chosen)
    for branch in branches:
        branch_project, given = _configure_branch(project, options.given, branch)
        for stage in branching_stages:
            resolve_stage_values(branch_project, stage, given.get(stage, {}))
    context = BranchContext(
        stop_event=threading.Event(),
        branching_stages=tuple(branching_stages),
        branches=tuple(branches),
    )
    was_kept = kernel_pool.keep_fork_server
    kernel_pool.keep_fork_server = True
    try:
        manifest = run_pipeline(
            project,
            [stage for stage in chosen if stage not in branching_stages],
            options.given,
            report_progress,
            RunOptions(options.force, options.note),
            context,
        )
        if manifest.status == RunStatus.SUCCEEDED:
            group = _BranchGroup(project, manifest, options, report_progress, context.stop_event)
            group.run_all()
    finally:
        kernel_pool.keep_fork_server = was_kept
        kernel_pool.release_fork_server()
    return manifest


def _configure_branch(
    project: Project,
    given: ParameterValues,
    branch: BranchResult,
) -> tuple[Project, ParameterValues]:
    """Return the project and the parameter values of a branch."""
    run_wide_values: dict[str, Any] = {}
    parameter_values = {stage: dict(values) for stage, values in given.items()}
    for key, value in branch.values.items():
        stage, _, name = key.partition(".")
        if name:
            parameter_values.setdefault(stage, {})[name] = value
        else:
            run_wide_values[key] = value
    branch_project = project.with_values(
        "the branch",
        branch=branch.name,
        run={**project.config.run.model_dump(), "jobs": 1},
        **run_wide_values,
    )
    return branch_project, parameter_values


class _BranchGroup:
    """Runs the branches of one run, as many at once as there are jobs, and records each end."""

    def __init__(
        self,
        project: Project,
        manifest: RunManifest,
        options: BranchOptions,
        report_progress: ProgressReporter,
        stop_event: threading.Event,
    ) -> None:
        self.project = project
        self.manifest = manifest
        self.folder: Path = project.reports_folder / manifest.run
        self.options = options
        self.report_progress = report_progress
        self.stop_event = stop_event
        self.has_failed = threading.Event()

    def run_all(self) -> None:
        """Run all branches and record in the manifest how they ended."""
        from mlops_kit.pipeline import report  # here: a run with nothing to do does not need it

        manifest, folder = self.manifest, self.folder
        manifest.ended = None
        max_jobs = self.project.config.run.jobs or os.cpu_count() or 1
        with (
            lock_run(folder) as process,
            signals.interrupt_on_termination(),
            ThreadPoolExecutor(max_jobs, thread_name_prefix="branch") as executor,
        ):
            mark_run_started(folder, manifest, process)
            futures = [executor.submit(self._run_branch, branch) for branch in manifest.branches]
            try:
                for future in futures:
                    future.result()
            except KeyboardInterrupt:
                self.stop_event.set()
            except BaseException:
                self.stop_event.set()
                raise
        manifest.status = determine_run_status(
            [branch.status for branch in manifest.branches],
            is_interrupted=self.stop_event.is_set(),
        )
        manifest.ended = format_current_time()
        (folder / DISK_RESERVE_FILE).unlink(missing_ok=True)
        write_manifest(folder, manifest)
        report.write_run_index(folder, manifest)

    def _run_branch(self, branch: BranchResult) -> None:
        """Run one branch, unless the run was interrupted or another branch failed."""
        must_stop = self.has_failed.is_set() and not self.options.keep_going
        if self.stop_event.is_set() or must_stop:
            return
        project, given = _configure_branch(self.project, self.options.given, branch)
        run = f"{self.manifest.run}.{branch.name}"
        branch_manifest = run_pipeline(
            project,
            self.manifest.branching_stages,
            given,
            partial(_report_branch_line, self.report_progress, branch.name),
            RunOptions(self.options.force, f"{self.options.note} {branch.name}".strip()),
            BranchContext(
                stop_event=self.stop_event,
                folder=self.folder / BRANCHES_FOLDER / run,
                run=run,
                branch=branch.name,
            ),
        )
        branch.run = run
        _summarize_branch(branch, branch_manifest)
        if branch.status not in {RunStatus.SUCCEEDED, RunStatus.WAITING_FOR_APPROVAL}:
            self.has_failed.set()


def _report_branch_line(
    report_progress: ProgressReporter,
    branch: str,
    text: str,
    transient: bool = False,
) -> None:
    """Report a progress line of a branch."""
    report_progress(f"[{branch}] {text}", transient=transient)


def _summarize_branch(branch: BranchResult, manifest: RunManifest) -> None:
    """Record how a branch ended: status, seconds, first error, the numbers that it logged."""
    seconds = 0.0
    numbers: dict[str, Any] = {}
    errors: list[str] = []
    for stage, entry in manifest.stages.items():
        if entry.status != StageStatus.SKIPPED:
            seconds += entry.seconds or 0
        if entry.error is not None:
            errors.append(entry.error.message)
        for name, value in entry.logged.items():
            if isinstance(value, int | float) and not isinstance(value, bool):
                numbers[f"{stage}.{name}"] = value
    branch.status = manifest.status
    branch.seconds = round(seconds, 1)
    branch.numbers = numbers
    branch.error = errors[0] if errors else ""
