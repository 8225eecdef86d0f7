"""Run the pipeline: notebooks through Papermill, one kernel per stage, several at once.

A stage that an earlier run has, with everything that it used unchanged and its outputs intact, is
skipped and its files are carried over, so that each run is complete by itself. A run that does not
succeed is kept and says why.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_kit.core import files
from mlops_kit.core.errors import KitError, RunFailedError, WaitingForApprovalError, suggest_names
from mlops_kit.core.extras import MissingExtraError
from mlops_kit.core.process_identity import MAX_HEARTBEAT_AGE, ProcessIdentity
from mlops_kit.core.progress import ProgressReporter
from mlops_kit.data.source import check_configured_columns, resolve_cutoffs
from mlops_kit.data.target import check_classes
from mlops_kit.pipeline import kernel_pool, signals
from mlops_kit.pipeline.active_run import ActiveRun, ParameterValues
from mlops_kit.pipeline.file_hashes import FileHashes
from mlops_kit.pipeline.history import RunHistory
from mlops_kit.pipeline.manifest import (
    RunLockedError,
    create_manifest,
    describe_other_runs,
    lock_run,
    mark_run_killed,
    mark_run_started,
)
from mlops_kit.pipeline.notebook_kernels import check_notebook_kernels
from mlops_kit.pipeline.params import (
    extract_values,
    refuse_exposed_secrets,
    resolve_parameters,
)
from mlops_kit.pipeline.plan import PlanAction, find_up_to_date_run, plan_stages
from mlops_kit.pipeline.run_completion import finish_run
from mlops_kit.pipeline.scheduler import run_all_stages
from mlops_kit.project.config.pipeline import order_stages
from mlops_kit.project.identity import describe_unidentified_author
from mlops_kit.project.loader import Project
from mlops_kit.project.plugins import store_plugin_index
from mlops_kit.project.run_folder import load_recorded_project
from mlops_kit.project.run_manifest import (
    NOT_SELECTED_REASON,
    UNSUCCESSFUL_STATUSES,
    BranchResult,
    RunManifest,
    RunStatus,
    StageEntry,
    StageError,
    StageStatus,
    format_current_time,
    read_manifest,
    read_stored_manifest,
)
from mlops_kit.project.writable import check_writable_folders


@dataclass(frozen=True)
class RunOptions:
    """How a run is made.

    Attributes
    ----------
    force : bool
        Run stages that are up to date too.
    note : str
        Why the run was made; stored with it.
    verify : bool
        Hash all files again instead of relying on size and modification time.
    """

    force: bool = False
    note: str = ""
    verify: bool = False


@dataclass(frozen=True)
class BranchContext:
    """What distinguishes a run with branches, or the run of one branch, from an ordinary run.

    Attributes
    ----------
    stop_event : threading.Event
        Shared by all branches: set to interrupt them.
    folder : Path or None
        Folder of a branch's run, inside the run that it belongs to.
    run, branch : str
        Names of a branch's run and of the branch.
    branching_stages, branches : tuple
        In the run that has branches: the stages left to them, and the branches.
    """

    stop_event: threading.Event
    folder: Path | None = None
    run: str = ""
    branch: str = ""
    branching_stages: tuple[str, ...] = ()
    branches: tuple[BranchResult, ...] = ()


def select_stages(
    project: Project,
    first: str = "",
    last: str = "",
    only: str = "",
) -> list[str]:
    """Return the stages that ``--from``, ``--to`` and ``--only`` select, in order.

    Raises
    ------
    KitError
        For an unknown stage, or a first stage that comes after the last one.
    """
    stages = order_stages(project.config.stages)
    for name in filter(None, (first, last, only)):
        if name not in stages:
            raise KitError(f"unknown stage {name!r}", suggest_names(name, stages))
    if only:
        return [only]
    begin = stages.index(first) if first else 0
    end = stages.index(last) if last else len(stages) - 1
    if begin > end:
        raise KitError(
            f"--from {first} comes after --to {last}", f"an order such as {' → '.join(stages)}"
        )
    return stages[begin : end + 1]


def resolve_stage_values(
    project: Project,
    stage: str,
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the checked values of a stage's parameters, by name.

    Raises
    ------
    KitError
        If a value is not valid, or the folder does not exist in which its kernel is to start.
    """
    project.get_working_folder(stage)
    return extract_values(resolve_parameters(project, stage, given))


