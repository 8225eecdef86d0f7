"""Decide which stages have to run, and why: each is compared with what earlier runs recorded of it.

A stage is skipped when some earlier run has it with everything that it used unchanged and its
outputs intact; so a reverted edit is skipped again. A stage whose inputs have yet to be produced is
decided when they are: if they turn out equal, it is skipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any

from mlops_kit.pipeline.current_project import CurrentProject
from mlops_kit.pipeline.file_hashes import FileHashes, InputHashes
from mlops_kit.pipeline.fingerprint import (
    compute_fingerprint,
    find_damaged_outputs,
    find_differences,
    find_displaced_outputs,
    hash_code_origins,
)
from mlops_kit.pipeline.history import (
    RunHistory,
    find_carried_stage,
    find_matching_run,
    get_content_hashes,
)
from mlops_kit.pipeline.manifest import create_stage_entry
from mlops_kit.pipeline.param_types import StageValues, encode_value
from mlops_kit.pipeline.params import SHARED_PARAMETERS
from mlops_kit.pipeline.stage_dependencies import collect_dependencies
from mlops_kit.project.config.pipeline import RerunAfter, order_stages
from mlops_kit.project.config.value_types import format_duration
from mlops_kit.project.loader import Project
from mlops_kit.project.notebook_cells import load_code_cells
from mlops_kit.project.run_manifest import (
    RunManifest,
    StageDependencies,
    StageEntry,
    StageStatus,
)
from mlops_kit.project.stage_record import ManualExecution, StageRecord, read_stage_record

_DRAFT_FOLDER = "draft"
_MAX_REASONS = 20  # of one stage, collected
_MAX_SHOWN_REASONS = 3
_SAVE_TOLERANCE_SECONDS = 1  # a notebook is saved before its last cell has been recorded


class PlanAction(StrEnum):
    """What is done with a stage; ``DEPENDS``: it runs if the inputs that it waits for change."""

    RUN = "run"
    SKIP = "skip"
    DEPENDS = "depends"


@dataclass(frozen=True)
class PlannedStage:
    """What is done with a stage.

    Attributes
    ----------
    reasons : tuple of str
        Why it runs, the inputs on which that depends, or what is restored when it is skipped.
    origin : Path or None
        The run (or the draft) whose files a skipped stage takes over.
    entry : StageEntry or None
        What the manifest of that run records of the stage.
    """

    stage: str
    action: PlanAction
    reasons: tuple[str, ...] = ()
    origin: Path | None = None
    entry: StageEntry | None = None

    @property
    def summary(self) -> str:
        """The reasons in one line."""
        if self.action == PlanAction.SKIP and self.origin and not is_draft(self.origin):
            return "; ".join([f"unchanged since {self.origin.name}", *self.reasons])
        line = "; ".join(self.reasons[:_MAX_SHOWN_REASONS])
        hidden_count = len(self.reasons) - _MAX_SHOWN_REASONS
        return f"{line} (and {hidden_count} more)" if hidden_count > 0 else line


def is_draft(folder: Path) -> bool:
    """Return whether a folder is the draft of stages that were run by hand."""
    return folder.name == _DRAFT_FOLDER


def plan_stage(
    current: CurrentProject,
    history: RunHistory,
    stage: str,
    values: StageValues,
    inputs: InputHashes,
    force: bool = False,
) -> PlannedStage:
    """Decide whether a stage runs.

    Parameters
    ----------
    values : mapping
        The parameter values that it would be given.
    inputs : mapping
        Content hash of each artifact of the other stages; None for one that has yet to be produced.
    """
    rerun = current.project.config.stages[stage].rerun
    if force:
        return PlannedStage(stage, PlanAction.RUN, ("forced",))
    if rerun == "always":
        return PlannedStage(stage, PlanAction.RUN, ("always runs",))
    first_reasons: tuple[str, ...] = ()
    for folder, entry in history.iterate_completed(stage):
        reasons = _list_rerun_reasons(
            current,
            stage,
            values,
            inputs,
            (folder, entry),
        )
        if reasons:
            first_reasons = first_reasons or reasons
            continue
        if isinstance(rerun, RerunAfter):
            age = _compute_stage_age(entry)
            if age > rerun.after:
                limit = format_duration(rerun.after)
                reason = f"its last run is {format_duration(age)} old, over {limit}"
                return PlannedStage(stage, PlanAction.RUN, (reason,))
        return _plan_unchanged_stage(
            current,
            stage,
            inputs,
            folder,
            entry,
        )
    draft = _plan_from_draft(current, stage, values, inputs)
    if draft is not None:
        return draft
    return PlannedStage(
        stage, PlanAction.RUN, first_reasons or (_describe_last_attempt(history, stage),)
    )


def _list_rerun_reasons(
    current: CurrentProject,
    stage: str,
    values: StageValues,
    inputs: InputHashes,
    recorded: tuple[Path, StageEntry],
) -> tuple[str, ...]:
    """Return why a stage of an earlier run cannot be reused; empty if it can."""
    folder, entry = recorded
    config = current.project.config.stages[stage]
    if config.rerun != "never" and entry.dependencies is not None:
        differences = find_differences(
            current,
            stage,
            values,
            inputs,
            entry.dependencies,
        )
        reasons = tuple(islice(differences, _MAX_REASONS))
        if reasons:
            return reasons
    return tuple(find_damaged_outputs(folder, entry.artifacts, current.hashes, config.writes))


def _plan_unchanged_stage(
    current: CurrentProject,
    stage: str,
    inputs: InputHashes,
    folder: Path,
    entry: StageEntry,
) -> PlannedStage:
    """Plan a stage that an earlier run has: skip it, unless it waits for inputs."""
    if current.project.config.stages[stage].rerun != "never" and entry.dependencies is not None:
        used_names = dict.fromkeys([*entry.dependencies.inputs, *entry.dependencies.files])
        pending = tuple(f"`{name}`" for name in used_names if inputs.get(name, "") is None)
        if pending:
            return PlannedStage(
                stage,
                PlanAction.DEPENDS,
                pending,
                folder,
                entry,
            )
    displaced = find_displaced_outputs(current.project, entry.artifacts, current.hashes)
    restored = tuple(f"`{name}` is restored" for name in displaced)
    return PlannedStage(
        stage,
        PlanAction.SKIP,
        restored,
        folder,
        entry,
    )


def _describe_last_attempt(history: RunHistory, stage: str) -> str:
    """Return why a stage that no run can be reused for has to run."""
    for folder, manifest in history:
        entry = manifest.get_stage(stage)
        if entry.status == StageStatus.NOT_RUN:
            continue
        if entry.is_completed:
            return f"what it used in {folder.name} was not recorded"
        return f"it has not succeeded yet: {entry.status_text} in {folder.name}"
    return "it has not been run yet"


def _plan_from_draft(
    current: CurrentProject,
    stage: str,
    values: StageValues,
    inputs: InputHashes,
) -> PlannedStage | None:
    """Plan to take over a stage that was run by hand, if that is what a run would do.

    The saved notebook must have been run from top to bottom in a fresh kernel, with the present
    code, data, settings and parameters.
    """
    draft = current.project.reports_folder / _DRAFT_FOLDER
    record = read_stage_record(draft, stage)
    if record is None or record.manual_execution is None:
        return None
    if not _was_run_in_order(
        current,
        stage,
        values,
        record,
        record.manual_execution,
    ):
        return None
    dependencies = _find_draft_dependencies(
        current,
        stage,
        values,
        inputs,
        record,
    )
    if dependencies is None:
        return None
    declared = current.project.config.stages[stage].writes
    if any(find_damaged_outputs(draft, record.artifacts, current.hashes, declared)):
        return None
    entry = _create_draft_entry(
        current,
        stage,
        values,
        record,
        dependencies,
    )
    notebook = current.project.get_notebook_path(stage)
    saved = datetime.fromtimestamp(record.manual_execution.finished_at)  # local time: it is shown
    reason = f"{notebook.name} as saved {saved:%H:%M}"
    return PlannedStage(
        stage,
        PlanAction.SKIP,
        (reason,),
        draft,
        entry,
    )


def _find_draft_dependencies(
    current: CurrentProject,
    stage: str,
    values: StageValues,
    inputs: InputHashes,
    record: StageRecord,
) -> StageDependencies | None:
    """Return what a draft used; None if any of it has changed since."""
    inputs_read = {}
    for name in record.read:
        if inputs.get(name) is not None:
            inputs_read[name] = str(inputs[name])
    if inputs_read != record.read:
        return None
    used = record.manual_execution.used if record.manual_execution else {}
    dependencies = collect_dependencies(
        current,
        stage,
        values,
        used,
        inputs_read,
    )
    if any(
        find_differences(
            current,
            stage,
            values,
            inputs,
            dependencies,
        )
    ):
        return None
    return dependencies


def _was_run_in_order(
    current: CurrentProject,
    stage: str,
    values: StageValues,
    record: StageRecord,
    execution: ManualExecution,
) -> bool:
    """Return whether a draft's notebook, as it is saved, was run from top to bottom."""
    if not record.done or record.depends_on_draft:
        return False
    if execution.cell_hashes != current.hash_cells(stage):
        return False
    notebook = current.project.get_notebook_path(stage)
    if notebook.stat().st_mtime < execution.finished_at - _SAVE_TOLERANCE_SECONDS:
        return False
    counts = [cell["execution_count"] for cell in load_code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        return False
    return all(
        _get_draft_value(execution.values, name, value) == value for name, value in values.items()
    )


def _get_draft_value(
    draft_values: Mapping[str, Any],
    name: str,
    value: Any,
) -> Any:
    """Return a parameter's value in a draft; an empty run-wide one stands for the project's."""
    draft_value = draft_values.get(name)
    if not draft_value and name in SHARED_PARAMETERS:
        return value
    return draft_value


def _create_draft_entry(
    current: CurrentProject,
    stage: str,
    values: StageValues,
    record: StageRecord,
    dependencies: StageDependencies,
) -> StageEntry:
    """Create the entry of a stage that was run by hand, as a run would have recorded it."""
    entry = create_stage_entry(current.project, stage)
    if record.opened_at is not None and record.manual_execution is not None:
        opened = datetime.fromtimestamp(record.opened_at, UTC)
        entry.started = opened.isoformat(timespec="milliseconds")
        entry.seconds = round(record.manual_execution.finished_at - record.opened_at, 2)
    entry.params = encode_value(dict(values))
    entry.code_origins = hash_code_origins(current)
    entry.sentence = record.sentence
    entry.logged = record.logged
    entry.mlflow_run = record.mlflow_run
    entry.artifacts = record.artifacts
    entry.dependencies = dependencies
    entry.fingerprint = compute_fingerprint(dependencies)
    return entry


def _compute_stage_age(entry: StageEntry) -> timedelta:
    """Return how long ago a stage was executed, in whole minutes."""
    if entry.started is None:
        raise ValueError(f"stage {entry.notebook} has no start time")
    age = datetime.now(UTC) - datetime.fromisoformat(entry.started)
    return timedelta(minutes=age // timedelta(minutes=1))


def plan_stages(
    project: Project,
    chosen: list[str],
    values: Mapping[str, StageValues],
    force: bool = False,
    hashes: FileHashes | None = None,
) -> list[PlannedStage]:
    """Plan the chosen stages, in their order; nothing is run or written."""
    current = CurrentProject(project, hashes)
    history = RunHistory(project)
    inputs: dict[str, str | None] = {}
    planned_stages: list[PlannedStage] = []
    for stage in order_stages(project.config.stages):
        if stage not in chosen:
            carried = find_carried_stage(current, history, stage)
            if carried is not None:
                inputs |= get_content_hashes(carried[1])
            continue
        planned = plan_stage(
            current,
            history,
            stage,
            values[stage],
            inputs,
            force,
        )
        if planned.action == PlanAction.SKIP and planned.entry is not None:
            inputs |= get_content_hashes(planned.entry)
            current.assume_restored(planned.entry.artifacts)
        else:
            last_entry = history.get_last_completed(stage)
            names = [*project.config.stages[stage].writes]
            if last_entry is not None:
                names += last_entry.artifacts
            inputs |= dict.fromkeys(names)
        planned_stages.append(planned)
    current.hashes.save_cache()
    return planned_stages


def find_up_to_date_run(
    project: Project,
    planned_stages: list[PlannedStage],
    history: RunHistory,
) -> RunManifest | None:
    """Return the latest run with the same cut-offs, if it has everything that was asked for."""
    matching_run = find_matching_run(project, history)
    if matching_run is None:
        return None
    folder, manifest = matching_run
    hashes = FileHashes(project)
    for planned in planned_stages:
        if planned.action != PlanAction.SKIP or planned.entry is None:
            return None
        if find_displaced_outputs(project, planned.entry.artifacts, hashes):
            return None
        entry = manifest.get_stage(planned.stage)
        is_same = planned.origin == folder or entry.fingerprint == planned.entry.fingerprint
        if not entry.is_completed or not is_same:
            return None
    return manifest.model_copy(update={"is_up_to_date": True})
