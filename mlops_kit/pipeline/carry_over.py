"""Carry over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_kit.core import files
from mlops_kit.pipeline import fingerprint
from mlops_kit.pipeline.active_run import ActiveRun
from mlops_kit.project import run_folder


def carry_over_stage(
    chain: ActiveRun, stage: str, old: Path, entry: Mapping[str, Any], reason: str
) -> None:
    """Link a stage's artifacts, figures, record, notebook and page from another run; files are never changed in place."""
    stem = chain.project.get_notebook_path(stage).stem
    wanted = [
        f"{run_folder.STAGE_RECORDS_FOLDER}/{stage}.json",
        f"notebooks/{stem}.ipynb",
        f"notebooks/{stem}.html",
        f"figures/{stage}",
    ]
    for relative in wanted + [a["path"] for a in entry["artifacts"].values()]:
        begin, end = old / relative, chain.folder / relative
        if begin.is_dir():
            shutil.copytree(begin, end, copy_function=_link_file, dirs_exist_ok=True)
        elif begin.exists():
            end.parent.mkdir(parents=True, exist_ok=True)
            _link_file(str(begin), str(end))
    for name in fingerprint.find_displaced_outputs(
        chain.project, entry["artifacts"], chain.file_hashes
    ):
        files.write_atomically(
            chain.project.resolve_path(name),
            lambda p, source=old / entry["artifacts"][name]["path"]: shutil.copyfile(source, p),  # type: ignore[misc]
        )
    chain.update_stage(stage, **{**entry, "status": "skipped", "reason": reason})


def _link_file(begin: str, end: str) -> None:
    """A hard link; a copy where the file system has none."""
    try:
        os.link(begin, end)
    except FileExistsError:
        os.unlink(end)
        os.link(begin, end)
    except OSError:
        shutil.copy2(begin, end)
