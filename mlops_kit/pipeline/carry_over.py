"""Carry a stage that is up to date over from the run that executed it.

Files are hard links, so a run is complete by itself and takes no further space. Files of a run are
never changed in place (they are replaced), which is what makes the links safe.
"""

from __future__ import annotations

import os
import shutil
from functools import partial
from pathlib import Path

from mlops_kit.core.files import write_atomically
from mlops_kit.pipeline.active_run import ActiveRun
from mlops_kit.pipeline.fingerprint import find_displaced_outputs
from mlops_kit.pipeline.plan import is_draft
from mlops_kit.project.run_folder import STAGE_RECORDS_FOLDER
from mlops_kit.project.run_manifest import StageEntry, StageStatus


def carry_over_stage(
    active: ActiveRun,
    stage: str,
    source_run: Path,
    entry: StageEntry,
    reason: str,
    is_selected: bool = True,
) -> None:
    """Link a stage's artifacts, figures, record, notebook and page from another run.

    Outputs that belong into the project itself and are not there are restored.
    """
    notebook = entry.notebook or active.project.get_executed_notebook_name(stage)
    relative_paths = [
        f"{STAGE_RECORDS_FOLDER}/{stage}.json",
        f"notebooks/{notebook}.ipynb",
        f"notebooks/{notebook}.html",
        f"figures/{stage}",
        *(artifact.path for artifact in entry.artifacts.values()),
    ]
    for relative_path in relative_paths:
        _link_path(source_run / relative_path, active.folder / relative_path)
    for name in find_displaced_outputs(active.project, entry.artifacts, active.file_hashes):
        stored = source_run / entry.artifacts[name].path
        write_atomically(active.project.resolve_path(name), partial(shutil.copyfile, stored))
    changes = {
        "status": StageStatus.SKIPPED,
        "reason": reason,
        "is_selected": is_selected,
        "was_run_by_hand": is_draft(source_run),
    }
    carried = entry.model_copy(update=changes)
    active.set_stage_entry(stage, carried)


def _link_path(source: Path, target: Path) -> None:
    """Link a file, or all files of a folder; a path that does not exist is ignored."""
    if source.is_dir():
        shutil.copytree(
            source,
            target,
            copy_function=_link_file,
            dirs_exist_ok=True,
        )
    elif source.exists():
        target.parent.mkdir(
            parents=True,
            exist_ok=True,
        )
        _link_file(str(source), str(target))


def _link_file(source: str, target: str) -> None:
    """Create a hard link; a copy where the file system has none."""
    try:
        os.link(source, target)
    except FileExistsError:
        Path(target).unlink()
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
