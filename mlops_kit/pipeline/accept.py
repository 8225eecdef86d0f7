"""Accept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.pipeline import current_project, fingerprint, stage_dependencies
from mlops_kit.pipeline.history import RunHistory, find_matching_run, get_content_hashes
from mlops_kit.project import run_manifest
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import COMPLETED_STATUSES


def accept_stages(
    project: Project, chosen: list[str], values: Mapping[str, Mapping[str, Any]], by: str
) -> dict[str, list[str]]:
    """Take the chosen stages of the latest run as up to date, whatever was edited since; what was accepted, by stage.

    Raises
    ------
    KitError
        If there is no run, or a stage has other parameters or inputs, or damaged outputs: that no word can mend.
    """
    now, history = current_project.CurrentProject(project), RunHistory(project)
    found = find_matching_run(project, history)
    if found is None:
        raise KitError(
            "there is no run whose stages could be taken as they are",
            "one of the same as_of and until",
            "mlops run",
        )
    folder, made = found
    inputs: dict[str, str | None] = {}
    for entry in made["stages"].values():
        inputs |= get_content_hashes(entry)
    accepted = {}
    for stage in chosen:
        entry = made["stages"][stage]
        if entry["status"] not in COMPLETED_STATUSES or not entry.get("trace"):
            raise KitError(
                f"{stage} cannot be taken as it is: in run {made['run']} it is {entry['status']}",
                "a stage that ended well",
                "mlops run",
            )
        why = [*fingerprint.find_differences(now, stage, values[stage], inputs, entry["trace"])]
        renewed = stage_dependencies.refresh_dependencies(now, stage, entry["trace"])
        left = [
            *fingerprint.find_differences(now, stage, values[stage], inputs, renewed),
            *fingerprint.find_damaged_outputs(
                folder, entry["artifacts"], now.hashes, project.config.stages[stage].writes
            ),
        ]
        if left:
            raise KitError(
                f"{stage} cannot be taken as it is: {left[0]}",
                "the same parameters and inputs, and intact outputs",
                "mlops run",
            )
        if why:
            accepted[stage] = why
            entry.update(
                trace=renewed,
                fingerprint=fingerprint.compute_fingerprint(renewed),
                accepted={"by": by, "at": run_manifest.format_current_time(), "why": why},
            )
    run_manifest.write_manifest(folder, made)
    return accepted
