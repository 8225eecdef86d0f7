"""Panels that plugins add to a dashboard: a tab of their own with a stored or computed result.

To add a panel, in a plugin of a project: decorate a function ``(PanelContext) -> result`` with
``@register_dashboard_panel(name, title, page)``. It returns a ``Table``, ``Figure``, ``KeyNumbers``
or a sentence, and should read what is stored instead of computing something heavy, because it runs
whenever somebody opens the page. A panel that fails says so and affects nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops_kit.core.errors import KitError
from mlops_kit.core.extensions import ExtensionKind, ExtensionRegistry
from mlops_kit.core.results import Figure, KeyNumbers, Result, Table
from mlops_kit.dashboards.page_base import PAGE_TITLES, CardContent, build_card
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.view_models import (
    Block,
    GridView,
    KeyNumberView,
    make_paragraph,
    make_stored_table,
)
from mlops_kit.project.loader import Project
from mlops_kit.project.run_folder import read_run_artifact

_KEY_PREFIX = "plugin-"  # of the tab's key, so that it differs from those of the page itself
_PANEL_NAME = re.compile(r"[A-Za-z0-9-]+")
_HINT = "mlops doctor"


@dataclass(frozen=True)
class PanelContext:
    """What a panel may look at.

    Attributes
    ----------
    project : Project
        The project; its settings are in ``project.config``.
    version : str
        The version that the page is about; empty if there is none.
    run : Path or None
        The folder of the run that reviewed the version.
    """

    project: Project
    version: str
    run: Path | None

    def read_artifact(self, name: str) -> Any:
        """Read an artifact of the version's run, such as ``metrics``.

        Raises
        ------
        KitError
            If there is no run, or it has no artifact of this name.
        """
        if self.run is None:
            raise KitError(
                f"there is no run from which {name!r} could be read",
                "a reviewed version",
                "mlops run",
            )
        return read_run_artifact(self.run, name)


PanelResult = Result | str
PanelFunction = Callable[[PanelContext], PanelResult]


@dataclass(frozen=True)
class DashboardPanel:
    """A panel: its title, the page that it is on, and the function that makes its content."""

    title: str
    page: str
    function: PanelFunction


DASHBOARD_PANELS: ExtensionRegistry[DashboardPanel] = ExtensionRegistry(
    ExtensionKind.DASHBOARD_PANEL
)


def register_dashboard_panel(
    name: str, title: str, page: str = "monitoring"
) -> Callable[[PanelFunction], PanelFunction]:
    """Register the decorated function as a panel of a dashboard.

    Parameters
    ----------
    name : str
        The panel's name; letters, digits and hyphens.
    title : str
        The title of its tab.
    page : {"monitoring", "review"}
        The dashboard.

    Raises
    ------
    KitError
        If there is no such dashboard, or the name has other characters.

    Examples
    --------
    >>> @register_dashboard_panel("owner", "Owner", page="review")
    ... def show_owner(context):
    ...     return f"{context.project.config.name} belongs to the pricing team."
    >>> list_panel_titles("review")
    {'plugin-owner': 'Owner'}
    >>> del DASHBOARD_PANELS["owner"]
    """
    if not _PANEL_NAME.fullmatch(name):
        raise KitError(
            f"{name!r} is not a name for a panel",
            "letters, digits and hyphens",
            "correct the name where the panel is registered",
        )
    if page not in PAGE_TITLES:
        raise KitError(
            f"the panel {name!r} is for the unknown dashboard {page!r}",
            f"one of: {', '.join(PAGE_TITLES)}",
            "correct 'page' where the panel is registered",
        )

    def register(function: PanelFunction) -> PanelFunction:
        DASHBOARD_PANELS.register(name)(DashboardPanel(title, page, function))
        return function

    return register


def list_panel_titles(page: str) -> dict[str, str]:
    """List the tabs that plugins add to a page: titles by key."""
    return {
        f"{_KEY_PREFIX}{name}": panel.title
        for name, panel in DASHBOARD_PANELS.items()
        if panel.page == page
    }


def build_panel_tab(key: str, context: PanelContext) -> Html:
    """Build what the tab of a panel shows."""
    panel = DASHBOARD_PANELS[key.removeprefix(_KEY_PREFIX)]
    card = build_card(panel.title, lambda: _show_result(panel.function(context)), _HINT)
    return Html(GridView((card,)))


def _show_result(result: PanelResult) -> CardContent:
    """Show what a panel returned.

    Raises
    ------
    KitError
        If it is not a result.
    """
    if isinstance(result, str):
        return CardContent("", (make_paragraph(result),))
    if isinstance(result, Table):
        return CardContent(result.sentence, make_stored_table(result))
    if isinstance(result, KeyNumbers):
        blocks: list[Block] = []
        for number in result.items:
            blocks.append(KeyNumberView.from_key_number(number))
        return CardContent(result.sentence, tuple(blocks))
    if isinstance(result, Figure):
        return CardContent(result.sentence, (Html(result.svg),))
    raise KitError(
        f"the panel returned {type(result).__name__!r}",
        "a Table, Figure, KeyNumbers or a sentence",
        "correct the panel's function",
    )