def run_pipeline(
    project: Project,
    chosen: list[str],
    given: ParameterValues,
    report_progress: ProgressReporter,
    options: RunOptions | None = None,
    context: BranchContext | None = None,
) -> RunManifest:
    """Run the chosen stages and return the manifest of the run.

    Parameters
    ----------
    given : dict
        Values of parameters, by stage and name.
    report_progress : callable
        Receives progress lines.
    options : RunOptions or None
        How the run is made; None for the defaults.
    context : BranchContext or None
        Given for a run with branches and for the run of a branch.

    Raises
    ------
    KitError
        For mistakes in parameters or configuration, before anything is written.
    """
    options = options or RunOptions()
    project = resolve_cutoffs(project)
    values = {stage: resolve_stage_values(project, stage, given.get(stage, {})) for stage in chosen}
    refuse_exposed_secrets(project, values)
    planned_stages = plan_stages(
        project, chosen, values, options.force, FileHashes(project, options.verify)
    )
    if context is None:
        up_to_date_run = find_up_to_date_run(project, planned_stages, RunHistory(project))
        if up_to_date_run is not None:
            return _complete_up_to_date_run(project, up_to_date_run, report_progress)
    check_writable_folders(project)
    check_configured_columns(project)
    check_classes(project)
    stages_to_run = [
        planned.stage for planned in planned_stages if planned.action != PlanAction.SKIP
    ]
    for note in check_notebook_kernels(project, stages_to_run):
        report_progress(f"note: {note}")
    warning = describe_unidentified_author(project.config.people)
    if warning:
        report_progress(f"warning: {warning}")
    kernel_pool.start_fork_server(project, stages_to_run)
    store_plugin_index(project.root)
    active = _create_active_run(project, values, options, report_progress, context)
    with lock_run(active.folder) as process:
        return _execute_run(active, process)


def _create_active_run(
    project: Project,
    values: ParameterValues,
    options: RunOptions,
    report_progress: ProgressReporter,
    context: BranchContext | None,
) -> ActiveRun:
    """Create the folder of a run, with its configuration, and its manifest (not written yet)."""
    manifest = create_manifest(project, order_stages(project.config.stages), options.note)
    folder = project.reports_folder / manifest.run
    stop_event = threading.Event()
    if context is not None:
        manifest.run = context.run or manifest.run
        manifest.branch = context.branch
        manifest.branching_stages = list(context.branching_stages)
        manifest.branches = list(context.branches)
        folder = context.folder or folder
        stop_event = context.stop_event
    folder.mkdir(parents=True)
    config = project.config.model_dump(
        mode="json",
        exclude_unset=True,
    )
    files.write_json(folder / "config.json", config)
    return ActiveRun(project, folder, manifest, values, report_progress, options.force, stop_event)


def _complete_up_to_date_run(
    project: Project,
    manifest: RunManifest,
    report_progress: ProgressReporter,
) -> RunManifest:
    """Return the run that has everything, after its record is completed if that was interrupted.

    Of several processes that find it interrupted, one completes it.
    """
    if not _is_unrecorded(manifest):
        return manifest
    folder = project.reports_folder / manifest.run
    mark_run_killed(folder)
    try:
        with lock_run(folder) as process:
            stored_manifest = read_stored_manifest(folder)
            if not _is_unrecorded(stored_manifest):
                return stored_manifest.model_copy(update={"is_up_to_date": True})
            recorded_project = load_recorded_project(project, folder)
            active = ActiveRun(recorded_project, folder, stored_manifest, {}, report_progress)
            return _execute_run(active, process)
    except RunLockedError:
        report_progress(f"note: another process completes the record of run {manifest.run}")
        return manifest


