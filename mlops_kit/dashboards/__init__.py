"""Pages for people who decide: they read stored results, compute nothing and write nothing.

A page is built in three steps: data (what runs and the watch stored), view models (frozen records
in which every text and number is decided) and templates. Decisions are taken by the server
(``server``), to which its caller passes what each of them does (``actions``).

To add a page: 1. a module here with ``build_page(project, file, **options)``, named after the page
and ``_page``, 2. its title in ``page_base.PAGE_TITLES``, 3. a notebook of the same name in
``notebooks/dashboards`` that shows its parts.
"""

from __future__ import annotations

from pathlib import Path

from mlops_kit.core.errors import KitError, suggest_names
from mlops_kit.core.extras import require_extra
from mlops_kit.project.loader import Project


def export_page(name: str, project: Project, file: Path, **options: str) -> str:
    """Build the static export of a page: one HTML document that needs no server.

    Parameters
    ----------
    file : Path
        Where the document will be; links to the files of runs are relative to it.
    **options : str
        Which version to show, for pages that take one.

    Raises
    ------
    KitError
        If there is no such page.
    MissingExtraError
        If the libraries of the dashboards are not installed.
    """
    from importlib import import_module

    from mlops_kit.dashboards.page_base import PAGE_TITLES
    from mlops_kit.dashboards.rendering import render_document

    # Before the page is built: a part that fails would be replaced by a card that says so.
    require_extra("dashboards")
    if name not in PAGE_TITLES:
        raise KitError(
            f"there is no dashboard {name!r}",
            suggest_names(name, PAGE_TITLES),
            "mlops report --dashboard review",
        )
    page = import_module(f"mlops_kit.dashboards.{name}_page")
    body = page.build_page(project, file, **options)
    return render_document(f"{PAGE_TITLES[name]}: {project.config.name}", body)
