"""The review page, which shows whether a new model is fit to serve and what approving it does.

The first tab answers: a sentence, what approving does, the key numbers, the comparison with the
champion, calibration, checks and changes. The other tabs hold the evidence. Everything is read from
what the runs stored.

To add a tab: 1. a function that builds it from a ``ReviewContext``, 2. its title in
``ReviewPage.tabs`` and the function in ``_TAB_BUILDERS``, under the same key.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from mlops_kit.dashboards.page_base import DashboardPage, PageSource, make_empty_statement
from mlops_kit.dashboards.panels import PanelContext, build_panel_tab, list_panel_titles
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.review_context import ReviewContext, load_review_context
from mlops_kit.dashboards.review_head import build_review_head
from mlops_kit.dashboards.review_lineage import build_lineage_tab
from mlops_kit.dashboards.review_overview import build_overview_tab
from mlops_kit.dashboards.review_tabs import (
    build_card_tab,
    build_data_tab,
    build_explanations_tab,
    build_history_tab,
    build_quality_tab,
    build_slices_tab,
)
from mlops_kit.dashboards.stored_reviews import RERUN_REVIEW_COMMAND
from mlops_kit.dashboards.view_models import StatementView
from mlops_kit.dashboards.visitors import read_query
from mlops_kit.project.loader import Project, load_project

__all__ = [
    "ReviewPage",
    "build_page",
    "open_page",
]

_TAB_BUILDERS: dict[str, Callable[[ReviewContext], Html]] = {
    "verdict": build_overview_tab,
    "quality": build_quality_tab,
    "slices": build_slices_tab,
    "explanations": build_explanations_tab,
    "data": build_data_tab,
    "lineage": build_lineage_tab,
    "history": build_history_tab,
    "card": build_card_tab,
}


class ReviewPage(DashboardPage):
    """The page of one version beside another.

    Parameters
    ----------
    version : str
        Empty: the newest that waits for a decision, else the champion.
    against : str
        Empty: the champion with which it was compared.
    file : Path, optional
        Where the page will be as a static export.
    """

    name = "review"
    tabs = {  # noqa: RUF012 - declared as a mapping, which nobody can change, in the base class
        "verdict": "Verdict",
        "quality": "Quality",
        "slices": "Slices",
        "explanations": "Explanations",
        "data": "Data",
        "lineage": "Lineage",
        "history": "History",
        "card": "Model card",
    }
    hint = RERUN_REVIEW_COMMAND
    source = PageSource("what a run stored", "files as the run wrote them", RERUN_REVIEW_COMMAND)
    context: ReviewContext

    def __init__(
        self,
        project: Project,
        version: str = "",
        against: str = "",
        file: Path | None = None,
    ) -> None:
        self.version = version
        self.against = against
        super().__init__(project, file)

    def read(self) -> bool:
        """Choose the two versions; return whether there are any."""
        context = load_review_context(self.project, self.file, self.version, self.against)
        if context is None:
            return False
        self.context = context
        return True

    def build_ready_head(self) -> Html:
        """Build the state of the version, one sentence, and the decisions."""
        return build_review_head(self.context, self.title, self.subject)

    def build_empty_statement(self) -> StatementView:
        """Build the statement of a project without a reviewed version."""
        return make_empty_statement(
            "No version has been reviewed yet.",
            "A run makes one; this page then shows whether it is fit to serve. Run",
            "mlops run",
        )

    def list_plugin_tabs(self) -> dict[str, str]:
        """List the tabs that plugins add: titles by key."""
        return list_panel_titles(self.name)

    def build_tab(self, key: str) -> Html:
        """Build what a tab shows."""
        if key in self.plugin_tabs:
            review = self.context.review
            return build_panel_tab(key, PanelContext(self.project, review.number, review.run))
        return _TAB_BUILDERS[key](self.context)


def build_page(
    project: Project, file: Path | None = None, version: str = "", against: str = ""
) -> Html:
    """Build the whole page; ``file`` is where it will be."""
    return ReviewPage(project, version, against, file).html()


def open_page(version: str = "", against: str = "") -> ReviewPage:
    """Open the page in its notebook; the visitor's address overrides the notebook's parameters."""
    query = read_query(lambda: ReviewPage(load_project()).html())
    return ReviewPage(load_project(), query.get("version", version), query.get("against", against))