def _is_unrecorded(manifest: RunManifest) -> bool:
    """Return whether a run completed all stages but was killed before its end was recorded."""
    if manifest.status not in {RunStatus.KILLED, RunStatus.SUCCEEDED} or manifest.mlflow:
        return False
    entries = [entry for entry in manifest.stages.values() if entry.reason != NOT_SELECTED_REASON]
    has_run_stage = any(entry.is_logged_with_run for entry in entries)
    return has_run_stage and all(entry.is_completed for entry in entries)


def check_resumable(folder: Path) -> RunManifest:
    """Check that a run can be resumed, and return its record.

    Raises
    ------
    KitError
        If the run succeeded or is still running.
    """
    mark_run_killed(folder)
    manifest = read_manifest(folder)
    if manifest.is_running:
        place = f" {manifest.process.describe()}" if manifest.process else ""
        hint = "wait until it has ended"
        if manifest.status == RunStatus.RUNNING_ELSEWHERE:
            hint += (
                f"; if its machine is gone, it counts as killed "
                f"{MAX_HEARTBEAT_AGE.total_seconds():.0f} s after it last touched its lock"
            )
        raise KitError(
            f"run {manifest.run} cannot be resumed: it is {manifest.status}{place}",
            "a run whose process has ended",
            hint,
        )
    if manifest.status != RunStatus.SUCCEEDED:
        return manifest
    not_selected = [
        stage for stage, entry in manifest.stages.items() if entry.reason == NOT_SELECTED_REASON
    ]
    problem = f"run {manifest.run} cannot be resumed: its status is {manifest.status}"
    hint = "mlops runs lists them"
    if not_selected:
        problem += f", and it was not asked for {', '.join(not_selected)}"
        hint = "mlops run makes a run of all stages, which waits where an approval is needed"
    raise KitError(
        problem,
        f"a run that is {RunStatus.WAITING_FOR_APPROVAL}, failed, killed or interrupted",
        hint,
    )


def resume_run(
    project: Project,
    folder: Path,
    report_progress: ProgressReporter,
) -> RunManifest:
    """Continue a run that waited for approval or did not succeed, in its own folder.

    It keeps the configuration and the parameters with which it was started.

    Raises
    ------
    KitError
        If the run succeeded or is still running.
    """
    check_writable_folders(project)
    manifest = check_resumable(folder)
    with lock_run(folder) as process:
        if read_stored_manifest(folder) != manifest:
            raise KitError(
                f"run {manifest.run} was resumed by another process in between",
                f"a run that is still {manifest.status}",
                "mlops status shows how it ended",
            )
        active = _prepare_resumption(project, folder, manifest, report_progress)
        return _execute_run(active, process)


def _prepare_resumption(
    project: Project,
    folder: Path,
    manifest: RunManifest,
    report_progress: ProgressReporter,
) -> ActiveRun:
    """Prepare to run the stages of a run that have yet to succeed."""
    project = load_recorded_project(project, folder)
    remaining = {
        stage: entry
        for stage, entry in manifest.stages.items()
        if not entry.is_completed and entry.reason != NOT_SELECTED_REASON
    }
    values = {
        stage: resolve_stage_values(project, stage, entry.params)
        for stage, entry in remaining.items()
    }
    for entry in remaining.values():
        entry.status = StageStatus.NOT_RUN
        entry.error = None
        entry.reason = ""
        entry.detail = ""
    kernel_pool.start_fork_server(project, list(remaining))
    return ActiveRun(project, folder, manifest, values, report_progress)


