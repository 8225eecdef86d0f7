"""Active run."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlops_kit.core.progress import ProgressReporter
from mlops_kit.pipeline import file_hashes, history
from mlops_kit.project import run_manifest
from mlops_kit.project.loader import Project
from mlops_kit.project.run_manifest import COMPLETED_STATUSES

ParameterValues = dict[str, dict[str, Any]]


@dataclass
class ActiveRun:
    """A run while it goes on: its folder, its manifest, and what its threads share."""

    project: Project
    folder: Path
    manifest: dict[str, Any]
    parameter_values: ParameterValues
    report_progress: ProgressReporter
    force: bool = False
    stop_event: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)
    page_futures: list[Future[Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.file_hashes = file_hashes.FileHashes(self.project)
        self.history = history.RunHistory(self.project, but=self.folder)
        self.page_executor = ThreadPoolExecutor(1)

    def get_stage_entry(self, stage: str) -> dict[str, Any]:
        """What the manifest says of a stage."""
        found: dict[str, Any] = self.manifest["stages"][stage]
        return found

    def update_stage(self, stage: str, **facts: Any) -> None:
        """Put facts of a stage into the manifest, and file it."""
        with self.lock:
            self.get_stage_entry(stage).update(facts)
            run_manifest.write_manifest(self.folder, self.manifest)

    def collect_inputs(self) -> dict[str, str | None]:
        """Content of what the stages have handed on so far."""
        found: dict[str, str | None] = {}
        for entry in list(self.manifest["stages"].values()):
            found |= (
                history.get_content_hashes(entry) if entry["status"] in COMPLETED_STATUSES else {}
            )
        return found
