"""The folder of a run: which there are, and what their stages recorded.

A run is a folder below ``reports/`` with a manifest, the executed notebooks, one record per stage
and the artifacts. The folder ``draft`` holds what notebooks write when they are run by hand.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlops_kit.core.files import read_json
from mlops_kit.project.artifacts import Artifact, find_artifact, read_artifact
from mlops_kit.project.config.legacy import translate_legacy_config
from mlops_kit.project.loader import Project
from mlops_kit.project.validation import validate_config

STAGE_RECORDS_FOLDER = "stages"
CONFIG_RECORD_FILE = "config.json"
# Artifacts that earlier versions stored under another name.
RENAMED_ARTIFACTS = {
    "judged_scores": "held_out_scores",
    "realised": "realized_performance",  # stored by earlier versions
}


def list_run_folders(reports_folder: Path) -> list[Path]:
    """List the folders of the recorded runs, the newest first."""
    if not reports_folder.is_dir():
        return []
    folders = [manifest.parent for manifest in reports_folder.glob("*/manifest.json")]
    # The name of a run begins with the time of its start.
    return sorted(folders, key=lambda folder: folder.name, reverse=True)


def read_stage_records(run: Path) -> dict[str, dict[str, Any]]:
    """Read the record of each stage of a run, by stage.

    Artifacts have their present names, also where an earlier version stored them under another.
    """
    records = {}
    for path in sorted((run / STAGE_RECORDS_FOLDER).glob("*.json")):
        record = read_json(path)
        for key in ("artifacts", "read"):
            record[key] = rename_artifacts(record.get(key, {}))
        records[path.stem] = record
    return records


def rename_artifacts(values_by_name: dict[str, Any]) -> dict[str, Any]:
    """Return values by artifact name under the artifacts' present names.

    >>> rename_artifacts({"judged_scores": 1, "recipe": 2})
    {'held_out_scores': 1, 'recipe': 2}
    """
    return {RENAMED_ARTIFACTS.get(name, name): value for name, value in values_by_name.items()}


def list_artifacts(run: Path) -> dict[str, Artifact]:
    """List all artifacts of a run, by name."""
    artifacts = {}
    for record in read_stage_records(run).values():
        for name, entry in record["artifacts"].items():
            artifacts[name] = Artifact(**entry)
    return artifacts


def read_run_artifact(run: Path, name: str) -> Any:
    """Read an artifact of a run.

    Raises
    ------
    KitError
        If the run has no artifact of this name; the message lists those it has.
    """
    return read_artifact(run, find_artifact(list_artifacts(run), name, run.name))


def read_config_record(run: Path) -> dict[str, Any]:
    """Read the settings with which a run was started, under their present names."""
    return translate_legacy_config(read_json(run / CONFIG_RECORD_FILE))


def load_recorded_project(project: Project, run: Path) -> Project:
    """Return the project with the settings with which a run was started."""
    return Project(project.root, validate_config(read_config_record(run), CONFIG_RECORD_FILE))
