"""The pages for those who decide: they read stored results, compute nothing, and write nothing.

What a page shows is plain HTML with drawings in SVG; what a person decides on it is taken by the
server (``server``), which asks what it is given by its caller.

To add a page: 1. a module here with ``page(project, file, **asked)``, 2. its title in ``PAGES``,
3. a notebook of the same name in ``notebooks/dashboards`` that shows its parts.
"""

from __future__ import annotations

from pathlib import Path

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.project.loader import Project

PAGES = {"review": "Model review", "monitoring": "Monitoring"}


def twin(name: str, project: Project, file: Path, **asked: str) -> str:
    """A page as one HTML document that needs no server; links lead to the runs' files as seen from ``file``.

    Raises
    ------
    KitError
        If there is no such page.
    """
    from importlib import import_module

    from mlops_kit.dashboards import rendering

    if name not in PAGES:
        raise KitError(
            f"there is no dashboard {name!r}",
            suggest_names(name, PAGES),
            "mlops report --dashboard review",
        )
    body = import_module(f"mlops_kit.dashboards.{name}_page").page(project, file, **asked)
    return rendering.part("document", "document", f"{PAGES[name]}: {project.config.name}", body)
