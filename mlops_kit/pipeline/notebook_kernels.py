"""Whether the kernel that a notebook was saved with is the one that runs it.

Every notebook runs in a kernel of the running interpreter. One that was written for another
language cannot; one that was saved with a kernel of another environment can, but may find other
packages there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.core.extras import import_from_extra
from mlops_kit.project.loader import Project
from mlops_kit.project.notebook_cells import load_notebook_metadata

_LANGUAGE = "python"
# Jupyter's names of the kernel of whatever environment it runs in.
_GENERIC_KERNEL_NAMES = ("", "python3", "python")


def check_notebook_kernels(project: Project, stages: Iterable[str]) -> list[str]:
    """Check the languages of the notebooks of some stages.

    Returns
    -------
    list of str
        Notes about notebooks that were saved with a kernel of another environment.

    Raises
    ------
    KitError
        If a notebook is not in Python.
    """
    notes = []
    for stage in stages:
        notebook = project.get_notebook_path(stage)
        metadata = load_notebook_metadata(notebook)
        language = _find_language(metadata)
        if language.lower() not in {"", _LANGUAGE}:
            raise KitError(
                f"stage {stage}: {notebook.name} is in {language}",
                "a notebook in Python",
                f"remove the stage from mlops.yaml, or call {language} from a Python notebook",
            )
        kernelspec = _get_kernelspec(metadata)
        name = str(kernelspec.get("name") or "")
        if name not in _GENERIC_KERNEL_NAMES and not _is_own_kernel(name):
            shown_name = kernelspec.get("display_name") or name
            notes.append(
                f"{stage}: {notebook.name} was saved with the kernel {shown_name!r} of another "
                f"environment; it runs in {sys.prefix}"
            )
    return notes


def _find_language(metadata: dict[str, Any]) -> str:
    """Return the language of a notebook; empty if the notebook does not tell it."""
    language_info = metadata.get("language_info")
    info_name = language_info.get("name") if isinstance(language_info, dict) else ""
    return str(_get_kernelspec(metadata).get("language") or info_name or "")


def _get_kernelspec(metadata: dict[str, Any]) -> dict[str, Any]:
    """Return the kernelspec of a notebook; empty without one."""
    kernelspec = metadata.get("kernelspec")
    return kernelspec if isinstance(kernelspec, dict) else {}


def _is_own_kernel(name: str) -> bool:
    """Return whether an installed kernelspec starts the running interpreter."""
    with import_from_extra("train"):
        from jupyter_client.kernelspec import KernelSpecManager, NoSuchKernel

    try:
        command = KernelSpecManager().get_kernel_spec(name).argv
    except NoSuchKernel:
        return False
    return bool(command) and Path(command[0]).absolute() == Path(sys.executable).absolute()
