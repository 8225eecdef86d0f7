"""Run folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops_kit.core.files import read_json
from mlops_kit.project import artifacts, loader, validation

if TYPE_CHECKING:
    pass


def read_run_artifact(run: Path, name: str) -> Any:
    """An artifact of a run, by name."""
    return artifacts.read_artifact(
        run, artifacts.find_artifact(list_artifacts(run), name, run.name)
    )


STAGE_RECORDS_FOLDER = "stages"  # folder of a run in which each stage files what it did


def list_run_folders(reports: Path) -> list[Path]:
    """The recorded runs, the newest first (their names begin with the moment of the start)."""
    found = [p.parent for p in reports.glob("*/manifest.json")] if reports.is_dir() else []
    return sorted(found, key=lambda p: p.name, reverse=True)


def read_stage_records(run: Path) -> dict[str, dict[str, Any]]:
    """What the stages of a run filed, by stage."""
    return {p.stem: read_json(p) for p in sorted((run / STAGE_RECORDS_FOLDER).glob("*.json"))}


def list_artifacts(run: Path) -> dict[str, artifacts.Artifact]:
    """All artifacts of a run, by name."""
    return {
        name: artifacts.Artifact(**entry)
        for record in read_stage_records(run).values()
        for name, entry in record["artifacts"].items()
    }


def load_recorded_project(project: loader.Project, run: Path) -> loader.Project:
    """The project with the config that a run was started with."""
    return loader.Project(
        project.root, validation.validate_config(read_json(run / "config.json"), "config.json")
    )
