"""Kernels of ``mlops lab``, which start where the kernels of the chain start.

JupyterLab itself starts a kernel in the folder of its notebook, the chain in the folder that
``stages.NAME.cwd`` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.core.extras import import_from_extra
from mlops_kit.project.loader import Project, load_project

with import_from_extra("lab"):
    from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

_NOTEBOOK_VARIABLE = "JPY_SESSION_NAME"  # in which jupyter_server tells a kernel its notebook


def find_working_folder(project: Project, notebook: Path) -> Path | None:
    """Return the folder in which the stages of a notebook run; None if it is not a stage's."""
    for stage in project.config.stages:
        if project.get_notebook_path(stage).resolve() == notebook.resolve():
            return project.get_working_folder(stage)
    return None


class LabKernelManager(AsyncMappingKernelManager):
    """Starts the kernel of a stage's notebook in the working folder of the stage."""

    def cwd_for_path(
        self, path: str, env: Mapping[str, str] | None = None, **options: Any
    ) -> str | None:
        """Return the folder in which a kernel starts."""
        folder: str | None = super().cwd_for_path(path, **options)  # type: ignore[no-untyped-call]
        notebook = (env or {}).get(_NOTEBOOK_VARIABLE)
        if not notebook:
            return folder
        # The project is loaded for each kernel: its settings may have been edited meanwhile.
        try:
            project = load_project()
        except KitError as error:
            self.log.warning("the kernel of %s starts in %s: %s", notebook, folder, error)
            return folder
        working_folder = find_working_folder(project, Path(notebook))
        return folder if working_folder is None else str(working_folder)
