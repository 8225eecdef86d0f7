"""Read the folder of a recorded run: its stage records, artifacts and configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlops_kit.core.files import read_json
from mlops_kit.project import artifacts, loader, validation

STATUS_WAITING_FOR_APPROVAL = "waiting (approval)"  # a person has to decide before the run goes on
STAGE_RECORDS_FOLDER = "stages"  # the folder of a run that holds a record per stage
# Artifacts that runs of version 0.1.0 stored under another name.
RENAMED_ARTIFACTS = {
    "judged_scores": "held_out_scores",
    "realised": "realized_performance",
}


def list_run_folders(reports: Path) -> list[Path]:
    """List the recorded runs, newest first (a run's name begins with its start time)."""
    if not reports.is_dir():
        return []
    folders = [file.parent for file in reports.glob("*/manifest.json")]
    return sorted(folders, key=lambda folder: folder.name, reverse=True)


def read_stage_records(run: Path) -> dict[str, dict[str, Any]]:
    """Read what the stages of a run recorded, by stage.

    Artifacts have their current names, also in runs that stored them under an older one.
    """
    records = {}
    for file in sorted((run / STAGE_RECORDS_FOLDER).glob("*.json")):
        record = read_json(file)
        for key in ("artifacts", "read"):
            record[key] = rename_artifacts(record.get(key, {}))
        records[file.stem] = record
    return records


def rename_artifacts(values_by_name: dict[str, Any]) -> dict[str, Any]:
    """Return values by artifact name under the artifacts' current names.

    >>> rename_artifacts({"judged_scores": 1, "recipe": 2})
    {'held_out_scores': 1, 'recipe': 2}
    """
    return {RENAMED_ARTIFACTS.get(name, name): value for name, value in values_by_name.items()}


def list_artifacts(run: Path) -> dict[str, artifacts.Artifact]:
    """List all artifacts of a run, by name."""
    artifacts_by_name = {}
    for record in read_stage_records(run).values():
        for name, entry in record["artifacts"].items():
            artifacts_by_name[name] = artifacts.Artifact(**entry)
    return artifacts_by_name


def read_run_artifact(run: Path, name: str) -> Any:
    """Read an artifact of a run by name."""
    artifact = artifacts.find_artifact(list_artifacts(run), name, run.name)
    return artifacts.read_artifact(run, artifact)


def load_recorded_project(project: loader.Project, run: Path) -> loader.Project:
    """Return the project with the configuration that a run was started with."""
    recorded_values = read_json(run / "config.json")
    return loader.Project(
        project.root,
        validation.validate_config(recorded_values, "config.json"),
    )
