"""A console in the state in which a stage failed (``mlops debug``)."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.core.extras import import_from_extra
from mlops_kit.project.loader import Project
from mlops_kit.project.notebook_cells import load_code_cells
from mlops_kit.project.run_manifest import read_manifest


def open_debug_console(project: Project, folder: Path, stage: str) -> None:
    """Execute the cells of a stage in IPython, up to the one that fails, and stay there.

    The cells work on a copy of the run; the run itself is not changed.

    Parameters
    ----------
    project : Project
        The project of the run.
    folder : Path
        Folder of the run.
    stage : str
        Name of the stage.

    Raises
    ------
    KitError
        If the run has no executed notebook of the stage.
    """
    with import_from_extra("train"):
        import IPython
        from traitlets.config import Config

    entry = read_manifest(folder).get_stage(stage)
    notebook = folder / "notebooks" / f"{entry.notebook}.ipynb"
    if not notebook.exists():
        raise KitError(
            f"{stage} was not executed in {folder.name}",
            "a stage that has a notebook there",
            "mlops status",
        )
    copy = project.resolve_path(".mlops") / "debug" / folder.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    os.environ.update(MLOPS_RUN=str(copy), MLOPS_PROJECT=str(project.root))
    os.chdir(project.root)
    this_module = f"__import__({__name__!r}, fromlist=['x'])"
    config = Config()
    config.InteractiveShellApp.exec_lines = [
        f"{this_module}.run_cells_until_failure(get_ipython(), {str(notebook)!r})"
    ]
    config.TerminalIPythonApp.display_banner = False
    IPython.start_ipython(argv=[], config=config)


def run_cells_until_failure(shell: Any, notebook: str) -> None:
    """Execute the code cells of a notebook in an IPython shell until one fails."""
    sources = [cell["source"] for cell in load_code_cells(Path(notebook))]
    for number, source in enumerate(sources, 1):
        _write_line(f"cell {number} of {len(sources)}")
        result = shell.run_cell(source, store_history=True)
        if not result.success:
            _write_line(
                f"Cell {number} failed; its variables are available here, "
                f"and %debug goes to the line of the error. Its source:\n{source}"
            )
            return
    _write_line("No cell failed this time; all variables are available here.")


def _write_line(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
