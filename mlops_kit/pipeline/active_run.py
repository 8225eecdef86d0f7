"""A run in progress: its folder, its manifest and what its threads share."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_kit.core.progress import ProgressReporter
from mlops_kit.pipeline.file_hashes import FileHashes
from mlops_kit.pipeline.history import RunHistory, get_content_hashes
from mlops_kit.project import run_folder
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import RunManifest, StageEntry, write_manifest

ParameterValues = dict[str, dict[str, Any]]  # by stage and parameter name


@dataclass
class ActiveRun:
    """A run in progress.

    Attributes
    ----------
    parameter_values : dict
        Values of the parameters, by stage and name; a stage that is missing here was not selected.
    force : bool
        Whether stages that are up to date run too.
    stop_event : threading.Event
        Set to interrupt the stages that are running and to start no further one.
    page_executor : ThreadPoolExecutor
        One thread that renders the pages of finished notebooks while other stages run.
    """

    project: Project
    folder: Path
    manifest: RunManifest
    parameter_values: ParameterValues
    report_progress: ProgressReporter
    force: bool = False
    stop_event: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    page_futures: list[Future[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.file_hashes = FileHashes(self.project)
        self.history = RunHistory(self.project, excluded_folder=self.folder)
        self.page_executor = ThreadPoolExecutor(1)

    def get_stage_entry(self, stage: str) -> StageEntry:
        """Return the manifest's entry of a stage."""
        return self.manifest.stages[stage]

    def set_stage_entry(self, stage: str, entry: StageEntry) -> None:
        """Replace the entry of a stage and write the manifest."""
        with self.lock:
            self.manifest.stages[stage] = entry
            write_manifest(self.folder, self.manifest)

    def update_stage(self, stage: str, **changes: Any) -> None:
        """Change fields of a stage's entry and write the manifest."""
        with self.lock:
            entry = self.manifest.stages[stage]
            for name, value in changes.items():
                setattr(entry, name, value)
            write_manifest(self.folder, self.manifest)

    def collect_inputs(self) -> dict[str, str | None]:
        """Return the content hashes of the artifacts of all completed stages, by name."""
        inputs: dict[str, str | None] = {}
        for entry in list(self.manifest.stages.values()):
            if entry.is_completed:
                inputs |= get_content_hashes(entry)
        return inputs

    def get_notebook_target(self, stage: str) -> Path:
        """Return where the executed notebook of a stage is written."""
        name = self.project.get_executed_notebook_name(stage)
        return self.folder / "notebooks" / f"{name}.ipynb"

    def get_stage_record_path(self, stage: str) -> Path:
        """Return the file in which the stage's notebook records what it did."""
        return self.folder / run_folder.STAGE_RECORDS_FOLDER / f"{stage}.json"
