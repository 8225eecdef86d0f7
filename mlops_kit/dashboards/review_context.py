"""What the parts of the review page are built from: a version, and the one beside it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlops_kit.core.formatting import format_number, format_percent
from mlops_kit.dashboards.page_base import make_run_link
from mlops_kit.dashboards.rendering import Html
from mlops_kit.dashboards.stored_reviews import (
    StoredReview,
    choose_review,
    find_review,
    get_first,
    list_reviews,
)
from mlops_kit.db.approvals import list_approvals, list_promotions
from mlops_kit.db.tables import ApprovalRecord, PromotionRecord
from mlops_kit.project.config.root import ProjectConfig
from mlops_kit.project.loader import Project


@dataclass(frozen=True)
class ReviewContext:
    """The two versions of a review page, and the decisions of the project.

    Attributes
    ----------
    file : Path or None
        Where the static export will be; None in a notebook.
    reviews : tuple of StoredReview
        All reviewed versions, the newest first.
    review, other : StoredReview
        The version that the page is about, and the one beside it, if any.
    """

    project: Project
    file: Path | None
    reviews: tuple[StoredReview, ...]
    review: StoredReview
    other: StoredReview | None
    promotions: tuple[PromotionRecord, ...]
    approvals: tuple[ApprovalRecord, ...]

    @property
    def config(self) -> ProjectConfig:
        """The project's configuration."""
        return self.project.config

    @property
    def event(self) -> str:
        """What is predicted: its name, else the target with the positive class of a binary task."""
        if self.config.event:
            return f"“{self.config.event}”"
        classes = self.review.classes
        if self.config.task != "binary" or not classes:
            return self.config.target
        return f"{self.config.target} = {classes[-1]}"

    @property
    def is_compared(self) -> bool:
        """Whether the review compared the two versions on the same rows."""
        return self.other is not None and self.other.number == self.review.champion_version

    @property
    def current_promotion(self) -> PromotionRecord | None:
        """The promotion in force."""
        return get_first(self.promotions)

    def format_prediction(self, value: float) -> str:
        """Format a prediction: a probability as a percentage."""
        if self.config.task == "regression":
            return format_number(value)
        return format_percent(value)

    def make_link(self, path: Path, text: str) -> Html | str:
        """Make a link to a file of a run."""
        return make_run_link(self.project, self.file, path, text)


def load_review_context(
    project: Project, file: Path | None, version: str = "", against: str = ""
) -> ReviewContext | None:
    """Load what the page shows; None if no version has been reviewed.

    Parameters
    ----------
    version : str
        Empty: the newest that waits for a decision, else the champion.
    against : str
        Empty: the champion with which the version was compared.

    Raises
    ------
    KitError
        If there is no such version.
    """
    reviews = list_reviews(project)
    if not reviews:
        return None
    review = find_review(reviews, version) if version else choose_review(reviews)
    other = None
    if against:
        other = find_review(reviews, against)
    else:
        for candidate in reviews:
            if candidate.number == review.champion_version:
                other = candidate
    return ReviewContext(
        project=project,
        file=file,
        reviews=tuple(reviews),
        review=review,
        other=other,
        promotions=tuple(list_promotions(project)),
        approvals=tuple(list_approvals(project)),
    )
