"""mlops-kit: a model's life in seven notebooks. Importing it does nothing and loads nothing heavy.

``mlops_kit.open()`` gives the project you stand in: run it, read it, predict with its champion.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlops_kit.client import ProjectClient

if TYPE_CHECKING:
    from pathlib import Path

__version__ = "0.1.0"
__all__ = ["__version__", "open"]


def open(project: str | Path | None = None) -> ProjectClient:
    """Open a project: the folder given, MLOPS_PROJECT, or the nearest one above with ``mlops.yaml``."""
    from mlops_kit.client import ProjectClient

    return ProjectClient(project)
