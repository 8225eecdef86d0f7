"""Execute the notebook of one stage, with retries, and record how it ended and what it used."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from subprocess import CalledProcessError
from typing import TYPE_CHECKING, Any

from mlops_kit.core import files
from mlops_kit.core.errors import KitError, NotAllowedError, RunFailedError, WaitingForApprovalError
from mlops_kit.core.extras import import_from_extra
from mlops_kit.pipeline import kernel_pool, object_store
from mlops_kit.pipeline.active_run import ActiveRun
from mlops_kit.pipeline.current_project import CurrentProject, hash_code_cells
from mlops_kit.pipeline.fingerprint import compute_fingerprint
from mlops_kit.pipeline.history import get_content_hashes
from mlops_kit.pipeline.run_completion import render_stage_page
from mlops_kit.pipeline.stage_dependencies import collect_dependencies
from mlops_kit.pipeline.stage_notes import list_notes, number_cells
from mlops_kit.project import artifacts, secrets
from mlops_kit.project.notebook_cells import load_code_cells
from mlops_kit.project.run_manifest import (
    DISK_RESERVE_FILE,
    StageDependencies,
    StageEntry,
    StageError,
    StageStatus,
)
from mlops_kit.project.stage_record import StageRecord, read_stage_record, write_stage_record

if TYPE_CHECKING:
    from mlops_kit.pipeline.notebook_outcome import NotebookOutcome

_SCRUBBED_RECORD_KEYS = ("sentence", "logged", "verdicts")  # the parts that people read
_FINAL_STATUSES = (  # after these a stage is not retried
    StageStatus.SUCCEEDED,
    StageStatus.STOPPED_EARLY,
    StageStatus.INTERRUPTED,
    StageStatus.WAITING_FOR_APPROVAL,
)
_MTIME_TOLERANCE_SECONDS = 1  # file systems round modification times
# Their messages say what happened without the name of the exception.
_SELF_EXPLANATORY_ERRORS = (
    KitError.__name__,
    RunFailedError.__name__,
    WaitingForApprovalError.__name__,
    NotAllowedError.__name__,
    RuntimeError.__name__,
    "DeadKernelError",
)

UsedReport = Mapping[str, Any]  # what core.dependencies.report_dependencies returns in the kernel


def run_stage(active: ActiveRun, stage: str) -> None:
    """Execute a stage, retry it as configured, and record how it ended."""
    config = active.project.config.stages[stage]
    began = time.perf_counter()
    for attempt in range(1, config.retries + 2):
        entry, used = _execute_notebook(active, stage)
        if entry.status in _FINAL_STATUSES or attempt > config.retries:
            break
        pause_seconds = config.backoff.total_seconds() * 2 ** (attempt - 1)
        active.report_progress(
            f"{stage}: {entry.status_text}, {entry.error_message}; "
            f"again in {pause_seconds:g} s ({attempt} of {config.retries})"
        )
        if active.stop_event.wait(pause_seconds):
            break
    changes: dict[str, Any] = {
        "status": entry.status,
        "detail": entry.detail,
        "error": entry.error,
        "peak_bytes": entry.peak_bytes,
    }
    record = read_stage_record(active.folder, stage)
    changes |= _extract_recorded_facts(active, record)
    if entry.status == StageStatus.SUCCEEDED and used is not None:
        used = number_cells(used, load_code_cells(active.get_notebook_target(stage)))
        dependencies = _collect_stage_dependencies(active, stage, record, used)
        changes["dependencies"] = dependencies
        scrub = secrets.make_scrubber(active.project)
        changes["notes"] = list(map(scrub, list_notes(config, dependencies, used)))
        changes["fingerprint"] = compute_fingerprint(dependencies)
        object_store.store_used_files(active.project, dependencies)
    active.update_stage(
        stage,
        seconds=round(time.perf_counter() - began, 2),
        attempts=attempt,
        **changes,
    )
    _report_stage_end(active, stage)


def _extract_recorded_facts(active: ActiveRun, record: StageRecord | None) -> dict[str, Any]:
    """Return what the manifest takes over from the record that the notebook wrote."""
    if record is None:
        return {"sentence": ""}
    for artifact in record.artifacts.values():
        active.file_hashes.add_known_hash(active.folder / artifact.path, artifact.sha256)
    return {
        "sentence": record.sentence,
        "logged": record.logged,
        "artifacts": record.artifacts,
        "mlflow_run": record.mlflow_run,
    }


def _report_stage_end(active: ActiveRun, stage: str) -> None:
    """Report how a stage ended, where, and after how long."""
    entry = active.get_stage_entry(stage)
    location = ""
    is_waiting = entry.status == StageStatus.WAITING_FOR_APPROVAL
    if entry.error and entry.error.cell and not is_waiting:
        location = f" in cell {entry.error.cell}"
    has_succeeded = entry.status == StageStatus.SUCCEEDED
    message = entry.sentence if has_succeeded else entry.error_message
    active.report_progress(
        f"{stage}: {entry.status_text}{location} in {entry.seconds:.0f} s. {message}"
    )
    for note in entry.notes:
        active.report_progress(f"{stage}: ▲ {note}")


def _collect_stage_dependencies(
    active: ActiveRun,
    stage: str,
    record: StageRecord | None,
    used: UsedReport,
) -> StageDependencies:
    """Return what a stage that has just succeeded used.

    A stage that read no artifact through its handle depends on all artifacts of the stages that it
    needs. Project files among them always count: a file can be read without the handle.
    """
    contents = active.collect_inputs()
    recorded_names = record.read if record else {}
    read_names = [name for name in recorded_names if name in contents]
    needed_names: list[str] = []
    for need in active.project.config.stages[stage].needs:
        needed_names += get_content_hashes(active.get_stage_entry(need))
    needed_files = filter(artifacts.is_project_file_name, needed_names)
    input_names = [*(read_names or needed_names), *needed_files]
    executed_cells = hash_code_cells(active.get_notebook_target(stage))
    return collect_dependencies(
        CurrentProject(active.project, active.file_hashes),
        stage,
        active.parameter_values[stage],
        {**used, "cells": executed_cells},
        {name: str(contents[name]) for name in input_names},
    )


def _execute_notebook(active: ActiveRun, stage: str) -> tuple[StageEntry, UsedReport | None]:
    """Execute a stage's notebook once.

    Returns
    -------
    entry : StageEntry
        How it ended: status, detail, error and peak memory.
    used : mapping or None
        What the kernel reported as used; None if it could not be asked.
    """
    target = active.get_notebook_target(stage)
    log = active.folder / "logs" / f"{stage}.stderr"
    log.write_bytes(b"")
    record = active.get_stage_record_path(stage)
    record.unlink(missing_ok=True)
    scrub = secrets.make_scrubber(active.project)
    used: list[UsedReport | None] = []
    outcome = _run_papermill(active, stage, log, scrub, used)
    _scrub_stage_files(log, record, scrub)
    if target.exists():
        active.page_futures.append(active.page_executor.submit(render_stage_page, active, target))
    working_folder = active.project.get_working_folder(stage)
    return _convert_outcome(outcome, stage, working_folder), used[0] if used else None


def _run_papermill(
    active: ActiveRun,
    stage: str,
    log: Path,
    scrub: Callable[[str], str],
    used: list[UsedReport | None],
) -> NotebookOutcome:
    """Execute the notebook with papermill; append what the kernel used to ``used``."""
    # Here: a run with nothing to do never loads these.
    with import_from_extra("train"):
        import nbformat
        import papermill

    from mlops_kit.pipeline import kernel_watchdog, notebook_outcome, papermill_engine

    papermill_engine.register_engine()
    project, config = active.project, active.project.config.stages[stage]
    target = active.get_notebook_target(stage)
    began = time.time()
    limits = kernel_watchdog.KernelLimits(
        _to_seconds(config.cell_timeout),
        _to_seconds(config.timeout),
        config.memory,
        project.config.run.kernel_start_timeout.total_seconds(),
    )
    try:
        papermill.execute_notebook(
            nbformat.read(project.get_notebook_path(stage), as_version=4),
            None,
            parameters=active.parameter_values[stage],
            engine_name=papermill_engine.ENGINE_NAME,
            kernel_name="python3",
            language="python",
            progress_bar=False,
            kernel_target=str(target),
            kernel_reserve=active.folder / DISK_RESERVE_FILE,
            kernel_env=kernel_pool.build_kernel_environment(
                active.folder, project.root, config.shell_errors
            ),
            kernel_cwd=str(project.get_working_folder(stage)),
            kernel_log=str(log),
            kernel_limits=limits,
            kernel_stop=active.stop_event,
            kernel_scrub=scrub,
            kernel_plain=project.config.run.kernels == "cold",
            kernel_used=used.append,
            kernel_progress=_make_progress_callback(active, stage),
            kernel_check=lambda: _check_outputs(active, stage, began),
        )
        executed = nbformat.read(target, as_version=4)
        return notebook_outcome.NotebookOutcome.from_metadata(executed.metadata)
    except notebook_outcome.NotebookExecutionError as error:
        return error.outcome
    except (RunFailedError, OSError) as error:
        return notebook_outcome.NotebookOutcome(
            StageStatus.FAILED, type(error).__name__, scrub(str(error))
        )


def _to_seconds(limit: timedelta | None) -> float | None:
    """Return a limit in seconds; None for no limit."""
    if limit is None:
        return None
    return limit.total_seconds()


def _check_outputs(
    active: ActiveRun,
    stage: str,
    began: float,
) -> str:
    """Return what is wrong with the outputs of a stage; empty if they are complete.

    Declared outputs that are files of the project are copied into the run.
    """
    writes = active.project.config.stages[stage].writes
    record = read_stage_record(active.folder, stage)
    duplicate = _find_duplicate_artifact(active, stage, record)
    if duplicate:
        return duplicate
    if record is not None:
        has_handed_over = bool(record.done)
    else:  # a notebook that writes only files of the project needs no handle
        has_handed_over = all(map(artifacts.is_project_file_name, writes))
    if not has_handed_over:
        return "the notebook ended without stage.hand_over(…)"
    copied: list[artifacts.Artifact] = []
    for name in filter(artifacts.is_project_file_name, writes):
        path = active.project.resolve_path(name)
        fault = _find_file_fault(path, began)
        if fault:
            return f"the declared output {name!r} {fault}"
        copied.append(artifacts.copy_file_artifact(active.folder, stage, name, path))
    if record is None or copied:
        # A notebook that did not open its stage has not written a record.
        record = record or StageRecord(stage=stage, done=True)
        for artifact in copied:
            record.artifacts[artifact.name] = artifact
        write_stage_record(active.folder, record)
    return ""


def _find_duplicate_artifact(
    active: ActiveRun,
    stage: str,
    record: StageRecord | None,
) -> str:
    """Return which artifact another stage of the run has written as well; empty without one."""
    for name in record.artifacts if record is not None else ():
        for other, entry in list(active.manifest.stages.items()):
            if other != stage and entry.is_completed and name in entry.artifacts:
                return f"it writes the artifact {name!r}, which {other} has written too"
    return ""


def _find_file_fault(path: Path, began: float) -> str:
    """Return what is wrong with a declared file; empty if it was written during the stage."""
    if not path.exists():
        return "does not exist"
    if not path.stat().st_size:
        return "is empty"
    if path.stat().st_mtime < began - _MTIME_TOLERANCE_SECONDS:
        return "is older than the run of the stage"
    return ""


def _make_progress_callback(active: ActiveRun, stage: str) -> Callable[[int, int], None]:
    """Return a function that reports the current cell and the remaining time.

    The remaining time is estimated from how long the stage took the last time.
    """
    last_entry = active.history.get_last_completed(stage)
    last_seconds = (last_entry.seconds if last_entry else None) or 0.0
    began = time.monotonic()

    def report_cell(cell: int, cell_count: int) -> None:
        remaining_seconds = last_seconds - (time.monotonic() - began)
        line = f"{stage}: cell {cell} of {cell_count}"
        if remaining_seconds > 1:
            line += f", about {remaining_seconds:.0f} s left"
        active.report_progress(line, transient=True)

    return report_cell


def _scrub_stage_files(
    log: Path,
    record: Path,
    scrub: Callable[[str], str],
) -> None:
    """Remove secrets from a kernel's log and from what people read of a record.

    A log without text is removed.
    """
    if record.exists():
        stored: dict[str, Any] = files.read_json(record)
        for key in _SCRUBBED_RECORD_KEYS:
            if key in stored:
                stored[key] = secrets.scrub_text_values(stored[key], scrub)
        files.write_json(record, stored)
    text = log.read_text(
        encoding="utf-8",
        errors="replace",
    )
    scrubbed = scrub(text)
    if not text:
        log.unlink()
    elif scrubbed != text:
        files.write_text(log, scrubbed)


def _convert_outcome(outcome: NotebookOutcome, stage: str, working_folder: Path) -> StageEntry:
    """Return how a notebook ended as the manifest records it."""
    status = StageStatus(outcome.status)
    if status == StageStatus.SUCCEEDED:
        return StageEntry(
            status=status,
            peak_bytes=outcome.peak,
        )
    lines = [" ".join(line.split()) for line in outcome.message.splitlines() if line.strip()]
    message = "; ".join(lines)
    if status == StageStatus.FAILED and outcome.type not in _SELF_EXPLANATORY_ERRORS:
        message = f"{outcome.type}: {message}" if message else outcome.type
    if outcome.type == FileNotFoundError.__name__:
        message += (
            f" (relative paths begin in {working_folder}, where the kernel starts; "
            f"stages.{stage}.cwd names another folder)"
        )
    if outcome.type == CalledProcessError.__name__:
        message += f" (`stages.{stage}.shell_errors: ignore` lets failing commands pass)"
    if outcome.type == WaitingForApprovalError.__name__:
        status = StageStatus.WAITING_FOR_APPROVAL
    error = StageError(
        type=outcome.type,
        message=message,
        cell=outcome.cell,
        line=outcome.line,
        source=outcome.source,
        traceback=outcome.traceback,
    )
    return StageEntry(
        status=status,
        detail=outcome.detail,
        error=error,
        peak_bytes=outcome.peak,
    )
