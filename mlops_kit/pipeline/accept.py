"""Accept stages as up to date although their dependencies changed (``mlops plan --accept``)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mlops_kit.core.errors import KitError
from mlops_kit.pipeline.current_project import CurrentProject
from mlops_kit.pipeline.fingerprint import (
    compute_fingerprint,
    find_damaged_outputs,
    find_differences,
)
from mlops_kit.pipeline.history import RunHistory, find_matching_run, get_content_hashes
from mlops_kit.pipeline.param_types import StageValues
from mlops_kit.pipeline.stage_dependencies import refresh_dependencies
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import (
    Acceptance,
    RunManifest,
    StageDependencies,
    StageEntry,
    format_current_time,
    write_manifest,
)


def accept_stages(
    project: Project,
    chosen: list[str],
    values: Mapping[str, StageValues],
    actor: str,
) -> dict[str, list[str]]:
    """Record in the latest run that the chosen stages are up to date.

    Parameters
    ----------
    values : dict
        Parameter values, by stage and name.
    actor : str
        Who accepts.

    Returns
    -------
    dict
        For each stage that was accepted, what had changed.

    Raises
    ------
    KitError
        If there is no run, or a stage has other parameters or inputs, or damaged outputs: these
        cannot be accepted.
    """
    current = CurrentProject(project)
    matching_run = find_matching_run(project, RunHistory(project))
    if matching_run is None:
        raise KitError(
            "no run has stages that can be accepted as up to date",
            "a run with the same as_of and until",
            "mlops run",
        )
    folder, manifest = matching_run
    inputs: dict[str, str | None] = {}
    for entry in manifest.stages.values():
        inputs |= get_content_hashes(entry)

    accepted: dict[str, list[str]] = {}
    for stage in chosen:
        entry = manifest.stages[stage]
        recorded = _get_recorded_dependencies(manifest, stage)
        reasons = list(find_differences(current, stage, values[stage], inputs, recorded))
        refreshed = refresh_dependencies(current, stage, recorded)
        remaining = [
            *find_differences(current, stage, values[stage], inputs, refreshed),
            *_list_damaged_outputs(current, folder, manifest, stage),
        ]
        _require_nothing_remaining(stage, remaining)
        if reasons:
            accepted[stage] = reasons
            _record_acceptance(entry, refreshed, actor, reasons)
    write_manifest(folder, manifest)
    return accepted


def _require_nothing_remaining(stage: str, remaining: list[str]) -> None:
    """Raise an error if a stage differs in ways that cannot be accepted."""
    if remaining:
        raise KitError(
            f"{stage} cannot be accepted as up to date: {remaining[0]}",
            "the same parameters and inputs, and intact outputs",
            "mlops run",
        )


def _record_acceptance(
    entry: StageEntry,
    refreshed: StageDependencies,
    actor: str,
    reasons: list[str],
) -> None:
    """Record that a person accepted a stage with its present dependencies."""
    entry.dependencies = refreshed
    entry.fingerprint = compute_fingerprint(refreshed)
    entry.accepted = Acceptance(
        actor=actor,
        accepted_at=format_current_time(),
        reasons=reasons,
    )


def _get_recorded_dependencies(manifest: RunManifest, stage: str) -> StageDependencies:
    """Return what a stage of a run used, or raise an error if it did not succeed."""
    entry = manifest.stages[stage]
    if not entry.is_completed or entry.dependencies is None:
        raise KitError(
            f"{stage} cannot be accepted as up to date: in run {manifest.run} it is {entry.status}",
            "a stage that succeeded",
            "mlops run",
        )
    return entry.dependencies


def _list_damaged_outputs(
    current: CurrentProject,
    folder: Path,
    manifest: RunManifest,
    stage: str,
) -> list[str]:
    """List the outputs of a stage that are missing or damaged."""
    declared = current.project.config.stages[stage].writes
    artifacts = manifest.stages[stage].artifacts
    return list(find_damaged_outputs(folder, artifacts, current.hashes, declared))
