"""The project of a command that needs a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_kit.core.errors import KitError

if TYPE_CHECKING:
    from mlops_kit.project.loader import Project


def load_model_project(folder: str) -> Project:
    """Load the project of a command that approves, serves or watches a model.

    Parameters
    ----------
    folder : str
        The value of ``--project``.

    Raises
    ------
    KitError
        If the project is a chain of notebooks that train no model.
    """
    from mlops_kit.project import loader

    project = loader.load_project(folder or None)
    if not project.config.target:
        stages = " → ".join(project.config.stages)
        raise KitError(
            f"{project.config.name} has no model: its stages are {stages}, and it has no target",
            "a project with 'source' and 'target' in mlops.yaml",
            "mlops run, plan, status, diff, reproduce and export work without a model",
        )
    return project
