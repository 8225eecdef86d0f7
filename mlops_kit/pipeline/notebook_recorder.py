"""The record of a notebook during its execution, saved atomically and without secrets."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops_kit.core import files
from mlops_kit.core.extras import import_from_extra
from mlops_kit.pipeline.notebook_outcome import NotebookOutcome
from mlops_kit.project.secrets import scrub_text_values

with import_from_extra("train"):
    import nbformat
    from papermill.engines import NotebookExecutionManager

_NON_FINITE_TOKENS = ("NaN", "Infinity")
_SAVE_INTERVAL_FACTOR = 10  # saving may take at most a tenth of the time


def write_strict_json(notebook: Any) -> str:
    """Return the text of a notebook; JSON has no NaN and no infinity, which become None."""
    text: str = nbformat.writes(notebook)
    if not any(token in text for token in _NON_FINITE_TOKENS):
        return text
    replaced: str = nbformat.writes(nbformat.from_dict(replace_non_finite_numbers(notebook)))
    return replaced


def replace_non_finite_numbers(value: Any) -> Any:
    """Return plain values with NaN and infinity replaced by None, as a browser writes them.

    >>> replace_non_finite_numbers({"auc": float("nan"), "rows": [1, float("inf")]})
    {'auc': None, 'rows': [1, None]}
    """
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: replace_non_finite_numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [replace_non_finite_numbers(item) for item in value]
    return value


class NotebookRecorder(NotebookExecutionManager):  # type: ignore[misc]
    """Papermill's record of a notebook during its execution.

    Attributes
    ----------
    scrub : callable
        Replaces the values of secrets in a text.
    reserve_file : Path, optional
        A file that is deleted if the disk is full when the outcome has to be saved.
    is_save_due : bool
        Whether a save was postponed because the last one was too recent.
    """

    scrub: Callable[[str], str] = str
    reserve_file: Path | None = None
    is_save_due = False
    last_saved_at = 0.0
    last_save_seconds = 0.0

    def build_scrubbed_notebook(self) -> Any:
        """Return the notebook without the values of secrets."""
        if self.scrub is str:
            return self.nb
        return nbformat.from_dict(scrub_text_values(self.nb, self.scrub))

    def save(self, now: bool = False, **_: Any) -> None:
        """Save the notebook, or postpone that if the last save is too recent.

        Parameters
        ----------
        now : bool
            Save in any case.
        """
        elapsed = time.monotonic() - self.last_saved_at
        self.is_save_due = not now and elapsed <= _SAVE_INTERVAL_FACTOR * self.last_save_seconds
        if not self.output_path or self.is_save_due:
            return
        began = time.monotonic()
        is_local_file = "://" not in str(self.output_path) and str(self.output_path) != "-"
        if is_local_file:
            self._write_notebook(is_required=now)
        else:
            super().save()
        self.last_saved_at = time.monotonic()
        self.last_save_seconds = self.last_saved_at - began

    def _write_notebook(self, is_required: bool) -> None:
        """Write the notebook; on a full disk only a required save fails.

        A required save first frees the reserved space.
        """
        path = Path(self.output_path)
        text = write_strict_json(self.build_scrubbed_notebook())
        try:
            files.write_text(path, text)
        except OSError:
            if not is_required:
                return
            if self.reserve_file is None:
                raise
            self.reserve_file.unlink(missing_ok=True)
            files.write_text(path, text)

    def record_outcome(self, outcome: NotebookOutcome) -> None:
        """Store the outcome in the notebook's metadata; cells that were not run stay pending."""
        self.end_time = self.now()
        self.nb.metadata.papermill.update(
            end_time=self.end_time.isoformat(),
            duration=(self.end_time - self.start_time).total_seconds(),
            exception=None if outcome.has_succeeded else True,
        )
        self.nb.metadata["mlops"] = outcome.to_metadata()
        self.nb.update(self.build_scrubbed_notebook())
        replaced = replace_non_finite_numbers(self.nb)
        if replaced != self.nb:
            self.nb.update(nbformat.from_dict(replaced))
        self.cleanup_pbar()
