"""The monitoring page, which shows how the model in service is and what there is to do until when.

The first tab answers: a sentence, recent activity, realized and estimated performance, open
incidents, drift with its cost, and retraining decisions. The other tabs hold the evidence.
Everything is read from what the watch stored.

To add a tab: 1. a function that builds it from a ``MonitoringContext``, 2. its title in
``MonitoringPage.tabs`` and the function in ``_TAB_BUILDERS``, under the same key.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from mlops_kit.core.errors import KitError
from mlops_kit.dashboards.monitoring_context import REFRESH_COMMAND, MonitoringContext
from mlops_kit.dashboards.monitoring_data import DEFAULT_WINDOW_COUNT, MonitoringData
from mlops_kit.dashboards.monitoring_head import build_monitoring_head
from mlops_kit.dashboards.monitoring_overview import build_overview_tab
from mlops_kit.dashboards.monitoring_tabs import (
    build_data_tab,
    build_drift_tab,
    build_incidents_tab,
    build_performance_tab,
    build_retraining_tab,
    build_service_tab,
)
from mlops_kit.dashboards.page_base import (
    DashboardPage,
    PageSource,
    guard_html,
    make_empty_statement,
)
from mlops_kit.dashboards.panels import PanelContext, build_panel_tab, list_panel_titles
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.stored_reviews import list_reviews
from mlops_kit.dashboards.view_models import JsonDataView, StatementView
from mlops_kit.dashboards.visitors import read_query
from mlops_kit.db.approvals import get_current_promotion
from mlops_kit.db.engine import query_records
from mlops_kit.db.tables import WatchRecord
from mlops_kit.project.loader import Project, load_project

__all__ = [
    "MonitoringPage",
    "build_page",
    "open_page",
]

_DISTRIBUTIONS_KEY = "distributions"  # no tab
_DISTRIBUTIONS_ELEMENT_ID = "sketches"  # by which the page's script finds them

_TAB_BUILDERS: dict[str, Callable[[MonitoringContext], Html]] = {
    "overview": build_overview_tab,
    "performance": build_performance_tab,
    "drift": build_drift_tab,
    "data": build_data_tab,
    "incidents": build_incidents_tab,
    "retraining": build_retraining_tab,
    "service": build_service_tab,
}


class MonitoringPage(DashboardPage):
    """The page of the version in service.

    Parameters
    ----------
    file : Path, optional
        Where the page will be as a static export.
    max_windows : int
        How many windows to look back over.
    """

    name = "monitoring"
    tabs = {  # noqa: RUF012 - declared as a mapping, which nobody can change, in the base class
        "overview": "Overview",
        "performance": "Performance",
        "drift": "Drift",
        "data": "Data",
        "incidents": "Incidents",
        "retraining": "Retraining",
        "service": "Service",
    }
    hint = REFRESH_COMMAND
    source = PageSource(
        "the database", "the database that the watch writes", "restore it, or mlops watch --once"
    )
    context: MonitoringContext

    def __init__(
        self,
        project: Project,
        file: Path | None = None,
        max_windows: int = DEFAULT_WINDOW_COUNT,
    ) -> None:
        self.max_windows = max_windows
        self.current_version = ""
        super().__init__(project, file)

    @property
    def subject(self) -> str:
        """What the page is about, with the version in service."""
        if not self.current_version:
            return super().subject
        return f"{super().subject} · version {self.current_version}"

    def read(self) -> bool:
        """Read how far the watch has come; return whether it has begun."""
        current = get_current_promotion(self.project)
        if current is not None:
            self.current_version = current.version
        statement = sa.select(WatchRecord).where(WatchRecord.model == self.project.config.name)
        records = query_records(self.project, statement)
        if not records:
            return False
        data = MonitoringData(self.project, records[0], self.max_windows)
        self.context = MonitoringContext(self.project, self.file, data)
        return True

    def build_ready_head(self) -> Html:
        """Build the state of the model, one sentence, the decisions, and recent activity."""
        return build_monitoring_head(self.context, self.title, self.subject)

    def build_empty_statement(self) -> StatementView:
        """Build the statement of a project that is not watched yet."""
        return make_empty_statement(
            "Nothing is monitored yet.",
            "A pass of the watch scores new rows, imports labels and monitors the model; this page "
            "then shows the result. Run",
            self.hint,
        )

    def list_plugin_tabs(self) -> dict[str, str]:
        """List the tabs that plugins add: titles by key."""
        return list_panel_titles(self.name)

    def build_tab(self, key: str) -> Html:
        """Build what a tab shows."""
        if key in self.plugin_tabs:
            return build_panel_tab(key, self._make_panel_context())
        return _TAB_BUILDERS[key](self.context)

    def _make_panel_context(self) -> PanelContext:
        """Make what a plugin's panel may look at: the version in service and its run."""
        run = None
        for review in list_reviews(self.project):
            if review.number == self.current_version:
                run = review.run
        return PanelContext(self.project, self.current_version, run)

    def html(self) -> Html:
        """Build the whole page, and last the distributions behind the cells of the heat map.

        The page is seen before it is clicked.
        """
        return super().html() + self.distributions()

    def build_parts(self) -> dict[str, Html]:
        """Build the head, what each tab opens, and the distributions."""
        parts = super().build_parts()
        parts[_DISTRIBUTIONS_KEY] = guard_html(
            "Distributions", self._build_distributions, self.hint
        )
        return parts

    def distributions(self) -> Html:
        """Return the distributions by window and column, as data for the page's script."""
        return self._parts.get(_DISTRIBUTIONS_KEY, Html())

    def _build_distributions(self) -> Html:
        distributions = {}
        for window in self.context.data.windows:
            distributions[str(window.record.id)] = dict(window.monitoring.sketches)
        return Html(JsonDataView(_DISTRIBUTIONS_ELEMENT_ID, distributions))


def build_page(project: Project, file: Path | None = None, **options: str) -> Html:
    """Build the whole page; ``file`` is where it will be.

    Raises
    ------
    KitError
        If a version is asked for: the page is about the one in service.
    """
    for option, value in options.items():
        if value:
            raise KitError(
                f"the monitoring page does not take --{option} (got {value!r})",
                "no version: the page is about the one in service",
                "mlops report --dashboard monitoring",
            )
    return MonitoringPage(project, file).html()


def open_page(windows: int = DEFAULT_WINDOW_COUNT) -> MonitoringPage:
    """Open the page in its notebook, over so many windows."""
    read_query(lambda: MonitoringPage(load_project(), max_windows=windows).html())
    return MonitoringPage(load_project(), max_windows=windows)
