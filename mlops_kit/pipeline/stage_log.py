"""The log of a stage (``mlops logs``): output of its cells and its kernel, and its error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.project.notebook_cells import load_code_cells
from mlops_kit.project.run_manifest import StageEntry, read_manifest


def format_stage_log(folder: Path, stage: str) -> str:
    """Format the log of a stage as text.

    Parameters
    ----------
    folder : Path
        Folder of the run.
    stage : str
        Name of the stage.

    Raises
    ------
    KitError
        If the run has no such stage.
    """
    manifest = read_manifest(folder)
    if stage not in manifest.stages:
        raise KitError(
            f"run {folder.name} has no stage {stage!r}",
            suggest_names(stage, manifest.stages),
            "mlops status",
        )
    entry = manifest.stages[stage]
    notebook = folder / "notebooks" / f"{entry.notebook}.ipynb"
    kernel_log = folder / "logs" / f"{stage}.stderr"
    lines = [f"{stage} of run {folder.name}: {entry.status_text}"]
    lines += _list_cell_lines(notebook)
    lines += _list_kernel_lines(kernel_log)
    lines += _list_error_lines(entry)
    return "\n".join(line for line in lines if line)


def _list_cell_lines(notebook: Path) -> Iterator[str]:
    """Yield what each code cell printed."""
    if not notebook.exists():
        return
    for number, cell in enumerate(load_code_cells(notebook), 1):
        text = _join_streams(cell)
        if text.strip():
            yield f"--- cell {number}"
            yield text.rstrip()


def _join_streams(cell: Mapping[str, Any]) -> str:
    """Return the text that a cell printed."""
    texts = ["".join(o["text"]) for o in cell["outputs"] if o["output_type"] == "stream"]
    return "".join(texts)


def _list_kernel_lines(log: Path) -> Iterator[str]:
    """Yield what the kernel itself wrote to standard error."""
    if log.exists():
        yield "--- kernel"
        yield log.read_text(encoding="utf-8", errors="replace").rstrip()


def _list_error_lines(entry: StageEntry) -> Iterator[str]:
    """Yield the error of a stage: where it was raised, its source and traceback."""
    error = entry.error
    if error is None:
        return
    location = ""
    if error.cell:
        location = f" in cell {error.cell}"
        if error.line:
            location += f", line {error.line}"
    yield f"--- {entry.status}{location}"
    yield error.source
    yield from error.traceback
    yield error.message
