"""Deploy: promote the reviewed version if it is approved, and score the rows of the period."""

from __future__ import annotations

from mlops_kit.registry.scoring import score_rows
from mlops_kit.stages.deploy.batch import (
    select_accepted_rows,
    select_period_rows,
    summarize_scores_by_day,
)
from mlops_kit.stages.deploy.promotion import PromotionDecision, promote_if_approved

__all__ = [
    "PromotionDecision",
    "promote_if_approved",
    "score_rows",
    "select_accepted_rows",
    "select_period_rows",
    "summarize_scores_by_day",
]
