"""Review: is the model fit to serve? Evidence, checks, and a card that says both.

``quality``, ``by_slice``, ``calibrations``, ``decisions``, ``permutation_importance`` and ``what_if``
compute; ``against`` and ``changes`` lay the champion beside; ``evidence`` gathers; ``run`` turns it into
verdicts; ``card`` tells it. Acting on a verdict stands in the notebook's gate and in ``tracking``.
"""

from mlops_kit.review.against import Contender, against, compared, contender, rival
from mlops_kit.review.card import card, facts, markdown
from mlops_kit.review.changes import changes
from mlops_kit.review.checks import AGAINST_CHAMPION, CHECKS, Check, check, run, says
from mlops_kit.review.evidence import (
    Agreement,
    Evidence,
    agreement,
    days,
    evidence,
    joined,
    quality,
)
from mlops_kit.review.explain import (
    calibration_table,
    calibrations,
    decisions,
    error_table,
    permutation_importance,
    threshold_table,
    what_if,
)
from mlops_kit.review.slices import by_slice
from mlops_kit.review.summary import conclusion, numbers, spent

__all__ = [
    "AGAINST_CHAMPION",
    "CHECKS",
    "Agreement",
    "Check",
    "Contender",
    "Evidence",
    "against",
    "agreement",
    "by_slice",
    "calibration_table",
    "calibrations",
    "card",
    "changes",
    "check",
    "compared",
    "conclusion",
    "contender",
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
    "rival",
    "run",
    "says",
    "spent",
    "threshold_table",
    "what_if",
]
