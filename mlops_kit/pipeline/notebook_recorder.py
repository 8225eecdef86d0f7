"""Notebook recorder."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import nbformat
from papermill.engines import NotebookExecutionManager

from mlops_kit.core import files
from mlops_kit.pipeline.notebook_outcome import NotebookOutcome
from mlops_kit.project.secrets import scrub_text_values


class NotebookRecorder(NotebookExecutionManager):  # type: ignore[misc]
    """Papermill's record of a notebook, saved atomically, without secrets and not twice a cell."""

    last_saved_at = 0.0
    last_save_seconds = 0.0
    is_save_due = False
    scrub: Callable[[str], str] = str
    reserve_file: Path | None = (
        None  # a file that is given up if there is no room for the last word
    )

    def build_scrubbed_notebook(self) -> Any:
        """The notebook as it may be seen."""
        return (
            nbformat.from_dict(scrub_text_values(self.nb, self.scrub))
            if self.scrub is not str
            else self.nb
        )

    def save(self, now: bool = False, **given: Any) -> None:
        """Save; if the last time is nearer than ten times what a save takes, it is due when somebody asks again."""
        self.is_save_due = (
            not now and time.monotonic() - self.last_saved_at <= 10 * self.last_save_seconds
        )
        if self.output_path and not self.is_save_due:
            begin = time.monotonic()
            if "://" in str(self.output_path) or str(self.output_path) == "-":
                super().save()
            else:
                self.write_notebook(now)
            self.last_saved_at = time.monotonic()
            self.last_save_seconds = self.last_saved_at - begin

    def write_notebook(self, needed: bool) -> None:
        """Write the notebook; on a full disk only if it is needed."""
        text = nbformat.writes(self.build_scrubbed_notebook())
        try:
            files.write_text(Path(self.output_path), text)
        except OSError:
            if needed and self.reserve_file is not None:
                self.reserve_file.unlink(missing_ok=True)
                files.write_text(Path(self.output_path), text)
            elif needed:
                raise

    def record_outcome(self, end: NotebookOutcome) -> None:
        """Record how it ended, and leave what was not run as pending."""
        self.end_time = self.now()
        facts = self.nb.metadata.papermill
        facts.update(
            end_time=self.end_time.isoformat(),
            duration=(self.end_time - self.start_time).total_seconds(),
            exception=end.status != "succeeded" or None,
        )
        self.nb.metadata["mlops"] = {
            k: v for k, v in asdict(end).items() if v not in (None, "", [])
        }
        self.nb.update(self.build_scrubbed_notebook())
        self.cleanup_pbar()
