"""The log of a stage (``mlops logs``): output of its cells and its kernel, and its error."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.project.notebook_cells import load_code_cells
from mlops_kit.project.run_manifest import (
    UNSUCCESSFUL_STATUSES,
    RunManifest,
    StageEntry,
    StageStatus,
    read_manifest,
)


def find_unsuccessful_stage(folder: Path) -> str:
    """Find the first stage of a run that did not succeed.

    Raises
    ------
    KitError
        If there is none.
    """
    manifest = read_manifest(folder)
    for stage, entry in manifest.stages.items():
        if entry.status in UNSUCCESSFUL_STATUSES:
            return stage
    stages = _list_started_stages(manifest)
    raise KitError(
        f"no stage of run {folder.name} failed, so one has to be named",
        f"a stage that has been started: {', '.join(stages) or 'none yet'}",
        f"mlops logs {stages[-1]}" if stages else "mlops status",
    )


def _list_started_stages(manifest: RunManifest) -> list[str]:
    """List the stages that were started, in this run or in the one they are carried over from."""
    return [
        stage for stage, entry in manifest.stages.items() if entry.status != StageStatus.NOT_RUN
    ]


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
        If the run has no such stage, or it has not been started.
    """
    manifest = read_manifest(folder)
    started_stages = _list_started_stages(manifest)
    if stage not in manifest.stages:
        raise KitError(
            f"run {folder.name} has no stage {stage!r}",
            suggest_names(stage, manifest.stages),
            "mlops status shows the stages of the latest run",
        )
    entry = manifest.stages[stage]
    if stage not in started_stages:
        reason = f": {entry.reason}" if entry.reason else ""
        raise KitError(
            f"{stage} was not run in {folder.name}{reason}",
            f"a stage that has been started: {', '.join(started_stages) or 'none yet'}",
            "mlops status shows how far the latest run got",
        )
    notebook = folder / "notebooks" / f"{entry.notebook}.ipynb"
    kernel_log = folder / "logs" / f"{stage}.stderr"
    lines = [
        *_list_cell_lines(notebook),
        *_list_kernel_lines(kernel_log),
        *_list_error_lines(entry),
    ]
    shown_lines = [line for line in lines if line] or [_describe_silent_stage(entry)]
    return "\n".join([f"{stage} of run {folder.name}: {_describe_status(entry)}", *shown_lines])


def _describe_status(entry: StageEntry) -> str:
    """Return the status of a stage; of one that was carried over, with the run that executed it."""
    if entry.status != StageStatus.SKIPPED:
        return entry.status_text
    return f"{entry.status_text} ({entry.reason})"


def _describe_silent_stage(entry: StageEntry) -> str:
    """Return what there is instead of a log: nothing was printed, or nothing yet."""
    if entry.status == StageStatus.RUNNING:
        return "It has printed nothing yet."
    return f"It printed nothing. {entry.sentence}".rstrip()


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