def _execute_run(active: ActiveRun, process: ProcessIdentity) -> RunManifest:
    """Run the stages that have not been run yet and record how the run ended.

    Parameters
    ----------
    process : ProcessIdentity
        This process, which holds the lock of the run.
    """
    manifest, folder = active.manifest, active.folder
    mark_run_started(folder, manifest, process)
    for name in ("logs", "notebooks"):
        (folder / name).mkdir(exist_ok=True)
    killed_runs = [str(earlier) for earlier in active.history.folders if mark_run_killed(earlier)]
    for sentence in describe_other_runs(manifest, active.history.folders):
        active.report_progress(f"note: {sentence}")
    with signals.interrupt_on_termination():
        try:
            run_all_stages(active)
        except KeyboardInterrupt:
            active.stop_event.set()
    for entry in manifest.stages.values():
        if entry.status == StageStatus.RUNNING:  # interrupted before its kernel was started
            _mark_interrupted(entry)
    manifest.status = determine_run_status(
        [entry.status for entry in manifest.stages.values()],
        is_interrupted=active.stop_event.is_set(),
    )
    manifest.ended = format_current_time()
    finish_run(active, killed_runs)
    kernel_pool.release_fork_server()
    return manifest


def _mark_interrupted(entry: StageEntry) -> None:
    """Record that a stage was interrupted with the run."""
    entry.status = StageStatus.INTERRUPTED
    entry.detail = ""
    entry.error = StageError(
        type="KeyboardInterrupt",
        message="the run was told to stop",
    )


def determine_run_status(statuses: Sequence[str], *, is_interrupted: bool) -> RunStatus:
    """Return the status of a run from those of its stages or branches."""
    if is_interrupted:
        return RunStatus.INTERRUPTED
    for status in UNSUCCESSFUL_STATUSES:
        if status in statuses:
            return RunStatus(status)
    return RunStatus.SUCCEEDED


def find_run_error(manifest: RunManifest, project_option: str = "") -> KitError | None:
    """Return the error with which the command ends; None for a run that succeeded.

    Parameters
    ----------
    project_option : str
        The option ``--project`` that the commands of the hint need, with a space before it; see
        ``format_project_option``.
    """
    if manifest.is_up_to_date:  # whatever became of the stages that were not asked for
        return None
    if manifest.status == RunStatus.SUCCEEDED:
        if not manifest.mlflow_error:
            return None
        return RunFailedError(
            f"the run succeeded, but was not recorded in MLflow: {manifest.mlflow_error}",
            hint="fix the cause; the next run is recorded again",
        )
    if manifest.status == RunStatus.WAITING_FOR_APPROVAL:
        run = manifest.run
        return WaitingForApprovalError(
            f"run {run} waits for an approval",
            "a person who reads its page and its model card",
            f'mlops approve {run} --reason "why"{project_option}, or '
            f'mlops reject {run} --reason "why"{project_option}',
        )
    return (
        _find_stage_error(manifest, project_option)
        or _find_branch_error(manifest)
        or RunFailedError(
            f"the run was {manifest.status}",
            hint=f"mlops resume {manifest.run}{project_option} continues where it stopped",
        )
    )


def _find_stage_error(manifest: RunManifest, project_option: str) -> KitError | None:
    """Return the error of the first stage that did not succeed."""
    for name, entry in manifest.stages.items():
        if entry.error is None or entry.status not in UNSUCCESSFUL_STATUSES:
            continue
        if entry.status == StageStatus.WAITING_FOR_APPROVAL:
            continue
        is_passive = entry.status in {StageStatus.KILLED, StageStatus.INTERRUPTED}
        verb = "was " if is_passive else ""
        if entry.error.type == MissingExtraError.__name__:  # its message has the hint
            return KitError(f"{name} {verb}{entry.status_text}: {entry.error_message}")
        return RunFailedError(
            f"{name} {verb}{entry.status_text}: {entry.error_message}",
            hint=f"mlops logs {name} {manifest.run}{project_option} shows what it printed; after "
            "the cause is fixed, run again: what succeeded is skipped",
        )
    return None


def _find_branch_error(manifest: RunManifest) -> KitError | None:
    """Return the error of the first branch that did not succeed."""
    for branch in manifest.branches:
        if branch.status in UNSUCCESSFUL_STATUSES:
            return RunFailedError(
                f"branch {branch.name} {branch.status}: {branch.error}",
                hint="read its page, fix the cause, then run again: what succeeded is skipped",
            )
    return None
