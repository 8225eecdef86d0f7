"""Review: is the model fit to serve? Evidence, checks, and a card that says both.

``quality``, ``by_slice``, ``calibration_table``, ``decisions`` and ``permutation_importance`` compute;
``evidence`` gathers; ``run`` turns it into verdicts; ``card`` tells it. Acting on a verdict stands in
the notebook's gate and in ``tracking``.
"""

from __future__ import annotations

from mlops_kit.review.card import card, facts, markdown
from mlops_kit.review.checks import AGAINST_CHAMPION, CHECKS, Check, check, run, says
from mlops_kit.review.evidence import Agreement, Evidence, agreement, compared, days, evidence, joined, quality
from mlops_kit.review.explain import calibration_table, conclusion, decisions, error_table, numbers, permutation_importance, spent, threshold_table
from mlops_kit.review.slices import by_slice

__all__ = [
    "AGAINST_CHAMPION",
    "CHECKS",
    "Agreement",
    "Check",
    "Evidence",
    "agreement",
    "by_slice",
    "calibration_table",
    "card",
    "check",
    "compared",
    "conclusion",
    "days",
    "decisions",
    "error_table",
    "evidence",
    "facts",
    "joined",
    "markdown",
    "numbers",
    "permutation_importance",
    "quality",
    "run",
    "says",
    "spent",
    "threshold_table",
]
