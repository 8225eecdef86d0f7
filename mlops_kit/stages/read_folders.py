"""The folders in which a stage looks for the artifacts of other stages."""

from __future__ import annotations

from pathlib import Path

from mlops_kit.project.run_folder import STAGE_RECORDS_FOLDER, list_run_folders
from mlops_kit.project.run_manifest import read_stored_manifest


def list_read_folders(
    reports_folder: Path,
    own_folder: Path,
    is_draft: bool,
    sample: int,
) -> list[Path]:
    """List the folders in which a stage looks for artifacts, in their order.

    In the pipeline a stage reads its own run. A draft reads the latest run of the same sample size
    too, and first whichever of the two was written last.
    """
    if not is_draft:
        return [own_folder]
    latest_run = _find_latest_run(reports_folder, sample)
    if latest_run is None:
        return [own_folder]
    draft_records = own_folder / STAGE_RECORDS_FOLDER
    run_written_at = (latest_run / "manifest.json").stat().st_mtime
    if draft_records.is_dir() and draft_records.stat().st_mtime > run_written_at:
        return [own_folder, latest_run]
    return [latest_run, own_folder]


def _find_latest_run(reports_folder: Path, sample: int) -> Path | None:
    """Return the newest recorded run of a sample size."""
    for folder in list_run_folders(reports_folder):
        if read_stored_manifest(folder).sample == sample:
            return folder
    return None
