"""mlops-kit: the life of a model in seven notebooks.

``mlops_kit.open()`` opens the project in the current folder: run it, read its results, predict with
its champion. Importing this package does nothing and loads nothing heavy; the public names are
imported when they are first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

    from mlops_kit.client import ProjectClient
    from mlops_kit.core.errors import KitError, RunFailedError, WaitingForApprovalError
    from mlops_kit.core.results import (
        Figure,
        Interval,
        KeyNumber,
        KeyNumbers,
        Table,
        Verdict,
        Verdicts,
    )
    from mlops_kit.stages.stage import Stage, open_stage

__version__ = "0.1.0"
__all__ = [
    "Figure",
    "Interval",
    "KeyNumber",
    "KeyNumbers",
    "KitError",
    "ProjectClient",
    "RunFailedError",
    "Stage",
    "Table",
    "Verdict",
    "Verdicts",
    "WaitingForApprovalError",
    "__version__",
    "open",
    "open_stage",
]

_MODULES_BY_NAME = {
    "ProjectClient": "mlops_kit.client",
    "KitError": "mlops_kit.core.errors",
    "RunFailedError": "mlops_kit.core.errors",
    "WaitingForApprovalError": "mlops_kit.core.errors",
    "Figure": "mlops_kit.core.results",
    "Interval": "mlops_kit.core.results",
    "KeyNumber": "mlops_kit.core.results",
    "KeyNumbers": "mlops_kit.core.results",
    "Table": "mlops_kit.core.results",
    "Verdict": "mlops_kit.core.results",
    "Verdicts": "mlops_kit.core.results",
    "Stage": "mlops_kit.stages.stage",
    "open_stage": "mlops_kit.stages.stage",
}


def open(project: str | Path | None = None) -> ProjectClient:
    """Open a project.

    Parameters
    ----------
    project : str or Path, optional
        The project's folder. Without it, the folder in the environment variable MLOPS_PROJECT, or
        else the current folder or the nearest one above it that has a ``mlops.yaml``.
    """
    from mlops_kit.client import ProjectClient

    return ProjectClient(project)


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _MODULES_BY_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_MODULES_BY_NAME[name]), name)
