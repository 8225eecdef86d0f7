"""Stage log."""

from __future__ import annotations

from pathlib import Path

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.project import notebook_cells, run_manifest


def format_stage_log(folder: Path, stage: str) -> str:
    """What a stage's notebook printed, cell by cell, what its kernel said beside it, and its error.

    Raises
    ------
    KitError
        If there is no such stage in the run.
    """
    made = run_manifest.read_manifest(folder)
    if stage not in made.stages:
        raise KitError(
            f"run {folder.name} has no stage {stage!r}",
            suggest_names(stage, made.stages),
            "mlops status",
        )
    entry = made.stages[stage]
    book, log = (
        folder / "notebooks" / f"{entry.notebook}.ipynb",
        folder / "logs" / f"{stage}.stderr",
    )
    lines = [f"{stage} of run {folder.name}: {entry.status_text}"]
    for number, cell in enumerate(notebook_cells.load_code_cells(book) if book.exists() else (), 1):
        text = "".join("".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream")
        lines += [f"--- cell {number}", text.rstrip()] if text.strip() else []
    if log.exists():
        lines += [
            "--- the kernel itself",
            log.read_text(encoding="utf-8", errors="replace").rstrip(),
        ]
    error = entry.error
    if error is not None:
        lines += [
            f"--- {entry.status} in cell {error.cell}"
            + (f", line {error.line}" if error.line else "")
            if error.cell
            else f"--- {entry.status}",
            error.source,
            *error.traceback,
            error.message,
        ]
    return "\n".join(line for line in lines if line)
