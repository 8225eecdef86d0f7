"""Debug console."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.project import notebook_cells, run_manifest
from mlops_kit.project.loader import Project


def open_debug_console(project: Project, folder: Path, stage: str) -> None:
    """Run a stage's cells again in IPython, up to the one at which it failed, and stay there; the run itself is not touched.

    Raises
    ------
    KitError
        If the stage was not run.
    """
    import IPython
    from traitlets.config import Config

    entry = run_manifest.read_manifest(folder).get_stage(stage)
    book = folder / "notebooks" / f"{entry.notebook}.ipynb"
    if not book.exists():
        raise KitError(
            f"{stage} was not run in {folder.name}",
            "a stage that has a notebook there",
            "mlops status",
        )
    copy = project.resolve_path(".mlops") / "debug" / folder.name
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    os.environ.update(MLOPS_RUN=str(copy), MLOPS_PROJECT=str(project.root))
    os.chdir(project.root)
    config = Config()
    config.InteractiveShellApp.exec_lines = [
        f"__import__({__name__!r}, fromlist=['x']).run_cells_until_failure(get_ipython(), {str(book)!r})"
    ]
    config.TerminalIPythonApp.display_banner = False
    IPython.start_ipython(argv=[], config=config)


def run_cells_until_failure(shell: Any, book: str) -> None:
    """Run a notebook's cells in a shell until one fails."""
    cells = [c["source"] for c in notebook_cells.load_code_cells(Path(book))]
    for number, source in enumerate(cells, 1):
        print(f"cell {number} of {len(cells)}", flush=True)
        if not shell.run_cell(source, store_history=True).success:
            print(
                f"Cell {number} failed; its names are here, %debug goes to the place. The source:\n{source}"
            )
            return
    print("All cells went well this time; their names are here.")
